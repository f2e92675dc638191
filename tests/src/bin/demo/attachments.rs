//! The pods: attached as multus attaches them, looked at, and detached until nothing is left.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use octavia_bridge_tests::{Call, Node, Pod, Snapshot};
use serde_json::Value;

use crate::screen::{Screen, check, ms};
use crate::topology::{AMPHORA, ROUTER_PROVIDER, Topology};

/// What the operators call the interface: by the network attachment's name.
pub(crate) const INTERFACE: &str = "octavia";
const TENANT: &str = "172.24.0.0/16";
const POOL: &str = "172.23.0.0-24";

/// A pod with its attachment.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) name: String,
    pub(crate) pod: Pod,
    /// Without prefix length.
    pub(crate) address: String,
    pub(crate) mac: String,
    pub(crate) took: Duration,
    host_link: String,
}

impl Attached {
    /// Makes the pod's namespace and runs ADD.
    pub(crate) fn new(node: &Node, name: &str, conf: &Value) -> Self {
        let pod = node.pod(name);
        let outcome = as_multus(pod.add(conf), name, pod.container_id()).run();
        let result = outcome.attached();
        let (mac, host_link) = (result.pod_mac().to_owned(), result.host_link().to_owned());
        Self {
            name: name.to_owned(),
            pod,
            address: result.ip().to_string(),
            mac,
            took: outcome.took,
            host_link,
        }
    }

    /// Compares what the plugin said with what the kernel has.
    pub(crate) fn verify(&self) {
        let (name, link) = (&self.name, self.pod.expect_link(INTERFACE));
        check(&format!("address of {name}"), vec![format!("{}/24", self.address)], link.addresses());
        check(&format!("MAC of {name}"), &self.mac[..], link.mac());
        check(&format!("route of {name}"), ROUTER_PROVIDER, self.pod.expect_route(TENANT).gateway());
        let host_link = self.pod.node().expect_link(&self.host_link);
        check(&format!("bridge of {name}"), Some("octbr"), host_link.master());
    }

    pub(crate) fn delete(&self, conf: &Value) -> Duration {
        let outcome = as_multus(self.pod.del(conf), &self.name, self.pod.container_id()).run();
        outcome.silent_success();
        outcome.took
    }

    pub(crate) fn is(&self, role: &str) -> bool {
        self.name.contains(role)
    }
}

/// Adds what thin multus adds to every call; the container id is as long as those of containerd and CRI-O.
pub(crate) fn as_multus(call: Call, name: &str, number: &str) -> Call {
    let id: String = (0..4_u8)
        .map(|part| {
            let mut hasher = DefaultHasher::new();
            (part, number).hash(&mut hasher);
            format!("{:016x}", hasher.finish())
        })
        .collect();
    let args = format!(
        "IgnoreUnknown=true;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME={name};\
         K8S_POD_INFRA_CONTAINER_ID={id};K8S_POD_UID=3c0d7d6e-6d3c-4f0e-9a53-2f6a3a0e4a11"
    );
    call.env("CNI_CONTAINERID", &id).ifname(INTERFACE).args(&args)
}

pub(crate) fn show_conf(screen: &Screen, conf: &Value) {
    screen.heading("2. The network attachment: Octavia's own, one word changed and one added");
    let object = conf.as_object().expect("the configuration is an object");
    for (key, value) in object.iter().filter(|(key, _)| *key != "ipam") {
        let note = if key == "type" { "    <- was \"bridge\"" } else { "" };
        screen.say(&format!("{key}: {value}{note}"));
    }
    let ipam = object["ipam"].as_object().expect("ipam is an object");
    let (file, others): (Vec<_>, Vec<_>) = ipam.iter().partition(|(key, _)| *key == "datastore");
    let written = |pairs: &[(&String, &Value)]| {
        pairs.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join(", ")
    };
    let (last, first) = others.split_last().expect("ipam is not empty");
    screen.say(&format!("ipam: {}", written(first)));
    screen.say(&format!("      {}", written(&[*last])));
    screen.say(&format!("      {}    <- added: the pool is a file, no cluster is needed", written(&file)));
}

