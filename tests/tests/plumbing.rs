//! Links: the pair, the bridge, MTU and MAC addresses.

use octavia_bridge_tests::traffic::{AT_ONCE, Echo, expect_answer};
use octavia_bridge_tests::{Lab, conf};
use serde_json::json;

#[test]
fn a_layer2_attachment_is_a_pair_with_its_host_end_in_the_bridge() {
    let pod = Lab::new().node("node1").pod("worker");
    let attached = pod.add(&conf::layer2()).run().attached();

    let bridge = pod.node().expect_link("octbr");
    assert_eq!((bridge.kind(), bridge.is_up()), ("bridge", true));
    let host_end = pod.node().expect_link(attached.host_link());
    assert_eq!((host_end.kind(), host_end.is_up(), host_end.master()), ("veth", true, Some("octbr")));
    assert_eq!(host_end.port("state"), "forwarding");
    // NetworkManager leaves links of this name alone.
    assert!(host_end.name().starts_with("veth"), "{}", host_end.name());
    let pod_end = pod.expect_link("net1");
    assert_eq!((pod_end.kind(), pod_end.is_up(), pod_end.operational_state()), ("veth", true, "UP"));
    assert_eq!(attached.interface(0, "mac"), bridge.mac());
    assert_eq!(attached.interface(1, "mac"), host_end.mac());
    assert_eq!(attached.pod_mac(), pod_end.mac());
    assert_eq!(pod.node().link_names().len(), 2);
    assert_eq!(pod.link_names(), ["net1"]);
}

#[test]
fn no_router_advertisement_configures_anything() {
    let pod = Lab::new().node("node1").pod("worker");
    pod.add(&conf::octavia()).run().attached();
    assert_eq!(pod.node().sysctl("ipv6/conf/octbr/accept_ra").as_deref(), Some("0"));
    assert_eq!(pod.sysctl("ipv6/conf/net1/accept_ra").as_deref(), Some("0"));
}

#[test]
fn the_port_of_the_bridge_asks_for_no_address() {
    let node = Lab::new().node("node1");
    node.ip("link add octbr type bridge");
    node.ip("link set octbr mtu 1500 up");
    let pod = node.pod("worker");
    let attached = pod.add(&conf::octavia()).run().attached();
    // No link-local address, so no neighbour discovery and no question for routers either.
    let port = node.ip(&format!("-details link show {}", attached.host_link()));
    assert!(port.contains("addrgenmode none"), "{port}");
    // A link this small has no IPv6 at all, and nothing to be switched off.
    node.ip("link add smallbr type bridge");
    node.ip("link set smallbr mtu 1000 up");
    let small = conf::layer2_with(json!({"bridge": "smallbr"}));
    node.pod("small").add(&small).run().attached();
}

#[test]
fn a_pod_announces_itself_again_when_its_link_comes_up_again() {
    let pod = Lab::new().node("node1").pod("worker");
    pod.add(&conf::octavia()).run().attached();
    assert_eq!(pod.sysctl("ipv4/conf/net1/arp_notify").as_deref(), Some("1"));
    let silent = Lab::new().node("node1").pod("worker");
    silent.add(&conf::octavia_with(json!({"announce": false}))).run().attached();
    assert_eq!(silent.sysctl("ipv4/conf/net1/arp_notify").as_deref(), Some("0"));
}

#[test]
fn a_bridge_that_exists_is_used_as_it_is() {
    let pod = Lab::new().node("node1").pod("worker");
    pod.node().bridge_with_uplink();
    pod.node().ip("addr add 172.23.0.1/24 dev octbr");
    let before = pod.node().expect_link("octbr");
    pod.add(&conf::octavia()).run().attached();
    let after = pod.node().expect_link("octbr");
    assert_eq!((after.index(), after.mac(), after.mtu()), (before.index(), before.mac(), before.mtu()));
    assert_eq!(after.addresses(), ["172.23.0.1/24"]);
}

#[test]
fn a_bridge_that_is_down_is_brought_up() {
    let pod = Lab::new().node("node1").pod("worker");
    pod.node().ip("link add octbr type bridge");
    pod.add(&conf::layer2()).run().attached();
    assert!(pod.node().expect_link("octbr").is_up());
}

