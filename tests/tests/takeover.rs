//! Files that an older release left on disk: what lives is moved to memory, and the older release gives no address there any more.

use octavia_bridge_tests::call::DIRECTORIES;
use octavia_bridge_tests::changes::until;
use octavia_bridge_tests::{Agent, Attached, Call, Lab, Node, Pod, conf};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

const POOL: &str = "172.23.0.0-24";
/// For the kernel, on a busy machine.
const SOON: Duration = Duration::from_secs(10);
/// Names the plugin of an earlier release that kept its files on disk. Without it, this one's files are moved there, which have
/// the same form.
const EARLIER: &str = "OCTAVIA_BRIDGE_EARLIER_BIN";

/// A host with the older release, whose plugin is called by a name of its own.
struct Host {
    lab: Lab,
    node: Node,
}

impl Host {
    fn new() -> Self {
        let lab = Lab::new();
        let node = lab.node("node1");
        node.bridge_with_uplink();
        if let Some(earlier) = env::var_os(EARLIER) {
            symlink(&earlier, lab.bin().join("earlier")).expect("link the earlier plugin into CNI_PATH");
        }
        Self { lab, node }
    }

    /// Runs a call of the older release.
    fn earlier(&self, call: Call) -> Call {
        if env::var_os(EARLIER).is_some() { call.plugin("earlier") } else { call }
    }

    fn attach(&self, pod: &Pod) -> Attached {
        self.earlier(pod.add(&conf::octavia())).run().attached()
    }

    /// The files are where the older release had them.
    fn on_disk(&self) {
        let data_dir = self.node.data_dir();
        if env::var_os(EARLIER).is_none() {
            fs::remove_dir_all(&data_dir).expect("remove the word that all is moved");
            fs::create_dir(&data_dir).expect("make the data directory");
            for folder in ["attachments", "pools", "tombstones"] {
                fs::rename(self.node.run_dir().join(folder), data_dir.join(folder))
                    .expect("move to the disk");
            }
        }
        assert!(data_dir.join(format!("pools/{POOL}.json")).is_file());
    }

    fn left_on_disk(&self) -> Vec<PathBuf> {
        let mut left = Vec::new();
        for folder in ["attachments", "pools", "tombstones"] {
            for entry in fs::read_dir(self.node.data_dir().join(folder)).into_iter().flatten() {
                left.push(entry.expect("list what is left on disk").path());
            }
        }
        left.retain(|path| !path.ends_with("pools/.lock"));
        left
    }
}

fn held(node: &Node) -> Vec<String> {
    node.allocations(POOL).keys().cloned().collect()
}

fn record(pod: &Pod) -> String {
    format!("attachments/{}@net1.jsonl", pod.container_id())
}

#[test]
fn what_lives_is_moved_and_what_is_dead_is_not() {
    let host = Host::new();
    let node = &host.node;
    let [living, dead, released] = ["living", "dead", "released"].map(|name| node.pod(name));
    let attached = [&living, &dead, &released].map(|pod| host.attach(pod));
    host.on_disk();
    // Its entry is left, as of a node that was reset, and a record that tells nobody.
    node.ip(&format!("link del {}", attached[1].host_link()));
    // A release that could not be done then.
    fs::write(node.data_dir().join(format!("tombstones/{}@net1", released.container_id())), "").unwrap();
    node.ip(&format!("link del {}", attached[2].host_link()));

    let next = node.pod("next");
    let address = next.add(&conf::octavia()).run().attached().address().to_owned();
    assert_eq!(address, "172.23.0.31/24", "the lowest that nobody has");
    assert_eq!(held(node), ["30", "31"]);
    assert_eq!(host.left_on_disk(), [""; 0].map(PathBuf::from));
    assert!(node.run_dir().join(record(&living)).is_file());
    assert!(!node.run_dir().join(record(&dead)).exists());
    // The record came along: DEL needs nothing else.
    living.check(&conf::octavia_with(json!({"cniVersion": "1.1.0"})), &attached[0].result).run();
    living.remove();
    living.del(&conf::layer2()).run().silent_success();
    next.del(&conf::octavia()).run().silent_success();
    assert_eq!(held(node), [""; 0]);
}

