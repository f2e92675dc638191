//! The result of ADD in the layout of every protocol version.

use octavia_bridge_tests::{Lab, conf};
use serde_json::{Value, json};

const DUAL_STACK: &str = "fd00:23::/64";

fn octavia_of(version: &str) -> Value {
    conf::octavia_with(json!({"cniVersion": version}))
}

#[test]
fn version_0_3_1_is_what_the_field_reads() {
    let pod = Lab::new().node("node1").pod("worker");
    let result = pod.add(&conf::octavia()).run().success();

    let links = [
        pod.node().expect_link("octbr"),
        pod.node().expect_link(result["interfaces"][1]["name"].as_str().unwrap_or_default()),
        pod.expect_link("net1"),
    ];
    assert_eq!(
        result,
        json!({
            "cniVersion": "0.3.1",
            "interfaces": [
                {"name": "octbr", "mac": links[0].mac()},
                {"name": links[1].name(), "mac": links[1].mac()},
                {"name": "net1", "mac": links[2].mac(), "sandbox": pod.path()},
            ],
            "ips": [{"version": "4", "interface": 2, "address": "172.23.0.30/24"}],
            "routes": [{"dst": "172.24.0.0/16", "gw": "172.23.0.150"}],
            "dns": {},
        })
    );
}

#[test]
fn every_version_says_the_same_in_its_own_layout() {
    let node = Lab::new().node("node1");
    for version in ["0.1.0", "0.2.0"] {
        let pod = node.pod("worker");
        let result = pod.add(&octavia_of(version)).run().success();
        let family =
            json!({"ip": "172.23.0.30/24", "routes": [{"dst": "172.24.0.0/16", "gw": "172.23.0.150"}]});
        assert_eq!(result, json!({"cniVersion": version, "ip4": family, "dns": {}}));
        pod.del(&octavia_of(version)).run().silent_success();
    }
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let pod = node.pod("worker");
        let result = pod.add(&octavia_of(version)).run().success();
        let named = version < "1.0.0";
        assert_eq!(result["cniVersion"], version);
        assert_eq!(result["ips"][0]["address"], "172.23.0.30/24");
        assert_eq!(result["ips"][0]["interface"], 2);
        assert_eq!(result["ips"][0].get("version"), named.then(|| json!("4")).as_ref(), "{version}");
        assert_eq!(result.get("dns"), named.then(|| json!({})).as_ref(), "{version}");
        assert_eq!(result["interfaces"][2].get("mtu").is_some(), !named, "{version}: {result}");
        pod.del(&octavia_of(version)).run().silent_success();
    }
}

#[test]
fn an_absent_version_means_0_1_0() {
    let pod = Lab::new().node("node1").pod("worker");
    let result = pod.add(&conf::without(conf::octavia(), "/cniVersion")).run().success();
    assert_eq!(result["cniVersion"], "0.1.0");
    assert_eq!(result["ip4"]["ip"], "172.23.0.30/24");
}

#[test]
fn what_an_old_version_cannot_say_is_refused_before_anything_exists() {
    let pod = Lab::new().node("node1").pod("worker");
    let before = pod.node().snapshot(&[&pod]);
    pod.add(&conf::layer2_with(json!({"cniVersion": "0.2.0"}))).run().error(1).says(&["0.2.0"]);
    let two = json!({"cniVersion": "0.2.0", "ipam": {"ipRanges": [{"range": "172.25.0.0/24"}]}});
    pod.add(&conf::octavia_with(two)).run().error(1).says(&["0.2.0", "family"]);
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn two_families_fit_into_every_version() {
    let node = Lab::new().node("node1");
    let dual = json!({"ipam": {"ipRanges": [{"range": DUAL_STACK}]}});
    for version in ["0.2.0", "0.3.1", "1.1.0"] {
        let pod = node.pod("worker");
        let conf = conf::with(octavia_of(version), dual.clone());
        let result = pod.add(&conf).run().success();
        if version == "0.2.0" {
            assert_eq!(result["ip6"]["ip"], "fd00:23::1/64");
        } else {
            assert_eq!(result["ips"][1]["address"], "fd00:23::1/64");
            assert_eq!(result["ips"][1]["interface"], 2);
        }
        if version == "0.3.1" {
            assert_eq!(result["ips"][1]["version"], "6");
        }
        pod.del(&conf).run().silent_success();
    }
}

#[test]
fn without_addresses_there_are_no_lists_of_them() {
    let pod = Lab::new().node("node1").pod("worker");
    let result = pod.add(&conf::layer2()).run().success();
    let keys: Vec<&str> = result.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["cniVersion", "interfaces"]);
    assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(3));
}

#[test]
fn dns_of_the_configuration_replaces_that_of_the_ipam_block() {
    let node = Lab::new().node("node1");
    let (one, two) = (node.pod("one"), node.pod("two"));
    let of_ipam = json!({"ipam": {"dns": {"nameservers": ["172.23.0.2"]}}});
    let result = one.add(&conf::octavia_with(of_ipam.clone())).run().success();
    assert_eq!(result["dns"], json!({"nameservers": ["172.23.0.2"]}));

    let own = conf::with(conf::octavia_with(of_ipam), json!({"dns": {"domain": "octavia.test"}}));
    let result = two.add(&own).run().success();
    assert_eq!(result["dns"], json!({"domain": "octavia.test"}));
}

#[test]
fn a_gateway_is_reported_with_its_address() {
    let pod = Lab::new().node("node1").pod("worker");
    let conf =
        conf::octavia_with(json!({"ipam": {"gateway": "172.23.0.1", "ipRanges": [{"range": DUAL_STACK}]}}));
    let result = pod.add(&conf).run().success();
    assert_eq!(result["ips"][0]["gateway"], "172.23.0.1");
    // An IPv4 gateway is none for IPv6.
    assert_eq!(result["ips"][1].get("gateway"), None);
}

#[test]
fn route_options_are_reported_as_installed() {
    let pod = Lab::new().node("node1").pod("worker");
    let route = json!({"dst": "172.24.0.0/16", "gw": "172.23.0.150", "mtu": 1400, "priority": 77});
    let result = pod.add(&conf::octavia_with(json!({"ipam": {"routes": [route]}}))).run().success();
    assert_eq!(result["routes"], json!([route]));
    let installed = pod.expect_route("172.24.0.0/16");
    assert_eq!((installed.metric(), installed.option("mtu")), (77, 1400));
}

#[test]
fn a_previous_result_is_carried_on() {
    let pod = Lab::new().node("node1").pod("worker");
    let previous = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/other"}],
        "ips": [{"interface": 0, "address": "10.0.0.5/24", "gateway": "10.0.0.1"}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}],
    });
    let changed = json!({"cniVersion": "1.0.0", "prevResult": previous});
    let result = pod.add(&conf::octavia_with(changed)).run().success();
    assert_eq!(result["interfaces"][0], previous["interfaces"][0]);
    assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(4));
    assert_eq!(result["ips"][0], previous["ips"][0]);
    // Our address belongs to our interface, wherever that stands in the list now.
    let index = result["ips"][1]["interface"].as_u64().unwrap_or_default();
    assert_eq!(result["interfaces"][usize::try_from(index).unwrap()]["name"], "net1");
    assert_eq!(result["routes"].as_array().map(Vec::len), Some(2));
    // Carried on, not installed: it is another interface's.
    assert!(pod.routes_to("default").is_empty());
}
