//! A node: its agent as a process, and plugins' calls to it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};
use std::{env, thread};

use octavia_bridge_cluster_tests::{Access, Operation};
use octavia_bridge_tests::Node as Host;
use octavia_bridge_tests::agent::seeing_files_of;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longer than the agent takes for anything, on however busy a machine.
const DEADLINE: Duration = Duration::from_secs(180);

/// The network of the seed.
pub(crate) const OCTAVIA: Network =
    Network { range: "172.23.0.0/24", first: "172.23.0.30", last: "172.23.0.70", overlapping: true };

/// A network configuration, as far as the pools go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Network {
    pub(crate) range: &'static str,
    pub(crate) first: &'static str,
    pub(crate) last: &'static str,
    pub(crate) overlapping: bool,
}

/// A pod's interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) name: String,
}

impl Pod {
    pub(crate) fn new(number: usize) -> Self {
        Self { id: format!("sandbox-{number}"), name: format!("openstack/octavia-worker-{number}") }
    }

    fn attachment(&self) -> Value {
        json!({"containerId": self.id, "ifname": "net1"})
    }
}

/// A node's agent. It ends with this.
#[derive(Debug)]
pub(crate) struct Node {
    name: String,
    namespace: String,
    dir: TempDir,
    /// With plugins, whose files it sees.
    host: Option<Host>,
    agent: Option<Child>,
}

impl Node {
    /// Starts an agent and waits until it listens.
    pub(crate) fn start(access: &Access, name: &str) -> Self {
        Self::start_somewhere(access, name, None)
    }

    /// The same on a host with plugins, where the server is found by `access`.
    pub(crate) fn start_on(host: &Host, access: &Access, name: &str) -> Self {
        Self::start_somewhere(access, name, Some(host.clone()))
    }

    fn start_somewhere(access: &Access, name: &str, host: Option<Host>) -> Self {
        let dir = TempDir::with_prefix_in("agent-", "/run").expect("create the agent's folder in /run");
        access.write_kubeconfig(&dir.path().join("kubeconfig"));
        let namespace = access.namespace().to_owned();
        let mut node = Self { name: name.to_owned(), namespace, dir, host, agent: None };
        node.restart();
        node
    }

