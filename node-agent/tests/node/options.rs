//! Options of a bridge and of its ports, in the kernel.

use std::time::Duration;

use serde_json::{Value, json};

use crate::scene::{Node, on_a_node, until};

const POLICY: &str = r"
interfaces:
- name: octbr
  type: linux-bridge
  bridge:
    options:
      mac-ageing-time: 10
      group-forward-mask: 8
      multicast-snooping: false
      multicast-router: disabled
      multicast-query-interval: 10000
      stp: {enabled: true, forward-delay: 4, hello-time: 1, max-age: 8, priority: 4096}
    port: [{name: enp6s0, stp-hairpin-mode: true, stp-path-cost: 7, stp-priority: 5, vlan: {}}]
";

/// What `ip` shows of the bridge and of its port.
fn shown(node: &Node) -> [Value; 2] {
    let bridge = node.link("octbr").unwrap()["linkinfo"]["info_data"].clone();
    let port = node.link("enp6s0").unwrap()["linkinfo"]["info_slave_data"].clone();
    [bridge, port]
}

fn expect(node: &Node) {
    let [bridge, port] = shown(node);
    for (key, value) in [
        ("ageing_time", json!(1000)),
        ("group_fwd_mask", json!("0x8")),
        ("mcast_snooping", json!(0)),
        ("mcast_router", json!(0)),
        ("mcast_query_intvl", json!(10_000)),
        ("stp_state", json!(1)),
        ("forward_delay", json!(400)),
        ("hello_time", json!(100)),
        ("max_age", json!(800)),
        ("priority", json!(4096)),
    ] {
        assert_eq!(bridge[key], value, "{key} of {bridge}");
    }
    for (key, value) in [("hairpin", json!(true)), ("cost", json!(7)), ("priority", json!(5))] {
        assert_eq!(port[key], value, "{key} of {port}");
    }
}

#[test]
fn options_are_set_at_birth_kept_and_shown() {
    on_a_node(|node| {
        node.ok("apply -f -", POLICY);
        expect(node);
        assert_eq!(node.ok("apply -f -", POLICY), "nothing to do\n");
        let state = node.ok("show", "");
        assert!(state.contains("mac-ageing-time: 10") && state.contains("stp-priority: 5"), "{state}");
        assert_eq!(node.ok("plan -f - --check", &state), "nothing to do\n");
        // Others change them.
        node.ip("link set octbr type bridge ageing_time 30000 mcast_snooping 1 priority 8192");
        node.ip("link set enp6s0 type bridge_slave hairpin off cost 9");
        let said = node.ok("apply", "");
        for step in [
            "set mac-ageing-time of octbr to 10 s",
            "set multicast-snooping of octbr to off",
            "set priority of octbr to 4096",
            "set stp-hairpin-mode of enp6s0 to on",
            "set stp-path-cost of enp6s0 to 7",
        ] {
            assert!(said.lines().any(|line| line == step), "{step} in {said}");
        }
        expect(node);
        // What a policy does not state any more stays.
        let silent =
            "interfaces: [{name: octbr, type: linux-bridge, bridge: {options: {stp: {enabled: true}}}}]";
        assert_eq!(node.ok("apply -f -", silent), "nothing to do\n");
        expect(node);
    });
}

/// The last step fails: the kernel has no such gateway.
#[test]
fn a_change_that_fails_gives_every_option_back() {
    on_a_node(|node| {
        node.ok("apply -f -", &POLICY.replace("hairpin-mode: true", "hairpin-mode: false"));
        let before = shown(node);
        let fails = POLICY
            .replace("mac-ageing-time: 10", "mac-ageing-time: 20")
            .replace("path-cost: 7", "path-cost: 8")
            + "routes: {config: [{destination: 10.2.0.0/16, next-hop-interface: octbr, next-hop-address: 10.9.9.9}]}";
        let answer = node.run("apply -f -", &fails);
        assert_eq!(answer.status, 1, "{}", answer.stderr);
        assert!(answer.stderr.contains("everything was put back as it was"), "{}", answer.stderr);
        assert_eq!(settled(shown(node)), settled(before));
    });
}

