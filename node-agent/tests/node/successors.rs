//! A default route that moves to other gateways: those are asked, each as it can be.

use crate::gateways::{is_taken_back, mac, uplink};
use crate::scene::{Node, on_a_node};

/// A default route by these gateways, each with its link, and addresses in both subnets of `enp6s0`.
fn by(gateways: &[(&str, &str)]) -> String {
    let hop = |(gateway, link): &(&str, &str)| {
        format!(
            "{{destination: 0.0.0.0/0, next-hop-address: {gateway}, next-hop-interface: {link}, weight: 1}}"
        )
    };
    let hops: Vec<String> = gateways.iter().map(hop).collect();
    format!(
        "interfaces: [{{name: enp6s0, type: ethernet, ipv4: {{enabled: true, address: [{{ip: 10.0.0.5, prefix-length: 24}},
            {{ip: 10.7.0.5, prefix-length: 24}}]}}}}]
routes: {{config: [{}]}}",
        hops.join(", ")
    )
}

fn goes_by(node: &Node, gateway: &str) -> bool {
    node.ip("route show default").contains(&format!("via {gateway} "))
}

#[test]
fn a_move_to_another_gateway_is_judged_by_that_one() {
    on_a_node(|node| {
        let router = uplink(node);
        router.ip("addr add 10.7.0.1/24 dev wire");
        node.ok("apply -f -", &by(&[("10.0.0.1", "enp6s0")]));
        // The old gateway answers all the time, which does not help.
        is_taken_back(node, "apply -f -", &by(&[("10.7.0.9", "enp6s0")]), "the gateway 10.7.0.9");
        router.ip("addr del 10.0.0.1/24 dev wire");
        node.ok("apply -f -", &by(&[("10.7.0.1", "enp6s0")]));
        assert!(goes_by(node, "10.7.0.1"));
    });
}

#[test]
fn of_several_new_gateways_one_has_to_answer() {
    on_a_node(|node| {
        let router = uplink(node);
        router.ip("addr add 10.7.0.1/24 dev wire");
        node.ok("apply -f -", &by(&[("10.0.0.1", "enp6s0")]));
        let silent = by(&[("10.0.0.8", "enp6s0"), ("10.7.0.9", "enp6s0")]);
        is_taken_back(node, "apply -f -", &silent, "the gateway 10.0.0.8 or 10.7.0.9");
        node.ok("apply -f -", &by(&[("10.0.0.8", "enp6s0"), ("10.7.0.1", "enp6s0")]));
        assert!(goes_by(node, "10.0.0.8") && goes_by(node, "10.7.0.1"));
    });
}

#[test]
fn a_new_gateway_with_a_stated_hardware_address_is_asked_by_tcp() {
    on_a_node(|node| {
        let router = uplink(node);
        node.ok("apply -f -", &by(&[("10.0.0.1", "enp6s0")]));
        router.ip("addr add 10.7.0.1/24 dev wire");
        router.ip("link set wire arp off");
        let (own, others) = (node.ip("link show dev enp6s0"), router.text("link show dev wire"));
        router.ip(&format!("neigh replace 10.7.0.5 lladdr {} nud permanent dev wire", mac(&own)));
        for gateway in ["10.7.0.1", "10.7.0.9"] {
            let lladdr = mac(&others);
            node.ip(&format!("neigh replace {gateway} lladdr {lladdr} nud permanent dev enp6s0"));
        }
        is_taken_back(node, "apply -f -", &by(&[("10.7.0.9", "enp6s0")]), "the gateway 10.7.0.9");
        node.ok("apply -f -", &by(&[("10.7.0.1", "enp6s0")]));
        assert!(goes_by(node, "10.7.0.1"));
    });
}

/// As a tunnel: no neighbour is ever asked there.
#[test]
fn a_new_gateway_on_a_link_without_arp_is_asked_by_tcp() {
    on_a_node(|node| {
        let router = uplink(node);
        node.ok("apply -f -", &by(&[("10.0.0.1", "enp6s0")]));
        // Without ARP the kernel sends to the link's own hardware address.
        let end = "address 02:00:00:00:00:08 arp off";
        node.ip(&format!("link add enp7s0 {end} type veth peer name wire2 {end}"));
        router.take(node, "wire2");
        node.ip("link set enp7s0 up");
        node.ip("addr add 10.8.0.5/24 dev enp7s0");
        router.ip("link set wire2 up");
        router.ip("addr add 10.8.0.1/24 dev wire2");
        is_taken_back(node, "apply -f -", &by(&[("10.8.0.9", "enp7s0")]), "the gateway 10.8.0.9");
        node.ok("apply -f -", &by(&[("10.8.0.1", "enp7s0")]));
        assert!(goes_by(node, "10.8.0.1"));
    });
}
