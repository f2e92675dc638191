//! Bonds by the agent, with Octavia's VLAN and bridge over them.

use std::process::Command;
use std::time::{Duration, Instant};

use octavia_bridge_tests::traffic::{Echo, expect_answer, ping};
use octavia_bridge_tests::{Agent, Changes, Lab, Node, conf};

use crate::nodes::{PATIENCE, attach, call, report};

/// A bond of two NICs, the VLAN on it, and the bridge over that.
const BONDED: &str = "
interfaces:
- name: bond0
  type: bond
  state: up
  link-aggregation:
    mode: active-backup
    options: {primary: nic0, miimon: 100, updelay: 0}
    port: [nic0, nic1]
- {name: bond0.24, type: vlan, state: up, vlan: {base-iface: bond0, id: 24}}
- {name: octbr, type: linux-bridge, state: up, bridge: {options: {stp: {enabled: false}}, port: [{name: bond0.24}]}}
";

/// A node with two NICs, whose far ends are ports of a switch.
fn bonded(node: &Node, switch: &Node, name: &str) -> Agent {
    let there = switch.path().display();
    for nic in ["nic0", "nic1"] {
        node.ip(&format!("link add {nic} type veth peer name {name}-{nic} netns {there}"));
        node.ip(&format!("link set {nic} up"));
        switch.ip(&format!("link set {name}-{nic} up"));
    }
    Agent::on(node, name)
}

fn switch(lab: &Lab) -> Node {
    let switch = lab.node("switch");
    switch.ip("link add fabric type bridge");
    switch.ip("link set fabric up");
    switch
}

/// Whether it is up, its MTU and its address.
fn link(node: &Node, name: &str) -> (bool, u64, String) {
    let link = node.expect_link(name);
    (link.is_up(), link.mtu(), link.mac().to_owned())
}

