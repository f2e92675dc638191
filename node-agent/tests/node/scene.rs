//! A node: a network namespace with a NIC `enp6s0`, and the agent's files.

use std::fs;
use std::io::Write;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const AGENT: &str = env!("CARGO_BIN_EXE_octavia-bridge-agent");

/// A bridge over `enp6s0`, as the Octavia policy has it over a VLAN.
pub(crate) const POLICY: &str = r#"
interfaces:
- name: octbr
  description: Configuring bridge octbr
  type: linux-bridge
  state: up
  mtu: "1500"
  bridge: {options: {stp: {enabled: "false"}}, port: [{name: enp6s0, vlan: {}}]}
"#;

pub(crate) struct Node {
    pub(crate) folder: TempDir,
}

pub(crate) struct Answer {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a test on a thread of its own inside a new network namespace, which its programs inherit.
pub(crate) fn on_a_node(test: impl FnOnce(&Node) + Send + 'static) {
    let inside = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace: run as root, or under unshare");
        let node = Node { folder: TempDir::new().unwrap() };
        node.ip("link set lo up");
        node.ip("link add enp6s0 type veth peer name wire");
        node.ip("link set wire up");
        test(&node);
    };
    thread::spawn(inside).join().unwrap_or_else(|panic| resume_unwind(panic));
}

impl Node {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The agent with its files in this node's folder.
    pub(crate) fn agent(&self, words: &str) -> Command {
        let mut command = Command::new(AGENT);
        command.args(words.split_whitespace());
        command.arg("--state-dir").arg(self.path("state")).arg("--nmstate-lock").arg(self.path("lock"));
        command.env("HEALTH_SOCKET", self.path("health.sock"));
        command
    }

    /// Runs the agent to its end, `yaml` on its standard input.
    pub(crate) fn run(&self, words: &str, yaml: &str) -> Answer {
        answer(&mut self.agent(words), yaml)
    }

    /// Runs the agent, which has to succeed, and returns what it printed.
    pub(crate) fn ok(&self, words: &str, yaml: &str) -> String {
        let answer = self.run(words, yaml);
        assert_eq!(answer.status, 0, "{words}: {}{}", answer.stdout, answer.stderr);
        answer.stdout
    }

    pub(crate) fn start(&self, words: &str) -> Daemon {
        let log = fs::File::create(self.path("log")).unwrap();
        let mut command = self.agent(words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Daemon(command.spawn().unwrap())
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    pub(crate) fn ip(&self, words: &str) -> String {
        let output = Command::new("ip").args(words.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Whether the kernel makes such a link, called `probe`, which goes again.
    pub(crate) fn kernel_makes(&self, words: &str) -> bool {
        let made = Command::new("ip").args(["link", "add"]).args(words.split_whitespace()).output().unwrap();
        if made.status.success() {
            self.ip("link del probe");
        }
        made.status.success()
    }

    /// A link as `ip` describes it; `None` if there is none.
    pub(crate) fn link(&self, name: &str) -> Option<Value> {
        let output = Command::new("ip").args(["-j", "-d", "addr", "show", "dev", name]).output().unwrap();
        let list: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
        list.into_iter().find(|link| link["ifname"] == name)
    }

    /// Everything about links, addresses and routes that does not change by itself.
    pub(crate) fn snapshot(&self) -> String {
        let listed = self.ip("-o link show");
        let links = listed.lines().map(|line| {
            // The index grows with each link made, a link once up keeps its queue, and whether there is a
            // carrier is told by a worker of the kernel's, some time after what brought it about.
            let line = line.split_once(": ").unwrap_or_default().1.replace(" qdisc noop ", " qdisc noqueue ");
            let line = line.replace("NO-CARRIER,", "").replace(",LOWER_UP", "");
            ["UP", "DOWN", "LOWERLAYERDOWN", "UNKNOWN"]
                .iter()
                .fold(line, |line, state| line.replace(&format!(" state {state} "), " "))
                + "\n"
        });
        let links: String = links.collect();
        links + &self.ip("-4 -o addr show") + &self.ip("-4 route show table all")
    }

    /// A pod's veth, a port of `octbr`, with the lowest of MACs.
    pub(crate) fn pod(&self, name: &str) {
        self.ip(&format!("link add {name} address 02:00:00:00:00:01 mtu 1400 type veth peer name {name}-in"));
        self.ip(&format!("link set {name} master octbr up"));
        self.ip(&format!("link set {name}-in up"));
    }
}

pub(crate) fn answer(command: &mut Command, yaml: &str) -> Answer {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A program that ends before reading it all closes the pipe, and tells by its status what it thinks.
    let _: Result<(), _> = child.stdin.take().unwrap().write_all(yaml.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Answer { status: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon(pub(crate) Child);

impl Daemon {
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.0.id().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Asks it to stop and returns its status.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        self.0.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Ended already after `stop`.
        let _: Result<(), _> = self.0.kill();
        let _: Result<_, _> = self.0.wait();
    }
}

/// Whether everything is as [`POLICY`] says.
pub(crate) fn complete(node: &Node) -> bool {
    let uplink = node.link("enp6s0").is_some_and(|link| link["master"] == "octbr");
    let up = |link: &Value| link["flags"].as_array().unwrap().contains(&"UP".into());
    uplink
        && node.link("octbr").is_some_and(|link| {
            up(&link) && link["mtu"] == 1500 && link["linkinfo"]["info_data"]["stp_state"] == 0
        })
        && node.link("enp6s0").is_some_and(|link| up(&link))
}

/// Waits until `so` holds, for at most `limit`; returns how long it took.
pub(crate) fn until(limit: Duration, what: &str, so: impl Fn() -> bool) -> Duration {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
    started.elapsed()
}
