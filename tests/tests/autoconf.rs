//! `ipv6.autoconf: true` on nodes that forward packets, as those of IPv6 clusters do: a router on the link is heard.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use octavia_bridge_tests::changes::until;
use octavia_bridge_tests::{Agent, Lab, Node};

/// For what must happen: `radvd` answers a question within half a second, and advertises every few seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Debian's `radvd` on a router, ended when dropped.
struct Radvd(Child);

impl Drop for Radvd {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}

impl Radvd {
    fn start(router: &Node) -> Self {
        let file = |name: &str| router.disk().join(name).display().to_string();
        let text = "interface enp6s0 { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; prefix fd00:5::/64 {}; };";
        fs::write(file("radvd.conf"), text).expect("write its configuration");
        let mut command = Command::new("radvd");
        command.args(["--nodaemon", "--logmethod", "stderr", "--config"]).arg(file("radvd.conf"));
        command.arg("--pidfile").arg(file("radvd.pid")).stdin(Stdio::null());
        Self(router.run(|| command.spawn().expect("run radvd, which scripts/test unpacks")))
    }
}

fn set(node: &Node, key: &str, value: &str) {
    node.run(|| fs::write(format!("/proc/sys/net/ipv6/conf/{key}"), value).expect("write a setting"));
}

fn setting(node: &Node, key: &str) -> String {
    node.run(|| fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{key}")).expect("read a setting"))
        .trim()
        .to_owned()
}

fn policy(name: &str, kind: &str) -> String {
    format!("interfaces: [{{name: {name}, {kind}, ipv6: {{enabled: true, autoconf: true}}}}]")
}

#[test]
fn a_node_that_forwards_packets_gets_an_address_from_the_router() {
    let lab = Lab::new();
    let (node, router) = (lab.node("node1"), lab.node("router"));
    lab.trunk(&node, &router);
    set(&router, "all/forwarding", "1");
    router.ip("addr add fd00:5::1/64 dev enp6s0 nodad");
    set(&node, "all/forwarding", "1");
    let _radvd = Radvd::start(&router);
    let agent = Agent::on(&node, "node1");
    let is_heard = |link: &str| {
        node.ip(&format!("-6 addr show dev {link}")).contains("fd00:5:")
            && node.ip("-6 route show default").contains(&format!("dev {link}"))
    };

    let nic = policy("enp6s0", "type: ethernet");
    assert_eq!(setting(&node, "enp6s0/accept_ra"), "1");
    assert!(agent.ok("plan", &nic).contains("set accept_ra of enp6s0 to 2"));
    agent.ok("apply", &nic);
    until(PATIENCE, "the NIC has an address", || is_heard("enp6s0"));
    assert_eq!(agent.ok("apply", &nic), "nothing to do\n");
    let shown = agent.ok("show", "");
    assert_eq!(agent.run("plan --check", &shown).status, Some(0), "{shown}");
    agent.ok("apply", &nic.replace("autoconf: true", "autoconf: false"));
    assert_eq!(setting(&node, "enp6s0/accept_ra"), "0");

    // A link of the agent's own, and a NIC that another program gives to it.
    let bridge = policy("octbr", "type: linux-bridge, bridge: {port: [{name: enp6s0}]}");
    agent.ok("apply", &bridge);
    until(PATIENCE, "the bridge has an address", || is_heard("octbr"));
    assert_eq!(agent.ok("apply", &bridge), "nothing to do\n");
}

#[test]
fn a_failed_change_gives_back_what_was_there() {
    let node = Lab::new().node("node1");
    node.ip("link add enp6s0 type veth peer name wire");
    node.ip("link set enp6s0 up");
    let agent = Agent::on(&node, "node1");
    let route = "\nroutes: {config: [{destination: 'fd09::/64', next-hop-interface: enp6s0, next-hop-address: 'fd00::9'}]}";
    let nic = policy("enp6s0", "type: ethernet") + route;
    set(&node, "enp6s0/forwarding", "1");
    for before in ["0", "1", "2"] {
        set(&node, "enp6s0/accept_ra", before);
        agent.fails(1, "apply", &nic, &["put back"]);
        assert_eq!(setting(&node, "enp6s0/accept_ra"), before);
    }
    // Without forwarding 1 is enough, and neither is changed.
    set(&node, "enp6s0/forwarding", "0");
    for before in ["1", "2"] {
        set(&node, "enp6s0/accept_ra", before);
        agent.ok("apply", &policy("enp6s0", "type: ethernet"));
        assert_eq!(setting(&node, "enp6s0/accept_ra"), before);
    }
    // Where the node forwards packets 1 is neither on nor off, and what `show` prints leaves it so.
    set(&node, "enp6s0/forwarding", "1");
    set(&node, "enp6s0/accept_ra", "1");
    assert_eq!(agent.run("plan --check", &agent.ok("show", "")).status, Some(0));
}
