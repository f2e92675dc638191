//! Oddities that are reported before anything exists, and empty values that ask for nothing.

use std::process::Command;

use octavia_bridge_tests::{Call, Lab, Node, Pod, conf};
use serde_json::{Value, json};

fn worker() -> (Node, Pod) {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    (node, pod)
}

/// The call is refused with `code`, and so early that not even the data directory exists.
#[track_caller]
fn refused_at_once(node: &Node, pod: &Pod, call: &Call, code: u64, words: &[&str]) {
    let before = node.snapshot(&[pod]);
    call.run().error(code).says(words);
    node.snapshot(&[pod]).assert_same_as(&before);
    assert!(node.has_no_files(), "something was begun before {words:?} was refused");
}

#[test]
fn a_bridge_with_a_name_that_means_something_else() {
    // The kernel takes a number for %d; all and default are settings for every link below /proc/sys/net.
    let (node, pod) = worker();
    for name in ["a%d", "%s", "all", "default"] {
        let conf = conf::octavia_with(json!({"bridge": name}));
        refused_at_once(&node, &pod, &pod.add(&conf), 7, &["bridge", name]);
    }
}

#[test]
fn an_interface_with_a_name_that_means_something_else() {
    let (node, pod) = worker();
    for name in ["net%d", "%d", "all", "default"] {
        let add = pod.add(&conf::octavia()).ifname(name);
        refused_at_once(&node, &pod, &add, 4, &["CNI_IFNAME", name]);
    }
}

fn v6(ipam: Value) -> Value {
    conf::with_ipam(conf::with(json!({"range": "fd00:23::/64"}), ipam))
}

#[test]
fn ipv6_on_a_bridge_too_small_for_it() {
    // The kernel switches IPv6 off on a link below 1280 bytes, and takes its addresses away.
    let (node, pod) = worker();
    node.ip("link add octbr mtu 1000 type bridge");
    node.ip("link set octbr up");
    let dual = v6(json!({"ipRanges": [{"range": "172.23.0.0/24"}]}));
    for conf in [v6(json!({})), dual] {
        refused_at_once(&node, &pod, &pod.add(&conf), 7, &["octbr", "1000", "1280"]);
        assert!([7, 50].contains(&node.status(&conf).run().any_error().code));
    }
    // IPv4 alone has room enough.
    pod.add(&conf::octavia()).run().attached();
}