/// A port of another bridge takes its options along when a change to ours is undone.
#[test]
fn a_port_that_goes_back_to_its_bridge_has_its_options_again() {
    on_a_node(|node| {
        let other = "interfaces: [{name: other, type: linux-bridge, bridge: {port: [{name: enp6s0, stp-path-cost: 9, stp-hairpin-mode: true}]}}";
        node.ok("apply -f -", &format!("{other}]"));
        let moved = r"
interfaces:
- {name: other, type: linux-bridge, bridge: {port: []}}
- {name: octbr, type: linux-bridge, bridge: {port: [{name: enp6s0}]}}
routes: {config: [{destination: 10.2.0.0/16, next-hop-interface: octbr, next-hop-address: 10.9.9.9}]}
";
        let answer = node.run("apply -f -", moved);
        assert_eq!(answer.status, 1, "{}", answer.stderr);
        assert!(answer.stderr.contains("everything was put back as it was"), "{}", answer.stderr);
        let port = node.link("enp6s0").unwrap();
        assert_eq!(
            (&port["master"], &port["linkinfo"]["info_slave_data"]["cost"]),
            (&json!("other"), &json!(9))
        );
        assert_eq!(port["linkinfo"]["info_slave_data"]["hairpin"], true);
    });
}

/// Without what the spanning tree changes by itself.
fn settled([mut bridge, mut port]: [Value; 2]) -> [Value; 2] {
    for value in [&mut bridge, &mut port] {
        if let Some(map) = value.as_object_mut() {
            map.retain(|key, _| {
                ["ageing_time", "cost", "hairpin", "priority", "forward_delay", "group_fwd_mask"]
                    .contains(&key.as_str())
            });
        }
    }
    [bridge, port]
}

/// `wire` leads to a bridge that is the root of the spanning tree, with other times.
#[test]
fn values_that_the_spanning_tree_overrides_are_no_difference() {
    on_a_node(|node| {
        node.ok("apply -f -", POLICY);
        node.ip(
            "link add root type bridge stp_state 1 forward_delay 200 hello_time 100 max_age 600 priority 0",
        );
        node.ip("link set wire master root");
        node.ip("link set root up");
        let limit = Duration::from_secs(60);
        // The port forwards after twice the delay, which is a change of the topology.
        // iproute2 6.1 prints the bridge's own identifier as the root's.
        let is_root = || shown(node)[0]["root_port"] == 0;
        until(limit, "the tree changes", || !is_root() && shown(node)[0]["topology_change"] == 1);
        let [bridge, _] = shown(node);
        assert_eq!((&bridge["forward_delay"], &bridge["max_age"]), (&json!(200), &json!(600)), "{bridge}");
        assert_eq!(bridge["ageing_time"], 400, "{bridge}");
        assert_eq!(node.ok("apply", ""), "nothing to do\n");
        assert_eq!(shown(node)[0]["ageing_time"], 400, "the kernel forgets addresses fast");
        let state: Value = serde_json::from_str(&node.ok("show --json", "")).unwrap();
        let octbr =
            state["interfaces"].as_array().unwrap().iter().find(|link| link["name"] == "octbr").unwrap();
        let options = &octbr["bridge"]["options"];
        assert!(
            options["stp"].get("forward-delay").is_none() && options.get("mac-ageing-time").is_none(),
            "{octbr}"
        );
        assert_eq!(options["stp"]["priority"], 4096, "{octbr}");
        // Other changes are made meanwhile.
        let changed = POLICY.replace("forward-delay: 4", "forward-delay: 5").replace("mask: 8", "mask: 16");
        assert_eq!(node.ok("apply -f -", &changed), "set group-forward-mask of octbr to 16\n");
        // The bridge is its own root again.
        node.ip("link del root");
        until(limit, "octbr is the root", || is_root() && shown(node)[0]["topology_change"] == 0);
        let said = node.ok("apply", "");
        assert!(said.lines().any(|line| line == "set forward-delay of octbr to 5 s"), "{said}");
        let [bridge, _] = shown(node);
        assert_eq!(
            (&bridge["forward_delay"], &bridge["ageing_time"]),
            (&json!(500), &json!(1000)),
            "{bridge}"
        );
    });
}
