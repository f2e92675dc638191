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

/// A pod with its addresses, the documented network's first.
#[derive(Debug)]
pub(crate) struct Attached {
    name: String,
    pub(crate) pod: Pod,
    pub(crate) addresses: Vec<IpAddr>,
    /// What the pod's init container gives it besides: its predictable address of each family.
    aliases: Vec<IpAddr>,
    host_link: String,
    conf: Value,
}

impl Attached {
    /// Runs ADD in a new namespace.
    ///
    /// # Panics
    /// If the plugin fails.
    pub(crate) fn new(node: &Node, name: &str, conf: &Value, programs: &Programs) -> Self {
        let pod = node.pod(name);
        let outcome = run(pod.add(conf), name, conf);
        let result = outcome.attached();
        without_offload(&pod, INTERFACE, programs);
        let (addresses, host_link) = (result.ips(), result.host_link().to_owned());
        Self { name: name.to_owned(), pod, addresses, aliases: Vec::new(), host_link, conf: conf.clone() }
    }

    /// The same with predictable addresses, which nothing announces.
    #[must_use]
    pub(crate) fn with_aliases(mut self, aliases: &[IpAddr]) -> Self {
        for address in aliases {
            let (length, nodad) = if address.is_ipv4() { (32, "") } else { (128, "nodad") };
            self.pod.ip(&format!("addr add {address}/{length} dev {INTERFACE} {nodad}"));
        }
        self.aliases = aliases.to_vec();
        self
    }

    /// Where the amphora finds it: the predictable address, or else the pod's own.
    pub(crate) fn known_as(&self, family: usize) -> IpAddr {
        *self.aliases.get(family).unwrap_or(&self.addresses[family])
    }

    /// The host's end of its pair.
    pub(crate) fn host_link(&self) -> &str {
        &self.host_link
    }

    /// Ends the pod as a kubelet does, and makes it anew in another namespace.
    #[must_use]
    pub(crate) fn again(self, programs: &Programs) -> Self {
        run(self.pod.del(&self.conf), &self.name, &self.conf).silent_success();
        let Self { name, pod, conf, aliases, .. } = self;
        let node = pod.node().clone();
        drop(pod);
        Self::new(&node, &name, &conf, programs).with_aliases(&aliases)
    }
}

fn run(call: Call, name: &str, conf: &Value) -> Outcome {
    let args = format!("IgnoreUnknown=true;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME={name}");
    call.plugin(conf["type"].as_str().unwrap_or_default()).ifname(INTERFACE).args(&args).run()
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