#[test]
fn any_verb_takes_over_and_a_pod_ends_by_the_record_that_was_on_disk() {
    let host = Host::new();
    let [one, two] = ["one", "two"].map(|name| host.node.pod(name));
    let attached = [&one, &two].map(|pod| host.attach(pod));
    host.on_disk();
    one.del(&conf::octavia()).run().silent_success();
    assert_eq!((held(&host.node), one.link_names()), (vec!["31".to_owned()], vec![]));
    two.check(&conf::octavia_with(json!({"cniVersion": "1.1.0"})), &attached[1].result)
        .run()
        .silent_success();
}

#[test]
fn nothing_of_an_earlier_boot_is_taken_for_living() {
    let host = Host::new();
    let node = &host.node;
    let pods: Vec<Pod> = (0..3).map(|_| node.pod("worker")).collect();
    for pod in &pods {
        host.attach(pod);
    }
    let of_ipam = node.pod("of-ipam");
    if env::var_os(EARLIER).is_none() {
        of_ipam.add(&conf::octavia()).plugin("octavia-ipam").run().success();
    }
    host.on_disk();
    // What a reboot takes with it: namespaces, and so links, and the memory.
    for pod in pods.iter().chain([&of_ipam]) {
        pod.remove();
    }
    until(SOON, "the pairs go", || node.ports("octbr").is_empty());
    node.forget_memory();
    let next = node.pod("next");
    assert_eq!(next.add(&conf::octavia()).run().attached().address(), "172.23.0.30/24");
    assert_eq!(held(node), ["30"]);
}

#[test]
fn a_reboot_frees_all_addresses_and_leaves_the_disk_alone() {
    let host = Host::new();
    let node = &host.node;
    let pod = node.pod("worker");
    pod.add(&conf::octavia()).run().attached();
    pod.end_without_del();
    node.forget_memory();
    let before = fs::read_dir(node.data_dir().join("pools")).unwrap().count();
    let next = node.pod("next");
    assert_eq!(next.add(&conf::octavia()).run().attached().address(), "172.23.0.30/24");
    assert_eq!(fs::read_dir(node.data_dir().join("pools")).unwrap().count(), before);
    // DEL of a sandbox of the earlier boot, as kubelet calls it.
    pod.del(&conf::octavia()).run().silent_success();
    assert_eq!(held(node), ["30"]);
}

#[test]
fn many_that_come_at_once_after_an_upgrade_get_different_addresses() {
    let host = Host::new();
    let node = &host.node;
    let before: Vec<Pod> = (0..5).map(|_| node.pod("before")).collect();
    let mut addresses: BTreeSet<String> =
        before.iter().map(|pod| host.attach(pod).address().to_owned()).collect();
    host.on_disk();
    let after: Vec<Pod> = (0..8).map(|_| node.pod("after")).collect();
    let gone = node.pod("gone");
    thread::scope(|scope| {
        let adding: Vec<_> = after
            .iter()
            .map(|pod| scope.spawn(|| pod.add(&conf::octavia()).run().attached().address().to_owned()))
            .collect();
        gone.del(&conf::octavia()).run().silent_success();
        addresses.extend(adding.into_iter().map(|adding| adding.join().expect("an ADD")));
    });
    assert_eq!(addresses.len(), before.len() + after.len());
    assert_eq!(held(node).len(), addresses.len());
}

