//! containerd as a caller of the installed plugin, by the library of the CNI project that it uses: configurations from
//! /etc/cni/net.d, plugins from /opt/cni/bin, results kept in /var/lib/cni, and DEL without a namespace, which is gone by then.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use octavia_bridge_tests::Lab;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::host::Host;
use crate::runtime::{Runtime, Source, output};
use crate::scene::eventually;

/// Where the library keeps results.
const RESULTS: &str = "/var/lib/cni/results";
/// Where the plugin keeps the pool.
const POOL: &str = "/run/octavia-bridge/pools/172.23.0.0-24.json";

/// Each is an ADD and a DEL.
const CONTAINERS: usize = 15;

/// A host with the plugin installed and a network for containers.
struct Caller {
    host: Host,
    /// Of containers: the machine's programs.
    files: TempDir,
    _lab: Lab,
}

impl Caller {
    fn new(name: &str) -> Self {
        let lab = Lab::new();
        let host = Host::new(name, lab.node(name));
        let plugin = json!({
            "type": "octavia-bridge", "bridge": "octbr",
            "ipam": {
                "type": "whereabouts", "datastore": "file", "range": "172.23.0.0/24",
                "range_start": "172.23.0.30", "range_end": "172.23.0.70",
            },
        });
        let network = json!({"cniVersion": "1.0.0", "name": "octavia", "plugins": [plugin]});
        host.write("/etc/cni/net.d/10-octavia.conflist", &network.to_string());
        let files = TempDir::with_prefix_in("files-", "/run").expect("create a folder for containers");
        for (link, target) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
            symlink(target, files.path().join(link)).expect("link as the distribution does");
        }
        let caller = Self { host, files, _lab: lab };
        caller.install(1);
        caller
    }

    /// Has the program of an image install the plugin that lies beside it.
    fn install(&self, image: u32) {
        let runtime = Runtime::shared();
        let id = format!("install-{}", self.host.name);
        let mut options = vec!["--read-only".to_owned()];
        for folder in ["/opt/cni/bin", "/var/lib/octavia-bridge"] {
            let source = self.host.path(folder);
            fs::create_dir_all(&source).expect("create the mount's source");
            options.push(format!("--mount=type=bind,src={},dst={folder},options=rbind:rw", source.display()));
        }
        let words = ["/octavia-bridge-agent", "install", "--cni-bin-dir", "/opt/cni/bin"];
        let process = words.map(ToOwned::to_owned);
        let image = format!("octavia-bridge.test/octavia-bridge:{image}");
        let ended =
            output(&mut runtime.container(self.host.ctr(), &id, Source::Image(&image), &options, &process));
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{said}{}", runtime.log(&id));
    }

    /// `ctr run` of a program in a container of the network, until its end.
    fn container(&self, id: &str, program: &[&str]) -> Command {
        let runtime = Runtime::shared();
        let machine = "--mount=type=bind,src=/usr,dst=/usr,options=rbind:ro";
        let options = ["--cni", "--read-only", machine].map(ToOwned::to_owned);
        let process: Vec<_> = program.iter().map(|&word| word.to_owned()).collect();
        runtime.container(self.host.ctr(), id, Source::Files(self.files.path()), &options, &process)
    }

    /// Starts a container that runs until its task is killed.
    fn start(&self, id: &str) -> Child {
        let child = self.container(id, &["/usr/bin/sleep", "infinity"]).spawn().expect("start ctr");
        eventually("the container's program runs", || {
            let file = format!("/proc/{}/comm", Runtime::shared().process(id)?);
            (fs::read_to_string(file).ok()?.trim() == "sleep").then_some(())
        });
        child
    }

    /// The result that the library keeps of a container's attachment.
    fn kept(&self, id: &str) -> Option<Value> {
        let file = self.host.path(&format!("{RESULTS}/octavia-default-{id}-eth0"));
        let text = fs::read_to_string(file).ok()?;
        let kept: Value = serde_json::from_str(&text).expect("the library keeps JSON");
        Some(kept["result"].clone())
    }

    /// Addresses of the pool that somebody has.
    fn taken(&self) -> usize {
        let text = fs::read_to_string(self.host.path(POOL)).expect("read the pool");
        let pool: Value = serde_json::from_str(&text).expect("the pool is JSON");
        pool["spec"]["allocations"].as_object().expect("allocations").len()
    }

    /// Asserts that nothing of an attachment is left.
    #[track_caller]
    fn nothing_is_left(&self) {
        assert_eq!(self.taken(), 0);
        assert_eq!(self.host.node.ports("octbr"), Vec::<String>::new());
        for folder in ["/run/octavia-bridge/attachments", "/run/octavia-bridge/tombstones", RESULTS] {
            assert_eq!(entries(&self.host.path(folder)), Vec::<String>::new(), "{folder}");
        }
    }
}

#[test]
fn a_container_has_its_address_as_long_as_it_runs() {
    let caller = Caller::new("one");
    let mut ctr = caller.start("one");
    let kept = caller.kept("one").expect("the library keeps the result");
    assert_eq!(kept["ips"][0]["address"], "172.23.0.30/24", "{kept}");
    let process = Runtime::shared().process("one").expect("its process runs");
    let words = [&format!("--net=/proc/{process}/ns/net"), "ip", "-json", "address", "show", "eth0"];
    let printed = output(Command::new("nsenter").args(words)).stdout;
    let links: Value = serde_json::from_slice(&printed).expect("ip prints JSON");
    let mac = kept["interfaces"].as_array().into_iter().flatten().find(|one| one["name"] == "eth0");
    assert_eq!(links[0]["address"], mac.expect("eth0 is in the result")["mac"]);
    assert_eq!(links[0]["addr_info"][0]["local"], "172.23.0.30");
    assert_eq!(caller.host.node.ports("octbr").len(), 1);
    assert_eq!(caller.taken(), 1);

    // A second one at the same time, whose end must not be the first one's.
    let mut second = caller.start("two");
    assert_eq!(caller.kept("two").expect("kept")["ips"][0]["address"], "172.23.0.31/24");
    Runtime::shared().signal("one", "SIGKILL");
    ctr.wait().expect("wait for ctr");
    assert_eq!((caller.kept("one"), caller.taken()), (None, 1));
    Runtime::shared().signal("two", "SIGKILL");
    second.wait().expect("wait for ctr");
    caller.nothing_is_left();
}

/// "Text file busy" is what a runtime would see that starts a file which is open for writing, and half a file would start as
/// nothing at all.
#[test]
fn the_plugin_is_replaced_while_containers_come_and_go() {
    let caller = Caller::new("replaced");
    let done = AtomicBool::new(false);
    let (replaced, ended) = thread::scope(|scope| {
        let installer = scope.spawn(|| {
            let mut times = 0;
            while !done.load(Ordering::Relaxed) {
                caller.install(2 - times % 2);
                times += 1;
            }
            times
        });
        // Judged when the other thread has ended: it would not by itself.
        let run = |number| output(&mut caller.container(&format!("short-{number}"), &["/usr/bin/true"]));
        let ended: Vec<_> = (0..CONTAINERS).map(run).collect();
        done.store(true, Ordering::Relaxed);
        (installer.join().expect("the installer"), ended)
    });
    for (number, ended) in ended.iter().enumerate() {
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success() && said.is_empty(), "container {number}: {said}");
    }
    assert!(replaced >= 2, "replaced {replaced} times");
    caller.nothing_is_left();
}

/// Names in a folder but those of locks; none if there is no such folder.
fn entries(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.map(|entry| entry.expect("list a folder").file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.ends_with(".lock")).collect()
}
