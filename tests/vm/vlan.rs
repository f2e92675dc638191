//! The plugin over a VLAN of another program.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;

use octavia_bridge_tests::traffic::{Echo, expect_answer, ping};
use octavia_bridge_tests::{Lab, Node, conf};
use serde_json::json;

use crate::capture::Capture;
use crate::nodes::{PATIENCE, SILENCE, attach, call, two_nodes};

/// The links of Octavia's node policy: `enp6s0.24` over the trunk, and `octbr` with it as a port. The bridge has no explicit
/// MAC or MTU and takes both from its port, as with nmstate.
fn vlan_and_bridge(node: &Node) {
    node.ip("link add link enp6s0 name enp6s0.24 type vlan id 24");
    node.ip("link add octbr type bridge stp_state 0");
    node.ip("link set enp6s0.24 master octbr up");
    node.ip("link set octbr up");
}

#[test]
fn every_frame_of_a_pod_crosses_the_trunk_with_tag_24() {
    let lab = Lab::new();
    let nodes = two_nodes(&lab);
    nodes.iter().for_each(vlan_and_bridge);
    let mut trunk = Capture::start(&nodes[1], "enp6s0");
    let (worker, here) = attach(&nodes[0], "worker", &conf::octavia());
    let (manager, there) = attach(&nodes[1], "healthmanager", &conf::octavia());
    let _echoes = [Echo::start(&worker, here.ip()), Echo::start(&manager, there.ip())];
    expect_answer(&worker, there.ip(), PATIENCE);
    expect_answer(&manager, here.ip(), PATIENCE);
    call(&worker, &manager, there.ip());

    for mac in [here.pod_mac(), there.pod_mac()] {
        trunk.expect("announcement", PATIENCE, |f| f.source == mac && f.is_gratuitous_arp());
        trunk.expect("UDP", PATIENCE, |f| f.source == mac && f.ipv4_protocol() == Some(17));
        trunk.expect("TCP", PATIENCE, |f| f.source == mac && f.ipv4_protocol() == Some(6));
    }
    let pods = [here.pod_mac(), there.pod_mac()];
    for frame in trunk.seen() {
        let of_a_pod = pods.contains(&&frame.source[..]) || pods.contains(&&frame.destination[..]);
        assert!(!of_a_pod || frame.vlan == Some(24), "{frame:?}");
    }
}

#[test]
fn who_is_untagged_or_in_another_vlan_neither_hears_pods_nor_reaches_them() {
    let lab = Lab::new();
    let [node, other] = two_nodes(&lab);
    vlan_and_bridge(&node);
    let (worker, attached) = attach(&node, "worker", &conf::octavia());
    let _echo = Echo::start(&worker, attached.ip());
    for id in [25, 24] {
        other.ip(&format!("link add link enp6s0 name enp6s0.{id} type vlan id {id}"));
    }
    let stranger = Ipv4Addr::new(172, 23, 0, 99).into();
    // The same procedure on the right VLAN last: there it succeeds, so what failed before failed for the tag alone.
    for (link, same_vlan) in [("enp6s0", false), ("enp6s0.25", false), ("enp6s0.24", true)] {
        other.ip(&format!("link set {link} up"));
        other.ip(&format!("addr add {stranger}/24 dev {link}"));
        let echo = Echo::start(&other, stranger);
        let patience = if same_vlan { PATIENCE } else { SILENCE };
        assert_eq!(ping(&worker, stranger, patience).is_some(), same_vlan, "{link}");
        assert_eq!(ping(&other, attached.ip(), patience).is_some(), same_vlan, "{link}");
        drop(echo);
        other.ip(&format!("addr del {stranger}/24 dev {link}"));
    }
}

#[test]
fn a_switch_that_passes_vlan_24_alone_joins_pods_of_two_nodes() {
    let lab = Lab::new();
    let (first, switch) = (lab.node("node1"), lab.node("switch"));
    let second = lab.node_on_disk_of("node2", &first);
    // No VLAN for untagged frames: they are dropped.
    switch.ip("link add fabric type bridge vlan_filtering 1 vlan_default_pvid 0");
    switch.ip("link set fabric up");
    let bridge = |words: &str| {
        let output = switch.output(Command::new("bridge").args(words.split_whitespace()));
        assert!(output.status.success(), "bridge {words}: {}", String::from_utf8_lossy(&output.stderr));
    };
    for (node, port) in [(&first, "port1"), (&second, "port2")] {
        let there = switch.path().display();
        node.ip(&format!("link add enp6s0 type veth peer name {port} netns {there}"));
        node.ip("link set enp6s0 up");
        switch.ip(&format!("link set {port} master fabric up"));
        bridge(&format!("vlan add dev {port} vid 24"));
        vlan_and_bridge(node);
    }
    let (worker, _) = attach(&first, "worker", &conf::octavia());
    let (manager, attached) = attach(&second, "healthmanager", &conf::octavia());
    let _echo = Echo::start(&manager, attached.ip());
    expect_answer(&worker, attached.ip(), PATIENCE);
    // It was VLAN 24 that they met in.
    bridge("vlan del dev port2 vid 24");
    bridge("vlan add dev port2 vid 25");
    assert!(ping(&worker, attached.ip(), SILENCE).is_none());
}

