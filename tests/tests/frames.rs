//! What a pod's frames can do to its bridge.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use octavia_bridge_tests::{Lab, Namespace, Pod, conf};

/// `IFLA_LINKINFO`, `IFLA_INFO_DATA` and `IFLA_BR_FDB_MAX_LEARNED` of `linux/if_link.h`, one inside the other.
const MOST_LEARNED: [u16; 3] = [18, 2, 49];

/// How many addresses a bridge may learn; `None` where the kernel has no limit. Debian's `ip` does not show it yet.
fn most_learned(namespace: &Namespace, bridge: u64) -> Option<u32> {
    const LENGTH: u8 = 32;
    const GET_LINK: u8 = 18;
    const REQUEST: u8 = 1;
    let open =
        || socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute);
    let mut socket: File = namespace.run(open).expect("open a netlink socket").into();
    // struct nlmsghdr, and struct ifinfomsg with the index at its fourth byte.
    let mut request = [0; LENGTH as usize];
    (request[0], request[4], request[6]) = (LENGTH, GET_LINK, REQUEST);
    request[20..24].copy_from_slice(&u32::try_from(bridge).expect("an index").to_ne_bytes());
    socket.write_all(&request).expect("ask for the bridge");
    let mut answer = vec![0; 1 << 16];
    let length = socket.read(&mut answer).expect("read the answer");
    let mut within = &answer[usize::from(LENGTH)..length];
    for kind in MOST_LEARNED {
        within = attribute(within, kind)?;
    }
    Some(u32::from_ne_bytes(within.try_into().expect("four bytes")))
}

/// The value of an attribute among others.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while attributes.len() >= 4 {
        let number = |at: usize| u16::from_ne_bytes([attributes[at], attributes[at + 1]]);
        let length = usize::from(number(0));
        // The upper two bits say how the value is built.
        if number(2) & 0x3fff == wanted {
            return Some(&attributes[4..length]);
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

/// Whether this kernel has the limit, which came with 6.7.
fn has_limit() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's version");
    let mut numbers = release.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next().expect("a major version"), numbers.next().expect("a minor one")) >= (6, 7)
}

/// Joins the pod's interface to a switch inside the pod that takes part in the spanning tree protocol.
fn speak_spanning_tree(pod: &Pod) {
    pod.ip("link add inside type bridge stp_state 1");
    pod.ip("link set net1 master inside");
    pod.ip("link set inside up");
}

#[test]
fn a_bridge_that_the_plugin_makes_learns_so_many_addresses() {
    let pod = Lab::new().node("node1").pod("worker");
    pod.add(&conf::layer2()).run().attached();
    let bridge = pod.node().expect_link("octbr").index();
    assert_eq!(most_learned(pod.node(), bridge), has_limit().then_some(16384));
}

#[test]
fn a_bridge_that_was_there_learns_as_its_owner_wants() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    node.pod("worker").add(&conf::layer2()).run().attached();
    let bridge = node.expect_link("octbr").index();
    assert_eq!(most_learned(&node, bridge), has_limit().then_some(0));
}

#[test]
fn a_pod_that_speaks_the_spanning_tree_protocol_loses_its_port() {
    let node = Lab::new().node("node1");
    // The shortest delay, so that the ports forward soon.
    node.ip("link add octbr type bridge stp_state 1 forward_delay 200");
    node.ip("link set octbr up");
    let conf = conf::layer2();
    let [harmless, speaker] = ["harmless", "speaker"].map(|name| {
        let pod = node.pod(name);
        let attached = pod.add(&conf).run().attached();
        (pod, attached)
    });
    let state = |host_link: &str| node.expect_link(host_link).port("state").clone();
    for (pod, attached) in [&harmless, &speaker] {
        assert_eq!(node.expect_link(attached.host_link()).port("guard"), true);
        pod.check(&conf, &attached.result).run().silent_success();
    }
    let root = || node.ip_json("link show octbr")[0]["linkinfo"]["info_data"]["root_id"].clone();
    let before = root();
    speak_spanning_tree(&speaker.0);
    let asked = Instant::now();
    while state(speaker.1.host_link()) != "disabled" {
        assert!(asked.elapsed() < Duration::from_secs(60), "its port still forwards");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(state(harmless.1.host_link()), "forwarding");
    assert_eq!(root(), before, "the tree has another root");
}
