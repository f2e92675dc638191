//! What does not depend on each other is kept by itself: a conflict or a fight over one link is none of the others'.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::scene::{Daemon, Node, on_a_node, until};
use crate::slow_disk::start_slowly;

const START: Duration = Duration::from_secs(5);
/// Longest time a repair may take on a busy test machine.
const REPAIR: Duration = Duration::from_secs(1);
/// What failed is tried again after 5 s.
const RETRY: Duration = Duration::from_secs(10);
/// Of an agent whose requests to the kernel are slow.
const SLOWLY: Duration = Duration::from_secs(60);

const TWO: &str = "
interfaces:
- {name: br-a, type: linux-bridge, mtu: 1500, bridge: {port: [{name: nic-a}]}}
- {name: br-b, type: linux-bridge, bridge: {port: [{name: nic-b}]}}
";

fn with_nics(node: &Node) {
    node.ip("link add nic-a type veth peer name wire-a");
    node.ip("link add nic-b type veth peer name wire-b");
}

fn start(node: &Node, policy: &str) -> Daemon {
    fs::write(node.path("policy.yaml"), policy).unwrap();
    node.start(&format!("run --health-bind none -f {}", node.path("policy.yaml").display()))
}

fn is_port(node: &Node, nic: &str, bridge: &str) -> bool {
    node.link(nic).is_some_and(|link| link["master"] == bridge)
}

fn is_up(node: &Node, name: &str) -> bool {
    node.link(name).is_some_and(|link| link["flags"].as_array().unwrap().contains(&"UP".into()))
}

fn ready(node: &Node) -> String {
    node.run("health ready", "").stdout
}

#[test]
fn a_nic_that_another_bridge_takes_stops_the_keeping_of_nothing_else() {
    on_a_node(|node| {
        with_nics(node);
        let _daemon = start(node, TWO);
        until(START, "both", || is_port(node, "nic-a", "br-a") && is_port(node, "nic-b", "br-b"));
        node.ip("link add foreign type bridge");
        node.ip("link set nic-b master foreign");
        until(REPAIR, "the conflict is told", || {
            ready(node).contains("wait  policy   nic-b is to be a port of br-b")
        });
        for fault in ["set br-a down", "set nic-a nomaster", "del br-a"] {
            node.ip(&format!("link {fault}"));
            until(REPAIR, fault, || is_up(node, "br-a") && is_port(node, "nic-a", "br-a"));
            thread::sleep(Duration::from_secs(3));
        }
        let told = ready(node);
        assert!(told.contains("ok    policy   in force: br-a\n"), "{told}");
        assert!(is_port(node, "nic-b", "foreign"));
        node.ip("link set nic-b nomaster");
        until(RETRY, "the conflict is over", || is_port(node, "nic-b", "br-b"));
        until(REPAIR, "and told so", || ready(node).contains("ok    policy   in force: br-a, br-b\n"));
    });
}

#[test]
fn a_conflict_at_the_first_start_is_none_of_the_others_either() {
    on_a_node(|node| {
        with_nics(node);
        node.ip("link add foreign type bridge");
        node.ip("link set nic-b master foreign");
        let _daemon = start(node, TWO);
        until(START, "the other one", || is_up(node, "br-a") && is_port(node, "nic-a", "br-a"));
        assert!(node.link("br-b").is_none());
        assert!(!node.path("state/agent/desired.json").exists(), "not all of it was in force");
        node.ip("link set nic-b nomaster");
        until(RETRY, "all of it", || is_port(node, "nic-b", "br-b"));
        until(REPAIR, "kept", || node.path("state/agent/desired.json").exists());
    });
}

#[test]
fn a_step_that_the_kernel_refuses_is_none_of_the_others() {
    on_a_node(|node| {
        with_nics(node);
        // A bridge cannot be a port of a bridge; nothing says so before the kernel does.
        node.ip("link add inner type bridge");
        let _daemon = start(node, &TWO.replace("nic-b", "inner"));
        until(START, "the other one", || is_up(node, "br-a") && is_port(node, "nic-a", "br-a"));
        until(REPAIR, "told", || ready(node).contains("make inner a port of br-b"));
        node.ip("link set br-a down");
        until(REPAIR, "kept", || is_up(node, "br-a"));
        until(REPAIR, "taken back", || node.link("br-b").is_none());
        // The kernel counts the links that are made. What is taken back makes events, which are not worth another try.
        let made = |probe: &str| {
            node.ip(&format!("link add {probe} type bridge"));
            node.link(probe).unwrap()["ifindex"].as_u64().unwrap()
        };
        let first = made("probe1");
        thread::sleep(Duration::from_secs(3));
        let tries = made("probe2") - first - 1;
        assert!(tries < 10, "{tries} links were made and deleted in 3 s");
    });
}

/// The next try goes by what is there then, and can honestly say that it put everything back.
#[test]
fn what_a_failed_change_left_behind_is_told_until_the_next_change() {
    on_a_node(|node| {
        with_nics(node);
        node.ip("link set nic-a up");
        node.ip("link add inner type bridge");
        fs::write(node.path("policy.yaml"), TWO.replace("nic-b", "inner")).unwrap();
        let _daemon = start_slowly(node, "sendto", Duration::from_millis(50), &[]);
        until(SLOWLY, "the first group is complete", || is_port(node, "nic-a", "br-a"));
        // What the first group needs is changed before the second fails.
        node.ip("link set nic-a down");
        until(SLOWLY, "the first group by itself", || {
            node.link("br-b").is_none() && is_up(node, "nic-a") && is_port(node, "nic-a", "br-a")
        });
        let damage = "the node is not as it was: the state of nic-a is down, not up";
        until(SLOWLY, "it is told", || ready(node).contains(damage));
        let log = node.log();
        assert!(log.lines().any(|line| line.contains("ERROR") && line.contains(damage)), "{log}");
        until(SLOWLY, "the second is tried again", || {
            ready(node).contains("everything was put back as it was")
        });
        let told = ready(node);
        assert!(told.contains(damage), "{told}");
        node.ip("link set br-a down");
        until(SLOWLY, "a change that succeeds", || is_up(node, "br-a") && !ready(node).contains(damage));
    });
}

#[test]
fn a_fight_over_one_link_delays_no_other() {
    on_a_node(|node| {
        with_nics(node);
        let _daemon = start(node, TWO);
        until(START, "both", || is_port(node, "nic-a", "br-a") && is_port(node, "nic-b", "br-b"));
        // Pauses of 1, 2 and 4 s.
        until(Duration::from_secs(30), "a fight", || {
            node.ip("link set br-a mtu 1400");
            thread::sleep(Duration::from_millis(50));
            node.log().contains("waiting 4s")
        });
        node.ip("link set br-a mtu 1400");
        until(REPAIR, "told", || {
            ready(node).contains("another program undoes it time and again: set the MTU of br-a")
        });
        for fault in ["set br-b down", "set nic-b nomaster"] {
            node.ip(&format!("link {fault}"));
            until(REPAIR, fault, || is_up(node, "br-b") && is_port(node, "nic-b", "br-b"));
        }
        assert_eq!(node.link("br-a").unwrap()["mtu"], 1400, "still left alone");
        until(RETRY, "after the pause", || node.link("br-a").unwrap()["mtu"] == 1500);
    });
}
