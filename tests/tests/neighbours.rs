//! What the neighbours learn, and when: a pod is reachable at once, also when its address was another pod's a second ago.

use octavia_bridge_tests::traffic::{AT_ONCE, Echo, expect_answer};
use octavia_bridge_tests::wire::{Announcement, Form, Wire};
use octavia_bridge_tests::{Attached, Lab, Node, Pod, conf};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv6Addr};
use std::process::Command;
use std::time::{Duration, Instant};

const OLD_MAC: &str = "02:00:00:00:00:01";
const NEW_MAC: &str = "02:00:00:00:00:02";
/// An emulated processor may stand still for a second. Neighbours trust an entry for 15 s at least, bridges for 300.
const ON_A_BUSY_MACHINE: Duration = Duration::from_secs(5);

fn ipv4(changes: Value) -> Value {
    conf::octavia_with(changes)
}

fn ipv6(changes: Value) -> Value {
    conf::with(conf::with_ipam(json!({"range": "fd00:23::/64"})), changes)
}

/// Asserts that the attachment's address is announced, by its own MAC and in this form.
#[track_caller]
fn hears(wire: &mut Wire, attached: &Attached, form: Form) {
    let address = attached.ip();
    let expected = Announcement { address, mac: attached.pod_mac().to_owned(), form };
    assert_eq!(wire.expect_announcement_of(address, AT_ONCE), expected);
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
    let mut wire = Wire::listen(&peer);
    let pod = node.pod("worker");
    let attached = pod.add(&ipv4(json!({"mac": NEW_MAC}))).run().attached();
    assert_eq!(attached.pod_mac(), NEW_MAC);
    hears(&mut wire, &attached, Form::ArpRequest);
}

#[test]
fn a_new_ipv6_address_is_announced_to_the_other_ports() {
    let node = Lab::new().node("node1");
    let peer = peer_of(&node, &ipv6(json!({})));
    let mut wire = Wire::listen(&peer);
    let pod = node.pod("worker");
    let attached = pod.add(&ipv6(json!({"mac": NEW_MAC}))).run().attached();
    hears(&mut wire, &attached, Form::Advertisement { overriding: true });
}

#[test]
fn an_announcement_crosses_the_trunk() {
    let lab = Lab::new();
    let (here, there) = (lab.node("node1"), lab.node("node2"));
    lab.trunk(&here, &there);
    for node in [&here, &there] {
        node.bridge_with_uplink();
    }
    let mut wire = Wire::listen(&there);
    let worker = here.pod("worker");
    let attached = worker.add(&ipv4(json!({}))).run().attached();
    hears(&mut wire, &attached, Form::ArpRequest);
}

#[test]
fn nothing_is_announced_where_that_is_switched_off() {
    let node = Lab::new().node("node1");
    let peer = peer_of(&node, &ipv4(json!({})));
    let mut wire = Wire::listen(&peer);
    let attached = node.pod("worker").add(&ipv4(json!({"announce": false}))).run().attached();
    assert_eq!(wire.announcement_of(attached.ip(), Duration::from_millis(500)), None);
}

#[test]
fn a_pod_remade_with_another_mac_is_reachable_at_once() {
    for conf in [ipv4, ipv6] {
        let node = Lab::new().node("node1");
        let peer = peer_of(&node, &conf(json!({})));
        let old = node.pod("old");
        let attached = old.add(&conf(json!({"mac": OLD_MAC}))).run().attached();
        {
            let _echo = Echo::start(&old, attached.ip());
            expect_answer(&peer, attached.ip(), AT_ONCE);
        }
        old.del(&conf(json!({}))).run().silent_success();
        // As fresh as an entry can be: without an announcement the peer would trust it for 15 to 45 s.
        let entry = format!("{} lladdr {OLD_MAC} dev net1 nud reachable", attached.ip());
        peer.ip(&format!("neigh replace {entry}"));

        let new = node.pod("new");
        let again = new.add(&conf(json!({"mac": NEW_MAC}))).run().attached();
        assert_eq!(again.ip(), attached.ip());
        let _echo = Echo::start(&new, again.ip());
        expect_answer(&peer, again.ip(), AT_ONCE);
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
        expect_answer(&peer, attached.ip(), ON_A_BUSY_MACHINE);
        expect_learned(&there, attached.pod_mac(), "enp6s0");
    }
    old.del(&ipv4(json!({}))).run().silent_success();

    let new = there.pod("new");
    let again = new.add(&ipv4(json!({}))).run().attached();
    assert_eq!((again.ip(), again.pod_mac()), (attached.ip(), attached.pod_mac()));
    // Nothing but the announcement tells the bridge for the next 300 s.
    expect_learned(&there, again.pod_mac(), again.host_link());
    let _echo = Echo::start(&new, again.ip());
    expect_answer(&peer, again.ip(), ON_A_BUSY_MACHINE);
}

/// Asserts that the bridge sends frames to this MAC through this port.
#[track_caller]
fn expect_learned(node: &Node, mac: &str, port: &str) {
    let deadline = Instant::now() + ON_A_BUSY_MACHINE;
    loop {
        let output = node.output(Command::new("bridge").args(["fdb", "show", "br", "octbr"]));
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        if table.lines().any(|line| line.starts_with(&format!("{mac} dev {port} "))) {
            return;
        }
        assert!(Instant::now() < deadline, "the bridge does not have {mac} at {port}:\n{table}");
    }
}

#[test]
fn add_returns_when_the_port_forwards_and_not_before() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    // With STP a port listens and learns for two forward delays, here 2 s each, while its link is long up.
    node.ip("link set octbr type bridge stp_state 1 forward_delay 200");
    let peer = peer_of(&node, &ipv4(json!({})));
    let mut wire = Wire::listen(&peer);
    let worker = node.pod("worker");
    let attached = worker.add(&ipv4(json!({}))).run().attached();
    assert_eq!(node.expect_link(attached.host_link()).port("state"), "forwarding");
    // The announcement was not wasted on a port that drops.
    hears(&mut wire, &attached, Form::ArpRequest);
}

/// The port of a group in the bridge's table, if one has joined it.
fn joined(node: &Node, group: &str, port: &str) -> bool {
    let output = node.output(Command::new("bridge").args(["mdb", "show", "dev", "octbr"]));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    table.lines().any(|line| line.contains(group) && line.contains(port))
}

#[test]
fn a_bridge_that_asks_for_listeners_hears_of_a_new_pod_at_once() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    node.ip("link set octbr type bridge mcast_snooping 1 mcast_querier 1");
    // The bridge asks a new port as soon as it forwards, and the answers are spread over the next ten seconds. Every second
    // pod was not reached before it answered.
    for _ in 0..12 {
        let pod = node.pod("worker");
        let attached = pod.add(&ipv6(json!({}))).run().attached();
        let IpAddr::V6(address) = attached.ip() else { panic!("{}", attached.ip()) };
        let [.., high, low] = address.segments();
        // Neighbours ask for the address in this group.
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low).to_string();
        let deadline = Instant::now() + AT_ONCE;
        while !joined(&node, &group, attached.host_link()) {
            assert!(Instant::now() < deadline, "{address}: {group} was not joined within {AT_ONCE:?}");
        }
    }
}
