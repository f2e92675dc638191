//! Two nodes with their trunk, the router and the amphora: everything the pods are attached to.

use std::process::Command;

use octavia_bridge_tests::{Lab, Namespace, Node, Pod, Snapshot};

use crate::screen::Screen;

pub(crate) const AMPHORA: &str = "172.24.3.17";
pub(crate) const ROUTER_PROVIDER: &str = "172.23.0.150";
pub(crate) const ROUTER_TENANT: &str = "172.24.1.89";

/// The machines of the demo, each a network namespace.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) node1: Node,
    pub(crate) node2: Node,
    router: Pod,
    pub(crate) amphora: Pod,
    /// What `octbr` has as its port on each node: the VLAN interface, or the trunk itself.
    uplink: &'static str,
    // Last, as fields are dropped in order: its folder is the nodes' disk.
    _lab: Lab,
}

impl Topology {
    pub(crate) fn build() -> Self {
        let lab = Lab::new();
        let node1 = lab.node("node1");
        // The nodes share a disk and by it the pool: they are namespaces of one host, and the `file` store knows one host.
        let node2 = lab.node_on_disk_of("node2", &node1);
        lab.trunk(&node1, &node2);
        let uplink = if has_vlan(&node1) { "enp6s0.24" } else { "enp6s0" };
        for (node, mac) in [(&node1, "02:00:00:00:24:01"), (&node2, "02:00:00:00:24:02")] {
            if uplink == "enp6s0.24" && node.link(uplink).is_none() {
                node.ip("link add link enp6s0 name enp6s0.24 type vlan id 24");
            }
            // An explicit MAC: one that follows the ports would differ between before and after.
            node.ip(&format!("link add octbr address {mac} mtu 1500 type bridge stp_state 0"));
            for words in ["master octbr", "up"] {
                node.ip(&format!("link set {uplink} {words}"));
            }
            node.ip("link set octbr up");
        }
        let (router, amphora) = (node1.pod("octavia-link-router"), node1.pod("amphora"));
        join_tenant_network(&router, &amphora);
        Self { node1, node2, router, amphora, uplink, _lab: lab }
    }

    /// Puts the router's provider side behind the pod's interface, as `ovn-controller-ovs` does with `br-octavia`: the
    /// interface becomes a bridge port, and what passes it has the router's MAC, not the pod's.
    pub(crate) fn plug_router_into(&self, ovn: &Pod) {
        for words in [
            "link add br-octavia type bridge",
            &format!("link add patch type veth peer name provider netns {}", self.router.path().display()),
            "link set patch master br-octavia",
            "link set octavia master br-octavia",
            "link set patch up",
            "link set br-octavia up",
        ] {
            ovn.ip(words);
        }
        self.router.ip("link set provider up");
        self.router.ip(&format!("addr add {ROUTER_PROVIDER}/24 dev provider"));
    }

    /// Links, addresses, routes and files of both nodes, without their pods.
    pub(crate) fn snapshots(&self) -> [Snapshot; 2] {
        [self.node1.snapshot(&[]), self.node2.snapshot(&[])]
    }

    pub(crate) fn draw(&self, screen: &Screen) {
        let uplink = self.uplink;
        screen.heading("1. The network: two nodes, their pods, Octavia's router and an amphora");
        screen.say(&format!(
            "\
 node1                                     node2
+-----------------------------------+     +-------------------------------+
|  ovn    worker    healthmanager   |     |   healthmanager  housekeeping |   each pod: 172.23.0.30 and up,
|   |       |             |         |     |         |             |       |   172.24.0.0/16 via {ROUTER_PROVIDER}
|  -+-------+---- octbr --+---+--   |     |   -+----+--- octbr ---+-----  |
|   |               {uplink:>9} +-----|trunk|----+ {uplink:<9}                |
+---|-------------------------------+     +-------------------------------+
    | br-octavia
 router {ROUTER_PROVIDER} / {ROUTER_TENANT}, no NAT ---- amphora {AMPHORA}, 172.23.0.0/24 via {ROUTER_TENANT}"
        ));
        screen.say("Each of them is a network namespace. The router sits behind the ovn pod's interface, as in OpenStack, but on a Linux\nbridge br-octavia instead of Open vSwitch.");
        match uplink {
            "enp6s0.24" => screen.say("The trunk carries VLAN 24, tagged."),
            _ => screen.say(
                "This kernel has no 8021q module: the trunk is untagged, in production it carries VLAN 24.",
            ),
        }
    }
}

/// Tries it, since a module may be loaded on demand.
fn has_vlan(node: &Node) -> bool {
    let mut command = Command::new("ip");
    command.args(["link", "add", "link", "enp6s0", "name", "enp6s0.24", "type", "vlan", "id", "24"]);
    node.output(&mut command).status.success()
}

/// The router's other side: `lb-mgmt-net` with the amphora and its host route.
fn join_tenant_network(router: &Namespace, amphora: &Namespace) {
    router.ip(&format!("link add tenant type veth peer name eth0 netns {}", amphora.path().display()));
    router.ip(&format!("addr add {ROUTER_TENANT}/16 dev tenant"));
    router.ip("link set tenant up");
    router.set_sysctl("ipv4/ip_forward", "1");
    amphora.ip(&format!("addr add {AMPHORA}/16 dev eth0"));
    amphora.ip("link set eth0 up");
    amphora.ip(&format!("route add 172.23.0.0/24 via {ROUTER_TENANT}"));
}
