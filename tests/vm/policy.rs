//! Octavia's node policy, applied by the agent: the links that it creates, leaves alone and refuses.

use std::process::Command;

use octavia_bridge_tests::traffic::{Echo, expect_answer, ping};
use octavia_bridge_tests::{Agent, Changes, Lab, conf};

use crate::capture::Capture;
use crate::nodes::{PATIENCE, POLICY, SILENCE, attach, call, two_nodes};

fn agents(lab: &Lab) -> [Agent; 2] {
    let [first, second] = two_nodes(lab);
    [Agent::on(&first, "node1"), Agent::on(&second, "node2")]
}

/// The policy with another VLAN id under the same name, as an administrator changes it.
fn with_id(id: u16) -> String {
    POLICY.replace("id: 24", &format!("id: {id}"))
}

#[test]
fn applied_on_two_nodes_it_joins_their_pods_by_frames_with_tag_24() {
    let lab = Lab::new();
    let nodes = agents(&lab);
    for node in &nodes {
        node.ok("apply", POLICY);
        let (vlan, bridge) = (node.expect_link("enp6s0.24"), node.expect_link("octbr"));
        assert_eq!((vlan.kind(), vlan.master(), vlan.is_up()), ("vlan", Some("octbr"), true));
        assert_eq!((vlan.alias(), vlan.mtu()), ("octavia-bridge: Octavia vlan host interface", 1500));
        assert_eq!((bridge.kind(), bridge.is_up(), bridge.mtu()), ("bridge", true, 1500));
        assert_eq!(bridge.mac(), node.expect_link("enp6s0").mac());
        assert_eq!(vlan.port("state"), "forwarding");
        for link in ["enp6s0.24", "octbr"] {
            // By such an address pods would reach what the node serves on [::].
            assert_eq!(node.ip(&format!("-6 address show dev {link}")), "", "{link}");
        }
    }
    let mut trunk = Capture::start(&nodes[1], "enp6s0");
    let (worker, here) = attach(&nodes[0], "worker", &conf::octavia());
    let (manager, there) = attach(&nodes[1], "healthmanager", &conf::octavia());
    call(&worker, &manager, there.ip());
    call(&manager, &worker, here.ip());
    for mac in [here.pod_mac(), there.pod_mac()] {
        trunk.expect("TCP", PATIENCE, |f| f.source == mac && f.ipv4_protocol() == Some(6));
    }
    let of_a_pod = |mac: &str| [here.pod_mac(), there.pod_mac()].contains(&mac);
    for frame in trunk.seen() {
        assert!(!of_a_pod(&frame.source) || frame.vlan == Some(24), "{frame:?}");
    }
}

#[test]
fn applied_again_with_pods_it_writes_nothing_and_what_show_prints_is_in_force() {
    let lab = Lab::new();
    let [node, _other] = agents(&lab);
    node.ok("apply", POLICY);
    let (_pod, _) = attach(&node, "worker", &conf::octavia());
    let before = node.snapshot(&[]);
    let mut changes = Changes::of(&node);
    for _ in 0..3 {
        assert_eq!(node.ok("apply", POLICY), "nothing to do\n");
    }
    assert_eq!(node.ok("plan --check", POLICY), "nothing to do\n");
    assert_eq!(changes.take(), [""; 0]);
    drop(changes);
    node.snapshot(&[]).assert_same_as(&before);

    let agent = |words: &str| {
        let command = node.command(&[], words);
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    };
    for form in ["show", "show --json"] {
        let pipe = format!("{} | {}", agent(form), agent("plan -f - --check"));
        let output = node.output(Command::new("bash").args(["-o", "pipefail", "-c", &pipe]));
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!((output.status.code(), said.as_ref()), (Some(0), "nothing to do\n"), "{output:?}");
    }
}

