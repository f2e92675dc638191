//! The mark on the agent's links, which other programs write over.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::scene::{Daemon, Node, POLICY, complete, on_a_node, until};

const SOON: Duration = Duration::from_secs(5);
const MARK: &str = "octavia-bridge: Configuring bridge octbr";

fn start(node: &Node) -> Daemon {
    fs::write(node.path("policy.yaml"), POLICY).unwrap();
    let daemon = node.start(&format!("run --health-bind none -f {}", node.path("policy.yaml").display()));
    until(SOON, "the policy is in force", || complete(node) && node.run("health ready", "").status == 0);
    daemon
}

fn alias(node: &Node) -> String {
    node.link("octbr").unwrap()["ifalias"].as_str().unwrap_or_default().to_owned()
}

fn is_told(node: &Node, part: &str) -> bool {
    let ready = node.run("health ready", "").stdout;
    ready.lines().any(|line| line.starts_with("note  policy   octbr: ") && line.contains(part))
}

#[test]
fn a_lost_mark_is_written_again_so_that_remove_knows_the_link() {
    on_a_node(|node| {
        let mut daemon = start(node);
        node.ip("link set octbr alias connected-to-sw1");
        until(SOON, "the mark is back", || alias(node) == MARK);
        daemon.stop();
        node.ok("remove", "");
        assert!(node.link("octbr").is_none());
    });
}

#[test]
fn against_a_rival_it_is_not_written_for_ever() {
    on_a_node(|node| {
        let _daemon = start(node);
        until(Duration::from_secs(30), "the agent gives way", || {
            if alias(node) == MARK {
                node.ip("link set octbr alias uplink");
            }
            is_told(node, "another program writes over its alias time and again")
        });
        thread::sleep(Duration::from_millis(500));
        assert_eq!(alias(node), "uplink");
        assert_eq!(node.log().matches("the mark was lost").count(), 5);
        node.ip("link set octbr down");
        until(SOON, "kept all the same", || complete(node));
    });
}

#[test]
fn witnesses_that_disagree_are_told_and_nothing_is_guessed() {
    on_a_node(|node| {
        let _daemon = start(node);
        node.ip("link set octbr address 02:00:00:00:00:99 alias uplink");
        until(SOON, "told", || is_told(node, "its MAC address is not the one"));
        assert_eq!(alias(node), "uplink");
    });
}