#[test]
fn a_link_of_that_name_that_is_no_bridge_is_refused() {
    let pod = Lab::new().node("node1").pod("worker");
    pod.node().ip("link add octbr type veth peer name other");
    let before = pod.node().snapshot(&[&pod]);
    pod.add(&conf::octavia()).run().any_error().says(&["octbr", "bridge"]);
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn an_unmanaged_bridge_must_be_there() {
    let pod = Lab::new().node("node1").pod("worker");
    let conf = conf::octavia_with(json!({"bridgeMode": "unmanaged"}));
    let before = pod.node().snapshot(&[&pod]);
    pod.add(&conf).run().error(11).says(&["octbr"]);
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
    pod.node().bridge_with_uplink();
    pod.add(&conf).run().attached();
}

#[test]
fn two_pods_of_a_node_talk_to_each_other() {
    let node = Lab::new().node("node1");
    let (one, two) = (node.pod("one"), node.pod("two"));
    one.add(&conf::octavia()).run().attached();
    let attached = two.add(&conf::octavia()).run().attached();
    assert_eq!(node.ports("octbr").len(), 2);
    let _echo = Echo::start(&two, attached.ip());
    expect_answer(&one, attached.ip(), AT_ONCE);
}

#[test]
fn a_second_add_of_a_live_attachment_changes_nothing() {
    let pod = Lab::new().node("node1").pod("worker");
    pod.add(&conf::octavia()).run().attached();
    let before = pod.node().snapshot(&[&pod]);
    pod.add(&conf::octavia()).run().error(103).says(&[pod.container_id(), "net1"]);
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn one_pod_may_have_two_interfaces_in_one_network() {
    let pod = Lab::new().node("node1").pod("worker");
    let one = pod.add(&conf::octavia()).run().attached();
    let two = pod.add(&conf::octavia()).ifname("net2").run().attached();
    assert_eq!((one.address(), two.address()), ("172.23.0.30/24", "172.23.0.31/24"));
    assert_eq!(pod.link_names(), ["net1", "net2"]);
    pod.del(&conf::octavia()).run().silent_success();
    assert_eq!(pod.link_names(), ["net2"]);
    assert_eq!(pod.node().ports("octbr"), [two.host_link()]);
}

#[test]
fn an_interface_that_is_there_already_is_not_taken() {
    let pod = Lab::new().node("node1").pod("worker");
    pod.ip("link add net1 type veth peer name other");
    let before = pod.node().snapshot(&[&pod]);
    pod.add(&conf::octavia()).run().any_error().says(&["net1", "already"]);
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn the_mtu_of_a_new_bridge_is_that_of_the_configuration_and_stays() {
    let node = Lab::new().node("node1");
    let (jumbo, small) = (node.pod("jumbo"), node.pod("small"));
    let attached = jumbo.add(&conf::layer2_with(json!({"mtu": 9000}))).run().attached();
    let mtus = || (node.expect_link("octbr").mtu(), node.expect_link(attached.host_link()).mtu());
    assert_eq!((mtus(), jumbo.expect_link("net1").mtu()), ((9000, 9000), 9000));

    // A smaller port would take the whole bridge down with it: only the pod's end may be smaller.
    let attached = small.add(&conf::layer2_with(json!({"mtu": 1400}))).run().attached();
    assert_eq!(small.expect_link("net1").mtu(), 1400);
    assert_eq!(node.expect_link(attached.host_link()).mtu(), 9000);
    assert_eq!((mtus(), jumbo.expect_link("net1").mtu()), ((9000, 9000), 9000));
    // Nor may a foreign port, now or later.
    node.ip("link add foreign type veth peer name foreign2");
    node.ip("link set foreign master octbr");
    assert_eq!(mtus(), (9000, 9000));
}

#[test]
fn the_mtu_of_a_bridge_is_inherited() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    node.bridge_with_uplink();
    node.ip("link set octbr mtu 9000");
    let attached = pod.add(&conf::layer2_with(json!({"cniVersion": "1.1.0"}))).run().attached();
    assert_eq!(node.expect_link(attached.host_link()).mtu(), 9000);
    assert_eq!(pod.expect_link("net1").mtu(), 9000);
    assert_eq!(attached.result["interfaces"][2]["mtu"], 9000);
    assert_eq!(node.expect_link("octbr").mtu(), 9000);
}

#[test]
fn a_larger_mtu_than_the_bridge_has_is_refused() {
    let pod = Lab::new().node("node1").pod("worker");
    pod.node().bridge_with_uplink();
    let before = pod.node().snapshot(&[&pod]);
    let error = pod.add(&conf::octavia_with(json!({"mtu": 9000}))).run().error(7);
    error.says(&["mtu", "9000", "1500", "octbr"]);
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn a_container_interface_may_be_left_down() {
    let pod = Lab::new().node("node1").pod("worker");
    let attached = pod.add(&conf::layer2_with(json!({"disableContainerInterface": true}))).run().attached();
    assert!(!pod.expect_link("net1").is_up());
    assert!(pod.node().expect_link(attached.host_link()).is_up());
}

#[test]
fn mac_addresses_are_given_at_birth_so_that_no_one_changes_them() {
    let pod = Lab::new().node("node1").pod("worker");
    let attached = pod.add(&conf::octavia()).run().attached();
    // 3 = NET_ADDR_SET: udev's MACAddressPolicy=persistent leaves such links alone.
    for (namespace, link) in [(&**pod.node(), "octbr"), (pod.node(), attached.host_link()), (&pod, "net1")] {
        assert_eq!(namespace.link_attribute(link, "addr_assign_type"), "3", "{link}");
    }
    // From 172.23.0.30, so that a pod that comes back with its address is known to its peers already.
    assert_eq!(attached.pod_mac(), "0a:58:ac:17:00:1e");
    // The highest prefix there is, so that a bridge with a floating MAC never takes it.
    assert!(attached.interface(1, "mac").starts_with("fe:"), "{}", attached.interface(1, "mac"));
}

#[test]
fn the_strongest_wish_for_a_mac_wins() {
    let node = Lab::new().node("node1");
    let mac = |last: u8| format!("02:00:00:00:00:{last:02x}");
    let mut conf = conf::layer2_with(json!({"mac": mac(1)}));
    let attach = |conf: &serde_json::Value, args: &str| {
        let pod = node.pod("worker");
        pod.add(conf).args(args).run().attached().pod_mac().to_owned()
    };
    assert_eq!(attach(&conf, ""), mac(1));
    assert_eq!(attach(&conf, "MAC=02:00:00:00:00:02"), mac(2));
    conf["args"] = json!({"cni": {"mac": mac(3)}});
    assert_eq!(attach(&conf, "MAC=02:00:00:00:00:02"), mac(3));
    conf["runtimeConfig"] = json!({"mac": "02-00-00-00-00-0A"});
    assert_eq!(attach(&conf, "MAC=02:00:00:00:00:02"), mac(10));
}

#[test]
fn a_random_mac_is_another_each_time() {
    let node = Lab::new().node("node1");
    let conf = conf::octavia_with(json!({"mac": "random"}));
    let (one, two) = (node.pod("one"), node.pod("two"));
    let macs = [&one, &two].map(|pod| pod.add(&conf).run().attached().pod_mac().to_owned());
    assert_ne!(macs[0], macs[1]);
    assert!(!macs[0].starts_with("0a:58:ac:17"), "{macs:?}");
}

#[test]
fn the_bridge_keeps_its_mac_whatever_comes_and_goes() {
    let node = Lab::new().node("node1");
    let pods: Vec<_> = (0..8).map(|_| node.pod("worker")).collect();
    let conf = conf::layer2_with(json!({"mac": "random"}));
    let mut macs = Vec::new();
    for pod in &pods {
        pod.add(&conf).run().attached();
        macs.push(node.expect_link("octbr").mac().to_owned());
    }
    for pod in &pods {
        pod.del(&conf).run().silent_success();
        macs.push(node.expect_link("octbr").mac().to_owned());
    }
    assert_ne!(macs[0], "00:00:00:00:00:00");
    assert!(macs.iter().all(|mac| *mac == macs[0]), "{macs:?}");
}
