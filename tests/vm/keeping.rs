//! The daemon: what drifts away from the policy is put right, with pods attached.

use std::time::Duration;

use octavia_bridge_tests::changes::{span, until};
use octavia_bridge_tests::traffic::{Echo, expect_answer};
use octavia_bridge_tests::{Agent, Changes, Lab, conf};

use crate::nodes::{PATIENCE, POLICY, attach, report, two_kept_nodes, two_nodes};

/// Longest time from a fault to the last message of its repair. It is 100 ms on a real processor; these are emulated,
/// two for all tests, and some twenty times slower; and the kernel may tell of a carrier a second late (`net/core/link_watch.c`).
const REPAIR: Duration = Duration::from_secs(10);

/// Everything as the policy says.
fn complete(node: &Agent) -> bool {
    let (vlan, bridge, parent) = (node.link("enp6s0.24"), node.link("octbr"), node.link("enp6s0"));
    let (Some(vlan), Some(bridge), Some(parent)) = (vlan, bridge, parent) else { return false };
    let stp = node.link_attribute("octbr", "bridge/stp_state");
    vlan.kind() == "vlan"
        && vlan.master() == Some("octbr")
        && vlan.mtu() == parent.mtu()
        && [&vlan, &bridge, &parent].iter().all(|link| link.is_up())
        && (bridge.mtu(), stp.as_str()) == (1500, "0")
}

#[test]
fn every_drift_is_repaired_and_the_pods_are_reached_again() {
    let lab = Lab::new();
    let [first, second] = two_nodes(&lab);
    let (node, other) = (Agent::on(&first, "node1"), Agent::on(&second, "node2"));
    other.ok("apply", POLICY);
    let mut keeper = node.keep(POLICY);
    until(PATIENCE, "the policy is in force", || complete(&node));
    let (worker, _) = attach(&node, "worker", &conf::octavia());
    let (manager, there) = attach(&other, "healthmanager", &conf::octavia());
    let _echo = Echo::start(&manager, there.ip());
    expect_answer(&worker, there.ip(), PATIENCE);
    let bridge = node.expect_link("octbr");
    let mut changes = Changes::of(&node);
    for fault in [
        "link del enp6s0.24",
        "link set enp6s0.24 nomaster",
        "link set octbr type bridge stp_state 1",
        "link set enp6s0.24 down",
        "link set enp6s0 down",
        "link set octbr mtu 1400",
        "link set enp6s0.24 mtu 1400",
    ] {
        // A pause, so that the faults of a test are not taken for a fight.
        std::thread::sleep(Duration::from_millis(2100));
        changes.take();
        node.ip(fault);
        until(PATIENCE, fault, || complete(&node));
        // Without the bridge's own messages about its ports, which have no flags: some arrive seconds later.
        let mut told = changes.take();
        told.retain(|line| line.contains('<'));
        let took = span(&told);
        report(&format!("vm: `ip {fault}` repaired in {took:?}"));
        assert!(took <= REPAIR, "{fault}: {took:?}\n{told:#?}\n{}", keeper.log());
        expect_answer(&worker, there.ip(), PATIENCE);
        let now = node.expect_link("octbr");
        assert_eq!((now.index(), now.mac()), (bridge.index(), bridge.mac()), "{fault}");
    }
    assert_eq!(keeper.stop(), Some(0));
    assert!(complete(&node), "links outlive the daemon");
}

#[test]
fn a_parent_that_shrinks_takes_the_vlan_along_and_brings_it_back() {
    let lab = Lab::new();
    let [first, _second] = two_nodes(&lab);
    let node = Agent::on(&first, "node1");
    let _keeper = node.keep(POLICY);
    until(PATIENCE, "the policy is in force", || complete(&node));
    let (_pod, _) = attach(&node, "worker", &conf::octavia());
    let mtus = || ["enp6s0", "enp6s0.24", "octbr"].map(|link| node.expect_link(link).mtu());
    node.ip("link set enp6s0 mtu 1400");
    // The bridge's is the policy's, which no port can lower.
    until(PATIENCE, "the VLAN follows down", || mtus() == [1400, 1400, 1500]);
    // The kernel does not grow a VLAN with its parent (net/8021q/vlan.c).
    node.ip("link set enp6s0 mtu 1500");
    until(PATIENCE, "the VLAN follows up", || mtus() == [1500, 1500, 1500]);
}

/// The same with an MTU that the policy states: it is waited for, and all else is kept meanwhile.
#[test]
fn a_parent_with_a_smaller_mtu_than_the_policys_stops_the_keeping_of_nothing_else() {
    let lab = Lab::new();
    let [first, _second] = two_nodes(&lab);
    let node = Agent::on(&first, "node1");
    let keeper = node.keep(&POLICY.replace("type: vlan", "type: vlan\n      mtu: 1500"));
    until(PATIENCE, "the policy is in force", || complete(&node));
    let mtus = || ["enp6s0", "enp6s0.24", "octbr"].map(|link| node.expect_link(link).mtu());
    node.ip("link set enp6s0 mtu 1450");
    let why = "enp6s0.24: an MTU of 1500 exceeds the 1450 bytes of its base interface";
    until(PATIENCE, "it is told", || keeper.log().contains(why));
    node.ip("link set octbr down");
    until(PATIENCE, "the bridge is kept", || complete(&node));
    node.ip("link set enp6s0.24 nomaster");
    until(PATIENCE, "the port is kept", || complete(&node));
    assert_eq!(mtus(), [1450, 1450, 1500]);
    node.ip("link set enp6s0 mtu 1500");
    until(PATIENCE, "the VLAN follows up", || mtus() == [1500, 1500, 1500]);
}

#[test]
fn a_parent_that_goes_down_and_up_by_hand_carries_pods_again_without_the_daemon() {
    let lab = Lab::new();
    let [node, other] = two_kept_nodes(&lab);
    let (worker, _) = attach(&node, "worker", &conf::octavia());
    let (manager, there) = attach(&other, "healthmanager", &conf::octavia());
    let _echo = Echo::start(&manager, there.ip());
    node.ip("link set enp6s0 down");
    assert_eq!(node.run("plan --check", POLICY).status, Some(3));
    node.ip("link set enp6s0 up");
    expect_answer(&worker, there.ip(), PATIENCE);
    assert_eq!(node.ok("plan --check", POLICY), "nothing to do\n");
}

#[test]
fn a_parent_missing_at_boot_is_waited_for_and_no_bridge_is_made_without_it() {
    let lab = Lab::new();
    let first = lab.node("node1");
    let node = Agent::on(&first, "node1");
    let keeper = node.keep(POLICY);
    until(PATIENCE, "it says what it waits for", || keeper.log().contains("enp6s0 does not exist"));
    assert!(node.link("octbr").is_none());
    let second = lab.node("node2");
    lab.trunk(&first, &second);
    until(PATIENCE, "the policy is in force", || complete(&node));
    // The same after a reload of the driver, with a pod in the bridge.
    let (_pod, _) = attach(&node, "worker", &conf::octavia());
    let bridge = node.expect_link("octbr").index();
    node.ip("link del enp6s0");
    until(PATIENCE, "the VLAN went with its parent", || node.link("enp6s0.24").is_none());
    lab.trunk(&first, &second);
    until(PATIENCE, "the policy is in force again", || complete(&node));
    assert_eq!(node.expect_link("octbr").index(), bridge);
    assert_eq!(node.ports("octbr").len(), 2);
}
