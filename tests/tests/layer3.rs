//! Addresses and routes of a pod, IPv4 and IPv6.

use octavia_bridge_tests::traffic::{AT_ONCE, Echo, expect_answer};
use octavia_bridge_tests::{Attached, Lab, Pod, conf};
use serde_json::{Value, json};
use std::net::IpAddr;

/// A pod in 172.23.0.0/24 with further keys in its `ipam` block.
fn attach(ipam: Value) -> (Pod, Attached) {
    let pod = Lab::new().node("node1").pod("worker");
    let conf = conf::with_ipam(conf::with(json!({"range": "172.23.0.0/24"}), ipam));
    let attached = pod.add(&conf).run().attached();
    (pod, attached)
}

#[test]
fn an_address_has_its_prefix_and_broadcast() {
    let (pod, attached) = attach(json!({}));
    let link = pod.expect_link("net1");
    assert_eq!(link.addresses(), [attached.address()]);
    assert_eq!(link.expect_address(attached.ip())["broadcast"], "172.23.0.255");
    assert_eq!(pod.expect_route("172.23.0.0/24").scope(), "link");
}

#[test]
fn no_default_route_appears_unless_asked_for() {
    let (pod, _) = attach(json!({"gateway": "172.23.0.1"}));
    assert!(pod.routes_to("default").is_empty());
    let (pod, _) = attach(json!({"gateway": "172.23.0.1", "routes": [{"dst": "0.0.0.0/0"}]}));
    assert_eq!(pod.expect_route("default").gateway(), "172.23.0.1");
}

#[test]
fn a_route_without_gateway_uses_that_of_the_range_or_the_link() {
    let routes = json!([{"dst": "172.24.0.0/16"}]);
    let (pod, _) = attach(json!({"gateway": "172.23.0.1", "routes": routes}));
    assert_eq!(pod.expect_route("172.24.0.0/16").gateway(), "172.23.0.1");
    let (pod, _) = attach(json!({"routes": routes}));
    let route = pod.expect_route("172.24.0.0/16");
    assert_eq!((route.gateway(), route.scope()), ("", "link"));
}

#[test]
fn two_gateways_for_one_destination_share_the_load() {
    let routes = json!([{"dst": "172.24.0.0/16", "gw": "172.23.0.150"}, {"dst": "172.24.0.0/16", "gw": "172.23.0.151"}]);
    let (pod, _) = attach(json!({"routes": routes}));
    let routes = pod.routes_to("172.24.0.0/16");
    let mut hops: Vec<&str> = routes.iter().flat_map(octavia_bridge_tests::Route::next_hops).collect();
    hops.sort_unstable();
    assert_eq!(hops, ["172.23.0.150", "172.23.0.151"]);
}

#[test]
fn the_same_route_twice_is_one_route() {
    let route = json!({"dst": "172.24.0.0/16", "gw": "172.23.0.150"});
    let (pod, _) = attach(json!({"routes": [route, route]}));
    assert_eq!(pod.expect_route("172.24.0.0/16").next_hops(), ["172.23.0.150"]);
}

#[test]
fn host_bits_of_a_destination_are_masked() {
    let (pod, attached) = attach(json!({"routes": [{"dst": "10.1.2.3/8", "gw": "172.23.0.150"}]}));
    pod.expect_route("10.0.0.0/8");
    assert_eq!(attached.result["routes"][0]["dst"], "10.0.0.0/8");
}

#[test]
fn metric_table_scope_mtu_and_advmss_reach_the_kernel() {
    let gateway = "172.23.0.150";
    let (pod, _) = attach(json!({"routes": [
        {"dst": "172.24.0.0/16", "gw": gateway, "priority": 77, "mtu": 1400, "advmss": 1300},
        {"dst": "172.25.0.0/16", "gw": gateway, "table": 100},
        {"dst": "172.26.0.0/16", "scope": 253},
    ]}));
    let route = pod.expect_route("172.24.0.0/16");
    assert_eq!((route.metric(), route.option("mtu"), route.option("advmss")), (77, 1400, 1300));
    assert_eq!(route.table(), "main");
    assert_eq!(pod.expect_route("172.25.0.0/16").table(), "100");
    assert_eq!(pod.expect_route("172.26.0.0/16").scope(), "link");
}

#[test]
fn gateway_and_next_hops_are_never_handed_out() {
    let (pod, attached) = attach(json!({
        "range_start": "172.23.0.1",
        "gateway": "172.23.0.1",
        "routes": [{"dst": "172.24.0.0/16", "gw": "172.23.0.2"}],
    }));
    assert_eq!(attached.address(), "172.23.0.3/24");
    let held: Vec<String> = pod.node().allocations("172.23.0.0-24").keys().cloned().collect();
    assert_eq!(held, ["3"]);
}

