//! Pods with the interface `octavia`, attached as multus attaches them: the operators' ones by our plugin, and one by the reference
//! plugin to compare with.

use std::net::IpAddr;

use octavia_bridge_tests::{Call, Namespace, Node, Outcome, Pod, conf};
use serde_json::{Value, json};

use crate::addresses::{ROUTER, ROUTER_V6};
use crate::programs::Programs;

/// What Octavia's containers look for.
pub(crate) const INTERFACE: &str = "octavia";
/// The pods of a node, as the operators make them. The first has the chassis.
pub(crate) const ROLES: [&str; 5] =
    ["ovn-controller-ovs", HEALTH_MANAGER, "octavia-housekeeping", "octavia-worker", RSYSLOG];
pub(crate) const HEALTH_MANAGER: &str = "octavia-healthmanager";
pub(crate) const RSYSLOG: &str = "octavia-rsyslog";

/// Where a node's list of pods has the one of a role.
pub(crate) fn index_of(role: &str) -> usize {
    ROLES.iter().position(|known| *known == role).expect("a role")
}

/// What a pod is made of, again and again.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    pub(crate) node: Node,
    pub(crate) name: String,
    pub(crate) conf: Value,
    /// What the pod's init container gives it besides: its predictable address of each family. Nothing announces them.
    pub(crate) aliases: Vec<IpAddr>,
}

impl Template {
    /// Runs ADD in a new namespace.
    ///
    /// # Panics
    /// If the plugin fails.
    pub(crate) fn start(self, programs: &Programs) -> Attached {
        let pod = self.node.pod(&self.name);
        let result = self.call(pod.add(&self.conf)).attached();
        without_offload(&pod, INTERFACE, programs);
        for address in &self.aliases {
            let (length, nodad) = if address.is_ipv4() { (32, "") } else { (128, "nodad") };
            pod.ip(&format!("addr add {address}/{length} dev {INTERFACE} {nodad}"));
        }
        Attached { pod, addresses: result.ips(), host_link: result.host_link().to_owned(), template: self }
    }

    /// The same pod with its addresses on a node, which need not be the one where it was. The file store of that one does not know
    /// them, and assigns them as the first that are free.
    pub(crate) fn keep(&mut self, addresses: &[IpAddr], node: &Node) {
        self.node = node.clone();
        for (path, address) in ["/ipam/range_start", "/ipam/ipRanges/0/range_start"].iter().zip(addresses) {
            if let Some(start) = self.conf.pointer_mut(path) {
                *start = json!(address);
            }
        }
    }

    /// Runs the plugin that the network names, as multus does.
    fn call(&self, call: Call) -> Outcome {
        let args = format!("IgnoreUnknown=true;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME={}", self.name);
        call.plugin(self.conf["type"].as_str().unwrap_or_default()).ifname(INTERFACE).args(&args).run()
    }
}

/// A pod with its addresses, the documented network's first.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) pod: Pod,
    pub(crate) addresses: Vec<IpAddr>,
    /// The host's end of its pair.
    pub(crate) host_link: String,
    template: Template,
}

impl Attached {
    /// Where the amphora finds it: the predictable address, or else the pod's own.
    pub(crate) fn known_as(&self, family: usize) -> IpAddr {
        *self.template.aliases.get(family).unwrap_or(&self.addresses[family])
    }

    /// Ends the pod as a kubelet does.
    #[must_use]
    pub(crate) fn end(self) -> Template {
        self.template.call(self.pod.del(&self.template.conf)).silent_success();
        self.template
    }
}

/// Frames leave complete: Open vSwitch in userspace passes on what the kernel left for a NIC to fill in.
pub(crate) fn without_offload(place: &Namespace, link: &str, programs: &Programs) {
    programs.run(Some(place), "ethtool", &["-K", link, "tx", "off"]);
}

/// The documented definition and the other family beside it. The file store knows one host; so each node leaves the other's half.
pub(crate) fn network(node: usize) -> Value {
    let halves = [
        [&["172.23.0.48/28", "172.23.0.64/29"][..], &["172.23.0.30/31", "172.23.0.32/28"][..]],
        [&["fd00:eeee::40/122"][..], &["fd00:eeee::30/124"][..]],
    ];
    let others = halves.map(|half| half[node]);
    let tenant = |dst: &str, gw: &str| json!({"dst": dst, "gw": gw});
    conf::octavia_with(json!({"ipam": {
        "exclude": others[0],
        "ipRanges": [{"range": "fd00:eeee::/64", "range_start": "fd00:eeee::30", "range_end": "fd00:eeee::70", "exclude": others[1]}],
        "routes": [tenant("172.24.0.0/16", ROUTER), tenant("fd00:ffff::/64", ROUTER_V6)],
    }}))
}

/// A network of the reference plugin on the same bridge, with one address.
pub(crate) fn reference(address: &str) -> Value {
    json!({
        "cniVersion": "0.3.1", "name": "reference", "type": "bridge", "bridge": "octbr",
        "ipam": {
            "type": "static", "addresses": [{"address": format!("{address}/24")}],
            "routes": [{"dst": "172.24.0.0/16", "gw": ROUTER}],
        },
    })
}