    /// Starts the agent anew, after it has ended.
    pub(crate) fn restart(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("log")).expect("open the log");
        let mut agent = match &self.host {
            None => Command::new(program()),
            Some(host) => {
                let words = seeing_files_of(host);
                let mut inside = Command::new(&words[0]);
                inside.args(&words[1..]).arg("nsenter").arg(format!("--net={}", host.path().display()));
                inside.arg("--").arg(program());
                inside
            }
        };
        agent.args(["run", "--cluster", "--node-name", &self.name, "--pool-namespace", &self.namespace]);
        agent.arg("--kubeconfig").arg(self.path("kubeconfig")).arg("--socket").arg(self.socket());
        let state = match &self.host {
            None => self.state(),
            Some(_) => "/var/lib/octavia-bridge".into(),
        };
        agent.arg("--state-dir").arg(state).arg("--nmstate-lock").arg(self.path("no-rival"));
        // Their pods are in no API, and would be taken for gone.
        agent.args(["--reclaim-grace", "86400"]);
        self.agent = Some(agent.stderr(log).spawn().expect("start the agent"));
        let started = Instant::now();
        while UnixStream::connect(self.socket()).is_err() {
            assert!(started.elapsed() < DEADLINE, "the agent does not listen:\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The agent's `--state-dir`, as the test sees it.
    fn state(&self) -> PathBuf {
        self.host.as_ref().map_or_else(|| self.path("state"), Host::data_dir)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("run/agent.sock")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Names of the tombstones.
    pub(crate) fn tombstones(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.state().join("cluster-tombstones")) else { return Vec::new() };
        let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("list tombstones").file_name();
        entries.map(|entry| name(entry).into_string().expect("a name is text")).collect()
    }

    /// Leaves a tombstone, as a plugin does that finds no agent.
    pub(crate) fn entomb(&self, pod: &Pod) {
        let folder = self.state().join("cluster-tombstones");
        fs::create_dir_all(&folder).expect("create the folder of tombstones");
        fs::write(folder.join(format!("{}@net1", pod.id)), "").expect("write a tombstone");
    }

    /// From now on nothing in the directory of tombstones is written, as far as these pods' are concerned, and who tries waits:
    /// as on a frozen file system, reading goes on. Until the result is dropped.
    pub(crate) fn freeze_tombstones(&self, pods: &[&Pod]) -> Frozen {
        let agent = self.agent.as_ref().expect("the agent runs").id();
        let folder = self.state().join("cluster-tombstones");
        let changes = "unlink,unlinkat,mkdir,mkdirat,fsync";
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-p", &agent.to_string()]);
        strace.args(["-e", &format!("trace={changes}")]);
        strace.args(["-e", &format!("inject={changes}:delay_enter=900000000")]);
        for pod in pods {
            strace.arg("-P").arg(folder.join(format!("{}@net1", pod.id)));
        }
        let frozen = Frozen(strace.arg("-P").arg(folder).spawn().expect("run strace"));
        let traced = || {
            let status = fs::read_to_string(format!("/proc/{agent}/status")).unwrap_or_default();
            !status.contains("TracerPid:\t0\n")
        };
        eventually("strace holds up the agent", traced);
        frozen
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut agent = self.agent.take().expect("the agent runs");
        agent.kill().expect("kill the agent");
        agent.wait().expect("wait for the agent");
    }

    /// SIGTERM; does not wait.
    pub(crate) fn terminate(&self) {
        let agent = self.agent.as_ref().expect("the agent runs");
        let status = Command::new("kill").arg(agent.id().to_string()).status().expect("run kill");
        assert!(status.success());
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut agent = self.agent.take().expect("the agent runs");
        let started = Instant::now();
        loop {
            if let Some(status) = agent.try_wait().expect("wait for the agent") {
                return status;
            }
            assert!(started.elapsed() < DEADLINE, "the agent does not end:\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Resident memory of the agent in KiB: now, and at most so far.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let agent = self.agent.as_ref().expect("the agent runs");
        let status =
            fs::read_to_string(format!("/proc/{}/status", agent.id())).expect("read the agent's status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel says it");
            line.trim_end_matches("kB").trim().parse().expect("a number")
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    /// Claims an address.
    pub(crate) fn claim(&self, network: &Network, pod: &Pod) -> Value {
        call(&self.socket(), &claim(network, pod, Duration::from_secs(25)))
    }

    /// Claims an address that there must be.
    #[track_caller]
    pub(crate) fn add(&self, network: &Network, pod: &Pod) -> IpAddr {
        let answer = self.claim(network, pod);
        address(&answer).unwrap_or_else(|| panic!("{pod:?}: {answer}\n{}", self.log()))
    }

    /// Releases what a pod has.
    pub(crate) fn release(&self, pod: &Pod) -> Value {
        call(&self.socket(), &json!({"version": 1, "release": pod.attachment()}))
    }

    /// Releases as often as it takes, as a runtime does.
    #[track_caller]
    pub(crate) fn del(&self, pod: &Pod) {
        let started = Instant::now();
        loop {
            let answer = self.release(pod);
            if answer["released"].is_u64() {
                return;
            }
            assert!(started.elapsed() < DEADLINE, "{pod:?}: {answer}\n{}", self.log());
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// An ADD or DEL with its times.
    pub(crate) fn operate(&self, network: &Network, pod: &Pod, add: bool) -> Operation {
        let began = Operation::now();
        let answer = if add { self.claim(network, pod) } else { self.release(pod) };
        let error = answer["failed"]["message"].as_str().map(str::to_owned);
        let (id, podref) = (pod.id.clone(), pod.name.clone());
        Operation { id, podref, add, address: address(&answer), error, began, ended: Operation::now() }
    }
}

/// A file system that is frozen until this is dropped.
#[derive(Debug)]
pub(crate) struct Frozen(Child);

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.kill().expect("end strace");
        self.0.wait().expect("wait for strace");
    }
}

impl Drop for Node {
    #[expect(clippy::print_stderr, reason = "a test that fails shows what its agents said")]
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().expect("kill the agent");
            agent.wait().expect("wait for the agent");
        }
        if thread::panicking() {
            eprintln!("log of {}:\n{}", self.name, self.log());
        }
    }
}

/// The agent's program: built beside this test, or named.
pub(crate) fn program() -> PathBuf {
    let named = env::var_os("OCTAVIA_BRIDGE_AGENT_BIN").map(PathBuf::from);
    let program = named.unwrap_or_else(|| {
        let test = env::current_exe().expect("path of the test binary");
        let profile = test.parent().and_then(Path::parent).expect("folder of the build profile");
        profile.join("octavia-bridge-agent")
    });
    let advice =
        "run `cargo build --package octavia-bridge-agent` first, or name it in OCTAVIA_BRIDGE_AGENT_BIN";
    assert!(program.is_file(), "{} does not exist: {advice}", program.display());
    program
}

/// What a plugin says for a pod's ADD.
pub(crate) fn claim(network: &Network, pod: &Pod, patience: Duration) -> Value {
    let Network { range, first, last, overlapping } = *network;
    let pool = range.replace([':', '/'], "-");
    let choice = json!({"lowest": {"subnet": range, "first": first, "last": last}});
    let want = json!({"pool": pool, "subnet": range, "gateway": null, "choice": choice});
    let owner = json!({"containerId": pod.id, "ifname": "net1", "pod": pod.name});
    let request = json!({
        "owner": owner, "networkName": null, "overlapping": overlapping, "wants": [want], "reserved": ["172.23.0.150"],
    });
    let patience = u64::try_from(patience.as_millis()).expect("patience has an end");
    json!({
        "version": 1,
        "claim": {"request": request, "podUid": format!("uid-of-{}", pod.id), "patienceMs": patience},
    })
}

/// Says a line and hears one.
pub(crate) fn call(socket: &Path, line: &Value) -> Value {
    let answer = say(socket, format!("{line}\n").as_bytes());
    serde_json::from_str(&answer).unwrap_or_else(|e| panic!("the answer {answer:?}: {e}"))
}

/// Says anything, and hears what comes; empty if the agent hangs up.
pub(crate) fn say(socket: &Path, text: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).expect("connect to the agent");
    stream.set_read_timeout(Some(DEADLINE)).expect("bound the wait");
    // An agent that has heard enough hangs up before all is said.
    stream.write_all(text).ok();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).ok();
    answer
}

/// The one address of an answer.
pub(crate) fn address(answer: &Value) -> Option<IpAddr> {
    let text = answer.pointer("/assigned/0/address")?.as_str()?;
    text.split('/').next()?.parse().ok()
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        thread::sleep(Duration::from_millis(50));
    }
}