#[test]
fn delegated_ipv6_on_a_bridge_too_small_for_it() {
    let (node, pod) = worker();
    node.ip("link add octbr address 02:00:00:00:00:01 type bridge");
    // Set afterwards, so that it is the administrator's and stays when the pair goes, which an IPAM plugin is shown.
    node.ip("link set octbr mtu 1000");
    node.ip("link set octbr up");
    let before = node.snapshot(&[&pod]);
    let addresses = json!([{"address": "fd00:9::7/64"}]);
    let conf = conf::layer2_with(json!({"ipam": {"type": "static", "addresses": addresses}}));
    pod.add(&conf).run().error(7).says(&["1000", "1280"]);
    node.snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn a_previous_result_that_leaves_no_room_in_an_old_layout() {
    // 0.1.0 and 0.2.0 have one address of each family for the whole chain.
    let (node, pod) = worker();
    for version in ["0.1.0", "0.2.0"] {
        let previous = json!({"cniVersion": version, "ip4": {"ip": "10.1.1.1/24"}});
        let conf = conf::octavia_with(json!({"cniVersion": version, "prevResult": previous}));
        refused_at_once(&node, &pod, &pod.add(&conf), 1, &[version]);
        // Of another family it fits.
        let previous = json!({"cniVersion": version, "ip6": {"ip": "fd00:1::1/64"}});
        let conf = conf::octavia_with(json!({"cniVersion": version, "prevResult": previous}));
        let (_, other) = worker();
        let result = other.add(&conf).run().success();
        assert_eq!(result["ip4"]["ip"], "172.23.0.30/24");
        assert_eq!(result["ip6"]["ip"], "fd00:1::1/64");
    }
}

/// Whether this kernel's bridges can filter VLANs; many are built without.
fn kernel_filters_vlans() -> bool {
    let node = Lab::new().node("probe");
    let words = ["link", "add", "probe", "type", "bridge", "vlan_filtering", "1"];
    node.output(Command::new("ip").args(words)).status.success()
}

fn with_vlans() -> [Value; 2] {
    [json!({"vlan": 100}), json!({"vlanTrunk": [{"id": 101}]})]
        .map(|keys| conf::octavia_with(conf::with(json!({"cniVersion": "1.1.0"}), keys)))
}

#[test]
fn vlans_on_a_bridge_that_would_not_separate_them() {
    // The kernel takes the port's VLANs, and passes every frame to every port.
    let (node, pod) = worker();
    node.bridge_with_uplink();
    let (code, words) = match kernel_filters_vlans() {
        true => (11, ["octbr", "does not filter VLANs", "vlan_filtering 1"]),
        false => (2, ["this kernel", "CONFIG_BRIDGE_VLAN_FILTERING", "VLAN interface"]),
    };
    for (conf, field) in with_vlans().iter().zip(["vlan: 100", "vlanTrunk: [1 entries]"]) {
        refused_at_once(&node, &pod, &pod.add(conf), code, &words);
        pod.add(conf).run().error(code).says(&[field]);
        node.status(conf).run().error(50).says(&words);
    }
    // Without VLANs the bridge will do.
    pod.add(&conf::octavia()).run().attached();
}

#[test]
fn vlans_on_a_bridge_that_would_have_to_be_made() {
    for conf in with_vlans() {
        let (node, pod) = worker();
        let before = node.snapshot(&[&pod]);
        let outcome = pod.add(&conf).run();
        if kernel_filters_vlans() {
            let attached = outcome.attached();
            pod.check(&conf, &attached.result).run().silent_success();
        } else {
            outcome.error(2).says(&["this kernel", "CONFIG_BRIDGE_VLAN_FILTERING", "octbr", "EOPNOTSUPP"]);
            node.snapshot(&[&pod]).assert_same_as(&before);
        }
    }
}

#[test]
fn an_ipam_block_that_forgot_its_type() {
    let (node, pod) = worker();
    for ipam in [
        json!({"range": "172.23.0.0/24"}),
        json!({"datastore": "file", "ipRanges": [{"range": "172.23.0.0/24"}]}),
        json!({"addresses": [{"address": "172.23.0.40/24"}]}),
        json!({"type": "", "range": "172.23.0.0/24"}),
    ] {
        // Layer 2 only is what `{}` asks for, not what this does.
        let conf = conf::layer2_with(json!({"ipam": ipam}));
        refused_at_once(&node, &pod, &pod.add(&conf), 7, &["ipam.type"]);
    }
    pod.add(&conf::layer2_with(json!({"ipam": {}}))).run().attached();
}

#[test]
fn empty_values_ask_for_nothing() {
    for empty in [
        json!({"runtimeConfig": {"mac": ""}}),
        json!({"runtimeConfig": {"ips": [""]}}),
        json!({"runtimeConfig": {"ips": []}}),
        json!({"args": {"cni": {"mac": "", "ips": [""]}}}),
    ] {
        let (_, pod) = worker();
        let attached = pod.add(&conf::octavia_with(empty.clone())).run().attached();
        assert_eq!(attached.address(), "172.23.0.30/24", "{empty}");
        assert_eq!(attached.pod_mac(), "0a:58:ac:17:00:1e", "{empty}");
    }
    // An empty stronger wish does not hide a weaker one.
    let both = json!({"runtimeConfig": {"mac": "", "ips": [""]}, "mac": "02:00:00:00:00:33"});
    let (_, pod) = worker();
    let attached = pod.add(&conf::octavia_with(both)).args("IP=172.23.0.44").run().attached();
    assert_eq!((attached.address(), attached.pod_mac()), ("172.23.0.44/24", "02:00:00:00:00:33"));
}

#[test]
fn strictness_reaches_every_object() {
    for (odd, key) in [
        (json!({"dns": {"nameserver": ["172.23.0.2"]}}), "dns.nameserver"),
        (json!({"args": {"cni": {"foo": 1}}}), "args.cni.foo"),
        (json!({"ipam": {"dns": {"nameserver": ["172.23.0.2"]}}}), "ipam.dns.nameserver"),
        (json!({"ipam": {"ipRanges": [{"range": "10.3.0.0/24", "comment": "x"}]}}), "comment"),
        (json!({"ipam": {"routes": [{"dst": "172.24.0.0/16", "gateway": "x"}]}}), "routes[0].gateway"),
    ] {
        let (node, pod) = worker();
        let strict = conf::with(conf::octavia_with(odd.clone()), json!({"strict": true}));
        refused_at_once(&node, &pod, &pod.add(&strict), 7, &[key]);
        // Without `strict` they are warnings on stderr, in the runtime's log.
        let outcome = pod.add(&conf::octavia_with(odd)).run();
        outcome.attached();
        assert!(outcome.stderr.contains(key), "no warning of {key} in {:?}", outcome.stderr);
    }
    // And nothing of the ordinary is odd.
    let (_, pod) = worker();
    let ordinary = json!({
        "strict": true, "dns": {"nameservers": ["172.23.0.2"], "domain": "x", "search": ["x"], "options": ["x"]},
        "args": {"cni": {"mac": "02:00:00:00:00:33", "ips": ["172.23.0.44"]}},
    });
    pod.add(&conf::octavia_with(ordinary)).run().attached();
}

#[test]
fn a_misspelt_key_that_decides_where_the_pod_goes() {
    let (node, pod) = worker();
    let ipam = |key: &str, value: Value| conf::octavia_with(json!({"ipam": {key: value}}));
    let without_bridge = conf::without(conf::octavia(), "/bridge");
    for (conf, words) in [
        (conf::with(without_bridge.clone(), json!({"brigde": "octbr"})), ["brigde", "\"bridge\""]),
        (conf::without(conf::octavia_with(json!({"ipma": {}})), "/ipam"), ["ipma", "\"ipam\""]),
        (conf::octavia_with(json!({"vlans": 24})), ["vlans", "\"vlan\""]),
        (ipam("exlude", json!(["172.23.0.30"])), ["ipam.exlude", "\"exclude\""]),
        (ipam("networkName", json!("other")), ["ipam.networkName", "\"network_name\""]),
    ] {
        refused_at_once(&node, &pod, &pod.add(&conf), 7, &words);
    }
    let ranges = json!([{"range": "172.23.1.0/24", "rangeStart": "172.23.1.100"}]);
    let conf = conf::octavia_with(json!({"ipam": {"ipRanges": ranges}}));
    refused_at_once(&node, &pod, &pod.add(&conf), 7, &["ipam.ipRanges[0].rangeStart", "\"range_start\""]);
    // Other words pass, and so does everything on the way out.
    pod.add(&conf::octavia_with(json!({"bridgeName": "x", "ipam": {"comment": "x"}}))).run().attached();
    pod.del(&conf::with(without_bridge, json!({"brigde": "octbr"}))).run().silent_success();
    assert!(pod.link("net1").is_none());
}

#[test]
fn a_range_that_no_pod_can_use() {
    let (node, pod) = worker();
    let range = |range: &str, exclude: Value| conf::with_ipam(json!({"range": range, "exclude": exclude}));
    for (conf, word) in [
        (range("239.1.0.0/24", json!([])), "multicast"),
        (range("127.5.0.0/16", json!([])), "loopback"),
        (range("0.1.2.0/24", json!([])), "0.0.0.0/8"),
        (range("ff05::/64", json!([])), "multicast"),
        (range("10.0.0.0/29", json!(["10.0.0.0/30", "10.0.0.4/30"])), "ipam.exclude"),
    ] {
        refused_at_once(&node, &pod, &pod.add(&conf), 7, &[word]);
    }
}