#[test]
fn an_add_of_the_older_release_that_is_under_way_is_waited_for() {
    let host = Host::new();
    let node = &host.node;
    let pod = node.pod("worker");
    host.attach(&pod);
    host.on_disk();
    // Its outcome is not written yet.
    let path = node.data_dir().join(record(&pod));
    let whole = fs::read_to_string(&path).expect("read the record");
    let intent = whole.split_inclusive('\n').next().expect("an intent").to_owned();
    fs::write(&path, &intent).expect("write the record");
    let file = File::open(&path).expect("open the record");
    file.lock().expect("lock the record");
    let next = node.pod("next");
    thread::scope(|scope| {
        let adding = scope.spawn(|| next.add(&conf::octavia()).run().attached().address().to_owned());
        node.until_locks_are_waited_for(1);
        fs::write(&path, &whole).expect("complete the record");
        file.unlock().expect("unlock the record");
        assert_eq!(adding.join().expect("an ADD"), "172.23.0.31/24");
    });
    assert_eq!(fs::read_to_string(node.run_dir().join(record(&pod))).expect("it was moved"), whole);
}

#[test]
fn an_older_release_is_refused_and_gives_no_address_twice() {
    let host = Host::new();
    let node = &host.node;
    // On a fresh node, and where the older release was before.
    for upgraded in [false, true] {
        if upgraded {
            fs::remove_dir_all(node.data_dir()).expect("start anew");
            node.forget_memory();
            host.attach(&node.pod("before"));
            host.on_disk();
        }
        node.pod("worker").add(&conf::octavia()).run().attached();
        let lock = node.data_dir().join("pools/.lock");
        // What the older release does first: open this file, or make it.
        let opened = File::options().append(true).create(true).open(&lock);
        assert!(opened.is_err(), "its lock can be taken");
        assert!(fs::read_to_string(lock.join("moved")).expect("a note").contains("docs/install.md"));
        if env::var_os(EARLIER).is_some() {
            let pod = node.pod("late");
            pod.add(&conf::octavia()).plugin("earlier").run().error(5).says(&["pools/.lock"]);
            pod.del(&conf::octavia()).plugin("earlier").run().silent_success();
            assert_eq!(pod.link_names(), [""; 0]);
        }
    }
    drop(host.lab);
}

/// What docs/install.md says to run on a node.
fn rollback(node: &Node) {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/install.md");
    let docs = fs::read_to_string(docs).expect("read docs/install.md");
    let last = "rm -rf /var/lib/octavia-bridge/pools/.lock\n";
    let start = docs.find("    for d in attachments").expect("the commands of a rollback");
    let length = docs[start..].find(last).expect("their end") + last.len();
    let script =
        docs[start..start + length].replace("/run/octavia-bridge", &node.run_dir().display().to_string());
    let script = script.replace("/var/lib/octavia-bridge", &node.data_dir().display().to_string());
    // As people paste it: a command that fails does not end it.
    let status = Command::new("sh").args(["-c", &script]).status().expect("run the commands");
    assert!(status.success(), "{script}");
}

#[test]
fn a_rollback_that_cannot_copy_loses_nothing_and_may_be_repeated() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    let pod = node.pod("worker");
    pod.add(&conf::octavia()).run().attached();
    let in_the_way = node.data_dir().join(record(&pod));
    fs::create_dir_all(in_the_way.join("x")).expect("make a directory in place of the record");
    rollback(&node);
    assert!(exists(node.run_dir(), &pod), "nothing was copied");
    assert!(node.data_dir().join("pools/.lock").is_dir(), "the older release would give its address");
    fs::remove_dir_all(in_the_way).expect("remove the cause");
    rollback(&node);
    assert!(exists(&node.data_dir(), &pod) && !node.data_dir().join("pools/.lock").exists());
    assert!(!node.run_dir().join("pools").exists());
    // A directory that is its own run directory.
    for folder in ["attachments", "pools"] {
        symlink(node.data_dir().join(folder), node.run_dir().join(folder)).expect("link");
    }
    rollback(&node);
    assert!(exists(&node.data_dir(), &pod));
}

