//! Nodes, the trunk between them, and pods.

use std::ops::Deref;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{env, fs};

use nix::mount::{MsFlags, mount};
use serde_json::Value;
use tempfile::TempDir;

use crate::changes::until;
use crate::namespace::bind;
use crate::{Call, Link, Namespace, Snapshot};

/// Debian's reference plugins: `bridge`, `macvlan`, `host-local`, `static`.
pub const REFERENCE_PLUGINS: &str = "/usr/lib/cni";

/// What the nodes of one test share: a folder for their files and one with the plugin under its names.
#[derive(Debug)]
pub struct Lab {
    folder: Arc<TempDir>,
}

impl Lab {
    /// An empty lab.
    ///
    /// # Panics
    /// Outside `scripts/sandbox`, so that no test ever touches the machine's own network, and when the plugin is not built.
    #[expect(clippy::new_without_default, reason = "it panics outside the sandbox; a default should not")]
    pub fn new() -> Self {
        assert!(
            env::var_os("OCTAVIA_BRIDGE_SANDBOX").is_some(),
            "refusing to run outside the sandbox: use `cargo test`, or run this binary with scripts/sandbox"
        );
        let folder = TempDir::with_prefix_in("lab-", "/run").expect("create the lab's folder in /run");
        let binary = built("octavia-bridge", "OCTAVIA_BRIDGE_BIN");
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).expect("create the lab's CNI_PATH");
        // One binary, which acts by the name under which it is called.
        for name in ["octavia-bridge", "octavia-ipam", "whereabouts"] {
            symlink(&binary, bin.join(name)).expect("link the plugin into CNI_PATH");
        }
        Self { folder: Arc::new(folder) }
    }

    /// A host with an empty disk and only a loopback interface.
    pub fn node(&self, name: &str) -> Node {
        let [disk, memory] =
            ["var-lib", "run"].map(|folder| self.folder.path().join(format!("{name}-{folder}")));
        fs::create_dir(&disk).expect("create the node's /var/lib");
        fs::create_dir(&memory).expect("create the node's /run/octavia-bridge");
        self.node_with_disk(name, disk, memory)
    }

    /// A host that shares its files with another: the `file` store knows one host, and this makes two into one for it.
    pub fn node_on_disk_of(&self, name: &str, other: &Node) -> Node {
        self.node_with_disk(name, other.disk.clone(), other.memory.clone())
    }

    /// A host whose `/run/octavia-bridge` holds so many bytes and no more, in whole pages of 4096.
    pub fn node_with_small_memory(&self, name: &str, bytes: u32) -> Node {
        let node = self.node(name);
        let options = format!("mode=0755,size={bytes}");
        // Never unmounted here: the sandbox's end does that.
        mount(Some("memory"), &node.memory, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .expect("mount a small tmpfs");
        node
    }

    fn node_with_disk(&self, name: &str, disk: PathBuf, memory: PathBuf) -> Node {
        let namespace = Arc::new(namespace_for(name));
        Node { namespace, disk, memory, folder: self.folder.clone() }
    }

    /// Joins two nodes by a cable: each end is called `enp6s0` and is up, and the kernel knows it.
    pub fn trunk(&self, one: &Node, other: &Node) {
        let there = other.path().display();
        one.ip(&format!("link add enp6s0 type veth peer name enp6s0 netns {there}"));
        for node in [one, other] {
            node.ip("link set enp6s0 up");
        }
        wait_for_carrier([(one, "enp6s0"), (other, "enp6s0")]);
    }

    /// The directory with the plugin under its names; tests may add other plugins to it.
    pub fn bin(&self) -> PathBuf {
        self.folder.path().join("bin")
    }
}

/// A host: a network namespace and its files. Clones are the same host.
#[derive(Debug, Clone)]
pub struct Node {
    namespace: Arc<Namespace>,
    disk: PathBuf,
    memory: PathBuf,
    folder: Arc<TempDir>,
}

impl Node {
    /// An empty container on this host.
    pub fn pod(&self, name: &str) -> Pod {
        let namespace = namespace_for(name);
        let file_name = namespace.path().file_name().unwrap_or_default();
        let container_id = file_name.to_string_lossy().into_owned();
        Pod { namespace, node: self.clone(), container_id }
    }

    /// Creates `octbr` as the node agent leaves it, with `enp6s0` as its port if the node has a trunk.
    pub fn bridge_with_uplink(&self) {
        self.ip("link add octbr address 02:00:00:00:00:01 type bridge");
        self.ip("link set octbr up");
        if self.link("enp6s0").is_some() {
            self.ip("link set enp6s0 master octbr");
        }
    }

    /// A run of the plugin on this host with `CNI_COMMAND` set to `command` and nothing about a container.
    pub fn call(&self, command: &str) -> Call {
        Call::new(self, command)
    }

    /// STATUS for a configuration.
    pub fn status(&self, conf: &Value) -> Call {
        self.call("STATUS").conf(conf)
    }

    /// GC for a configuration, which names the valid attachments.
    pub fn gc(&self, conf: &Value) -> Call {
        self.call("GC").conf(conf)
    }

    /// VERSION.
    pub fn version(&self) -> Call {
        self.call("VERSION").stdin("{}")
    }

    /// Everything this host's namespace, the given pods and the plugin's files hold now.
    pub fn snapshot(&self, pods: &[&Pod]) -> Snapshot {
        Snapshot::take(self, pods)
    }