#[test]
fn another_vlan_id_and_back_leaves_every_pod_in_its_bridge() {
    let lab = Lab::new();
    let nodes = agents(&lab);
    for node in &nodes {
        node.ok("apply", POLICY);
    }
    let (worker, _) = attach(&nodes[0], "worker", &conf::octavia());
    let (_second, _) = attach(&nodes[0], "housekeeping", &conf::octavia());
    let (manager, there) = attach(&nodes[1], "healthmanager", &conf::octavia());
    let _echo = Echo::start(&manager, there.ip());
    expect_answer(&worker, there.ip(), PATIENCE);
    let bridge = nodes[0].expect_link("octbr");
    let ports = nodes[0].ports("octbr");
    for id in [25, 24] {
        let mut changes = Changes::of(&nodes[0]);
        let said = nodes[0].ok("apply", &with_id(id));
        assert!(said.contains(&format!("create enp6s0.24 (VLAN {id} on enp6s0)")), "{said}");
        let now = nodes[0].expect_link("octbr");
        assert_eq!((now.index(), now.mac(), now.mtu()), (bridge.index(), bridge.mac(), 1500));
        assert_eq!(nodes[0].ports("octbr"), ports);
        // Not even for a moment: the pods' ports are not spoken of.
        let pods: Vec<_> = ports.iter().filter(|port| *port != "enp6s0.24").collect();
        let told = changes.take();
        assert!(told.iter().any(|line| line.contains("enp6s0.24")), "{told:#?}");
        let of_pods: Vec<_> = told
            .iter()
            .filter(|line| line.contains("Deleted") && pods.iter().any(|pod| line.contains(pod.as_str())))
            .collect();
        assert!(of_pods.is_empty(), "{of_pods:#?}");
        if id == 25 {
            // The other node is still on 24: that is what tells the VLANs apart.
            assert!(ping(&worker, there.ip(), SILENCE).is_none());
            nodes[1].ok("apply", &with_id(25));
            expect_answer(&worker, there.ip(), PATIENCE);
            nodes[1].ok("apply", &with_id(24));
        }
    }
    expect_answer(&worker, there.ip(), PATIENCE);
}