#[test]
fn a_rollback_by_the_book_and_an_upgrade_after_it_keep_all_addresses() {
    let host = Host::new();
    let node = &host.node;
    let [one, two, three, four] = ["one", "two", "three", "four"].map(|name| node.pod(name));
    host.attach(&one);
    host.on_disk();
    two.add(&conf::octavia()).run().attached();
    rollback(node);
    assert!(node.data_dir().join(record(&one)).is_file() && node.data_dir().join(record(&two)).is_file());
    assert!(node.allocations(POOL).is_empty());
    assert_eq!(host.attach(&three).address(), "172.23.0.32/24");
    assert_eq!(four.add(&conf::octavia()).run().attached().address(), "172.23.0.33/24");
    assert_eq!(held(node), ["30", "31", "32", "33"]);
    for pod in [&one, &two, &three, &four] {
        pod.del(&conf::octavia()).run().silent_success();
    }
    assert_eq!(held(node), [""; 0]);
}

#[test]
fn what_cannot_be_moved_stops_claims_alone() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    let pod = node.pod("worker");
    let conf = conf::octavia_with(json!({"cniVersion": "1.1.0"}));
    let attached = pod.add(&conf).run().attached();
    fs::write(node.data_dir().join("attachments"), "").expect("put a file in place of the directory");
    node.pod("next").add(&conf).run().error(5).says(&["/var/lib/octavia-bridge/attachments"]);
    pod.check(&conf, &attached.result).run().silent_success();
    node.gc(&conf::with(conf.clone(), json!({"cni.dev/valid-attachments": []}))).run().silent_success();
    assert_eq!((held(&node), pod.link_names()), (vec![], vec![]));
    pod.del(&conf).run().silent_success();
}

#[test]
fn what_an_older_release_leaves_after_the_move_is_moved_as_well() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    let [ended, attached, stays] = ["ended", "attached", "stays"].map(|name| node.pod(name));
    let link = ended.add(&conf::octavia()).run().attached().host_link().to_owned();
    stays.add(&conf::octavia()).run().attached();
    attached.add(&conf::layer2()).run().attached();
    // The older release came back: it ended one pod, whose address it could not release, and attached another.
    let data_dir = node.data_dir();
    node.ip(&format!("link del {link}"));
    fs::create_dir(data_dir.join("tombstones")).expect("make the older release's directory");
    fs::write(data_dir.join(format!("tombstones/{}@net1", ended.container_id())), "").expect("a tombstone");
    fs::create_dir(data_dir.join("attachments")).expect("make the older release's directory");
    fs::rename(node.run_dir().join(record(&attached)), data_dir.join(record(&attached))).expect("a record");

    let next = node.pod("next");
    assert_eq!(next.add(&conf::octavia()).run().attached().address(), "172.23.0.30/24");
    assert_eq!(held(&node), ["30", "31"]);
    assert!(node.run_dir().join(record(&attached)).is_file());
    assert!(!data_dir.join("attachments").exists() && !data_dir.join("tombstones").exists());
    attached.remove();
    attached.del(&conf::layer2()).run().silent_success();
    assert!(!node.run_dir().join(record(&attached)).exists());
}

#[test]
fn a_pool_that_cannot_be_read_keeps_its_addresses_after_the_move() {
    let host = Host::new();
    let node = &host.node;
    host.attach(&node.pod("worker"));
    host.on_disk();
    let document = node.data_dir().join(format!("pools/{POOL}.json"));
    fs::write(&document, "{ torn").unwrap();
    let other = conf::octavia_with(json!({"ipam": {
        "range": "172.29.0.0/24", "range_start": null, "range_end": null, "routes": [],
    }}));
    for _ in 0..2 {
        let error = node.pod("next").add(&conf::octavia()).run().error(106);
        error.says(&["/run/octavia-bridge/pools", POOL]);
        node.pod("other").add(&other).run().attached();
    }
    assert_eq!(fs::read_to_string(node.pool_file(POOL)).unwrap(), "{ torn");
}

