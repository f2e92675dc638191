//! Nodes and pods as a kubelet and the controllers would have them, and agents with little patience.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use octavia_bridge_cluster_tests::{Access, Agent, Cluster, Holder, Ledger, Range, Rival};
use serde_json::{Value, json};

/// The agents' grace period.
pub(crate) const GRACE: Duration = Duration::from_secs(1);
/// Longer than reclaim takes for anything, on however busy a machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A namespace with pools, pods, and nodes of its own.
pub(crate) struct Scene {
    pub(crate) admin: Access,
}

impl Scene {
    pub(crate) fn new(what: &str) -> Self {
        Self { admin: Cluster::shared().namespace(what) }
    }

    /// The name of this scene's node `name`, which no other test's has.
    pub(crate) fn node_name(&self, name: &str) -> String {
        format!("{name}.{}", self.admin.namespace())
    }

    /// Adds a node to the API.
    pub(crate) fn node(&self, name: &str) -> String {
        let name = self.node_name(name);
        self.admin.create("/api/v1/nodes", &json!({"metadata": {"name": name}}));
        name
    }

    /// An agent that reclaims after [`GRACE`].
    pub(crate) fn agent(&self, node: &str) -> Agent {
        Self::agent_at(&self.admin, node)
    }

    /// The same, by another way to the server.
    pub(crate) fn agent_at(access: &Access, node: &str) -> Agent {
        Agent::start_with(access, node, &["--reclaim-grace", &GRACE.as_secs().to_string()])
    }

    /// Whereabouts on the same range as the tests' own pods.
    pub(crate) fn rival(&self) -> Rival {
        let address = |last: u8| [172, 23, 0, last].into();
        let rival = Rival::new(&self.admin, "172.23.0.0/24".parse().expect("a range"));
        rival.between(address(30), address(70))
    }

    /// Adds a pod that runs on a node.
    pub(crate) fn pod(&self, name: &str, node: &str) -> Pod {
        self.pod_with(name, node, &json!({}))
    }

    pub(crate) fn pod_with(&self, name: &str, node: &str, annotations: &Value) -> Pod {
        let pod = json!({
            "metadata": {"name": name, "annotations": annotations},
            "spec": {"nodeName": node, "containers": [{"name": "main", "image": "none"}]},
        });
        let created = self.admin.create(&self.admin.core("pods"), &pod);
        let uid = created["metadata"]["uid"].as_str().expect("a pod has a uid").to_owned();
        Pod { podref: format!("{}/{name}", self.admin.namespace()), name: name.to_owned(), uid }
    }

    /// Takes a pod out of the API, as when kubelet has ended it, or somebody has deleted it by force.
    pub(crate) fn delete(&self, pod: &Pod) {
        self.admin
            .delete(&format!("{}?gracePeriodSeconds=0", self.admin.core(&format!("pods/{}", pod.name))));
    }

    /// Says of a pod in which phase it is, as kubelet does.
    pub(crate) fn phase(&self, pod: &Pod, phase: &str) {
        let path = self.admin.core(&format!("pods/{}/status", pod.name));
        self.admin.call("PATCH", &path, Some(&json!({"status": {"phase": phase}}))).expect(200);
    }

    /// Who has an address.
    pub(crate) fn holder(&self, address: &str) -> Option<Holder> {
        let address: IpAddr = address.parse().expect("an address");
        Ledger::read(&self.admin).holder(address).cloned()
    }

    /// Whether an address has its entry and its reservation.
    pub(crate) fn stands(&self, address: &str) -> bool {
        let ledger = Ledger::read(&self.admin);
        let entry = ledger.holder(address.parse().expect("an address")).is_some();
        assert_eq!(entry, ledger.reservations.contains_key(address), "{address}: half of it\n{ledger:?}");
        entry
    }

    /// Whether nothing of an address is left.
    pub(crate) fn is_free(&self, address: &str) -> bool {
        let ledger = Ledger::read(&self.admin);
        ledger.holder(address.parse().expect("an address")).is_none()
            && !ledger.reservations.contains_key(address)
    }

    /// A reservation as the API has it.
    pub(crate) fn reservation(&self, address: &str) -> Option<Value> {
        Ledger::read(&self.admin).reservations.get(address).map(|seen| seen.object.clone())
    }

    /// Waits until an address is free.
    #[track_caller]
    pub(crate) fn becomes_free(&self, address: &str, agents: &[&Agent]) {
        eventually(&format!("{address} is free"), agents, || self.is_free(address));
    }
}

/// A pod in the API.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) podref: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Pod {
    /// Claims an address for this pod's container.
    pub(crate) fn claims(&self, agent: &Agent, range: &Range, container: &str) -> String {
        self.claims_after(agent, range, container, &[])
    }

    /// The same, where earlier sandboxes are known to be gone.
    #[track_caller]
    pub(crate) fn claims_after(
        &self,
        agent: &Agent,
        range: &Range,
        container: &str,
        gone: &[&str],
    ) -> String {
        let answer = agent.claim_for(range, container, &self.podref, &self.uid, gone);
        let address = answer["assigned"][0]["address"].as_str();
        address.and_then(|text| text.split('/').next()).unwrap_or_else(|| panic!("{answer}")).to_owned()
    }
}

/// Writes the plugin's record of an attachment that has this address, and whose sandbox is this process' namespace.
pub(crate) fn record(agent: &Agent, container: &str, address: &str) {
    let namespace = fs::metadata("/proc/self/ns/net").expect("look at our namespace");
    let path = format!("/proc/{}/ns/net", std::process::id());
    write_record(agent, container, &path, namespace.ino(), Some(address));
}

/// The same, of an attachment whose ADD has not come to its end.
pub(crate) fn record_of_an_add(agent: &Agent, container: &str) {
    let namespace = fs::metadata("/proc/self/ns/net").expect("look at our namespace");
    write_record(agent, container, &format!("/proc/{}/ns/net", std::process::id()), namespace.ino(), None);
}

/// The same, of a namespace that is gone.
pub(crate) fn record_of_the_dead(agent: &Agent, container: &str) {
    write_record(agent, container, "/run/netns/gone", 1, None);
}

fn write_record(agent: &Agent, container: &str, path: &str, inode: u64, address: Option<&str>) {
    let device = fs::metadata("/proc/self/ns/net").expect("look at our namespace").dev();
    let folder = agent.state().join("attachments");
    fs::create_dir_all(&folder).expect("create the folder of records");
    let record = json!({
        "version": 1, "network": "octavia", "containerId": container, "ifname": "net1",
        "netns": {"path": path, "device": device, "inode": inode}, "link": null,
        "addressing": {"cluster": {"socket": agent.socket()}},
    });
    let outcome = address.map(|address| json!({"addresses": [format!("{address}/24")], "hostLink": 0}));
    let outcome = outcome.map(|outcome| format!("{outcome}\n")).unwrap_or_default();
    write(&folder.join(format!("{container}@net1.jsonl")), &format!("{record}\n{outcome}"));
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn eventually(what: &str, agents: &[&Agent], mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        let late = started.elapsed() >= DEADLINE;
        let logs = || agents.iter().map(|agent| agent.log()).collect::<Vec<_>>().join("----\n");
        assert!(!late, "waited {DEADLINE:?} in vain until {what}\n{}", logs());
        thread::sleep(Duration::from_millis(50));
    }
}

/// Long enough that an agent which takes something for dead that is not would have freed it, several times.
pub(crate) fn some_graces() {
    thread::sleep(GRACE * 4);
}