#[test]
fn an_ipv6_address_is_usable_at_once() {
    let pod = Lab::new().node("node1").pod("worker");
    let attached = pod.add(&conf::with_ipam(json!({"range": "fd00:23::/64"}))).run().attached();
    assert_eq!(attached.address(), "fd00:23::1/64");
    let address = pod.expect_link("net1").expect_address(attached.ip());
    assert_eq!(address.get("tentative"), None, "{address}");
    assert_eq!(address["nodad"], true, "{address}");
    // It must survive the link going down, which loses every other IPv6 address.
    assert_eq!(pod.sysctl("ipv6/conf/net1/keep_addr_on_down").as_deref(), Some("1"));
    pod.ip("link set net1 down");
    pod.ip("link set net1 up");
    assert_eq!(pod.expect_link("net1").addresses(), ["fd00:23::1/64"]);
}

#[test]
fn ipv6_is_switched_on_where_the_runtime_switched_it_off() {
    let node = Lab::new().node("node1");
    let (off, peer) = (node.pod("off"), node.pod("peer"));
    for scope in ["all", "default"] {
        off.set_sysctl(&format!("ipv6/conf/{scope}/disable_ipv6"), "1");
    }
    let conf = conf::with_ipam(json!({"range": "fd00:23::/64"}));
    let attached = off.add(&conf).run().attached();
    peer.add(&conf).run().attached();
    for link in ["lo", "net1"] {
        assert_eq!(off.sysctl(&format!("ipv6/conf/{link}/disable_ipv6")).as_deref(), Some("0"), "{link}");
    }
    let _echo = Echo::start(&off, attached.ip());
    expect_answer(&peer, attached.ip(), AT_ONCE);
}

#[test]
fn an_ipv4_pod_keeps_ipv6_switched_off() {
    let pod = Lab::new().node("node1").pod("worker");
    for scope in ["all", "default"] {
        pod.set_sysctl(&format!("ipv6/conf/{scope}/disable_ipv6"), "1");
    }
    pod.add(&conf::octavia()).run().attached();
    assert_eq!(pod.sysctl("ipv6/conf/net1/disable_ipv6").as_deref(), Some("1"));
}

#[test]
fn both_families_live_on_one_interface() {
    let node = Lab::new().node("node1");
    let (one, two) = (node.pod("one"), node.pod("two"));
    let conf = conf::with_ipam(json!({
        "range": "172.23.0.0/24",
        "ipRanges": [{"range": "fd00:23::/64"}],
        "routes": [
            {"dst": "172.24.0.0/16", "gw": "172.23.0.150"},
            {"dst": "fd00:24::/64", "gw": "fd00:23::150"},
            {"dst": "fd00:25::/64", "gw": "fe80::1"},
        ],
    }));
    one.add(&conf).run().attached();
    let attached = two.add(&conf).run().attached();
    assert_eq!(two.expect_link("net1").addresses(), ["172.23.0.2/24", "fd00:23::2/64"]);
    assert_eq!(two.expect_route("172.24.0.0/16").gateway(), "172.23.0.150");
    assert_eq!(two.expect_route("fd00:24::/64").gateway(), "fd00:23::150");
    assert_eq!(two.expect_route("fd00:25::/64").gateway(), "fe80::1");
    for address in attached.ips() {
        let _echo = Echo::start(&two, address);
        expect_answer(&one, address, AT_ONCE);
    }
}

#[test]
fn an_address_may_be_asked_for_in_three_ways() {
    let node = Lab::new().node("node1");
    let attach = |changes: Value, args: &str| {
        let pod = node.pod("worker");
        let call = pod.add(&conf::octavia_with(changes)).args(args);
        call.run().attached().address().to_owned()
    };
    assert_eq!(attach(json!({}), "IP=172.23.0.40"), "172.23.0.40/24");
    assert_eq!(attach(json!({"args": {"cni": {"ips": ["172.23.0.41"]}}}), ""), "172.23.0.41/24");
    assert_eq!(attach(json!({"runtimeConfig": {"ips": ["172.23.0.42/24"]}}), ""), "172.23.0.42/24");
    // Outside range_start and range_end, where the network allows it.
    let allowing = json!({"capabilities": {"ips": true}});
    assert_eq!(attach(allowing, "IgnoreUnknown=1;IP=172.23.0.200"), "172.23.0.200/24");
    assert_eq!(attach(json!({}), ""), "172.23.0.30/24");
    let held: Vec<String> = node.allocations("172.23.0.0-24").keys().cloned().collect();
    for offset in ["30", "40", "41", "42", "200"] {
        assert!(held.iter().any(|key| key == offset), "{offset} is not among {held:?}");
    }
}

#[test]
fn static_addresses_are_reserved_too() {
    let node = Lab::new().node("node1");
    let (one, two) = (node.pod("one"), node.pod("two"));
    let conf = conf::with_ipam(json!({"addresses": [{"address": "172.23.0.9/24", "gateway": "172.23.0.1"}]}));
    let attached = one.add(&conf).run().attached();
    assert_eq!(attached.address(), "172.23.0.9/24");
    assert_eq!(attached.result["ips"][0]["gateway"], "172.23.0.1");
    two.add(&conf).run().error(102).says(&["172.23.0.9", one.container_id()]);
    let expected: IpAddr = [172, 23, 0, 9].into();
    one.expect_link("net1").expect_address(expected);
}
