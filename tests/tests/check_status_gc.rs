//! CHECK finds what has changed and raises no false alarm; STATUS foretells an ADD; GC ends what the runtime forgot.

use octavia_bridge_tests::{Attached, Lab, Node, Pod, conf};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

fn octavia() -> Value {
    conf::octavia_with(json!({"cniVersion": "1.1.0"}))
}

fn attached(conf: &Value) -> (Pod, Attached) {
    let pod = Lab::new().node("node1").pod("worker");
    let attached = pod.add(conf).run().attached();
    (pod, attached)
}

#[test]
fn check_passes_right_after_add_in_every_version_that_has_it() {
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        for conf in [octavia(), conf::layer2()] {
            let conf = conf::with(conf, json!({"cniVersion": version}));
            let (pod, attached) = attached(&conf);
            let before = pod.node().snapshot(&[&pod]);
            pod.check(&conf, &attached.result).run().silent_success();
            pod.node().snapshot(&[&pod]).assert_same_as(&before);
        }
    }
}

#[test]
fn check_raises_no_alarm_about_what_is_not_ours() {
    let (pod, attached) = attached(&octavia());
    // More pods, a bridge with another MAC and an address, an Open vSwitch that took the MAC over.
    let others: Vec<Pod> = (0..3).map(|_| pod.node().pod("other")).collect();
    for other in &others {
        other.add(&octavia()).run().attached();
    }
    pod.node().ip("link set octbr address 02:00:00:00:00:99");
    pod.node().ip("addr add 172.23.0.1/24 dev octbr");
    pod.node().ip("link set octbr promisc on");
    pod.ip("link set net1 address 02:00:00:00:00:98");
    pod.ip("addr add 192.0.2.1/32 dev net1");
    pod.check(&octavia(), &attached.result).run().silent_success();
}

