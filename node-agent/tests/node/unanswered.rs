//! Changes that could cut the node off, and `run`: what is in force is kept meanwhile.

use std::fs;
use std::time::Duration;

use crate::islands::why;
use crate::router::Router;
use crate::scene::{Daemon, Node, on_a_node, until};

const SOON: Duration = Duration::from_secs(60);
/// Before what was held back is tried again, which is a minute later.
const AT_ONCE: Duration = Duration::from_secs(45);

const KEPT: &str = "interfaces: [{name: br-a, type: linux-bridge, bridge: {port: [{name: enp6s0}]}}]";

/// The end of a policy: a bridge that takes over address and default route of `nic-a`, whose gateway is silent.
fn taking_over(bridge: &str, ports: &str) -> String {
    format!(
        "{{name: {bridge}, type: linux-bridge, bridge: {{port: [{ports}]}}, \
         ipv4: {{enabled: true, address: [{{ip: 10.1.1.1, prefix-length: 24}}]}}}}]
routes: {{config: [{{destination: 0.0.0.0/0, next-hop-address: 10.1.1.9, next-hop-interface: {bridge}}}]}}
"
    )
}

fn start(node: &Node, policy: &str) -> Daemon {
    fs::write(node.path("policy.yaml"), policy).unwrap();
    node.start(&format!("run --health-bind none -f {}", node.path("policy.yaml").display()))
}

fn is_up(node: &Node, name: &str) -> bool {
    node.link(name).is_some_and(|link| link["flags"].as_array().unwrap().contains(&"UP".into()))
}

#[test]
fn while_nobody_answers_what_is_in_force_is_kept_and_the_new_file_waits() {
    on_a_node(|node| {
        node.ip("link add nic-a type veth peer name wire-a");
        node.ip("link set nic-a up");
        node.ip("link set wire-a up");
        node.ip("addr add 10.1.1.1/24 dev nic-a");
        node.ip("route add default via 10.1.1.9");
        node.ok("apply -f -", KEPT);
        let harmless = "{name: br-new, type: linux-bridge}";
        let new =
            format!("interfaces: [{harmless}, {}", taking_over("br-a", "{name: enp6s0}, {name: nic-a}"));
        let _daemon = start(node, &new);
        until(SOON, "it is told", || {
            let told = node.run("health ready", "").stdout;
            told.contains("a newer one has no effect: ")
                && told.contains("does not answer even before the change")
        });
        // A pod on a bridge that waits would be on an island.
        until(SOON, "the plugin is told", || {
            why(node, "br-new").contains("does not answer even before the change")
        });
        // Of the same links as the change that waits.
        for fault in ["set br-a down", "set enp6s0 nomaster", "del br-a"] {
            node.ip(&format!("link {fault}"));
            until(SOON, fault, || {
                is_up(node, "br-a") && node.link("enp6s0").is_some_and(|link| link["master"] == "br-a")
            });
        }
        assert!(node.link("nic-a").unwrap()["master"].is_null());
        assert_eq!(node.log().matches("does not answer even before the change").count(), 1, "{}", node.log());
        assert!(!node.log().contains("create br-new"), "made, to be removed again: {}", node.log());
    });
}

#[test]
fn of_two_that_may_have_cut_the_node_off_only_the_one_that_did_is_left_out() {
    on_a_node(|node| {
        let router = Router::new(node, "10.0.0.1/24");
        node.ip("link set enp6s0 up");
        node.ip("addr add 10.0.0.5/24 dev enp6s0");
        node.ip("route add default via 10.0.0.1");
        node.ip("link add nic-b type veth peer name wire-b");
        router.take(node, "wire-b");
        router.ip("link set wire-b up");
        router.ip("addr add fd00::1/64 dev wire-b nodad");
        node.ip("link set nic-b up");
        node.ip("addr add fd00::5/64 dev nic-b nodad");
        node.ip("-6 route add default via fd00::1 dev nic-b");
        let _daemon = start(
            node,
            "interfaces:
- {name: enp6s0, type: ethernet, ipv4: {enabled: false}}
- {name: nic-b, type: ethernet, mtu: 1400}
",
        );
        until(SOON, "it is told", || {
            let told = node.run("health ready", "").stdout;
            told.contains("not in force: no answer from the gateway 10.0.0.1")
        });
        assert_eq!(node.link("nic-b").unwrap()["mtu"], 1400, "the other one stays");
        let cut_offs = node.path("state/agent/cut-off.json");
        until(SOON, "it is remembered", || cut_offs.exists());
        let cut_offs = fs::read_to_string(cut_offs).unwrap();
        assert_eq!(cut_offs.matches("no answer from the gateway 10.0.0.1").count(), 1, "{cut_offs}");
        assert_eq!(node.ip("-4 -o addr show dev enp6s0").matches("10.0.0.5/24").count(), 1);
    });
}

