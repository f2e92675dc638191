//! The agent, killed with SIGKILL at a request to the kernel, and its recovery at the next start.

use octavia_bridge_tests::traffic::{Echo, expect_answer};
use octavia_bridge_tests::{Agent, Lab, conf};

use crate::nodes::{PATIENCE, POLICY, attach, report, two_kept_nodes, two_nodes};

/// Not at every request, for each takes the better part of a second here; node-agent's own tests kill at every one.
const STRIDE: usize = 2;

/// Applies a policy and kills the agent at its so-many-th request. Returns whether it came to that.
fn killed_at(node: &Agent, request: usize, policy: &str) -> bool {
    let inject = format!("inject=sendto:signal=KILL:when={request}");
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=sendto", "-e", &inject];
    node.run_under(&strace, "apply", policy).status != Some(0)
}

#[test]
fn a_first_apply_killed_half_way_is_completed_by_the_next() {
    let lab = Lab::new();
    let [first, _second] = two_nodes(&lab);
    let node = Agent::on(&first, "node1");
    node.ok("apply", POLICY);
    let complete = node.snapshot(&[]);
    node.ok("remove", "");
    let (mut interrupted, mut request) = (0, 1);
    while killed_at(&node, request, POLICY) {
        interrupted += usize::from(node.journal().exists());
        node.ok("apply", POLICY);
        node.snapshot(&[]).assert_same_as(&complete);
        assert!(!node.journal().exists(), "killed at request {request}");
        node.ok("remove", "");
        request += STRIDE;
    }
    report(&format!(
        "vm: a first apply killed at {} requests, {interrupted} of them half-way",
        request / STRIDE
    ));
    assert!(interrupted >= 4, "the kills came too early or too late to prove anything: {interrupted}");
}

#[test]
fn a_change_of_the_vlan_id_killed_half_way_costs_no_pod_its_port() {
    let lab = Lab::new();
    let [node, other] = two_kept_nodes(&lab);
    let (worker, _) = attach(&node, "worker", &conf::octavia());
    let (manager, there) = attach(&other, "healthmanager", &conf::octavia());
    let _echo = Echo::start(&manager, there.ip());
    let complete = node.snapshot(&[]);
    let bridge = node.expect_link("octbr").index();
    let changed = POLICY.replace("id: 24", "id: 25");
    let (mut interrupted, mut request) = (0, 1);
    while killed_at(&node, request, &changed) {
        interrupted += usize::from(node.journal().exists());
        // The kept policy is still the one that was applied last in full: the half-done change is undone.
        node.ok("apply", "");
        node.snapshot(&[]).assert_same_as(&complete);
        assert_eq!(node.expect_link("octbr").index(), bridge);
        assert!(!node.journal().exists(), "killed at request {request}");
        request += STRIDE;
    }
    report(&format!(
        "vm: a new VLAN id killed at {} requests, {interrupted} of them half-way",
        request / STRIDE
    ));
    assert!(interrupted >= 4, "the kills came too early or too late to prove anything: {interrupted}");
    node.ok("apply", POLICY);
    expect_answer(&worker, there.ip(), PATIENCE);
}