#[test]
fn remove_deletes_what_it_made_once_no_pod_needs_it_and_nothing_else() {
    let lab = Lab::new();
    let [node, _other] = agents(&lab);
    for words in [
        "link add link enp6s0 name enp6s0.30 type vlan id 30",
        "link add br-storage type bridge",
        "link set enp6s0.30 master br-storage up",
        "link set br-storage up",
    ] {
        node.ip(words);
    }
    let before = node.snapshot(&[]);
    node.ok("apply", POLICY);
    let (pod, _) = attach(&node, "worker", &conf::octavia());
    let with_pod = node.snapshot(&[]);
    node.fails(1, "remove", "", &["octbr cannot be deleted", "would be cut off"]);
    node.snapshot(&[]).assert_same_as(&with_pod);
    pod.del(&conf::octavia()).run().silent_success();
    node.ok("remove", "");
    node.snapshot(&[]).assert_same_as(&before);
    assert_eq!(node.ok("remove", ""), "nothing to do\n");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_touched() {
    let lab = Lab::new();
    let [node, _other] = agents(&lab);
    node.ip("link add link enp6s0 name storage type vlan id 24");
    let before = node.snapshot(&[]);
    // The kernel would say no more than EEXIST.
    node.fails(1, "apply", POLICY, &["enp6s0.24: VLAN 24 on enp6s0 is taken by storage"]);
    node.fails(2, "apply", &with_id(4095), &["interfaces[0].vlan.id: 4095"]);
    node.fails(2, "apply", &with_id(0), &["interfaces[0].vlan.id: 0"]);
    let large = POLICY.replace("type: vlan", "type: vlan\n      mtu: 9000");
    node.fails(1, "apply", &large.replace("id: 24", "id: 26"), &["an MTU of 9000 exceeds the 1500 bytes"]);
    let elsewhere = POLICY.replace("base-iface: enp6s0", "base-iface: enp7s0");
    node.fails(1, "apply", &elsewhere, &["enp7s0 does not exist"]);
    node.snapshot(&[]).assert_same_as(&before);

    // A VLAN of another program under the policy's name, with another id.
    node.ip("link set storage name enp6s0.24");
    let before = node.snapshot(&[]);
    node.fails(1, "apply", &with_id(25), &["enp6s0.24", "did not make it", "will not delete it"]);
    node.snapshot(&[]).assert_same_as(&before);
}

#[test]
fn a_vlan_that_somebody_else_made_is_used_and_stays_theirs() {
    let lab = Lab::new();
    let [node, _other] = agents(&lab);
    node.ip("link add link enp6s0 name enp6s0.24 type vlan id 24");
    let index = node.expect_link("enp6s0.24").index();
    // Its description is not written on it, since that is where the agent marks what it made.
    node.ok("apply", POLICY);
    let vlan = node.expect_link("enp6s0.24");
    assert_eq!((vlan.index(), vlan.alias(), vlan.master()), (index, "", Some("octbr")));
    assert_eq!(node.ok("apply", POLICY), "nothing to do\n");
    node.ok("remove", "");
    let left = node.expect_link("enp6s0.24");
    assert_eq!((left.index(), left.master()), (index, None));
    assert!(node.link("octbr").is_none());
}

#[test]
fn a_vrf_takes_a_vlan_as_its_port_with_address_and_route() {
    let lab = Lab::new();
    let [node, _other] = agents(&lab);
    let before = node.snapshot(&[]);
    let policy = r"
interfaces:
- {name: red, type: vrf, state: up, vrf: {port: [enp6s0.40], route-table-id: 40}}
- name: enp6s0.40
  type: vlan
  vlan: {base-iface: enp6s0, id: 40}
  ipv4: {enabled: true, address: [{ip: 10.40.0.1, prefix-length: 24}]}
routes:
  config:
  - {destination: 10.41.0.0/16, next-hop-address: 10.40.0.9, next-hop-interface: enp6s0.40, table-id: 40}
";
    node.ok("apply", policy);
    let port = node.expect_link("enp6s0.40");
    assert_eq!((port.master(), port.addresses()), (Some("red"), vec!["10.40.0.1/24".to_owned()]));
    let route = node.expect_route("10.41.0.0/16");
    assert_eq!((route.gateway(), route.table()), ("10.40.0.9", "40"));
    assert_eq!(node.ok("apply", policy), "nothing to do\n");
    // Another id: address, route and master come back with the VLAN.
    node.ok("apply", &policy.replace("enp6s0, id: 40", "enp6s0, id: 42"));
    assert_eq!(node.expect_link("enp6s0.40").master(), Some("red"));
    assert_eq!(node.expect_route("10.41.0.0/16").gateway(), "10.40.0.9");
    node.ok("remove", "");
    node.snapshot(&[]).assert_same_as(&before);
}

#[test]
fn a_nic_in_a_vrf_keeps_its_addresses_and_its_routes_follow() {
    let lab = Lab::new();
    let [node, _other] = agents(&lab);
    for words in [
        "address add 10.1.0.5/24 dev enp6s0",
        "address add fd01::5/64 dev enp6s0 nodad",
        "route add 10.2.0.0/16 via 10.1.0.1",
        "-6 route add fd02::/64 via fd01::1",
    ] {
        node.ip(words);
    }
    let before = node.snapshot(&[]);
    let v6 = || node.ip("-6 address show dev enp6s0 scope global") + &node.ip("-6 route show proto boot");
    let v6_before = v6();
    let policy =
        "interfaces: [{name: red, type: vrf, state: up, vrf: {port: [enp6s0], route-table-id: 100}}]";
    let done = node.ok("apply", policy);
    assert!(done.contains("add the route 10.2.0.0/16 via 10.1.0.1 dev enp6s0 metric 0 table 100"), "{done}");
    let addresses = node.expect_link("enp6s0").addresses();
    assert!(addresses.contains(&"fd01::5/64".to_owned()), "{addresses:?}");
    for (words, route) in [
        ("route show table 100", "10.2.0.0/16 via 10.1.0.1 dev enp6s0"),
        ("-6 route show table 100", "fd02::/64 via fd01::1 dev enp6s0"),
    ] {
        let routes = node.ip(words);
        assert!(routes.contains(route), "{words}: {routes}");
    }
    assert_eq!(node.ok("apply", policy), "nothing to do\n");
    node.ok("remove", "");
    node.snapshot(&[]).assert_same_as(&before);
    assert_eq!(v6(), v6_before);
}
