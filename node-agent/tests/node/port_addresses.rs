//! A NIC that has addresses and becomes a port of a bridge.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::router::Router;
use crate::scene::{Node, on_a_node, until};

const SOON: Duration = Duration::from_secs(20);

/// The NIC as DHCP and an administrator leave it.
fn uplink(node: &Node) -> Router {
    let router = Router::new(node, "10.0.0.1/24");
    router.ip("addr add fd00::1/64 dev wire nodad");
    node.ip("link set enp6s0 up");
    node.ip("addr add 10.0.0.5/24 dev enp6s0 label enp6s0:a valid_lft 7200 preferred_lft 3600");
    node.ip("addr add 10.0.0.7/24 dev enp6s0 noprefixroute");
    node.ip("addr add fd00::5/64 dev enp6s0 nodad");
    node.ip("route add default via 10.0.0.1 proto dhcp metric 100");
    node.ip("route add 192.168.0.0/16 via 10.0.0.1 src 10.0.0.7 mtu 1400");
    node.ip("-6 route add fd02::/64 via fd00::1 pref high");
    node.ip("route add 10.20.0.0/16 via 10.0.0.1 initcwnd 20 initrwnd 30 advmss 1300 hoplimit 7 mtu lock 1350 quickack 1");
    node.ip("route add 10.21.0.0/16 via 10.0.0.1 tos 0x10 metric 7");
    node.ip("route add 10.21.0.0/16 via 10.0.0.1 metric 7 table 77");
    node.ip("route add 10.22.0.0/16 dev enp6s0 scope site");
    // As far as the kernel has them.
    for words in [
        "-6 route add fd03::/64 from fd00:5::/64 via fd00::1",
        "route add 10.23.0.0/16 via 10.0.0.1 realms 5",
        "route add 10.24.0.0/16 encap ip id 42 dst 10.9.9.9 dev enp6s0",
        "route add 10.25.0.0/16 via 10.0.0.1 congctl reno",
    ] {
        try_ip(words);
    }
    if try_ip("nexthop add id 7 via 10.0.0.1 dev enp6s0") {
        node.ip("route add 10.30.0.0/16 nhid 7");
    }
    until(SOON, "the router answers", || answers("10.0.0.1"));
    router
}

fn try_ip(words: &str) -> bool {
    Command::new("ip").args(words.split_whitespace()).output().unwrap().status.success()
}

/// Nothing listens there, and the router says so.
fn answers(address: &str) -> bool {
    let target = (address.parse::<std::net::IpAddr>().unwrap(), 9).into();
    let refused = TcpStream::connect_timeout(&target, Duration::from_secs(1));
    refused.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Everything but the seconds that are left of lifetimes.
fn snapshot(node: &Node) -> String {
    let text = node.snapshot()
        + &node.ip("-6 -o addr show scope global")
        + &node.ip("-6 route show table all proto boot");
    let mut words = Vec::new();
    for line in text.lines() {
        let timeless: Vec<&str> = line.split(' ').filter(|word| !word.ends_with("sec")).collect();
        words.push(timeless.join(" "));
    }
    let disabled = fs::read_to_string("/proc/sys/net/ipv6/conf/enp6s0/disable_ipv6").unwrap();
    words.join("\n") + &disabled
}

/// As the node networks of RHOSO have it: the bridge has the address, and routes lead over the bridge.
fn policy(address: &str) -> String {
    format!(
        "{{interfaces: [{{name: octbr, type: linux-bridge, state: up, bridge: {{port: [{{name: enp6s0}}]}},
             ipv4: {{enabled: true, address: [{{ip: {address}, prefix-length: 24}}]}}}},
            {{name: enp6s0, type: ethernet, state: up}}],
          routes: {{config: [{{destination: 0.0.0.0/0, next-hop-address: 10.0.0.1, next-hop-interface: octbr}}]}}}}"
    )
}

#[test]
fn the_bridge_takes_the_address_and_the_nic_has_none() {
    on_a_node(|node| {
        let _router = uplink(node);
        let planned = node.ok("plan -f -", &policy("10.0.0.5"));
        for line in [
            "remove 10.0.0.5/24 from enp6s0",
            "set disable_ipv6 of enp6s0 to 1",
            "could disconnect the node",
            "warning: enp6s0: it becomes a port of octbr, which has no addresses, and loses ",
            "warning: enp6s0: as a port of octbr it carries no routes, and no other one takes the place of the route 10.2",
            ", the route 192.168.0.0/16 via 10.0.0.1 dev enp6s0 metric 0 table 254",
        ] {
            assert!(planned.contains(line), "{line}: {planned}");
        }
        if !node.ip("nexthop show").is_empty() {
            let line = "enp6s0: the route to 10.30.0.0/16 is removed, and cannot be added again with its nexthop object 7";
            assert!(planned.contains(line), "{planned}");
        }
        let answer = node.run("apply -f -", &policy("10.0.0.5"));
        assert_eq!(answer.status, 0, "{}", answer.stderr);
        assert!(answer.stderr.contains("enp6s0: it becomes a port of octbr"), "{}", answer.stderr);
        assert_eq!(node.link("enp6s0").unwrap()["addr_info"], serde_json::json!([]));
        assert_eq!(node.link("enp6s0").unwrap()["master"], "octbr");
        assert_eq!(node.ip("route show default"), "default via 10.0.0.1 dev octbr proto 79 \n");
        node.ip("neigh flush dev octbr");
        assert!(answers("10.0.0.1"), "the node");
        pod_answers(node);
        assert_eq!(node.ok("apply -f -", &policy("10.0.0.5")), "nothing to do\n");
        let shown = node.ok("show", "");
        assert_eq!(node.ok("plan -f - --check", &shown), "nothing to do\n", "{shown}");

        // What a DHCP client gives again is told, and left.
        node.ip("addr add 10.0.0.5/24 dev enp6s0 valid_lft 7200 preferred_lft 3600");
        let part = "enp6s0: it is a port of octbr and has 10.0.0.5/24";
        let planned = node.ok("plan -f - --check", &policy("10.0.0.5"));
        assert!(planned.starts_with("nothing to do\n") && planned.contains(part), "{planned}");
        assert!(node.ok("plan -f - --check", &node.ok("show", "")).contains(part));
        assert!(node.run("doctor", "").stdout.contains(part));
        let mut daemon = node.start("run --health-bind none");
        until(SOON, "a note", || node.run("health ready", "").stdout.contains(part));
        assert_eq!(daemon.stop(), Some(0));
        assert!(node.ip("addr show dev enp6s0").contains("10.0.0.5/24"));
    });
}