#[test]
fn a_directory_of_another_name_has_files_of_its_own() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    let of = |data_dir: &str| conf::octavia_with(json!({"dataDir": data_dir}));
    let directories = [
        ("/var/lib/octavia-bridge", ""),
        ("/var/lib/octavia-bridge/blue", "blue"),
        ("/var/lib/blue", "elsewhere/var/lib/blue"),
    ];
    for (data_dir, run_dir) in directories {
        let pod = node.pod("worker");
        let add = pod.add(&of(data_dir)).env(DIRECTORIES, "/var/lib/blue");
        assert_eq!(add.run().attached().address(), "172.23.0.30/24", "{data_dir}");
        assert!(exists(&node.run_dir().join(run_dir), &pod), "{data_dir}");
        node.ip(&format!("link del {}", node.ports("octbr")[0]));
    }
    let taken: Value = of("/var/lib/octavia-bridge/elsewhere/x");
    node.pod("worker").add(&taken).run().error(7).says(&["elsewhere", "choose another name"]);
}

#[test]
fn a_network_that_names_the_run_directory_of_all_takes_nothing_from_others() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    let first = node.pod("first");
    first.add(&conf::octavia()).run().attached();
    fs::create_dir_all(node.data_dir()).expect("make the data directory");
    symlink("/run/octavia-bridge", node.data_dir().join("link")).expect("link to the run directory");
    let other = |data_dir: &str| {
        let keys = json!({"cniVersion": "1.1.0", "name": "other", "dataDir": data_dir});
        conf::with(conf::octavia_with(keys), json!({"cni.dev/valid-attachments": []}))
    };
    for data_dir in [
        "/run/octavia-bridge",
        "/run/octavia-bridge/blue",
        "/var/run/octavia-bridge",
        "/var/lib/octavia-bridge/link",
    ] {
        let pod = node.pod("other");
        let words = ["dataDir", data_dir, "choose a directory below /var/lib/octavia-bridge"];
        pod.add(&other(data_dir)).run().error(7).says(&words);
        node.gc(&other(data_dir)).run().error(7).says(&words);
        pod.del(&other(data_dir)).run().silent_success();
        node.pod("next").add(&conf::octavia()).plugin("octavia-ipam").run().success();
        assert!(exists(node.run_dir(), &first), "{data_dir}");
    }
    assert_eq!(held(&node), ["30", "31", "32", "33", "34"]);
    first.del(&conf::octavia()).run().silent_success();
    assert_eq!(held(&node), ["31", "32", "33", "34"]);
}

#[test]
fn a_data_directory_that_is_its_run_directory_by_another_name_stays_as_it_is() {
    // By the alias of /run, and by a link of the administrator.
    for linked in [false, true] {
        let node = Lab::new().node("node1");
        node.bridge_with_uplink();
        let (data_dir, run_dir) = match linked {
            true => {
                symlink("/run/octavia-bridge", node.data_dir()).expect("link to the run directory");
                ("/var/lib/octavia-bridge".to_owned(), node.run_dir().to_owned())
            }
            false => {
                let run_dir = node.disk().join("blue");
                (format!("/var{}", run_dir.display()), run_dir)
            }
        };
        let conf = conf::octavia_with(json!({"dataDir": data_dir}));
        let pods = ["one", "two"].map(|name| node.pod(name));
        for (pod, address) in pods.iter().zip(["172.23.0.30/24", "172.23.0.31/24"]) {
            let add = pod.add(&conf).env(DIRECTORIES, "/var/run");
            assert_eq!(add.run().attached().address(), address, "{data_dir}");
            assert!(exists(&run_dir, pod), "{data_dir}");
        }
        for pod in &pods {
            pod.del(&conf).env(DIRECTORIES, "/var/run").run().silent_success();
            assert!(!run_dir.join(record(pod)).exists() && pod.link_names().is_empty(), "{data_dir}");
        }
    }
}