    /// What the host sees as `/var/lib`.
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    /// What the host sees as `/var/lib/octavia-bridge`, which the plugin creates.
    pub fn data_dir(&self) -> PathBuf {
        self.disk.join("octavia-bridge")
    }

    /// What the host sees as `/run/octavia-bridge`.
    pub fn run_dir(&self) -> &Path {
        &self.memory
    }

    /// Whether the plugin has left no file.
    pub fn has_no_files(&self) -> bool {
        let mut entries = fs::read_dir(&self.memory).expect("list the node's /run/octavia-bridge");
        entries.next().is_none() && !self.data_dir().exists()
    }

    /// Shows the calling thread this host's files; its view of the mounts has to be its own.
    pub(crate) fn show_files(&self) {
        bind(&self.disk, Path::new("/var/lib"));
        let run_dir = Path::new("/run/octavia-bridge");
        fs::create_dir_all(run_dir).expect("create a mount point");
        bind(&self.memory, run_dir);
    }

    /// What a reboot leaves of this host's files: those on disk.
    pub fn forget_memory(&self) {
        for entry in fs::read_dir(&self.memory).expect("list the node's /run/octavia-bridge") {
            let path = entry.expect("list the node's /run/octavia-bridge").path();
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.expect("empty the node's /run/octavia-bridge");
        }
    }

    /// The pool document of a name such as `172.23.0.0-24`.
    pub fn pool_file(&self, name: &str) -> PathBuf {
        self.run_dir().join("pools").join(format!("{name}.json"))
    }

    /// The allocations of a pool, an object of offset to holder; empty if the pool has no document.
    pub fn allocations(&self, pool: &str) -> serde_json::Map<String, Value> {
        let file = self.pool_file(pool);
        if !file.exists() {
            return serde_json::Map::new();
        }
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("read {}: {e}", file.display()));
        let document: Value =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}\n{text}", file.display()));
        let allocations = document["spec"]["allocations"].as_object();
        allocations.unwrap_or_else(|| panic!("no spec.allocations in {}: {text}", file.display())).clone()
    }

    /// The lab's `CNI_PATH` folder, then Debian's.
    pub(crate) fn cni_path(&self) -> String {
        format!("{}:{REFERENCE_PLUGINS}", self.folder.path().join("bin").display())
    }
}

impl Deref for Node {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

/// A container: a network namespace and a container id.
#[derive(Debug)]
pub struct Pod {
    namespace: Namespace,
    node: Node,
    container_id: String,
}

impl Pod {
    /// Ends the pod without a DEL: the namespace goes, and with it, once the kernel has got to that, the host's end of its pairs.
    pub fn end_without_del(&self) {
        self.remove();
        let is_own = |link: &Link| link.alias().contains(&self.container_id);
        until(Duration::from_secs(10), "the kernel takes the pod's pairs away", || {
            !self.node.links().iter().any(is_own)
        });
    }

    /// `CNI_CONTAINERID`: the pod's name and a number, unique in the test run.
    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    /// The host this pod runs on.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// ADD of this pod as `net1`.
    pub fn add(&self, conf: &Value) -> Call {
        self.call("ADD", conf)
    }

    /// DEL of this pod's `net1`.
    pub fn del(&self, conf: &Value) -> Call {
        self.call("DEL", conf)
    }

    /// CHECK of this pod's `net1`, with the result of its ADD as `prevResult`.
    pub fn check(&self, conf: &Value, result: &Value) -> Call {
        let mut conf = conf.clone();
        conf["prevResult"] = result.clone();
        self.call("CHECK", &conf)
    }

    fn call(&self, command: &str, conf: &Value) -> Call {
        self.node
            .call(command)
            .conf(conf)
            .env("CNI_CONTAINERID", &self.container_id)
            .env("CNI_NETNS", self.path().to_str().unwrap_or_default())
            .ifname("net1")
    }
}

impl Deref for Pod {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

/// Waits until the kernel knows that both ends of a cable are up. Where they have the same index, it takes up to a second to look at
/// the carrier, and a bridge keeps such a port closed.
#[track_caller]
pub fn wait_for_carrier(cable: [(&Namespace, &str); 2]) {
    until(Duration::from_secs(60), "the cable has a carrier", || {
        cable.iter().all(|(place, link)| place.expect_link(link).operational_state() == "UP")
    });
}

/// A namespace under /run/netns, numbered so that tests of one process never meet.
fn namespace_for(name: &str) -> Namespace {
    static NUMBER: AtomicUsize = AtomicUsize::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Namespace::create(PathBuf::from(format!("/run/netns/{name}-{number}")))
}

/// A program of the workspace: the one that `variable` names, or else the one built beside this test,
/// `target/<profile>/deps/<test>` → `target/<profile>/<name>`.
pub(crate) fn built(name: &str, variable: &str) -> PathBuf {
    let binary = env::var_os(variable).map_or_else(
        || {
            let test = env::current_exe().expect("path of the test binary");
            let profile = test.parent().and_then(Path::parent).expect("folder of the build profile");
            profile.join(name)
        },
        PathBuf::from,
    );
    assert!(
        binary.is_file(),
        "{} does not exist: run `cargo build --workspace` first, or name the program in {variable}",
        binary.display()
    );
    binary
}
