//! A cluster of two nodes whose NICs are joined, with all of an overlay's manifests applied.

use std::io::Write;
use std::process::Stdio;
use std::time::Instant;
use std::{fs, thread};

use k8s_openapi::api::apps::v1::DaemonSet;
use octavia_bridge_cluster_tests::{Access, Cluster};
use octavia_bridge_tests::{Lab, Pod as Sandbox};
use serde_json::{Value, json};

use crate::host::Host;
use crate::image_folder;
use crate::runtime::DEADLINE;

/// Where the overlay `kubernetes` has plugins installed.
pub(crate) const BIN: &str = "/opt/cni/bin";
/// Of the pods that are attached.
const NAMESPACE: &str = "openstack";

/// The cluster and its nodes.
pub(crate) struct Scene {
    pub(crate) cluster: &'static Cluster,
    pub(crate) hosts: [Host; 2],
    _lab: Lab,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let cluster = Cluster::shared();
        let admin = cluster.admin();
        admin.call("POST", "/api/v1/namespaces", Some(&json!({"metadata": {"name": NAMESPACE}})));
        let lab = Lab::new();
        let hosts = ["node1", "node2"].map(|name| Host::new(name, lab.node(name)));
        lab.trunk(&hosts[0].node, &hosts[1].node);
        for host in &hosts {
            cluster.node(&host.name);
            let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
            admin.call("PATCH", &format!("/api/v1/nodes/{}/status", host.name), Some(&ready)).expect(200);
            host.node.ip("link set lo up");
        }
        Self { cluster, hosts, _lab: lab }
    }

    /// `kubectl apply -k` of an overlay. Its `DaemonSet`.
    pub(crate) fn apply(&self, overlay: &str) -> DaemonSet {
        let objects = manifests(overlay);
        for object in &objects {
            self.cluster.admin().apply(&object.to_string());
        }
        let set = objects.into_iter().find(|object| object["kind"] == "DaemonSet");
        serde_json::from_value(set.expect("the overlay has a DaemonSet")).expect("it is one")
    }

    /// The administrator, in the namespace of the pods.
    pub(crate) fn pods(&self) -> Access {
        self.cluster.admin().in_namespace(NAMESPACE)
    }

    /// A pod of the cluster on a host, with an empty sandbox.
    pub(crate) fn pod(&self, host: &Host, name: &str) -> Worker {
        let pods = self.pods();
        let containers = json!([{"name": "worker", "image": "worker"}]);
        let object =
            json!({"metadata": {"name": name}, "spec": {"nodeName": host.name, "containers": containers}});
        let uid = pods.create(&pods.core("pods"), &object)["metadata"]["uid"].clone();
        let arguments = [
            "IgnoreUnknown=1",
            &format!("K8S_POD_NAMESPACE={NAMESPACE}"),
            &format!("K8S_POD_NAME={name}"),
            &format!("K8S_POD_UID={}", uid.as_str().expect("a pod has a uid")),
        ];
        Worker { sandbox: host.node.pod(name), arguments: arguments.join(";") }
    }
}

/// A pod with its sandbox.
pub(crate) struct Worker {
    pub(crate) sandbox: Sandbox,
    arguments: String,
}

impl Worker {
    /// Has the plugin that is installed on the host add or delete the pod's interface, as multus does. What it printed.
    #[track_caller]
    pub(crate) fn call(&self, host: &Host, verb: &str) -> Value {
        let mut plugin = host.command(format!("{BIN}/octavia-bridge"));
        plugin.env_clear().envs([("CNI_COMMAND", verb), ("CNI_PATH", BIN), ("CNI_IFNAME", "net1")]);
        plugin.env("CNI_CONTAINERID", self.sandbox.container_id()).env("CNI_NETNS", self.sandbox.path());
        plugin.env("CNI_ARGS", &self.arguments);
        plugin.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = plugin.spawn().expect("start the installed plugin");
        let network = attachment().to_string();
        child.stdin.take().expect("a pipe").write_all(network.as_bytes()).expect("write the configuration");
        let output = child.wait_with_output().expect("wait for the plugin");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let printed = text(&output.stdout);
        assert!(output.status.success(), "{verb}: {printed}{}", text(&output.stderr));
        serde_json::from_str(&printed).unwrap_or_default()
    }
}

/// What is rendered of an overlay.
fn manifests(overlay: &str) -> Vec<Value> {
    let file = image_folder(1).with_file_name(format!("{overlay}.yaml"));
    let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("read {}: {e}", file.display()));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// The configuration in the example's `NetworkAttachmentDefinition`.
fn attachment() -> Value {
    let example =
        manifests("octavia").into_iter().find(|object| object["kind"] == "NetworkAttachmentDefinition");
    let text = example.expect("the example has one")["spec"]["config"].clone();
    serde_json::from_str(text.as_str().expect("its config is text")).expect("its config is JSON")
}

/// The example's policy, with a wire in the VLAN's place, which many kernels come without.
pub(crate) fn policy() -> Value {
    let example =
        manifests("octavia").into_iter().find(|object| object["kind"] == "NodeNetworkConfigurationPolicy");
    let mut policy = example.expect("the example has one");
    let interfaces = policy["spec"]["desiredState"]["interfaces"].as_array_mut().expect("it has interfaces");
    interfaces.retain(|interface| interface["type"] == "linux-bridge");
    interfaces[0]["bridge"]["port"] = json!([{"name": "enp6s0"}]);
    policy
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, seen: impl Fn() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(seen) = seen() {
            return seen;
        }
        assert!(started.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        thread::sleep(std::time::Duration::from_millis(50));
    }
}