fn exists(run_dir: &Path, pod: &Pod) -> bool {
    run_dir.join(format!("pools/{POOL}.json")).is_file() && run_dir.join(record(pod)).is_file()
}

#[test]
fn a_full_range_takes_back_what_attachments_had_that_are_gone() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    let small = conf::with(conf::octavia(), json!({"ipam": {"range_end": "172.23.0.33"}}));
    let [gone, stays, of_ipam] = ["gone", "stays", "of-ipam"].map(|name| node.pod(name));
    gone.add(&small).run().attached();
    stays.add(&small).run().attached();
    of_ipam.add(&small).plugin("octavia-ipam").run().success();
    // Nothing is known of its end.
    let nameless = node.pod("nameless");
    nameless.add(&small).plugin("octavia-ipam").env("CNI_NETNS", "/run/nowhere").run().success();
    node.pod("late").add(&small).run().error(101);
    let newest = conf::with(small.clone(), json!({"cniVersion": "1.1.0"}));
    node.status(&newest).run().error(50);
    // A namespace that lost its path lives as long as its pair is there.
    let hidden = File::open(stays.path()).unwrap();
    for pod in [&gone, &stays, &of_ipam] {
        pod.remove();
    }
    until(SOON, "the pair goes", || node.ports("octbr").len() == 1);
    node.status(&newest).run().silent_success();
    let next = node.pod("next");
    let outcome = next.add(&small).run();
    assert!(outcome.stderr.contains("took back 2 addresses"), "{}", outcome.stderr);
    assert_eq!(outcome.attached().address(), "172.23.0.30/24");
    assert_eq!(held(&node), ["30", "31", "33"]);
    drop(hidden);
}

#[test]
fn a_full_range_does_not_wait_for_each_pair_that_lost_its_namespaces_path() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    let small = conf::with(conf::octavia(), json!({"ipam": {"range_end": "172.23.0.49"}}));
    let pods: Vec<Pod> = (0..20).map(|_| node.pod("hidden")).collect();
    // Held open, so that the pairs stay.
    let mut hidden = Vec::new();
    for pod in &pods {
        pod.add(&small).run().attached();
        hidden.push(File::open(pod.path()).expect("open a namespace"));
        pod.remove();
    }
    let trace = node.disk().join("trace");
    let words = ["/usr/bin/strace", "-f", "-qq", "-e", "trace=clock_nanosleep,nanosleep", "-o"];
    let mut under = words.to_vec();
    under.push(trace.to_str().expect("a plain path"));
    node.pod("next").add(&small).under(&under).run().error(101);
    let sleeps = fs::read_to_string(&trace).expect("read the trace");
    assert_eq!(sleeps, "", "the pool's lock is held meanwhile");
    drop(hidden);
}

#[test]
fn pools_repair_frees_by_hand_what_attachments_had_that_are_gone() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    let agent = Agent::beside_plugin(&node);
    fs::create_dir_all(node.data_dir()).expect("make the agent's folder");
    let [gone, stays] = ["gone", "stays"].map(|name| node.pod(name));
    for pod in [&gone, &stays] {
        pod.add(&conf::octavia()).run().attached();
    }
    let repair = "pools repair --data-dir /var/lib/octavia-bridge";
    assert!(agent.ok(repair, "").contains("nothing to repair"));
    // A namespace that lost its path lives as long as its pair is there.
    let hidden = File::open(stays.path()).unwrap();
    for pod in [&gone, &stays] {
        pod.remove();
    }
    until(SOON, "the pair goes", || node.ports("octbr").len() == 1);
    assert!(agent.ok(&format!("{repair} --dry-run"), "").contains("would free: 172.23.0.30"));
    assert_eq!(held(&node), ["30", "31"]);
    assert!(agent.ok(repair, "").contains("freed: 172.23.0.30"));
    assert_eq!(held(&node), ["31"]);
    drop(hidden);
}
