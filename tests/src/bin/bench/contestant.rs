//! A plugin with its configuration, and one call of it, timed.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use octavia_bridge_tests::lab::REFERENCE_PLUGINS;
use octavia_bridge_tests::statistics::Sample;
use octavia_bridge_tests::{Pod, conf};
use serde_json::{Value, json};

/// One of the two.
#[derive(Debug, Clone)]
pub(crate) struct Contestant {
    program: PathBuf,
    conf: Value,
    /// Where its files are, which the environment allows.
    disk: PathBuf,
}

impl Contestant {
    /// The built plugin with Octavia's configuration, files below `disk`.
    pub(crate) fn ours(disk: &Path) -> Self {
        let program = std::env::var_os("OCTAVIA_BRIDGE_BIN").expect("OCTAVIA_BRIDGE_BIN names the plugin");
        let conf = conf::octavia_with(json!({"dataDir": disk.join("ours")}));
        Self { program: program.into(), conf, disk: disk.to_owned() }
    }

    /// Debian's bridge, with host-local handing out the same range and route, files below `disk`.
    pub(crate) fn peer(disk: &Path) -> Self {
        let ours = conf::octavia();
        let conf = conf::with(
            ours.clone(),
            json!({
                "type": "bridge",
                "bridge": "peerbr",
                "ipam": null,
            }),
        );
        let ipam = json!({
            "type": "host-local",
            "dataDir": disk.join("peer"),
            "ranges": [[{
                "subnet": ours["ipam"]["range"],
                "rangeStart": ours["ipam"]["range_start"],
                "rangeEnd": ours["ipam"]["range_end"],
            }]],
            "routes": ours["ipam"]["routes"],
        });
        let program = Path::new(REFERENCE_PLUGINS).join("bridge");
        Self { program, conf: conf::with(conf, json!({"ipam": ipam})), disk: disk.to_owned() }
    }

    /// The same with an IPv6 range for the addresses, and no routes.
    pub(crate) fn with_ipv6(&self) -> Self {
        let mut conf = self.conf.clone();
        let range = "fd00:23::/64";
        let ipam = match self.conf["ipam"]["type"].as_str() {
            Some("host-local") => json!({"ranges": [[{"subnet": range}]], "routes": []}),
            _ => json!({"range": range, "range_start": null, "range_end": null, "routes": []}),
        };
        conf["ipam"] = conf::with(conf["ipam"].take(), ipam);
        Self { conf, ..self.clone() }
    }

    /// The bridge that the pods are attached to.
    pub(crate) fn bridge(&self) -> &str {
        self.conf["bridge"].as_str().unwrap_or("octbr")
    }

    pub(crate) fn without_addresses(&self) -> Self {
        Self { conf: conf::without(self.conf.clone(), "/ipam"), ..self.clone() }
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// ADD or DEL of one pod.
    pub(crate) fn run(&self, verb: &str, pod: &Pod) -> Sample {
        timed(|| {
            let mut child = self.start(verb, pod);
            self.configure(&mut child);
            self.wait(child);
        })
    }

    /// VERSION without pipes: reading and writing would be as long as the plugin itself, and meet both alike.
    pub(crate) fn version(&self) -> Sample {
        let mut command = self.command("VERSION");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        timed(|| {
            let status = command.status().unwrap_or_else(|e| panic!("start {}: {e}", self.program.display()));
            assert!(status.success(), "{} failed to tell its versions", self.program.display());
        })
    }

    /// One verb for many pods: all are started and configured before the first is waited for.
    pub(crate) fn run_at_once(&self, verb: &str, pods: &[Pod]) -> Sample {
        timed(|| {
            let mut children: Vec<Child> = pods.iter().map(|pod| self.start(verb, pod)).collect();
            children.iter_mut().for_each(|child| self.configure(child));
            children.into_iter().for_each(|child| self.wait(child));
        })
    }

    /// Starts the plugin with its environment. It waits for its configuration on stdin.
    pub(crate) fn start(&self, verb: &str, pod: &Pod) -> Child {
        let mut command = self.command(verb);
        command.env("CNI_CONTAINERID", pod.container_id()).env("CNI_NETNS", pod.path());
        command.env("CNI_IFNAME", "octavia").stdin(Stdio::piped()).stdout(Stdio::piped());
        command.spawn().unwrap_or_else(|e| panic!("start {}: {e}", self.program.display()))
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().env("CNI_COMMAND", verb).env("CNI_PATH", REFERENCE_PLUGINS);
        command.env("OCTAVIA_BRIDGE_DIRECTORIES", &self.disk);
        command.stderr(Stdio::null());
        command
    }

    /// Hands the plugin its configuration, and nothing more to read.
    pub(crate) fn configure(&self, child: &mut Child) {
        let mut stdin = child.stdin.take().expect("stdin is piped");
        stdin.write_all(self.conf.to_string().as_bytes()).expect("write the configuration to the plugin");
    }

    /// Waits for the end; a failed call would make every measurement wrong.
    pub(crate) fn wait(&self, mut child: Child) {
        let mut answer = String::new();
        let mut stdout = child.stdout.take().expect("stdout is piped");
        stdout.read_to_string(&mut answer).expect("read the plugin's answer");
        let status = child.wait().expect("wait for the plugin");
        assert!(status.success(), "{} failed: {answer}", self.program.display());
    }
}

/// Wall clock of `work`, and the processor time of all processes that ended in it, their children included.
pub(crate) fn timed(work: impl FnOnce()) -> Sample {
    let (cpu, started) = (cpu_of_children(), Instant::now());
    work();
    Sample { wall: started.elapsed(), cpu: cpu_of_children() - cpu }
}

fn cpu_of_children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage");
    let time = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec().unsigned_abs(), u32::try_from(time.tv_usec()).unwrap_or(0) * 1000)
    };
    time(usage.user_time()) + time(usage.system_time())
}