/// Changes a bridge port by `bridge`, which can also disable it (state 0).
fn set_port(node: &Node, port: &str, change: &str) {
    let words = ["link", "set", "dev", port].into_iter().chain(change.split(' '));
    let output = node.output(Command::new("bridge").args(words));
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn check_finds_what_is_ours_and_changed() {
    type Damage = fn(&Node, &Pod, &str);
    let damages: [(&str, Damage); 17] = [
        ("veth", |node, _, host_end| drop(node.ip(&format!("link set {host_end} down")))),
        ("octbr", |node, _, _| drop(node.ip("link set octbr down"))),
        ("octbr", |node, _, host_end| drop(node.ip(&format!("link set {host_end} nomaster")))),
        ("octbr", |node, _, _| drop(node.ip("link del octbr"))),
        ("MTU", |_, pod, _| drop(pod.ip("link set net1 mtu 1600"))),
        ("disabled", |node, _, port| set_port(node, port, "state 0")),
        ("isolated", |node, _, port| set_port(node, port, "isolated on")),
        ("learning", |node, _, port| set_port(node, port, "learning off")),
        ("flood", |node, _, port| set_port(node, port, "flood off")),
        ("groups", |node, _, port| set_port(node, port, "mcast_flood off")),
        ("MTU", |node, _, host_end| drop(node.ip(&format!("link set {host_end} mtu 1400")))),
        ("net1", |_, pod, _| drop(pod.ip("link set net1 down"))),
        ("gone", |_, pod, _| drop(pod.ip("link del net1"))),
        ("net1", |_, pod, _| drop(pod.ip("link set net1 down name octavia"))),
        ("172.23.0.30", |_, pod, _| drop(pod.ip("addr del 172.23.0.30/24 dev net1"))),
        ("172.24.0.0/16", |_, pod, _| drop(pod.ip("route del 172.24.0.0/16"))),
        ("172.23.0.30", |node, _, _| fs::remove_file(node.pool_file("172.23.0.0-24")).unwrap()),
    ];
    for (number, (word, damage)) in damages.into_iter().enumerate() {
        let (pod, attached) = attached(&octavia());
        damage(pod.node(), &pod, attached.host_link());
        let outcome = pod.check(&octavia(), &attached.result).run();
        assert!(!outcome.status.success(), "damage {number} ({word}) was not found");
        outcome.error(104).says(&[word]);
    }
}

#[test]
fn check_passes_after_later_plugins_of_a_list() {
    let conf = octavia_with_two_routes();
    for (plugin, settings) in [("tuning", json!({"mtu": 1400, "promisc": true})), ("sbr", json!({}))] {
        let (pod, attached) = attached(&conf);
        let chained = conf::with(json!({"cniVersion": "1.0.0", "name": "octavia", "type": plugin}), settings);
        // Debian's plugins know no later version than 1.0.0.
        let mut result = attached.result.clone();
        result["cniVersion"] = "1.0.0".into();
        let chained = conf::with(chained, json!({"prevResult": result, "dataDir": pod.node().disk()}));
        let last = pod.add(&chained).plugin(plugin).run().success();
        pod.check(&conf, &last).run().silent_success();
        // The MTU of the first result is still there with newer ones of them.
        pod.check(&conf, &attached.result).run().silent_success();
        pod.ip("route flush table all dev net1 proto static");
        pod.ip("route flush table all dev net1 proto boot");
        pod.check(&conf, &last).run().error(104).says(&["172.2"]);
    }
}

fn octavia_with_two_routes() -> Value {
    let routes = json!([{"dst": "172.24.0.0/16", "gw": "172.23.0.150"}, {"dst": "172.25.0.0/16"}]);
    conf::with(octavia(), json!({"cniVersion": "1.0.0", "ipam": {"routes": routes}}))
}

#[test]
fn check_needs_the_right_question() {
    let (pod, attached) = attached(&octavia());
    let other = pod.node().pod("other");
    pod.add(&octavia()).env("CNI_COMMAND", "CHECK").run().error(7).says(&["prevResult"]);
    let check = pod.check(&octavia(), &attached.result);
    check.clone().ifname("net2").run().error(104).says(&["net2"]);
    check.clone().env("CNI_CONTAINERID", "nobody").run().error(104).says(&["nobody"]);
    let path = other.path().to_str().unwrap();
    check.clone().env("CNI_NETNS", path).run().error(104).says(&[path]);
    check.env("CNI_NETNS", "/run/netns/none").run().error(104).says(&["/run/netns/none"]);
}

#[test]
fn status_is_quiet_when_an_add_would_succeed() {
    let node = Lab::new().node("node1");
    let before = node.snapshot(&[]);
    for conf in [octavia(), conf::layer2_with(json!({"cniVersion": "1.1.0"}))] {
        node.status(&conf).run().silent_success();
    }
    node.snapshot(&[]).assert_same_as(&before);
    node.bridge_with_uplink();
    node.status(&conf::with(octavia(), json!({"bridgeMode": "unmanaged"}))).run().silent_success();
}

/// The kernel says "Exchange full".
#[test]
fn a_bridge_that_has_all_its_ports_says_so() {
    let node = Lab::new().node("node1");
    node.ip("link add octbr type bridge");
    let batch = node.disk().join("batch");
    // Both ends of each pair, which are down.
    let mut ports = String::new();
    for n in 0..511 {
        ports +=
            &format!("link add a{n} master octbr type veth peer name b{n}\nlink set b{n} master octbr\n");
    }
    fs::write(&batch, ports).unwrap();
    node.ip(&format!("-batch {}", batch.display()));
    let last = node.pod("last");
    last.add(&octavia()).run().attached();
    let full = ["octbr has 1023 ports", "ip link show master octbr"];
    node.status(&octavia()).run().error(50).says(&full);
    let pod = node.pod("worker");
    let before = node.snapshot(&[&pod]);
    pod.add(&octavia()).run().error(11).says(&full);
    node.snapshot(&[&pod]).assert_same_as(&before);
    last.del(&octavia()).run().silent_success();
    node.status(&octavia()).run().silent_success();
}

#[test]
fn status_says_why_an_add_would_fail() {
    let node = Lab::new().node("node1");
    node.status(&conf::with(octavia(), json!({"bridgeMode": "unmanaged"}))).run().error(50).says(&["octbr"]);
    node.status(&octavia()).on_read_only_memory().run().error(50).says(&["/run/octavia-bridge", "Read-only"]);

    let small = conf::with(octavia(), json!({"ipam": {"range_end": "172.23.0.30"}}));
    node.status(&small).run().silent_success();
    let pod = node.pod("worker");
    pod.add(&small).run().attached();
    node.status(&small).run().error(50).says(&["172.23.0.30", pod.container_id()]);
    // A configuration that no ADD would take.
    let wrong = conf::with(octavia(), json!({"mtu": -5}));
    assert_eq!(node.status(&wrong).run().error(7).says(&["mtu"]).code, 7);

    fs::write(node.pool_file("172.23.0.0-24"), "{ torn").unwrap();
    node.status(&octavia()).run().error(50).says(&["172.23.0.0-24.json"]);
}

#[test]
fn status_and_add_take_back_what_the_gone_hold_in_an_overlapping_pool() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    let of = |range: &str, more: Value| {
        let ipam = json!({"range": range, "range_start": null, "range_end": null, "routes": []});
        conf::with(octavia(), json!({"ipam": conf::with(ipam, more)}))
    };
    let wide = of("172.23.0.0/24", json!({}));
    let narrow = of("172.23.0.0/30", json!({}));
    let (gone, stays) = (node.pod("gone"), node.pod("stays"));
    for pod in [&gone, &stays] {
        pod.add(&wide).run().attached();
    }
    node.status(&narrow).run().error(50);
    gone.end_without_del();
    node.status(&narrow).run().silent_success();
    // What would be taken back is none that may be given.
    node.status(&of("172.23.0.0/30", json!({"exclude": ["172.23.0.1/32"]}))).run().error(50);
    let next = node.pod("next");
    let attached = next.add(&narrow).run().attached();
    assert_eq!(attached.address(), "172.23.0.1/30");
    assert_eq!(node.allocations("172.23.0.0-24").keys().collect::<Vec<_>>(), ["2"]);
}