#[test]
fn files_of_other_programs_are_written_once_for_what_is_tried_in_vain() {
    on_a_node(|node| {
        node.ip("link add nic-a type veth peer name wire-a");
        node.ip("link set nic-a up");
        node.ip("link set wire-a up");
        node.ip("addr add 10.1.1.1/24 dev nic-a");
        node.ip("route add default via 10.1.1.9");
        node.ok("apply -f -", KEPT);
        let networkd = node.path("networkd");
        fs::create_dir(&networkd).unwrap();
        let policy = node.path("policy.yaml");
        let new = KEPT.replace("}]}}]", "}]}}, ") + &taking_over("br-new", "{name: nic-a}");
        fs::write(&policy, new).unwrap();
        let (policy, dir) = (policy.display(), networkd.display());
        let _daemon = node.start(&format!("run --health-bind none -f {policy} --networkd-dir {dir}"));
        let is_told = || node.run("health ready", "").stdout.contains("a newer one has no effect: ");
        until(SOON, "it is refused", is_told);
        let files = || {
            let mut text = String::new();
            for entry in fs::read_dir(&networkd).unwrap() {
                text += &fs::read_to_string(entry.unwrap().path()).unwrap();
            }
            text
        };
        until(SOON, "written", || files().contains("br-a"));
        // Also after the next look.
        node.ip("link set br-a down");
        until(SOON, "repaired", || is_up(node, "br-a"));
        assert!(files().contains("br-new"), "{}", files());
        fs::write(node.path("policy.yaml"), KEPT).unwrap();
        until(SOON, "it is not wanted any more", || !files().contains("br-new"));
    });
}

/// A bridge that has address and default route of the node, by `enp6s0`.
fn way_out(address: &str) -> String {
    format!(
        "interfaces: [{{name: br-out, type: linux-bridge, mtu: 1500, bridge: {{options: {{stp: {{enabled: false}}}}, \
         port: [{{name: enp6s0}}]}}, ipv4: {{enabled: true, address: [{{ip: {address}, prefix-length: 24}}]}}}}]
routes: {{config: [{{destination: 0.0.0.0/0, next-hop-address: 10.0.0.1, next-hop-interface: br-out}}]}}
"
    )
}

/// An agent that has given the node's address and default route to the bridge.
fn by_bridge(node: &Node) -> Daemon {
    node.ip("link set enp6s0 up");
    node.ip("addr add 10.0.0.5/24 dev enp6s0");
    node.ip("route add default via 10.0.0.1");
    let daemon = start(node, &way_out("10.0.0.5"));
    is_reached(node, "10.0.0.5");
    daemon
}

#[track_caller]
fn is_reached(node: &Node, address: &str) {
    let policy = way_out(address);
    until(SOON, "everything is as the policy says", || node.run("plan --check -f -", &policy).status == 0);
    assert_eq!(node.ip("-4 -o addr show dev br-out").matches("inet ").count(), 1);
    assert_eq!(node.link("br-out").unwrap()["mtu"], 1500);
}

/// Another program cuts the gateway off, and makes a difference whose repair needs the gateway's answer.
fn cut_off_by_others(node: &Node) {
    node.ip("addr add 10.77.0.1/24 dev br-out");
    node.ip("link set enp6s0 down nomaster");
}

fn is_port(node: &Node) -> bool {
    node.link("enp6s0").is_some_and(|link| link["master"] == "br-out") && is_up(node, "enp6s0")
}

#[test]
fn an_uplink_that_others_took_away_comes_back_before_the_gateway_is_asked() {
    on_a_node(|node| {
        let _router = Router::new(node, "10.0.0.1/24");
        let mut daemon = by_bridge(node);
        cut_off_by_others(node);
        is_reached(node, "10.0.0.5");
        // A bridge with STP keeps its ports closed for two times 15 s.
        node.ip("link set br-out mtu 1400");
        node.ip("link set br-out type bridge stp_state 1");
        is_reached(node, "10.0.0.5");
        // A new policy waits for the answer as well.
        cut_off_by_others(node);
        fs::write(node.path("policy.yaml"), way_out("10.0.0.6")).unwrap();
        is_reached(node, "10.0.0.6");
        // Also where the old one asks for nothing else, and the agent was away meanwhile.
        assert_eq!(daemon.stop(), Some(0));
        node.ip("link set enp6s0 down nomaster");
        let new = way_out("10.0.0.7");
        let _daemon = start(node, &new);
        until(AT_ONCE, "the new one is in force", || node.run("plan --check -f -", &new).status == 0);
        assert!(node.ip("-4 route show default").starts_with("default via 10.0.0.1 dev br-out"));
    });
}

#[test]
fn while_the_gateway_is_silent_its_links_come_back_and_nothing_that_could_cut_it_off_is_done() {
    on_a_node(|node| {
        let router = Router::new(node, "10.0.0.1/24");
        node.ip("link add enp7s0 type veth peer name wire7");
        let _daemon = by_bridge(node);
        router.ip("addr flush dev wire");
        cut_off_by_others(node);
        until(SOON, "the uplink is back", || is_port(node));
        until(SOON, "the rest is told", || {
            node.run("health ready", "").stdout.contains("does not answer even before the change")
        });
        assert!(node.ip("-4 -o addr show dev br-out").contains("10.77.0.1/24"), "{}", node.log());
        // Not a port that was never in force.
        let new = way_out("10.0.0.6").replace("{name: enp6s0}", "{name: enp6s0}, {name: enp7s0}");
        fs::write(node.path("policy.yaml"), new).unwrap();
        until(SOON, "it is told", || {
            node.run("health ready", "").stdout.contains("a newer one has no effect: ")
        });
        assert!(!node.log().contains("enp7s0"), "{}", node.log());
        assert!(is_port(node));
    });
}
