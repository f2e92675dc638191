//! A new agent and a new plugin beside running pods: no pod is disconnected, no address is assigned twice, and a runtime that
//! starts the plugin at any moment finds one.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use octavia_bridge_tests::agent::{Keeper, POLICY};
use octavia_bridge_tests::{Agent, Lab, Node, Stream, conf};
use serde_json::Value;

/// For a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// Names the plugin of an earlier release, to upgrade from that. Without it both are this one.
const EARLIER: &str = "OCTAVIA_BRIDGE_EARLIER_BIN";
const POOL: &str = "172.23.0.0-24";

/// A host whose plugin the agent installs, from one of two releases.
struct Host {
    node: Node,
    /// What the uplink leads to.
    _switch: Node,
    agent: Agent,
    bin: PathBuf,
    releases: [PathBuf; 2],
}

impl Host {
    fn new() -> Self {
        let lab = Lab::new();
        let [node, switch] = [lab.node("node1"), lab.node("switch")];
        lab.trunk(&node, &switch);
        let bin = lab.bin();
        let built = fs::read_link(bin.join("octavia-bridge")).expect("the lab's own plugin");
        for name in ["octavia-bridge", "octavia-ipam", "whereabouts"] {
            fs::remove_file(bin.join(name)).expect("empty the CNI folder");
        }
        let earlier = env::var_os(EARLIER).map_or_else(|| built.clone(), PathBuf::from);
        // What follows the end of a program is nothing to the kernel: two files, also where it is one program.
        let release = |name: &str, program: &Path| {
            let path = node.disk().join(name);
            let mut bytes = fs::read(program).expect("read the plugin");
            bytes.extend(name.as_bytes());
            fs::write(&path, bytes).expect("write a release");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it a program");
            path
        };
        let releases = [release("first", &earlier), release("second", &built)];
        let agent = Agent::beside_plugin(&node);
        // The daemon's log and policy lie there, too.
        fs::create_dir_all(node.data_dir()).expect("create the state folder");
        Self { node, _switch: switch, agent, bin, releases }
    }

    /// Starts the agent of a release, and waits until its plugin is installed and the policy is in force.
    fn start(&self, release: usize) -> Keeper {
        let plugin = &self.releases[release];
        let words = format!("--cni-bin-dir {} --plugin {}", self.bin.display(), plugin.display());
        let keeper = self.agent.keep_with(POLICY, &words);
        let content = fs::read(plugin).expect("read the release");
        let same = |name: &str| fs::read(self.bin.join(name)).is_ok_and(|there| there == content);
        let complete = || self.node.link("octbr").is_some_and(|bridge| bridge.is_up());
        until("the agent has done its work", &keeper, || {
            same("octavia-bridge") && same("octavia-ipam") && complete()
        });
        keeper
    }
}

#[track_caller]
fn until(what: &str, keeper: &Keeper, so: impl Fn() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < SOON, "not within {SOON:?}: {what}\n{}", keeper.log());
        thread::sleep(Duration::from_millis(20));
    }
}

fn inode(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).expect("it is there"))
}

#[test]
fn an_upgrade_and_its_rollback_cut_nobody_off_and_move_no_address() {
    let host = Host::new();
    let mut keeper = host.start(0);
    let pods = [host.node.pod("worker"), host.node.pod("housekeeping")];
    let conf = conf::octavia_with(serde_json::json!({"cniVersion": "1.1.0"}));
    let attached: Vec<_> = pods.iter().map(|pod| pod.add(&conf).run().attached()).collect();
    let before = (host.node.allocations(POOL), host.node.expect_link("octbr").index());
    let address = attached[1].address().split('/').next().and_then(|text| text.parse().ok());
    let stream = Stream::start(&pods[0], &pods[1], address.expect("an address"));

    let over = AtomicBool::new(false);
    let (rounds, files) = thread::scope(|scope| {
        // The runtime's life goes on: each run starts whatever is in the folder at that moment.
        let runtime = scope.spawn(|| {
            let pod = host.node.pod("comes-and-goes");
            let mut rounds = 0;
            while !over.load(Ordering::Relaxed) {
                pod.add(&conf).run().attached();
                pod.del(&conf).run().silent_success();
                rounds += 1;
            }
            rounds
        });
        let mut files = vec![inode(&host.bin.join("octavia-bridge"))];
        for release in [1, 0, 1] {
            assert_eq!(keeper.stop(), Some(0));
            keeper = host.start(release);
            files.push(inode(&host.bin.join("octavia-bridge")));
        }
        over.store(true, Ordering::Relaxed);
        (runtime.join().expect("the runtime"), files)
    });
    assert!(rounds > 0, "nothing was started meanwhile");
    assert!(files.windows(2).all(|pair| pair[0] != pair[1]), "each release is a file of its own: {files:?}");

    let count = stream.end();
    assert!(count.lost.is_empty() && count.sent > 0, "{count:?}");
    assert_eq!((host.node.allocations(POOL), host.node.expect_link("octbr").index()), before);
    // The plugin of one release knows what another one has done.
    for (pod, attached) in pods.iter().zip(&attached) {
        pod.check(&conf, &attached.result).run().silent_success();
        pod.del(&conf).run().silent_success();
    }
    assert_eq!(host.node.allocations(POOL), serde_json::Map::<String, Value>::new());
    assert_eq!(keeper.stop(), Some(0));
}

#[test]
fn what_was_installed_goes_and_pods_stay_as_they_are() {
    let host = Host::new();
    let mut keeper = host.start(0);
    let pod = host.node.pod("worker");
    pod.add(&conf::octavia()).run().attached();
    assert_eq!(keeper.stop(), Some(0));
    let links = || {
        let (bridge, eth) = (host.node.expect_link("octbr"), pod.expect_link("net1"));
        (bridge.index(), eth.index(), eth.addresses())
    };
    let before = (links(), host.node.allocations(POOL));
    let uninstall = format!("uninstall --cni-bin-dir {}", host.bin.display());
    let answer = host.agent.run(&uninstall, "");
    assert_eq!(answer.status, Some(0), "{answer:#?}");
    let record = format!("1 attachments are alive ({}@net1)", pod.container_id());
    assert!(answer.stderr.contains(&record), "{answer:#?}");
    assert_eq!(fs::read_dir(&host.bin).expect("list the CNI folder").count(), 0);
    assert_eq!((links(), host.node.allocations(POOL)), before);
    host.agent.fails(1, "uninstall --state", "", &["1 attachments are alive", "a policy is kept"]);
    // Installed again, the plugin ends what it began.
    let install =
        format!("install --cni-bin-dir {} --plugin {}", host.bin.display(), host.releases[1].display());
    host.agent.ok(&install, "");
    pod.del(&conf::octavia()).run().silent_success();
    host.agent.ok("remove", "");
    host.agent.ok(&uninstall, "");
    host.agent.ok("uninstall --state", "");
    for folder in ["attachments", "pools", "agent"] {
        let places = [host.agent.path(folder), host.node.run_dir().join(folder)];
        assert!(places.iter().all(|path| !path.exists()), "{folder}");
    }
    assert!(host.node.link("octbr").is_none());
}