/// A pod in a namespace of its own, attached as the plugin does it, reaches the router.
fn pod_answers(node: &Node) {
    let mut pod = Command::new("unshare").args(["--net", "sleep", "300"]).spawn().unwrap();
    let pid = pod.id();
    let namespace_of = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).unwrap();
    until(SOON, "the pod", || namespace_of(&pid.to_string()) != namespace_of("thread-self"));
    node.ip("link add veth1 type veth peer name net1");
    node.ip("link set veth1 master octbr up");
    node.ip(&format!("link set net1 netns {pid}"));
    let inside = |words: &str| {
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid.to_string(), "-n"]).args(words.split_whitespace());
        command.output().unwrap()
    };
    assert!(inside("ip addr add 10.0.0.9/24 dev net1").status.success());
    assert!(inside("ip link set net1 up").status.success());
    // Refused by the router, which is an answer.
    let reached = || {
        let output = inside("bash -c exec</dev/tcp/10.0.0.1/9");
        String::from_utf8_lossy(&output.stderr).contains("refused")
    };
    until(SOON, "the pod reaches the router", reached);
    pod.kill().unwrap();
    pod.wait().unwrap();
    until(SOON, "the pair goes with the pod", || node.link("veth1").is_none());
}

#[test]
fn what_the_nic_had_comes_back_if_the_bridge_does_not_reach_the_gateway() {
    on_a_node(|node| {
        let _router = uplink(node);
        let before = snapshot(node);
        let wrong = policy("10.0.1.5").replace("next-hop-address: 10.0.0.1", "next-hop-address: 10.0.1.1");
        let cut = node.run("apply -f -", &wrong);
        assert_eq!(cut.status, 1, "{}{}", cut.stdout, cut.stderr);
        assert!(cut.stderr.contains("no answer from the gateway 10.0.1.1 within"), "{}", cut.stderr);
        assert!(cut.stderr.contains("everything was put back as it was"), "{}", cut.stderr);
        assert_eq!(snapshot(node), before);
        assert!(answers("10.0.0.1"));
    });
}

/// The gateway would still answer as a neighbour.
#[test]
fn a_policy_that_forgets_the_default_route_is_refused_before_any_step() {
    on_a_node(|node| {
        let _router = uplink(node);
        let before = snapshot(node);
        let bare = |routes: &str| {
            format!(
                "{{interfaces: [{{name: octbr, type: linux-bridge, bridge: {{port: [{{name: enp6s0}}]}},
                  ipv4: {{enabled: true, address: [{{ip: 10.0.0.10, prefix-length: 24}}]}}}}]{routes}}}"
            )
        };
        let text = "enp6s0: as a port of octbr it carries no routes, and the node would lose its last IPv4 default route, via 10.0.0.1; \
                    list a route to 0.0.0.0/0 by octbr in the policy";
        for words in ["plan -f -", "apply -f -", "apply -f - --reach 10.0.0.1:9"] {
            let refused = node.run(words, &bare(""));
            assert_eq!(refused.status, 1, "{words}: {}{}", refused.stdout, refused.stderr);
            assert!(refused.stderr.contains(text), "{words}: {}", refused.stderr);
            assert_eq!(snapshot(node), before);
        }
        let told = bare(", routes: {config: [{destination: 0.0.0.0/0, state: absent}]}");
        // A routing daemon's is not meant by that.
        node.ip("route del default");
        node.ip("route add default via 10.0.0.1 proto bird metric 100");
        let refused = node.run("apply -f -", &told);
        assert_eq!(refused.status, 1, "{}{}", refused.stdout, refused.stderr);
        let text = format!(
            "{text}; state: absent does not remove the present route, which belongs to a routing daemon (protocol 12)"
        );
        assert!(refused.stderr.contains(&text), "{}", refused.stderr);
        node.ip("route del default");
        node.ip("route add default via 10.0.0.1 proto dhcp metric 100");
        node.ok("apply -f -", &told);
        assert_eq!(node.ip("route show default"), "");
    });
}

/// They are somebody else's, who may have reasons.
#[test]
fn a_port_that_is_one_already_is_left_as_it_is() {
    on_a_node(|node| {
        node.ip("link add octbr type bridge");
        node.ip("link set octbr up");
        node.ip("link set enp6s0 master octbr up");
        node.ip("addr add 10.0.0.5/24 dev enp6s0");
        let policy = "interfaces: [{name: octbr, type: linux-bridge, bridge: {port: [{name: enp6s0}]}}]";
        let planned = node.ok("plan -f - --check", policy);
        assert!(planned.starts_with("nothing to do\n"), "{planned}");
        assert!(planned.contains("warning: enp6s0: it is a port of octbr and has 10.0.0.5/24"), "{planned}");
        assert_eq!(fs::read_to_string("/proc/sys/net/ipv6/conf/enp6s0/disable_ipv6").unwrap(), "0\n");
    });
}