#[test]
fn the_mtu_of_the_vlan_is_that_of_bridge_and_pods_and_fills_the_frames() {
    for mtu in [1400, 1500, 9000] {
        let lab = Lab::new();
        let nodes = two_nodes(&lab);
        for node in &nodes {
            node.ip(&format!("link set enp6s0 mtu {}", mtu.max(1500)));
            vlan_and_bridge(node);
            // The VLAN of a parent with 1500 bytes may have less; the bridge follows its only port.
            node.ip(&format!("link set enp6s0.24 mtu {mtu}"));
            assert_eq!(node.expect_link("octbr").mtu(), mtu);
        }
        let (worker, here) = attach(&nodes[0], "worker", &conf::octavia());
        let (manager, there) = attach(&nodes[1], "healthmanager", &conf::octavia());
        for (pod, attached) in [(&worker, &here), (&manager, &there)] {
            assert_eq!(pod.expect_link("net1").mtu(), mtu);
            assert_eq!(pod.node().expect_link(attached.host_link()).mtu(), mtu);
            assert_eq!(pod.node().expect_link("octbr").mtu(), mtu);
        }

        let mut trunk = Capture::start(&nodes[1], "enp6s0");
        let size = usize::try_from(mtu).expect("a small number");
        // Without the headers of IPv4 and UDP.
        let datagram = vec![24; size - 28];
        let receiver = manager.run(|| UdpSocket::bind((there.ip(), 5555))).expect("open a socket");
        receiver.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
        let sender = worker.run(|| UdpSocket::bind((here.ip(), 0))).expect("open a socket");
        sender.send_to(&datagram, (there.ip(), 5555)).expect("send a datagram as large as the MTU");
        let mut received = vec![0; size];
        assert_eq!(receiver.recv(&mut received).expect("receive it"), datagram.len());
        // In one frame: Ethernet's header, the tag, and as much as the MTU says.
        let whole = trunk.expect("full frame", PATIENCE, |f| f.length == 14 + 4 + size);
        assert_eq!((whole.vlan, &whole.source[..]), (Some(24), here.pod_mac()));
    }
}

#[test]
fn more_than_the_vlan_carries_is_refused() {
    let lab = Lab::new();
    let [node, _other] = two_nodes(&lab);
    vlan_and_bridge(&node);
    node.ip("link set enp6s0.24 mtu 1400");
    let pod = node.pod("worker");
    let before = node.snapshot(&[&pod]);
    let error = pod.add(&conf::octavia_with(json!({"mtu": 1500}))).run().error(7);
    error.says(&["mtu", "1500", "1400", "octbr"]);
    node.snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn the_bridge_follows_its_uplink_down_and_up_again_with_pods_attached() {
    let lab = Lab::new();
    let [node, _other] = two_nodes(&lab);
    vlan_and_bridge(&node);
    let (worker, attached) = attach(&node, "worker", &conf::octavia());
    let mtus = || ["enp6s0.24", "octbr"].map(|link| node.expect_link(link).mtu());
    // The kernel shrinks a VLAN with its parent (net/8021q/vlan.c, NETDEV_CHANGEMTU) and does not grow it again.
    node.ip("link set enp6s0 mtu 1400");
    assert_eq!(mtus(), [1400, 1400]);
    node.ip("link set enp6s0 mtu 1500");
    assert_eq!(mtus(), [1400, 1400]);
    // The pod's port never was smaller, so it does not hold the bridge back.
    node.ip("link set enp6s0.24 mtu 1500");
    assert_eq!(mtus(), [1500, 1500]);
    // CHECK came with version 0.4.0.
    let conf = conf::octavia_with(json!({"cniVersion": "0.4.0"}));
    worker.check(&conf, &attached.result).run().silent_success();
}

#[test]
fn a_bridge_between_pods_and_vlan_keeps_mac_index_and_uplink() {
    let lab = Lab::new();
    let [node, _other] = two_nodes(&lab);
    vlan_and_bridge(&node);
    for mode in ["managed", "unmanaged"] {
        let conf = conf::octavia_with(json!({"mac": "random", "bridgeMode": mode}));
        let before = node.snapshot(&[]);
        let bridge = node.expect_link("octbr");
        assert_eq!(bridge.mac(), node.expect_link("enp6s0.24").mac());
        let pods = ["one", "two", "three", "four"].map(|name| attach(&node, name, &conf));
        let now = node.expect_link("octbr");
        assert_eq!((now.mac(), now.index()), (bridge.mac(), bridge.index()), "{mode}");
        let uplink = node.expect_link("enp6s0.24");
        assert_eq!((uplink.kind(), uplink.master()), ("vlan", Some("octbr")));
        assert_eq!(uplink.port("state"), "forwarding");
        assert_eq!(node.ports("octbr").len(), 5);
        for (pod, _) in &pods {
            pod.del(&conf).run().silent_success();
        }
        node.snapshot(&[]).assert_same_as(&before);
        assert_eq!(node.ports("octbr"), ["enp6s0.24"]);
    }
}

#[test]
fn a_pod_attached_while_the_parent_is_down_is_reached_once_it_is_up() {
    let lab = Lab::new();
    let nodes = two_nodes(&lab);
    nodes.iter().for_each(vlan_and_bridge);
    let (manager, there) = attach(&nodes[1], "healthmanager", &conf::octavia());
    let _echo = Echo::start(&manager, there.ip());
    // The kernel takes the VLAN down and up with its parent.
    nodes[0].ip("link set enp6s0 down");
    let (worker, _) = attach(&nodes[0], "worker", &conf::octavia());
    assert!(ping(&worker, there.ip(), SILENCE).is_none());
    nodes[0].ip("link set enp6s0 up");
    expect_answer(&worker, there.ip(), PATIENCE);
}
