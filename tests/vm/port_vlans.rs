//! The plugin's `vlan`, `vlanTrunk` and `preserveDefaultVlan`: VLANs of a bridge's ports, not of an interface below it.

use std::panic::resume_unwind;
use std::process::Command;
use std::thread;

use octavia_bridge_tests::traffic::{Echo, expect_answer, ping};
use octavia_bridge_tests::{Attached, Lab, Node, Pod, conf};
use serde_json::{Value, json};

use crate::capture::Capture;
use crate::nodes::{PATIENCE, SILENCE, attach, two_nodes};

fn octavia_with(keys: Value) -> Value {
    conf::octavia_with(conf::with(json!({"cniVersion": "1.1.0"}), keys))
}

pub(crate) fn in_vlan(id: u16) -> Value {
    octavia_with(json!({"vlan": id}))
}

pub(crate) fn bridge(node: &Node, words: &str) -> String {
    let output = node.output(Command::new("bridge").args(words.split_whitespace()));
    assert!(output.status.success(), "bridge {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("bridge prints UTF-8")
}

/// The VLANs of a port, or of a bridge itself, in the words of `bridge vlan add`: `100 pvid untagged, 200-203`.
pub(crate) fn vlans(node: &Node, link: &str) -> String {
    let text = bridge(node, &format!("-j -compressvlans vlan show dev {link}"));
    let listed: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let describe = |vlan: &Value| {
        let mut words = vlan["vlan"].to_string();
        if let Some(last) = vlan["vlanEnd"].as_u64() {
            words += &format!("-{last}");
        }
        for flag in vlan["flags"].as_array().into_iter().flatten() {
            words += match flag.as_str() {
                Some("PVID") => " pvid",
                Some("Egress Untagged") => " untagged",
                _ => panic!("flag {flag} in {text}"),
            };
        }
        words
    };
    let all: Vec<String> = listed[0]["vlans"].as_array().into_iter().flatten().map(describe).collect();
    all.join(", ")
}

fn filters(node: &Node) -> bool {
    node.ip_json("link show octbr")[0]["linkinfo"]["info_data"]["vlan_filtering"] == 1
}

#[test]
fn pods_of_one_vlan_meet_and_those_of_another_do_not() {
    let node = Lab::new().node("node1");
    let attach = |name: &str, conf: &Value| {
        let (pod, attached) = attach(&node, name, conf);
        let echo = Echo::start(&pod, attached.ip());
        (pod, attached, echo)
    };
    // The first of them makes the bridge.
    let blue = ["blue1", "blue2"].map(|name| attach(name, &in_vlan(100)));
    let red = attach("red", &in_vlan(200));
    let plain = attach("plain", &conf::octavia());
    assert!(filters(&node));
    for (pod, id) in [(&blue[0], 100), (&blue[1], 100), (&red, 200)] {
        assert_eq!(vlans(&node, pod.1.host_link()), format!("{id} pvid untagged"));
    }
    // The node itself has no part in them.
    assert_eq!(vlans(&node, "octbr"), "1 pvid untagged");

    expect_answer(&blue[0].0, blue[1].1.ip(), PATIENCE);
    expect_answer(&blue[1].0, blue[0].1.ip(), PATIENCE);
    for (from, to) in [(&blue[0], &red), (&red, &blue[1]), (&plain, &blue[0])] {
        assert!(ping(&from.0, to.1.ip(), SILENCE).is_none(), "{} to {}", from.0.container_id(), to.1.ip());
    }
    // Nor can a pod tag its way into another VLAN.
    let intruder = &red.0;
    intruder.ip("addr flush dev net1");
    intruder.ip("link add link net1 name net1.100 type vlan id 100");
    intruder.ip("link set net1.100 up");
    intruder.ip("addr add 172.23.0.99/24 dev net1.100");
    assert!(ping(intruder, blue[0].1.ip(), SILENCE).is_none());
}

#[test]
fn a_bridge_without_a_default_vlan_takes_no_port_that_asks_for_none() {
    let node = Lab::new().node("node1");
    node.ip("link add octbr up type bridge vlan_filtering 1 vlan_default_pvid 0");
    let plain = octavia_with(json!({}));
    let pod = node.pod("plain");
    let before = node.snapshot(&[&pod]);
    pod.add(&plain).run().error(11).says(&["octbr", "vlan_default_pvid 0", "\"vlan\""]);
    node.status(&plain).run().error(50).says(&["vlan_default_pvid 1"]);
    node.snapshot(&[&pod]).assert_same_as(&before);
    // With a VLAN, or after the remedy, it carries.
    node.status(&in_vlan(100)).run().silent_success();
    node.ip("link set octbr type bridge vlan_default_pvid 1");
    let attached = pod.add(&plain).run().attached();
    pod.check(&plain, &attached.result).run().silent_success();
    bridge(&node, &format!("vlan del dev {} vid 1", attached.host_link()));
    pod.check(&plain, &attached.result).run().error(104).says(&[attached.host_link(), "has no VLAN"]);
}

#[test]
fn a_trunk_carries_its_ids_with_their_tags_and_no_others() {
    let node = Lab::new().node("node1");
    let ids = [101, 102, 201].map(|id| attach(&node, &format!("pod{id}"), &in_vlan(id)));
    let _echoes = ids.each_ref().map(|(pod, attached)| Echo::start(pod, attached.ip()));
    let trunk = json!({"vlan": 50, "vlanTrunk": [{"id": 101}, {"minID": 200, "maxID": 203}]});
    let (router, port) = attach(&node, "router", &conf::layer2_with(trunk));
    assert_eq!(vlans(&node, port.host_link()), "50 pvid untagged, 101, 200-203");

    let mut wire = Capture::start(&node, port.host_link());
    for ((_, peer), (id, carried)) in ids.iter().zip([(101, true), (102, false), (201, true)]) {
        router.ip(&format!("link add link net1 name net1.{id} type vlan id {id}"));
        router.ip(&format!("link set net1.{id} up"));
        router.ip(&format!("addr add 172.23.0.99/24 dev net1.{id}"));
        let patience = if carried { PATIENCE } else { SILENCE };
        assert_eq!(ping(&router, peer.ip(), patience).is_some(), carried, "{id}");
        router.ip(&format!("link del net1.{id}"));
        // What the router sent had the tag, whether the bridge took it or not.
        wire.expect("question", PATIENCE, |f| f.source == port.pod_mac() && f.vlan == Some(id));
        if carried {
            wire.expect("answer", PATIENCE, |f| f.source == peer.pod_mac() && f.vlan == Some(id));
        }
    }
    let unheard = ids[1].1.pod_mac();
    assert!(wire.seen().iter().all(|frame| frame.source != unheard), "{:#?}", wire.seen());
}

#[test]
fn a_pod_that_sends_early_does_not_pass_before_its_port_has_the_vlans() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    // Every message to the kernel waits, so that there is time to look between them.
    let late = "inject=sendto:delay_enter=500000";
    let add = pod.add(&conf::layer2_with(json!({"vlan": 100})));
    let add =
        add.under(&["/usr/bin/strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=sendto", "-e", late]);
    let mut looked = 0;
    let attached = thread::scope(|scope| {
        let adding = scope.spawn(|| add.run().attached());
        while !adding.is_finished() {
            let Some(port) = node.links().into_iter().find(|link| link.kind() == "veth") else { continue };
            if pod.link("net1").is_some_and(|link| !link.is_up()) {
                pod.ip("link set net1 up");
            }
            // Looked at after the link: what was up by then must have had its VLANs for longer.
            let table = vlans(&node, port.name());
            assert!(!port.is_up() || table == "100 pvid untagged", "up with {table}");
            looked += u32::from(table == "1 pvid untagged");
        }
        adding.join().unwrap_or_else(|panic| resume_unwind(panic))
    });
    assert!(looked > 0, "the port was never seen without its VLANs");
    assert_eq!(vlans(&node, attached.host_link()), "100 pvid untagged");
}

