//! Pods' ports with VLANs: the agent restores them with their VLANs, or reports a bridge that does not, or suddenly does, filter.

use std::time::Duration;

use octavia_bridge_tests::agent::POLICY;
use octavia_bridge_tests::changes::until;
use octavia_bridge_tests::{Agent, Lab, Node, conf};
use serde_json::json;

use crate::nodes::{PATIENCE, attach};
use crate::port_vlans::{in_vlan, vlans};

/// A node with a NIC, what that leads to, and the node's agent, whose files are where the plugin has its own.
fn kept_node(lab: &Lab) -> ([Node; 2], Agent) {
    let (node, other) = (lab.node("node1"), lab.node("switch"));
    lab.trunk(&node, &other);
    std::fs::create_dir_all(node.data_dir()).expect("make the agent's folder");
    let agent = Agent::beside_plugin(&node);
    ([node, other], agent)
}

fn says(agent: &Agent, part: &str) -> bool {
    let ready = agent.run("health ready", "").stdout;
    ready.lines().any(|line| line.starts_with("wait  ports") && line.contains(part))
}

#[test]
fn a_port_comes_back_with_its_vlans_and_not_into_a_bridge_that_does_not_separate_them() {
    let lab = Lab::new();
    let ([node, _switch], agent) = kept_node(&lab);
    let _keeper = agent.keep(POLICY);
    until(PATIENCE * 2, "the policy is in force", || node.ports("octbr") == ["enp6s0"]);
    node.ip("link set octbr type bridge vlan_filtering 1");
    let (_pod, attached) = attach(&node, "blue", &in_vlan(100));
    let port = attached.host_link();
    let is_back = || {
        let link = node.expect_link(port);
        link.master() == Some("octbr") && link.is_up()
    };
    assert_eq!(vlans(&node, port), "100 pvid untagged");
    node.ip(&format!("link set {port} nomaster"));
    until(PATIENCE, "put back", is_back);
    assert_eq!(vlans(&node, port), "100 pvid untagged");
    // The new bridge is as the policy says, which knows of no filtering.
    node.ip("link del octbr");
    until(PATIENCE, "the new bridge", || node.ports("octbr") == ["enp6s0"]);
    until(PATIENCE, "told", || says(&agent, "has VLANs in octbr, which does not filter them"));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(node.expect_link(port).master(), None);
    node.ip("link set octbr type bridge vlan_filtering 1");
    until(PATIENCE, "put back once it does", is_back);
    assert_eq!(vlans(&node, port), "100 pvid untagged");
}

#[test]
fn filtering_that_cuts_pods_off_is_told() {
    let lab = Lab::new();
    let ([node, _switch], agent) = kept_node(&lab);
    let _keeper = agent.keep(POLICY);
    until(PATIENCE * 2, "the policy is in force", || node.ports("octbr") == ["enp6s0"]);
    let _pod = attach(&node, "worker", &conf::octavia_with(json!({"cniVersion": "1.0.0"})));
    node.ip("link set octbr type bridge vlan_filtering 1");
    std::thread::sleep(Duration::from_secs(1));
    assert!(!says(&agent, "octbr"), "all are in its default VLAN");
    node.ip("link set octbr type bridge vlan_default_pvid 0");
    until(PATIENCE, "told", || says(&agent, "lacks its VLANs in octbr, which filters them"));
    let doctor = agent.run("doctor", "").stdout;
    let fails = |line: &str| line.starts_with("fail  ports") && line.contains("vlan_filtering 0");
    assert!(doctor.lines().any(fails), "{doctor}");
    node.ip("link set octbr type bridge vlan_filtering 0");
    until(PATIENCE, "it is over", || !says(&agent, "octbr"));
}
