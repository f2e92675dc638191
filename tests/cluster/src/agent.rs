//! The built agent as a process that serves the pools of a cluster.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Access, WallClock};

/// How long the agent may take for anything, on however busy a machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// What a plugin says of its own patience.
const PATIENCE_MS: u64 = 25_000;

/// `octavia-bridge-agent run --cluster` with files of its own. Killed when dropped.
#[derive(Debug)]
pub struct Agent {
    process: Child,
    folder: TempDir,
    health: SocketAddr,
}

/// A page of the agent's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// The text.
    pub text: String,
}

impl Agent {
    /// Starts an agent that calls its node `node`, asks the server by `access`, and has its pools in the namespace of that.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(access: &Access, node: &str) -> Self {
        // Most tests' pods are in no API, and so would be taken for gone.
        Self::start_with(access, node, &["--reclaim-grace", "86400"])
    }

    /// As [`Self::start`], with further arguments, and a minute's grace for pods that are gone unless they say otherwise.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_with(access: &Access, node: &str, arguments: &[&str]) -> Self {
        Self::start_in(access, node, arguments, &[])
    }

    /// As [`Self::start_with`], by another wall clock than the machine's.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_by(clock: &WallClock, access: &Access, node: &str, arguments: &[&str]) -> Self {
        Self::start_in(access, node, arguments, &clock.environment())
    }

    fn start_in(access: &Access, node: &str, arguments: &[&str], variables: &[(&str, OsString)]) -> Self {
        let folder = TempDir::with_prefix_in("agent-", "/run").expect("create the agent's folder in /run");
        let path = |name: &str| folder.path().join(name);
        access.write_kubeconfig(&path("kubeconfig"));
        let log = File::create(path("log")).expect("create the agent's log");
        // A test's process that is killed takes its agents along.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program());
        command.args(["run", "--cluster", "--health-bind", "127.0.0.1:0", "--node-name", node]);
        command.args(["--pool-namespace", access.namespace()]).args(arguments);
        for (flag, name) in [
            ("--kubeconfig", "kubeconfig"),
            ("--socket", "agent.sock"),
            ("--health-socket", "health.sock"),
            ("--state-dir", "state"),
            ("--nmstate-lock", "no-rival"),
        ] {
            command.arg(flag).arg(path(name));
        }
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = command.spawn().expect("start the agent");
        let mut agent = Self { process, folder, health: ([127, 0, 0, 1], 0).into() };
        agent.health = agent.wait("says where it answers", |agent| {
            let log = agent.log();
            log.split("health and metrics at http://").nth(1)?.split_whitespace().next()?.parse().ok()
        });
        agent.wait("listens", |agent| UnixStream::connect(agent.socket()).ok());
        agent
    }

    /// Where plugins ask it.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    /// Where it and the plugins of its node leave what has to be released later.
    pub fn tombstones(&self) -> PathBuf {
        self.folder.path().join("state/cluster-tombstones")
    }

    /// The `--state-dir`, which is the `dataDir` of its node's plugins, too.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Runs `octavia-bridge-agent pools` with these words, this agent's credentials and state folder. What it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn pools(&self, access: &Access, words: &[&str]) -> String {
        let mut command = Command::new(program());
        command.arg("pools").args(words).args(["--pool-namespace", access.namespace()]);
        command.arg("--kubeconfig").arg(self.folder.path().join("kubeconfig"));
        let output = command.arg("--state-dir").arg(self.state()).output().expect("run the agent's program");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "pools {words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// What kubelet's probe of this name would run: whether it succeeds, and what it says.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn probe(&self, question: &str) -> (bool, String) {
        let mut command = Command::new(program());
        command.args(["health", question, "--health-socket"]).arg(self.folder.path().join("health.sock"));
        let output = command.output().expect("run the agent's program");
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.success(), said.concat())
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("read the agent's log")
    }

    /// One of its pages, such as `/readyz`.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn page(&self, path: &str) -> Page {
        let mut stream = TcpStream::connect(self.health).expect("connect to the agent");
        stream.set_read_timeout(Some(DEADLINE)).expect("bound the wait");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\n\r\n").expect("ask the agent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read the agent's answer");
        let (head, text) = answer.split_once("\r\n\r\n").expect("an answer of HTTP");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Page { status: status.expect("a status"), text: text.to_owned() }
    }

    /// The value of a figure with its labels, such as `octavia_bridge_tombstones`; none if it is not told.
    pub fn figure(&self, name: &str) -> Option<f64> {
        let Page { text, .. } = self.page("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.parse().expect("a number"))
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// When it is not in time.
    #[track_caller]
    pub fn ready(&self) {
        self.wait("is ready", |agent| (agent.page("/readyz").status == 200).then_some(()));
    }

    /// Waits until `seen` sees something.
    ///
    /// # Panics
    /// When it does not in time.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, seen: impl Fn(&Self) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(seen) = seen(self) {
                return seen;
            }
            let late = started.elapsed() >= DEADLINE;
            assert!(!late, "waited {DEADLINE:?} in vain until the agent {what}\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it as a plugin does.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn ask(&self, call: &Value) -> Value {
        let mut stream = UnixStream::connect(self.socket()).expect("connect to the agent's socket");
        stream.set_read_timeout(Some(DEADLINE)).expect("bound the wait");
        writeln!(stream, "{call}").expect("ask the agent");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("read the agent's answer");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("no answer but {line:?}: {e}"))
    }

    /// Claims the lowest free address of a range for the interface `net1` of a container, whose pod is `test/POD`. Of the
    /// same pod's sandboxes, `gone` are known to be.
    pub fn claim(&self, range: &Range, container: &str, pod: &str, gone: &[&str]) -> Value {
        self.claim_for(range, container, &format!("test/{pod}"), &format!("uid-of-{pod}"), gone)
    }

    /// As [`Self::claim`], for any pod: `namespace/name` and uid.
    pub fn claim_for(&self, range: &Range, container: &str, podref: &str, uid: &str, gone: &[&str]) -> Value {
        let Range { subnet, first, last } = range;
        let pool = subnet.replace('/', "-");
        let owner = json!({"containerId": container, "ifname": "net1", "pod": podref});
        let lowest = json!({"subnet": subnet, "first": first, "last": last, "exclude": []});
        let want = json!({"pool": pool, "subnet": subnet, "gateway": null, "choice": {"lowest": lowest}});
        let request = json!({
            "owner": owner, "networkName": null, "overlapping": true, "wants": [want], "reserved": [],
        });
        let sandbox = |id: &&str| json!({"containerId": id, "ifname": "net1", "alive": false});
        let sandboxes: Vec<Value> = gone.iter().map(sandbox).collect();
        let claim = json!({
            "request": request, "podUid": uid, "patienceMs": PATIENCE_MS, "sandboxes": sandboxes,
        });
        self.ask(&json!({"version": 1, "claim": claim}))
    }

    /// Releases what the interface `net1` of a container has.
    pub fn release(&self, container: &str) -> Value {
        self.ask(&json!({"version": 1, "release": {"containerId": container, "ifname": "net1"}}))
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        // Either may be over already.
        self.process.kill().unwrap_or_default();
        let _status = self.process.wait();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A range of a subnet.
#[derive(Debug, Clone)]
pub struct Range {
    /// Such as `10.0.0.0/24`.
    pub subnet: String,
    /// The first address.
    pub first: String,
    /// The last one.
    pub last: String,
}

impl Range {
    /// Addresses `first` to `last` of the /24 whose first three numbers are `network`.
    pub fn of(network: &str, first: u8, last: u8) -> Self {
        Self {
            subnet: format!("{network}.0/24"),
            first: format!("{network}.{first}"),
            last: format!("{network}.{last}"),
        }
    }
}

/// The agent: what `OCTAVIA_BRIDGE_AGENT_BIN` names, or else what was built beside this test,
/// `target/<profile>/deps/<test>` → `target/<profile>/octavia-bridge-agent`.
///
/// # Panics
/// When it is not there.
pub fn program() -> PathBuf {
    let variable = "OCTAVIA_BRIDGE_AGENT_BIN";
    let beside = || {
        let test = env::current_exe().expect("path of the test binary");
        test.parent()
            .and_then(Path::parent)
            .expect("folder of the build profile")
            .join("octavia-bridge-agent")
    };
    let program = env::var_os(variable).map_or_else(beside, PathBuf::from);
    assert!(
        program.is_file(),
        "{} does not exist: use scripts/test-cluster, or name it in {variable}",
        program.display()
    );
    program
}
