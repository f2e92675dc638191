//! What the neighbours learn, and when: a pod is reachable at once, also when its address was another pod's a second ago.

use octavia_bridge_tests::traffic::{Capture, Echo, expect_answer};
use octavia_bridge_tests::{Lab, Node, Pod, conf};
use serde_json::{Value, json};
use std::time::Duration;

const OLD_MAC: &str = "02:00:00:00:00:01";
const NEW_MAC: &str = "02:00:00:00:00:02";
const SECOND: Duration = Duration::from_secs(1);

fn ipv4(changes: Value) -> Value {
    conf::octavia_with(changes)
}

fn ipv6(changes: Value) -> Value {
    conf::with(conf::with_ipam(json!({"range": "fd00:23::/64"})), changes)
}

/// A pod that is there first and stays, and the address the next pod will get.
fn peer_of(node: &Node, conf: &Value) -> Pod {
    let peer = node.pod("peer");
    peer.add(conf).run().attached();
    peer
}

#[test]
fn a_new_ipv4_address_is_announced_to_the_other_ports() {
    let node = Lab::new().node("node1");
    let peer = peer_of(&node, &ipv4(json!({})));
    let mut wire = Capture::start(&peer, "net1", "arp");
    let pod = node.pod("worker");
    let attached = pod.add(&ipv4(json!({"mac": NEW_MAC}))).run().attached();
    // In the request form, which neighbours and OVN's MAC_Binding both take up: sender and target are the address.
    let (ip, from) = (attached.ip().to_string(), format!("{NEW_MAC} > ff:ff:ff:ff:ff:ff"));
    wire.expect(&["ARP", &from, &format!("Announcement {ip}")], SECOND);
}

#[test]
fn a_new_ipv6_address_is_announced_to_the_other_ports() {
    let node = Lab::new().node("node1");
    let peer = peer_of(&node, &ipv6(json!({})));
    let mut wire = Capture::start(&peer, "net1", "icmp6");
    let pod = node.pod("worker");
    let attached = pod.add(&ipv6(json!({"mac": NEW_MAC}))).run().attached();
    // Unsolicited, to all nodes, and overriding what they know.
    let target = format!("tgt is {}", attached.ip());
    wire.expect(&["neighbor advertisement", "ff02::1", &target, "override", NEW_MAC], SECOND);
}

#[test]
fn an_announcement_crosses_the_trunk() {
    let lab = Lab::new();
    let (here, there) = (lab.node("node1"), lab.node("node2"));
    lab.trunk(&here, &there);
    for node in [&here, &there] {
        node.bridge_with_uplink();
    }
    let mut wire = Capture::start(&there, "octbr", "arp");
    let attached = here.pod("worker").add(&ipv4(json!({}))).run().attached();
    wire.expect(&["ARP", "Announcement", &attached.ip().to_string(), attached.pod_mac()], SECOND);
}

#[test]
fn nothing_is_announced_where_that_is_switched_off() {
    let node = Lab::new().node("node1");
    let peer = peer_of(&node, &ipv4(json!({})));
    let mut wire = Capture::start(&peer, "net1", "arp");
    let attached = node.pod("worker").add(&ipv4(json!({"announce": false}))).run().attached();
    let announced = wire.sees(&["Announcement", &attached.ip().to_string()], SECOND / 2);
    assert!(!announced, "announced although \"announce\" is false");
}

#[test]
fn a_pod_remade_with_another_mac_is_reachable_within_a_second() {
    for conf in [ipv4, ipv6] {
        let node = Lab::new().node("node1");
        let peer = peer_of(&node, &conf(json!({})));
        let old = node.pod("old");
        let attached = old.add(&conf(json!({"mac": OLD_MAC}))).run().attached();
        {
            let _echo = Echo::start(&old, attached.ip());
            expect_answer(&peer, attached.ip(), SECOND);
        }
        old.del(&conf(json!({}))).run().silent_success();
        // As fresh as an entry can be: without an announcement the peer would trust it for 15 to 45 s.
        let entry = format!("{} lladdr {OLD_MAC} dev net1 nud reachable", attached.ip());
        peer.ip(&format!("neigh replace {entry}"));

        let new = node.pod("new");
        let again = new.add(&conf(json!({"mac": NEW_MAC}))).run().attached();
        assert_eq!(again.ip(), attached.ip());
        let _echo = Echo::start(&new, again.ip());
        expect_answer(&peer, again.ip(), SECOND);
    }
}

#[test]
fn a_pod_remade_with_its_address_has_its_mac_too() {
    for conf in [ipv4, ipv6] {
        let node = Lab::new().node("node1");
        let macs = [(); 2].map(|()| {
            let pod = node.pod("worker");
            let attached = pod.add(&conf(json!({}))).run().attached();
            pod.del(&conf(json!({}))).run().silent_success();
            (attached.ip(), attached.pod_mac().to_owned())
        });
        assert_eq!(macs[0], macs[1]);
    }
}

#[test]
fn a_pod_that_moves_to_another_node_is_found_there() {
    let lab = Lab::new();
    let here = lab.node("node1");
    // One store for both nodes, so that the address is the same on both.
    let there = lab.node_on_disk_of("node2", &here);
    lab.trunk(&here, &there);
    for node in [&here, &there] {
        node.bridge_with_uplink();
    }
    let peer = peer_of(&there, &ipv4(json!({})));
    let old = here.pod("old");
    let attached = old.add(&ipv4(json!({}))).run().attached();
    {
        let _echo = Echo::start(&old, attached.ip());
        // From now on the bridge there knows the MAC behind its trunk.
        expect_answer(&peer, attached.ip(), SECOND);
    }
    old.del(&ipv4(json!({}))).run().silent_success();

    let new = there.pod("new");
    let again = new.add(&ipv4(json!({}))).run().attached();
    assert_eq!((again.ip(), again.pod_mac()), (attached.ip(), attached.pod_mac()));
    let _echo = Echo::start(&new, again.ip());
    expect_answer(&peer, again.ip(), SECOND);
}

#[test]
fn add_returns_when_the_port_forwards_and_not_before() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    // With STP a port listens and learns for two forward delays, here 2 s each, while its link is long up.
    node.ip("link set octbr type bridge stp_state 1 forward_delay 200");
    let peer = peer_of(&node, &ipv4(json!({})));
    let mut wire = Capture::start(&peer, "net1", "arp");
    let attached = node.pod("worker").add(&ipv4(json!({}))).run().attached();
    assert_eq!(node.expect_link(attached.host_link()).port("state"), "forwarding");
    // The announcement was not wasted on a port that drops.
    wire.expect(&["Announcement", &attached.ip().to_string()], SECOND);
}