/// Two attachments of this network and one of another, the second pod's namespace gone.
fn three_attachments() -> (Node, [Pod; 3], Value) {
    let node = Lab::new().node("node1");
    let other = conf::with(octavia(), json!({"name": "other", "ipam": {"network_name": "other"}}));
    let pods = ["kept", "gone", "other"].map(|name| node.pod(name));
    pods[0].add(&octavia()).run().attached();
    pods[1].add(&octavia()).run().attached();
    pods[2].add(&other).run().attached();
    pods[1].end_without_del();
    (node, pods, other)
}

fn kept_and_other_remain(node: &Node, pods: &[Pod; 3]) {
    assert_eq!(pods[0].expect_link("net1").addresses(), ["172.23.0.30/24"]);
    assert_eq!(pods[2].link_names(), ["net1"]);
    assert_eq!(node.ports("octbr").len(), 2);
    let held: Vec<String> = node.allocations("172.23.0.0-24").keys().cloned().collect();
    assert_eq!(held, ["30"]);
    assert_eq!(node.allocations("other-172.23.0.0-24").len(), 1);
    let records = fs::read_dir(node.run_dir().join("attachments")).expect("list the records");
    let is_record = |file: &fs::DirEntry| file.path().extension().is_some_and(|kind| kind == "jsonl");
    assert_eq!(records.map_while(Result::ok).filter(is_record).count(), 2);
}

#[test]
fn gc_ends_what_the_runtime_does_not_know() {
    // libcni sends both keys; the second is a mistake that older ones made (containernetworking/cni#1101).
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let (node, pods, _) = three_attachments();
        let valid = json!([{"containerID": pods[0].container_id(), "ifname": "net1"}]);
        for _ in 0..2 {
            node.gc(&conf::with(octavia(), json!({key: valid}))).run().silent_success();
            kept_and_other_remain(&node, &pods);
        }
    }
}

#[test]
fn gc_prefers_the_key_of_the_specification() {
    let (node, pods, _) = three_attachments();
    let valid = json!([{"containerID": pods[0].container_id(), "ifname": "net1"}]);
    let both = json!({"cni.dev/attachments": [], "cni.dev/valid-attachments": valid});
    node.gc(&conf::with(octavia(), both)).run().silent_success();
    kept_and_other_remain(&node, &pods);
}

#[test]
fn gc_without_a_list_ends_nothing() {
    let (node, pods, _) = three_attachments();
    let before = node.snapshot(&[&pods[0], &pods[2]]);
    node.gc(&octavia()).run().error(7).says(&["cni.dev/valid-attachments"]);
    // An entry without an owner must not make its attachment an unknown one.
    for broken in [json!(null), json!("x"), json!([{"ifname": "net1"}]), json!([1])] {
        let conf = conf::with(octavia(), json!({"cni.dev/valid-attachments": broken}));
        node.gc(&conf).run().error(7).says(&["cni.dev/valid-attachments"]);
    }
    node.snapshot(&[&pods[0], &pods[2]]).assert_same_as(&before);
}

#[test]
fn gc_with_an_empty_list_ends_all_of_this_network() {
    let (node, pods, other) = three_attachments();
    node.gc(&conf::with(octavia(), json!({"cni.dev/valid-attachments": []}))).run().silent_success();
    assert_eq!((pods[0].link_names().len(), pods[2].link_names().len()), (0, 1));
    assert!(node.allocations("172.23.0.0-24").is_empty());
    node.gc(&conf::with(other, json!({"cni.dev/valid-attachments": []}))).run().silent_success();
    assert_eq!(node.link_names(), ["octbr"]);
}
