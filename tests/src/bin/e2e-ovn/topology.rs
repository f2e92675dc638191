//! Two nodes with the operators' pods, a compute node with an amphora, and OVN on all three.

use std::fs;
use std::net::IpAddr;

use octavia_bridge_tests::agent::{Keeper, POLICY};
use octavia_bridge_tests::changes::until;
use octavia_bridge_tests::lab::wait_for_carrier;
use octavia_bridge_tests::{Agent, Lab, Namespace, Node};
use tempfile::TempDir;

use crate::addresses::{AMPHORA, AMPHORA_MAC, AMPHORA_V6, TENANT_LENGTHS, TENANT_ROUTER, TENANT_ROUTER_V6};
use crate::central::Central;
use crate::chassis::Chassis;
use crate::pods::{Attached, HEALTH_MANAGER, ROLES, RSYSLOG, Template, index_of, network, without_offload};
use crate::programs::{PATIENCE, Programs};

/// The bridges of the switch.
const TRUNK: &str = "trunk";
pub(crate) const TUNNELS: &str = "tunnels";
/// What Neutron's DHCP gives: a tunnel's header is 58 bytes long.
const TENANT_MTU: u16 = 1442;

/// A node whose `octbr` the agent made from a policy.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) node: Node,
    pub(crate) agent: Agent,
    pub(crate) keeper: Keeper,
    /// In the order of [`ROLES`].
    pub(crate) pods: Vec<Attached>,
    pub(crate) chassis: Chassis,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Cloud {
    pub(crate) workers: [Worker; 2],
    pub(crate) amphora: Node,
    pub(crate) programs: Programs,
    pub(crate) central: Central,
    _compute: Chassis,
    /// The network of the tunnels, and the trunk between the workers: two bridges of one switch.
    pub(crate) switch: Node,
    _host: Node,
    _folder: TempDir,
    // Last, as fields are dropped in order: its folder has the nodes' files.
    _lab: Lab,
}

impl Cloud {
    /// Builds it, and waits until the router has a way to the amphora.
    pub(crate) fn build() -> Self {
        let lab = Lab::new();
        let folder = TempDir::with_prefix_in("ovn-", "/run").expect("create OVN's folder in /run");
        let programs = Programs::new(folder.path());
        let central = Central::start(programs.within("central"));
        let switch = lab.node("switch");
        for bridge in [TRUNK, TUNNELS] {
            switch.ip(&format!("link add {bridge} type bridge"));
            switch.ip(&format!("link set {bridge} up"));
        }
        let nodes = ["node1", "node2"].map(|name| lab.node(name));
        for (node, name) in nodes.iter().zip(["node1", "node2"]) {
            plug(&switch, TRUNK, name, (node, "enp6s0"));
        }
        let mut number = 0;
        let workers = nodes.map(|node| {
            number += 1;
            worker(&node, number, &programs, &central, &switch)
        });
        let (amphora, host) = (lab.node("amphora"), lab.node("compute"));
        let mut compute = Chassis::new(programs.within("compute"), "compute", 3, &central.remote());
        compute.start(&host, &switch);
        boot_amphora(&amphora, &host, &programs);
        compute.plug("amphora", "amphora");
        until(PATIENCE, "three chassis register", || central.chassis().len() == 3);
        central.make_networks(workers.each_ref().map(|worker| worker.chassis.name.as_str()));
        central.wait();
        Self {
            workers,
            amphora,
            programs,
            central,
            _compute: compute,
            switch,
            _host: host,
            _folder: folder,
            _lab: lab,
        }
    }

    /// Pods that talk to amphorae.
    pub(crate) fn controllers(&self) -> impl Iterator<Item = &Attached> {
        self.workers.iter().flat_map(|worker| &worker.pods[1..])
    }

    /// The pods of a role, one on each node.
    pub(crate) fn pods_of(&self, role: &str) -> [&Attached; 2] {
        let index = index_of(role);
        self.workers.each_ref().map(|worker| &worker.pods[index])
    }
}

fn worker(node: &Node, number: usize, programs: &Programs, central: &Central, switch: &Node) -> Worker {
    node.ip("link set lo up");
    fs::create_dir_all(node.data_dir()).expect("create the agent's folder");
    let agent = Agent::beside_plugin(node);
    let keeper = agent.keep(POLICY);
    until(PATIENCE, "the agent makes octbr", || node.ports("octbr") == ["enp6s0"]);
    let conf = network(number - 1);
    let mut pods = Vec::new();
    for role in ROLES {
        let aliases = predictable(role, number);
        let template =
            Template { node: node.clone(), name: format!("{role}-{number}"), conf: conf.clone(), aliases };
        pods.push(template.start(programs));
    }
    let name = format!("gateway{number}");
    let mut chassis = Chassis::new(programs.within(&name), &name, number, &central.remote());
    chassis.start(&pods[0].pod, switch);
    chassis.map_provider();
    Worker { node: node.clone(), agent, keeper, pods, chassis }
}

/// Joins a bridge of the switch by a cable to a machine: the ends have these names and are up, and the kernel knows it.
pub(crate) fn plug(switch: &Node, bridge: &str, port: &str, (machine, link): (&Namespace, &str)) {
    switch.ip(&format!("link add {port} type veth peer name {link} netns {}", machine.path().display()));
    switch.ip(&format!("link set {port} master {bridge} up"));
    machine.ip(&format!("link set {link} up"));
    wait_for_carrier([(machine, link), (switch, port)]);
}

/// A namespace instead of a virtual machine, configured as by Neutron's DHCP.
fn boot_amphora(amphora: &Node, host: &Namespace, programs: &Programs) {
    host.ip(&format!(
        "link add amphora type veth peer name eth0 address {AMPHORA_MAC} netns {}",
        amphora.path().display()
    ));
    host.ip("link set amphora up");
    for words in [
        format!("link set eth0 mtu {TENANT_MTU} up"),
        format!("addr add {AMPHORA}/{} dev eth0", TENANT_LENGTHS[0]),
        format!("addr add {AMPHORA_V6}/{} dev eth0 nodad", TENANT_LENGTHS[1]),
        format!("route add 172.23.0.0/24 via {TENANT_ROUTER}"),
        format!("route add fd00:eeee::/64 via {TENANT_ROUTER_V6}"),
    ] {
        amphora.ip(&words);
    }
    without_offload(amphora, "eth0", programs);
}

/// The operator's predictable addresses of a node: its health manager's, and its rsyslog pod's.
fn predictable(role: &str, number: usize) -> Vec<IpAddr> {
    let place = match role {
        HEALTH_MANAGER => 2 * number - 2,
        RSYSLOG => 2 * number - 1,
        _ => return Vec::new(),
    };
    let [v4, v6] = [97 + place, 0x8b + place];
    [format!("172.23.0.{v4}"), format!("fd00:eeee::{v6:x}")]
        .iter()
        .map(|text| text.parse().expect("an address"))
        .collect()
}
