//! Pods cannot reach the node over a bridge that the plugin created.

use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use octavia_bridge_tests::agent::POLICY;
use octavia_bridge_tests::{Agent, Attached, Lab, Node, Pod, conf};
use serde_json::{Value, json};

/// How long nothing must come before it counts as nothing. What comes takes less than a millisecond.
const SILENCE: Duration = Duration::from_secs(2);

/// A node whose bridge the plugin has made, a pod that has given itself a link-local address, and its ADD's configuration
/// and result.
fn scene() -> (Node, Pod, Value, Attached) {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let conf = conf::with_ipam(json!({"range": "172.23.0.0/24"}));
    let attached = pod.add(&conf).run().attached();
    pod.ip("-6 address add fe80::bad/64 dev net1 nodad");
    (node, pod, conf, attached)
}

fn link(node: &Node, name: &str) -> Value {
    node.ip_json(&format!("addr show {name}")).remove(0)
}

fn mac_of(link: &Value) -> &str {
    link["address"].as_str().expect("a MAC")
}

fn ipv6_addresses(link: &Value) -> Vec<&str> {
    let list = link["addr_info"].as_array().expect("addresses").iter();
    list.filter(|address| address["family"] == "inet6")
        .filter_map(|address| address["local"].as_str())
        .collect()
}

/// The link-local address that a link with this MAC has if it has one (RFC 4291, appendix A).
fn link_local_of(mac: &str) -> Ipv6Addr {
    let octets: Vec<u8> =
        mac.split(':').map(|octet| u8::from_str_radix(octet, 16).expect("an octet")).collect();
    let [a, b, c, d, e, f] = octets[..] else { panic!("{mac} is not a MAC") };
    let word = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f))
}

/// `address` by the pod's `net1`, behind this MAC, without neighbour discovery.
fn behind(pod: &Pod, address: Ipv6Addr, port: u16, mac: &str) -> SocketAddrV6 {
    pod.ip(&format!("neigh replace {address} lladdr {mac} dev net1"));
    let index = pod.ip_json("link show net1")[0]["ifindex"].as_u64().expect("an index");
    SocketAddrV6::new(address, port, 0, u32::try_from(index).expect("an index"))
}

fn connects(pod: &Pod, to: SocketAddrV6) -> bool {
    match pod.run(|| TcpStream::connect_timeout(&to.into(), SILENCE)) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{to}: neither reached nor silent: {error}");
            false
        }
    }
}

#[test]
fn no_service_of_the_node_is_reached_by_a_link_local_address() {
    let (node, pod, conf, attached) = scene();
    let bridge = link(&node, "octbr");
    let mac = mac_of(&bridge);
    assert_eq!(ipv6_addresses(&bridge), [""; 0], "{bridge}");
    let end = link(&node, attached.host_link());
    assert_eq!(ipv6_addresses(&end), [""; 0], "{end}");
    pod.check(&conf, &attached.result).run().silent_success();

    // As kubelet and sshd listen.
    let listener = node.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("listen on [::]"));
    let port = listener.local_addr().expect("the service's address").port();
    let to = behind(&pod, link_local_of(mac), port, mac);
    assert!(!connects(&pod, to));
    let by_the_end = behind(&pod, link_local_of(mac_of(&end)), port, mac_of(&end));
    assert!(!connects(&pod, by_the_end));

    // Administrators and other network plugins switch IPv6 on for all links at once; that gives no address either.
    node.set_sysctl("ipv6/conf/all/disable_ipv6", "0");
    for name in ["octbr", attached.host_link()] {
        let now = link(&node, name);
        assert_eq!(ipv6_addresses(&now), [""; 0], "{now}");
    }
    assert!(!connects(&pod, to));

    // That all this would be seen: at an address it is reached.
    node.ip(&format!("-6 address add {}/64 dev octbr nodad", to.ip()));
    assert!(connects(&pod, to));
}

/// For a datagram, no way back is needed: the kernel takes what comes to any of its addresses on any link.
#[test]
fn no_datagram_reaches_the_node_s_other_addresses() {
    let (node, pod, ..) = scene();
    // The node's address on another network.
    node.ip("link add eth0 type veth peer name eth0-peer");
    node.ip("link set eth0 up");
    node.ip("-6 address add fd00:99::1/64 dev eth0 nodad");
    let service = node.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("listen on [::]"));
    service.set_read_timeout(Some(SILENCE)).expect("set a deadline");
    let port = service.local_addr().expect("the service's address").port();
    pod.ip("-6 route add fd00:99::/64 dev net1");
    let bridge = link(&node, "octbr");
    let to = behind(&pod, "fd00:99::1".parse().expect("an address"), port, mac_of(&bridge));
    let arrives = || {
        let sender = pod.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("open a socket"));
        sender.send_to(b"datagram", to).expect("send");
        service.recv(&mut [0; 16]).is_ok()
    };
    assert!(!arrives());
    // That it would be seen: with IPv6 on the bridge it arrives.
    node.set_sysctl("ipv6/conf/octbr/disable_ipv6", "0");
    assert!(arrives());
}

/// The bridge and its uplink have the same MAC, and the uplink had an address before.
#[test]
fn no_service_of_the_node_is_reached_over_a_bridge_that_the_agent_made() {
    let lab = Lab::new();
    let [node, switch] = ["node1", "switch"].map(|name| lab.node(name));
    lab.trunk(&node, &switch);
    Agent::on(&node, "node1").ok("apply", POLICY);
    let pod = node.pod("worker");
    pod.add(&conf::with_ipam(json!({"range": "172.23.0.0/24"}))).run().attached();
    pod.ip("-6 address add fe80::bad/64 dev net1 nodad");
    let bridge = link(&node, "octbr");
    assert_eq!(ipv6_addresses(&bridge), [""; 0], "{bridge}");
    let mac = mac_of(&bridge);
    assert_eq!(mac, mac_of(&link(&node, "enp6s0")));
    let listener = node.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("listen on [::]"));
    let port = listener.local_addr().expect("the service's address").port();
    assert!(!connects(&pod, behind(&pod, link_local_of(mac), port, mac)));
}
