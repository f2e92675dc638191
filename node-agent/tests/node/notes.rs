//! What works and is hardly meant is told, wherever one looks.

use std::fs;
use std::time::Duration;

use crate::scene::{Node, POLICY, on_a_node, until};

const SOON: Duration = Duration::from_secs(5);

fn is_told(node: &Node, part: &str) {
    until(SOON, part, || {
        let ready = node.run("health ready", "");
        ready.status == 0
            && ready.stdout.lines().any(|line| line.starts_with("note  policy") && line.contains(part))
    });
    assert!(node.log().contains(part), "{}", node.log());
}

#[test]
fn a_bridge_with_a_larger_mtu_than_its_uplink() {
    on_a_node(|node| {
        let policy = POLICY.replace("1500", "9000");
        let part = "octbr: its MTU of 9000 exceeds the 1500 bytes of its port enp6s0";
        let planned = node.ok("plan -f -", &policy);
        assert!(planned.contains(&format!("warning: {part}")), "before it is done: {planned}");
        assert!(!node.ok("plan -f -", POLICY).contains("warning"));
        fs::write(node.path("policy.yaml"), &policy).unwrap();
        let _daemon =
            node.start(&format!("run --health-bind none -f {}", node.path("policy.yaml").display()));
        is_told(node, part);
        node.ip("link set enp6s0 mtu 9000");
        until(SOON, "it is over", || !node.run("health ready", "").stdout.contains("exceeds"));
    });
}

#[test]
fn a_link_that_no_policy_names_any_more() {
    on_a_node(|node| {
        let other = "- {name: ospbr, type: linux-bridge}\n";
        node.ok("apply -f -", &format!("{POLICY}{other}"));
        assert!(!node.ok("plan", "").contains("warning"));
        let planned = node.ok("plan -f -", POLICY);
        assert!(
            planned.contains("warning: ospbr: the agent created it, and the policy does not name it"),
            "{planned}"
        );
        fs::write(node.path("policy.yaml"), POLICY).unwrap();
        let _daemon =
            node.start(&format!("run --health-bind none -f {}", node.path("policy.yaml").display()));
        is_told(node, "ospbr: the agent created it, and no policy names it any more");
        // The policy is on the disk a moment after it is in force.
        until(SOON, "doctor tells", || {
            let doctor = node.run("doctor", "").stdout;
            doctor.lines().any(|line| line.starts_with("warn  policy") && line.contains("ospbr"))
        });
        assert!(node.link("ospbr").is_some());
    });
}
