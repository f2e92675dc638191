//! The built node agent on a node, its files where the node has its disk.

use std::fs::{self, File};
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Node;
use crate::lab::built;

/// A bridge over `enp6s0`, as the Octavia policy has it over a VLAN, which not every kernel has.
pub const POLICY: &str = "
interfaces:
- name: octbr
  type: linux-bridge
  state: up
  bridge: {options: {stp: {enabled: false}}, port: [{name: enp6s0}]}
";

/// A node with a separate state directory for the agent. Nodes may share a pool, but not links.
#[derive(Debug, Clone)]
pub struct Agent {
    node: Node,
    state: PathBuf,
    /// It sees the node's files where they are on a real one.
    beside_plugin: bool,
}

/// Starts a program that sees the node's `/var/lib` and `/run/octavia-bridge`.
const INSIDE: &str = r#"mkdir -p /run/octavia-bridge && mount -o bind "$0" /var/lib && mount -o bind "$1" /run/octavia-bridge && shift && exec "$@""#;

/// Words before a program's own, so that it sees the node's `/var/lib` and `/run/octavia-bridge`.
pub fn seeing_files_of(node: &Node) -> Vec<String> {
    let mut words: Vec<String> = ["unshare", "-m", "sh", "-c", INSIDE].map(str::to_owned).into();
    words.extend([node.disk(), node.run_dir()].map(|path| path.display().to_string()));
    words
}

/// What a run of the agent said.
#[derive(Debug)]
pub struct Answer {
    /// The exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it logged.
    pub stderr: String,
}

impl Agent {
    /// The agent of this node; `name` tells its folder from those of agents on the same disk.
    pub fn on(node: &Node, name: &str) -> Self {
        Self::with_files(node, node.disk().join(format!("agent-of-{name}")))
    }

    /// The agent of this node with its files in a new folder.
    pub fn with_files(node: &Node, state: PathBuf) -> Self {
        fs::create_dir(&state).expect("create the agent's folder");
        Self { node: node.clone(), state, beside_plugin: false }
    }

    /// The agent of this node with its files where the plugin has its own, so that each knows of the other.
    pub fn beside_plugin(node: &Node) -> Self {
        Self { node: node.clone(), state: node.data_dir(), beside_plugin: true }
    }

    /// A file of the agent's on disk.
    pub fn path(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    /// The journal of an apply that has not ended.
    pub fn journal(&self) -> PathBuf {
        match self.beside_plugin {
            true => self.node.run_dir().join("agent/journal.jsonl"),
            false => self.path("agent/journal.jsonl"),
        }
    }

    /// The agent's program with these words, and a program before it if there is one.
    pub fn command(&self, before: &[&str], words: &str) -> Command {
        let program = built("octavia-bridge-agent", "OCTAVIA_BRIDGE_AGENT_BIN");
        let mut all = Vec::new();
        if self.beside_plugin {
            all.extend(seeing_files_of(&self.node));
        }
        all.extend(before.iter().map(|&word| word.to_owned()));
        all.push(program.display().to_string());
        all.extend(words.split_whitespace().map(ToOwned::to_owned));
        let mut command = Command::new(&all[0]);
        command.args(&all[1..]).arg("--state-dir");
        match self.beside_plugin {
            true => command.arg("/var/lib/octavia-bridge"),
            false => command.arg(&self.state),
        };
        command.arg("--nmstate-lock").arg(self.path("no-rival"));
        command.env("HEALTH_SOCKET", self.path("health.sock"));
        command
    }

    /// Runs the agent, with a policy if its text is not empty.
    pub fn run(&self, words: &str, policy: &str) -> Answer {
        self.run_under(&[], words, policy)
    }

    /// As [`run`](Self::run), with a program before the agent's.
    pub fn run_under(&self, before: &[&str], words: &str, policy: &str) -> Answer {
        let mut command = self.command(before, words);
        if !policy.is_empty() {
            command.arg("-f").arg(self.file(policy));
        }
        let output = self.node.output(&mut command);
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Answer { status: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Runs the agent, which has to succeed, and returns what it printed.
    #[track_caller]
    pub fn ok(&self, words: &str, policy: &str) -> String {
        let answer = self.run(words, policy);
        assert_eq!(answer.status, Some(0), "{words}: {answer:#?}");
        answer.stdout
    }

    /// Runs the agent, which has to fail so, with these words in what it says.
    #[track_caller]
    pub fn fails(&self, status: i32, words: &str, policy: &str, says: &[&str]) {
        let answer = self.run(words, policy);
        assert_eq!(answer.status, Some(status), "{words}: {answer:#?}");
        for part in says {
            assert!(answer.stderr.contains(part), "{part:?} is not in {answer:#?}");
        }
    }

    /// Starts the daemon with this policy.
    pub fn keep(&self, policy: &str) -> Keeper {
        self.keep_with(policy, "")
    }

    /// As [`keep`](Self::keep), with further words of its command line.
    pub fn keep_with(&self, policy: &str, words: &str) -> Keeper {
        let log = File::create(self.path("log")).expect("create the log");
        let mut command = self.command(&[], &format!("run {words}"));
        command.arg("-f").arg(self.file(policy)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Keeper { process: self.spawn(&mut command), log: self.path("log") }
    }

    /// Writes the policy to a file.
    pub fn file(&self, policy: &str) -> PathBuf {
        let path = self.path("policy.yaml");
        fs::write(&path, policy).expect("write the policy");
        path
    }
}

impl Deref for Agent {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

/// A running daemon; killed when dropped.
#[derive(Debug)]
pub struct Keeper {
    process: Child,
    log: PathBuf,
}

impl Keeper {
    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("read the agent's log")
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.id().try_into().expect("a process id"));
        kill(pid, signal).expect("send a signal");
    }

    /// Sends a signal and waits for the end; returns the exit status, `None` if the signal killed the process.
    pub fn end(&mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        self.process.wait().expect("wait for the agent").code()
    }

    /// Asks it to stop; returns its exit status.
    pub fn stop(&mut self) -> Option<i32> {
        self.end(Signal::SIGTERM)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // It may have been stopped already.
        self.process.kill().unwrap_or_default();
        let _status = self.process.wait();
    }
}