fn bonding(node: &Node, bond: &str) -> String {
    let output = node.output(Command::new("cat").arg(format!("/proc/net/bonding/{bond}")));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn pods_over_a_bond_go_on_when_its_active_port_fails() {
    let lab = Lab::new();
    let switch = switch(&lab);
    let first = lab.node("one");
    let second = lab.node_on_disk_of("two", &first);
    let nodes = [bonded(&first, &switch, "one"), bonded(&second, &switch, "two")];
    for (node, name) in nodes.iter().zip(["one", "two"]) {
        for nic in ["nic0", "nic1"] {
            switch.ip(&format!("link set {name}-{nic} master fabric"));
        }
        node.ok("apply", BONDED);
        assert!(
            bonding(node, "bond0").contains("Currently Active Slave: nic0"),
            "{}",
            bonding(node, "bond0")
        );
        assert_eq!(node.expect_link("octbr").mac(), node.expect_link("bond0").mac());
    }
    let (worker, _) = attach(&nodes[0], "worker", &conf::octavia());
    let (manager, there) = attach(&nodes[1], "healthmanager", &conf::octavia());
    call(&worker, &manager, there.ip());
    let _echo = Echo::start(&manager, there.ip());
    expect_answer(&worker, there.ip(), PATIENCE);

    let mut longest = Duration::ZERO;
    let mut last = Instant::now();
    let started = Instant::now();
    switch.ip("link set one-nic0 down");
    while started.elapsed() < Duration::from_secs(5) {
        if ping(&worker, there.ip(), PATIENCE).is_some() {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
    }
    let state = bonding(&nodes[0], "bond0");
    assert!(state.contains("Currently Active Slave: nic1"), "{state}");
    report(&format!("failover of the active port: longest silence {} ms", longest.as_millis()));
    switch.ip("link set one-nic0 up");
    expect_answer(&worker, there.ip(), PATIENCE);
}

#[test]
fn two_bonds_of_802_3ad_agree_on_both_links() {
    let lab = Lab::new();
    let (first, second) = (lab.node("node1"), lab.node("node2"));
    let there = second.path().display();
    for nic in ["nic0", "nic1"] {
        first.ip(&format!("link add {nic} type veth peer name {nic} netns {there}"));
    }
    let agents = [Agent::on(&first, "node1"), Agent::on(&second, "node2")];
    let policy = BONDED
        .replace("active-backup", "802.3ad")
        .replace("primary: nic0", "lacp_rate: fast, xmit_hash_policy: layer3+4");
    for agent in &agents {
        agent.ok("apply", &policy);
        assert_eq!(agent.ok("apply", &policy), "nothing to do\n");
    }
    let started = Instant::now();
    let agreed = || bonding(&first, "bond0").contains("Number of ports: 2");
    while !agreed() && started.elapsed() < 6 * PATIENCE {
        std::thread::sleep(Duration::from_millis(200));
    }
    let state = bonding(&first, "bond0");
    assert!(agreed(), "{state}");
    assert!(state.contains("LACP rate: fast") && state.contains("layer3+4"), "{state}");
    let mac = second.expect_link("bond0").mac().to_owned();
    assert!(state.contains(&format!("Partner Mac Address: {mac}")), "{state}");
}

#[test]
fn a_bond_is_made_kept_shown_changed_and_removed() {
    let lab = Lab::new();
    let switch = switch(&lab);
    let node = bonded(&lab.node("one"), &switch, "one");
    let seen = || ["nic0", "nic1"].map(|nic| link(&node, nic));
    let before = seen();
    node.ok("apply", BONDED);
    let bond = node.expect_link("bond0");
    let macs = ["nic0", "nic1"].map(|nic| node.expect_link(nic).mac().to_owned());
    assert_eq!(macs, [bond.mac(), bond.mac()]);
    let mut changes = Changes::of(&node);
    assert_eq!(node.ok("apply", BONDED), "nothing to do\n");
    assert_eq!(changes.take(), [""; 0]);
    drop(changes);
    // What show prints is in force.
    let shown = node.ok("show", "");
    assert!(shown.contains("primary: nic0"), "{shown}");
    assert_eq!(node.ok("plan --check", &shown), "nothing to do\n");

    let (pod, _) = attach(&node, "worker", &conf::octavia());
    let ports = node.ports("octbr");
    // Another mode: the ports leave the bond for a moment, and nothing else does.
    let mac = node.expect_link("bond0").mac().to_owned();
    let other = BONDED.replace("active-backup", "802.3ad").replace("primary: nic0", "lacp_rate: fast");
    node.ok("apply", &other);
    assert_eq!(node.ok("apply", &other), "nothing to do\n");
    assert!(bonding(&node, "bond0").contains("LACP rate: fast"));
    node.ok("apply", BONDED);
    assert_eq!(node.ok("apply", BONDED), "nothing to do\n");
    let now = node.expect_link("bond0");
    assert_eq!((now.index(), now.mac()), (bond.index(), mac.as_str()));
    assert_eq!(node.ports("octbr"), ports);
    assert!(node.expect_link("bond0.24").is_up());
    // A port less is released, and the bond goes on.
    let one = BONDED.replace("port: [nic0, nic1]", "port: [nic0]");
    node.ok("apply", &one);
    assert_eq!(node.ports("bond0"), ["nic0"]);
    assert_eq!(node.ok("apply", &one), "nothing to do\n");
    node.ok("apply", BONDED);
    assert_eq!(node.ports("bond0").len(), 2);

    pod.del(&conf::octavia()).run().silent_success();
    node.ok("remove", "");
    assert!(node.link("bond0").is_none());
    assert_eq!(seen(), before);
}

#[test]
fn what_fails_half_way_is_taken_back_with_the_ports_as_they_were() {
    let lab = Lab::new();
    let switch = switch(&lab);
    let node = bonded(&lab.node("one"), &switch, "one");
    node.ip("address add 10.0.0.5/24 dev nic0");
    node.ip("link set nic1 mtu 1400");
    let seen =
        || ["nic0", "nic1"].map(|nic| (link(&node, nic), node.ip(&format!("-4 address show dev {nic}"))));
    let before = seen();
    // A gateway that no address reaches is refused by the kernel, when all links are there.
    let last = "routes: {config: [{destination: 10.99.0.0/16, next-hop-address: 10.98.0.1, next-hop-interface: octbr}]}";
    node.fails(1, "apply", &format!("{BONDED}{last}"), &["everything was put back as it was"]);
    assert_eq!(seen(), before);
    assert!(node.link("bond0").is_none() && node.link("octbr").is_none());
}
