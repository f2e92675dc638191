//! Routes as nmstate's users change them.

use crate::scene::{Node, on_a_node};

const ADDRESS: &str = "interfaces: [{name: enp6s0, type: ethernet, ipv4: {enabled: true, address: [{ip: 10.0.0.5, prefix-length: 24}]}}]";

/// The routes to 10.2.0.0/16, in every table.
fn shown(node: &Node) -> Vec<String> {
    let routes = node.ip("route show table all 10.2.0.0/16");
    routes.lines().map(|line| line.split_whitespace().take(5).collect::<Vec<_>>().join(" ")).collect()
}

fn policy(routes: &[&str]) -> String {
    format!("{ADDRESS}\nroutes: {{config: [{}]}}", routes.join(", "))
}

const OLD: &str = "{destination: 10.2.0.0/16, next-hop-interface: enp6s0, next-hop-address: 10.0.0.1}";
const NEW: &str = "{destination: 10.2.0.0/16, next-hop-interface: enp6s0, next-hop-address: 10.0.0.2}";
const NONE: &str = "{destination: 10.2.0.0/16, next-hop-interface: enp6s0, state: absent}";

#[test]
fn absent_and_a_new_gateway_in_one_policy_replace_a_route_once() {
    on_a_node(|node| {
        node.ok("apply -f -", &policy(&[OLD]));
        assert_eq!(shown(node), ["10.2.0.0/16 via 10.0.0.1 dev enp6s0"]);
        for routes in [[NONE, NEW], [NEW, NONE]] {
            node.ok("apply -f -", &policy(&routes));
            assert_eq!(shown(node), ["10.2.0.0/16 via 10.0.0.2 dev enp6s0"]);
            assert_eq!(node.ok("apply -f -", &policy(&routes)), "nothing to do\n");
        }
        // Without a gateway, as nmstate writes it.
        let direct = OLD.replace("10.0.0.1", "0.0.0.0");
        node.ok("apply -f -", &policy(&[NONE, &direct]));
        assert_eq!(node.ok("apply -f -", &policy(&[NONE, &direct])), "nothing to do\n");
        assert_eq!(shown(node), ["10.2.0.0/16 dev enp6s0 proto 79"]);
    });
}

/// The kernel compares next hops in their order.
#[test]
fn a_route_is_removed_whatever_the_order_of_its_next_hops() {
    on_a_node(|node| {
        node.ok("apply -f -", &policy(&[]));
        for [first, second] in [["8", "9"], ["9", "8"]] {
            let hop = |last: &str| format!("nexthop via 10.0.0.{last} dev enp6s0");
            node.ip(&format!("route add 10.2.0.0/16 {} {} weight 3", hop(first), hop(second)));
            node.ok("apply -f -", &policy(&[NONE]));
            assert_eq!(node.ip("route show 10.2.0.0/16"), "");
        }
    });
}

#[test]
fn ipv6_routes_to_one_destination_are_one_with_several_gateways() {
    on_a_node(|node| {
        let address = "interfaces: [{name: enp6s0, type: ethernet, ipv6: {enabled: true, address: [{ip: fd00::5, prefix-length: 64}]}}]";
        let to = |gateway: &str| {
            format!(
                "{{destination: 'fd01::/64', next-hop-interface: enp6s0, next-hop-address: 'fd00::{gateway}'}}"
            )
        };
        let policy = |gateways: &[&str]| {
            let routes: Vec<String> = gateways.iter().map(|gateway| to(gateway)).collect();
            format!("{address}\nroutes: {{config: [{}]}}", routes.join(", "))
        };
        for gateways in [&["1"][..], &["1", "2"], &["2", "3"], &["3"]] {
            node.ok("apply -f -", &policy(gateways));
            assert_eq!(node.ok("apply -f -", &policy(gateways)), "nothing to do\n");
            let shown = node.ip("-6 route show fd01::/64");
            for gateway in ["1", "2", "3"] {
                assert_eq!(
                    shown.contains(&format!("via fd00::{gateway} ")),
                    gateways.contains(&gateway),
                    "{shown}"
                );
            }
        }
    });
}

#[test]
fn one_next_hop_in_two_spellings_is_one() {
    on_a_node(|node| {
        let address = "interfaces: [{name: enp6s0, type: ethernet, ipv6: {enabled: true, address: [{ip: fd00::5, prefix-length: 64}]}}]";
        let route = |destination: &str, more: &str| {
            format!(
                "{{destination: '{destination}', next-hop-interface: enp6s0, next-hop-address: 'fd00::1'{more}}}"
            )
        };
        for (number, more) in
            [", metric: 1024", ", metric: 0", ", table-id: 254", ", weight: 1"].iter().enumerate()
        {
            let destination = format!("fd01:{number}::/64");
            let routes = [route(&destination, ""), route(&destination, more)].join(", ");
            let policy = format!("{address}\nroutes: {{config: [{routes}]}}");
            node.ok("apply -f -", &policy);
            let shown = node.ip(&format!("-6 route show {destination}"));
            assert!(shown.lines().count() == 1 && shown.contains("via fd00::1 "), "{more}: {shown}");
            assert_eq!(node.ok("apply -f -", &policy), "nothing to do\n", "{more}");
        }
    });
}

#[test]
fn a_daemons_routes_are_not_meant_by_absent() {
    on_a_node(|node| {
        node.ok("apply -f -", ADDRESS);
        node.ip("route add 10.2.0.0/16 via 10.0.0.1 proto bird");
        node.ip("route add 10.2.0.0/16 via 10.0.0.1 metric 7");
        node.ok("apply -f -", &policy(&[NONE]));
        assert_eq!(shown(node), ["10.2.0.0/16 via 10.0.0.1 dev enp6s0"]);
        assert!(node.ip("route show 10.2.0.0/16").contains("proto bird"));
        assert!(node.ok("apply -f -", &policy(&[NONE])).starts_with("nothing to do\n"));
        let planned = node.ok("plan -f - --check", &policy(&[NONE]));
        let why = "warning: the route to 10.2.0.0/16 stays, though it is listed with state: absent: its protocol 12 is";
        assert!(planned.contains(why), "{planned}");
    });
}

#[test]
fn absent_without_a_table_is_of_every_table() {
    on_a_node(|node| {
        node.ok("apply -f -", ADDRESS);
        for table in ["", "table 7"] {
            node.ip(&format!("route add 10.2.0.0/16 via 10.0.0.1 {table}"));
        }
        node.ip("route add 10.3.0.0/16 via 10.0.0.1 table 7");
        node.ok("apply -f -", &policy(&[&NONE.replace("state", "table-id: 0, state")]));
        assert_eq!(shown(node), ["10.2.0.0/16 via 10.0.0.1 dev enp6s0"], "that of table 7 stays");
        node.ok("apply -f -", &policy(&[NONE]));
        assert_eq!(shown(node), [""; 0]);
        assert_eq!(node.ip("route show table 7").lines().count(), 1);
        assert_eq!(node.ok("apply -f -", &policy(&[NONE])), "nothing to do\n");
    });
}