#[test]
fn an_uplink_of_the_vlan_joins_pods_of_two_nodes_by_tagged_frames() {
    let lab = Lab::new();
    let nodes = two_nodes(&lab);
    for node in &nodes {
        node.ip("link add octbr type bridge vlan_filtering 1");
        node.ip("link set octbr up");
        node.ip("link set enp6s0 master octbr");
        bridge(node, "vlan add dev enp6s0 vid 100");
    }
    let mut wire = Capture::start(&nodes[1], "enp6s0");
    let (worker, here) = attach(&nodes[0], "worker", &in_vlan(100));
    let (manager, there) = attach(&nodes[1], "healthmanager", &in_vlan(100));
    let (stranger, _) = attach(&nodes[1], "stranger", &in_vlan(200));
    let _echoes = [Echo::start(&worker, here.ip()), Echo::start(&manager, there.ip())];
    expect_answer(&worker, there.ip(), PATIENCE);
    expect_answer(&manager, here.ip(), PATIENCE);
    assert!(ping(&stranger, here.ip(), SILENCE).is_none());
    for mac in [here.pod_mac(), there.pod_mac()] {
        wire.expect("announcement", PATIENCE, |f| f.source == mac && f.is_gratuitous_arp());
    }
    let pods = [here.pod_mac(), there.pod_mac()];
    for frame in wire.seen() {
        assert!(!pods.contains(&&frame.source[..]) || frame.vlan == Some(100), "{frame:?}");
    }
}

