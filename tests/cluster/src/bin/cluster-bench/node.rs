//! A node with its agent, and pods that the built plugin attaches.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use octavia_bridge_cluster_tests::{Access, Agent, Cluster};
use octavia_bridge_tests::conf;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A node: an agent, and a configuration that leads to it. All nodes' links are in one namespace.
pub(crate) struct Node {
    pub(crate) agent: Agent,
    folder: TempDir,
}

/// A sandbox without links.
pub(crate) struct Pod {
    id: String,
    namespace: PathBuf,
}

/// What a plugin said.
pub(crate) struct Said {
    pub(crate) success: bool,
    pub(crate) text: String,
}

impl Node {
    pub(crate) fn start(access: &Access, name: &str) -> Self {
        Cluster::shared().node(name);
        let agent = Agent::start(access, name);
        agent.ready();
        let folder = TempDir::with_prefix_in("node-", "/run").expect("create the node's folder");
        // Room for a thousand pods.
        let ipam = json!({"range": "172.23.0.0/20", "range_start": "172.23.1.0", "range_end": "172.23.9.0"});
        let conf = conf::with(
            conf::without(conf::octavia(), "/ipam/datastore"),
            json!({"dataDir": folder.path().join("data"), "agentSocket": agent.socket(), "ipam": ipam}),
        );
        fs::write(folder.path().join("conf"), conf.to_string()).expect("write the configuration");
        Self { agent, folder }
    }

    /// Runs one verb for one pod.
    pub(crate) fn run(&self, verb: &str, pod: &Pod) -> (Duration, Said) {
        let started = Instant::now();
        let said = said(self.begin(verb, pod));
        (started.elapsed(), said)
    }

    fn begin(&self, verb: &str, pod: &Pod) -> Child {
        let program = std::env::var_os("OCTAVIA_BRIDGE_BIN").expect("OCTAVIA_BRIDGE_BIN names the plugin");
        let conf = File::open(self.folder.path().join("conf")).expect("open the configuration");
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_PATH", "/opt/cni/bin")
            .env("OCTAVIA_BRIDGE_DIRECTORIES", "/run")
            .env("CNI_IFNAME", "net1");
        command
            .env("CNI_CONTAINERID", &pod.id)
            .env("CNI_NETNS", &pod.namespace)
            .env("CNI_ARGS", pod.arguments());
        command.stdin(conf).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().expect("start the plugin")
    }
}

impl Pod {
    /// So many, which have never been attached.
    pub(crate) fn many(count: usize) -> Vec<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let pods: Vec<Self> = (0..count)
            .map(|_| {
                let id = format!("pod-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
                let namespace = PathBuf::from("/run/netns").join(&id);
                Self { id, namespace }
            })
            .collect();
        let mut ip =
            Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("start ip");
        let words: String = pods.iter().map(|pod| format!("netns add {}\n", pod.id)).collect();
        ip.stdin.take().expect("stdin is piped").write_all(words.as_bytes()).expect("write to ip");
        assert!(ip.wait().expect("wait for ip").success(), "ip could not make {count} namespaces");
        pods
    }

    /// One that has never been attached.
    pub(crate) fn one() -> Self {
        Self::many(1).remove(0)
    }

    fn arguments(&self) -> String {
        let id = &self.id;
        format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME={id};K8S_POD_UID=uid-of-{id}")
    }
}

/// Runs one verb for all pods at once, spread over the nodes in turn. From the first start to the last end, or how it is
/// that not all have what they should.
pub(crate) fn at_once(verb: &str, nodes: &[&Node], pods: &[Pod]) -> Result<Duration, String> {
    let started = Instant::now();
    let begun: Vec<Child> = nodes.iter().cycle().zip(pods).map(|(node, pod)| node.begin(verb, pod)).collect();
    let all: Vec<Said> = begun.into_iter().map(said).collect();
    let took = started.elapsed();
    if let Some(failed) = all.iter().find(|said| !said.success) {
        return Err(format!("one of {} failed: {}", all.len(), failed.text));
    }
    let addresses: BTreeSet<String> = all.iter().map(Said::done).collect();
    if verb == "ADD" && addresses.len() < pods.len() {
        return Err(format!("{} pods have {} addresses", pods.len(), addresses.len()));
    }
    Ok(took)
}

fn said(mut child: Child) -> Said {
    let mut text = String::new();
    child
        .stdout
        .take()
        .expect("stdout is piped")
        .read_to_string(&mut text)
        .expect("read the plugin's answer");
    Said { success: child.wait().expect("wait for the plugin").success(), text }
}

impl Said {
    /// The address of an ADD, nothing of a DEL.
    ///
    /// # Panics
    /// When it failed.
    pub(crate) fn done(&self) -> String {
        assert!(self.success, "the plugin failed: {}", self.text);
        let result: Value = serde_json::from_str(&self.text).unwrap_or_default();
        result["ips"][0]["address"].as_str().unwrap_or_default().to_owned()
    }
}
