//! What ADD, CHECK and STATUS say is what the kernel has.

use octavia_bridge_tests::{Lab, Node, Pod, conf};
use serde_json::{Value, json};

fn octavia_with(changes: Value) -> Value {
    conf::with(conf::octavia_with(json!({"cniVersion": "1.1.0"})), changes)
}

#[test]
fn check_finds_a_route_that_is_not_as_it_was_made() {
    let routes = json!([{"dst": "172.24.0.0/16", "gw": "172.23.0.150", "mtu": 1400, "priority": 77}]);
    let conf = octavia_with(json!({"ipam": {"routes": routes}}));
    let made = "172.24.0.0/16 via 172.23.0.150 dev net1";
    for (what, instead) in [
        ("another metric", format!("{made} metric 5 mtu 1400")),
        ("no metric", format!("{made} mtu 1400")),
        ("no MTU", format!("{made} metric 77")),
        ("another MTU", format!("{made} metric 77 mtu 1300")),
        ("another gateway", "172.24.0.0/16 via 172.23.0.151 dev net1 metric 77 mtu 1400".to_owned()),
    ] {
        let pod = Lab::new().node("node1").pod("worker");
        let attached = pod.add(&conf).run().attached();
        pod.check(&conf, &attached.result).run().silent_success();
        pod.ip("route del 172.24.0.0/16 metric 77");
        pod.ip(&format!("route add {instead}"));
        let outcome = pod.check(&conf, &attached.result).run();
        assert!(!outcome.status.success(), "a route with {what} was not found");
        outcome.error(104).says(&["172.24.0.0/16"]);
    }
}

#[test]
fn check_finds_a_route_missing_from_a_table_of_its_own() {
    let routes = json!([{"dst": "172.24.0.0/16", "gw": "172.23.0.150", "table": 99}]);
    let conf = octavia_with(json!({"ipam": {"routes": routes}}));
    let pod = Lab::new().node("node1").pod("worker");
    let attached = pod.add(&conf).run().attached();
    pod.check(&conf, &attached.result).run().silent_success();
    pod.ip("route del 172.24.0.0/16 table 99");
    pod.ip("route add 172.24.0.0/16 via 172.23.0.150 dev net1");
    pod.check(&conf, &attached.result).run().error(104).says(&["172.24.0.0/16"]);
}

#[test]
fn check_raises_no_alarm_about_ipv6_routes() {
    // The kernel gives an IPv6 route metric 1024 when it is given none; the configuration then has none either.
    let routes = json!([{"dst": "fd00:24::/64", "gw": "fd00:23::150"}, {"dst": "fd00:25::/64", "mtu": 1400}]);
    let ipam = json!({"range": "fd00:23::/64", "routes": routes});
    let conf = conf::with_ipam(ipam);
    let pod = Lab::new().node("node1").pod("worker");
    let attached = pod.add(&conf).run().attached();
    pod.check(&conf, &attached.result).run().silent_success();
    pod.ip("-6 route del fd00:25::/64");
    pod.check(&conf, &attached.result).run().error(104).says(&["fd00:25::/64"]);
}

/// A bridge without an explicit MAC: the kernel chooses a random one, and then takes the lowest MAC of its ports.
fn node_with_a_bridge_of_no_mac() -> Node {
    let node = Lab::new().node("node1");
    node.ip("link add octbr type bridge");
    node.ip("link set octbr up");
    node
}

#[test]
fn the_bridges_mac_is_told_as_it_is_afterwards() {
    let node = node_with_a_bridge_of_no_mac();
    let pods: Vec<Pod> = (0..3).map(|_| node.pod("worker")).collect();
    for pod in &pods {
        let attached = pod.add(&conf::octavia()).run().attached();
        assert_eq!(attached.interface(0, "mac"), node.expect_link("octbr").mac());
        for (index, link) in [(1, node.expect_link(attached.host_link())), (2, pod.expect_link("net1"))] {
            assert_eq!(attached.interface(index, "mac"), link.mac());
        }
    }
}

#[test]
fn status_refuses_an_mtu_that_add_would_refuse() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    let conf = octavia_with(json!({"mtu": 9000}));
    let error = node.status(&conf).run().any_error();
    error.says(&["mtu", "9000", "1500", "octbr"]);
    assert!([7, 50].contains(&error.code), "{error:?}");
    node.pod("worker").add(&conf).run().error(7).says(&["mtu", "9000", "1500", "octbr"]);
    // Without a bridge there is nothing it could be too large for.
    Lab::new().node("node2").status(&conf).run().silent_success();
    node.status(&octavia_with(json!({"mtu": 1500}))).run().silent_success();
}