#[test]
fn the_default_vlan_is_heard_only_by_who_keeps_it() {
    let node = Lab::new().node("node1");
    let keeps = octavia_with(json!({"vlan": 100, "preserveDefaultVlan": true}));
    let (keeper, kept) = attach(&node, "keeper", &keeps);
    let (other, removed) = attach(&node, "other", &in_vlan(100));
    assert_eq!(vlans(&node, kept.host_link()), "1 untagged, 100 pvid untagged");
    assert_eq!(vlans(&node, removed.host_link()), "100 pvid untagged");

    let mut heard = [&keeper, &other].map(|pod| Capture::start(pod, "net1"));
    let (_plain, plain) = attach(&node, "plain", &conf::octavia());
    heard[0].expect("announcement", PATIENCE, |f| f.source == plain.pod_mac());
    // Frames arrive in order: if the second pod gets one of a later pod of its VLAN, all frames of the plain pod came before.
    let (_later, later) = attach(&node, "later", &in_vlan(100));
    heard[1].expect("announcement", PATIENCE, |f| f.source == later.pod_mac());
    assert!(heard[1].seen().iter().all(|frame| frame.source != plain.pod_mac()));
}

#[test]
fn a_bridge_may_have_another_default_vlan_or_none() {
    let trunk = json!({"vlanTrunk": [{"id": 7}]});
    for (default, keys, expected) in [
        (0, json!({"vlan": 100, "preserveDefaultVlan": true}), "100 pvid untagged"),
        (5, json!({"vlan": 100, "preserveDefaultVlan": true}), "5 untagged, 100 pvid untagged"),
        (5, trunk, "1 pvid untagged, 7"),
    ] {
        let node = Lab::new().node("node1");
        node.ip(&format!("link add octbr type bridge vlan_filtering 1 vlan_default_pvid {default}"));
        let (_pod, attached) = attach(&node, "worker", &octavia_with(keys));
        assert_eq!(vlans(&node, attached.host_link()), expected);
    }
}

#[test]
fn check_finds_every_way_to_lose_the_separation() {
    let node = Lab::new().node("node1");
    let conf = octavia_with(json!({"vlan": 100, "vlanTrunk": [{"minID": 1, "maxID": 4000}]}));
    let (pod, attached): (Pod, Attached) = attach(&node, "worker", &conf);
    let port = attached.host_link();
    assert_eq!(vlans(&node, port), "1-99, 100 pvid untagged, 101-4000");
    let check = || pod.check(&conf, &attached.result).run();
    check().silent_success();
    for (change, back, words) in [
        (
            format!("vlan del dev {port} vid 200"),
            format!("vlan add dev {port} vid 200"),
            "[101-199] [201-4000]",
        ),
        (format!("vlan add dev {port} vid 4094"), format!("vlan del dev {port} vid 4094"), "[4094]"),
        (
            format!("vlan add dev {port} vid 100 untagged"),
            format!("vlan add dev {port} vid 100 pvid untagged"),
            "[100 untagged]",
        ),
    ] {
        bridge(&node, &change);
        check().error(104).says(&[port, words, "[100 pvid untagged]"]);
        bridge(&node, &back);
        check().silent_success();
    }
    node.ip("link set octbr type bridge vlan_filtering 0");
    check().error(104).says(&["octbr", "does not filter VLANs"]);
}

#[test]
fn a_bridge_that_does_not_filter_is_left_so_and_refused() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    let pod = node.pod("worker");
    let before = node.snapshot(&[&pod]);
    pod.add(&in_vlan(100)).run().error(11).says(&["vlan: 100", "octbr", "does not filter VLANs"]);
    node.status(&in_vlan(100)).run().error(50).says(&["octbr", "does not filter VLANs"]);
    node.snapshot(&[&pod]).assert_same_as(&before);
    assert!(!filters(&node));
    node.ip("link set octbr type bridge vlan_filtering 1");
    node.status(&in_vlan(100)).run().silent_success();
    let attached = pod.add(&in_vlan(100)).run().attached();
    assert_eq!(vlans(&node, attached.host_link()), "100 pvid untagged");
}

#[test]
fn a_failure_after_the_vlans_were_given_undoes_everything() {
    // A gateway whose scope is not wider than the route's; the kernel refuses it when all else is done.
    let refused = json!([{"dst": "172.25.0.0/16", "gw": "172.23.0.150", "scope": 254}]);
    let conf = octavia_with(json!({"vlan": 100, "ipam": {"routes": refused}}));
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let before = node.snapshot(&[&pod]);
    pod.add(&conf).run().error(100).says(&["172.25.0.0/16"]);
    node.snapshot(&[&pod]).assert_same_as(&before);
}
