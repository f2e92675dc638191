//! Bridges of files that are not in force: pods wait for each, and the plugin is told why.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::scene::{Daemon, Node, POLICY, complete, on_a_node, until};

const SOON: Duration = Duration::from_secs(60);

/// A part of a file that is refused, with a bridge of its own.
const WRONG: &str = "- {name: br-new, type: linux-bridge, bridge: {port: [{name: nic-b}]}, mtuu: 1500}\n";

fn start(node: &Node, policy: &str) -> Daemon {
    fs::write(node.path("policy.yaml"), policy).unwrap();
    node.start(&format!("run --health-bind none -f {}", node.path("policy.yaml").display()))
}

/// The reasons in bridges.json for which pods wait for the bridge; empty if its policy is in force.
pub(crate) fn why(node: &Node, bridge: &str) -> String {
    let told: Value = fs::read(node.path("state/agent/bridges.json"))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    let refused = told["not_in_force"].as_array().cloned().unwrap_or_default();
    let of_bridge = refused.iter().find(|refused| refused["bridges"].get(bridge).is_some());
    if told["bridges"].get(bridge).is_none() {
        return String::new();
    }
    of_bridge.map(|refused| format!("{}: {}", refused["policy"], refused["why"])).unwrap_or_default()
}

#[test]
fn pods_wait_for_the_bridges_of_a_file_that_is_wrong_when_it_is_read_again() {
    on_a_node(|node| {
        let mut daemon = start(node, POLICY);
        until(SOON, "the policy", || complete(node));
        fs::write(node.path("policy.yaml"), format!("{POLICY}{WRONG}")).unwrap();
        until(SOON, "the plugin is told", || why(node, "br-new").contains("mtuu"));
        assert!(why(node, "br-new").contains("policy.yaml"));
        assert_eq!(why(node, "octbr"), "", "it is in force");
        let doctor = node.run("doctor", "").stdout;
        assert!(doctor.contains("mtuu") && doctor.contains("correct the file"), "{doctor}");
        fs::write(node.path("policy.yaml"), format!("{POLICY}{}", WRONG.replace("mtuu", "mtu"))).unwrap();
        node.ip("link add nic-b type veth peer name wire-b");
        until(SOON, "the bridge", || node.link("nic-b").is_some_and(|link| link["master"] == "br-new"));
        until(SOON, "the plugin is told", || why(node, "br-new").is_empty());
        assert_eq!(daemon.stop(), Some(0));
    });
}

#[test]
fn pods_wait_for_the_bridges_of_a_file_that_is_wrong_from_the_start_of_an_agent_in_a_cluster() {
    on_a_node(|node| {
        node.ok("apply -f -", POLICY);
        fs::write(node.path("policy.yaml"), format!("{POLICY}{WRONG}")).unwrap();
        let words = crate::set_aside::run_in_a_cluster(node);
        let _daemon = node.start(&format!("{words} -f {}", node.path("policy.yaml").display()));
        until(SOON, "the plugin is told", || why(node, "br-new").contains("mtuu"));
        assert!(complete(node), "what is kept stays");
    });
}

#[test]
fn the_plugin_is_told_why_a_part_of_a_file_could_not_be_brought_about() {
    on_a_node(|node| {
        node.ip("link add nic-b type veth peer name wire-b");
        node.ip("link add foreign type bridge");
        node.ip("link set nic-b master foreign");
        let both = format!("{POLICY}{}", WRONG.replace(", mtuu: 1500", ""));
        let _daemon = start(node, &both);
        until(SOON, "the plugin is told", || why(node, "br-new").contains("nic-b is to be a port of br-new"));
        assert!(why(node, "br-new").contains("policy.yaml"));
        assert!(complete(node) && why(node, "octbr").is_empty());
        node.ip("link set nic-b nomaster");
        until(SOON, "the bridge", || node.link("nic-b").is_some_and(|link| link["master"] == "br-new"));
        until(SOON, "the plugin is told", || why(node, "br-new").is_empty());
        let told: Value =
            serde_json::from_slice(&fs::read(node.path("state/agent/bridges.json")).unwrap()).unwrap();
        assert_eq!(told["bridges"]["br-new"], json!(["nic-b"]));
        assert_eq!(told.get("not_in_force"), None);
    });
}