/// Attaches the pod of the router first, as the gateway has to be there before anyone uses it.
pub(crate) fn attach_all(screen: &Screen, topology: &mut Topology, conf: &Value) -> Vec<Attached> {
    let (node1, node2) = (&topology.node1, &topology.node2);
    let pods: Vec<Attached> = [
        (node1, "ovn-controller-ovs-9kq2t"),
        (node1, "octavia-healthmanager-5g94j"),
        (node2, "octavia-healthmanager-v8w7c"),
        (node1, "octavia-worker-pq55m"),
        (node2, "octavia-housekeeping-5gtw8"),
    ]
    .into_iter()
    .map(|(node, name)| Attached::new(node, name, conf))
    .collect();
    pods.iter().for_each(Attached::verify);
    topology.plug_router_into(&pods[0].pod);

    screen.heading("3. Five pods attached by the plugin, called as multus calls it");
    let on = |pod: &Pod| if pod.node().path() == node1.path() { "node1" } else { "node2" };
    let rows: Vec<_> = pods
        .iter()
        .map(|a| {
            let address = format!("{}/24", a.address);
            [a.name.clone(), on(&a.pod).to_owned(), address, a.mac.clone(), a.host_link.clone(), ms(a.took)]
        })
        .collect();
    screen.table(["pod", "node", "octavia", "MAC, from the address", "port of octbr", "ADD took"], &rows);
    for controller in &pods[1..] {
        let route = controller.pod.ip(&format!("route get {AMPHORA}"));
        let wanted = format!("{AMPHORA} via {ROUTER_PROVIDER} dev {INTERFACE}");
        check(&format!("route of {} to the amphora", controller.name), true, route.starts_with(&wanted));
    }
    let mut addresses: Vec<&str> = pods.iter().map(|a| a.address.as_str()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    check("different addresses", pods.len(), addresses.len());
    screen.holds(&format!(
        "addresses, MACs, ports and the route {TENANT} via {ROUTER_PROVIDER} read back from the kernel"
    ));
    pods
}

pub(crate) fn show_pool(screen: &Screen, topology: &Topology) {
    screen.heading("4. The pool: one IPPool document, as whereabouts has it in a cluster");
    let file = topology.node1.pool_file(POOL);
    let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("read {}: {e}", file.display()));
    let document: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    screen.say(&format!("/run/octavia-bridge/pools/{POOL}.json, container ids cut short"));
    screen.say(&format!(
        "kind: {}   name: {}   range: {}",
        document["kind"], document["metadata"]["name"], document["spec"]["range"]
    ));
    for (offset, holder) in &topology.node1.allocations(POOL) {
        let mut holder = holder.clone();
        let id = holder["id"].as_str().unwrap_or_default();
        check(&format!("length of the container id at offset {offset}"), 64, id.len());
        holder["id"] = format!("{}..", &id[..12]).into();
        screen.say(&format!("{offset:>4}: {holder}"));
    }
    screen.say("Both nodes use this file, because both are namespaces of one host (datastore \"file\"). Nodes of a cluster share");
    screen.say("IPPool objects in the Kubernetes API instead (datastore \"kubernetes\", the default); see scripts/playground.");
}

/// Deletes every attachment, twice, and compares with what was there before the first ADD.
pub(crate) fn detach_all(
    screen: &Screen,
    topology: &Topology,
    pods: &[Attached],
    conf: &Value,
    untouched: &[Snapshot; 2],
) {
    screen.heading("8. Everything deleted");
    for attached in pods {
        attached.delete(conf);
    }
    for attached in pods {
        attached.delete(conf);
    }
    screen.holds(&format!("DEL of {} attachments, and once more: success each time", pods.len()));
    let ports = |node: &Node| node.link_names().iter().filter(|name| name.starts_with("veth")).count();
    let files = |folder: &str| {
        let folder = topology.node1.run_dir().join(folder);
        // A folder that was never made holds nothing.
        fs::read_dir(folder)
            .map_or(0, |entries| entries.flatten().filter(|e| e.file_name() != ".lock").count())
    };
    let left = [
        ("ports of pods", ports(&topology.node1) + ports(&topology.node2)),
        ("addresses held", topology.node1.allocations(POOL).len()),
        ("records", files("attachments")),
        ("tombstones", files("tombstones")),
    ];
    screen
        .table(["left behind", "number"], &left.map(|(what, number)| [what.to_owned(), number.to_string()]));
    for (what, number) in left {
        check(what, 0, number);
    }
    for ((now, before), node) in topology.snapshots().iter().zip(untouched).zip(["node1", "node2"]) {
        check(
            &format!("differences on {node} to before the first ADD"),
            Vec::<String>::new(),
            now.difference_from(before),
        );
    }
    screen.holds(
        "links, addresses, routes, settings and files of both nodes are as they were before the first ADD",
    );
}
