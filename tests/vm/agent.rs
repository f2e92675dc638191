//! The built agent on a node, its files where the node has its disk.

use std::fs::{self, File};
use std::io::Write;
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use octavia_bridge_tests::Node;

use crate::nodes::PATIENCE;

/// Octavia's node policy, word for word.
pub(crate) const POLICY: &str = include_str!("../../node-agent/tests/fixtures/octavia.yaml");

/// A node with the agent's files of its own: the pool may be shared with another node, the links are not.
pub(crate) struct Agent {
    node: Node,
    state: PathBuf,
}

/// What a run of the agent said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Agent {
    pub(crate) fn on(node: &Node, name: &str) -> Self {
        let state = node.disk().join(format!("agent-of-{name}"));
        fs::create_dir(&state).expect("create the agent's folder");
        Self { node: node.clone(), state }
    }

    /// A file of the agent's.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.path("agent/journal.jsonl")
    }

    /// The agent's program with these words, and a program before it if there is one.
    pub(crate) fn command(&self, before: &[&str], words: &str) -> Command {
        let program = std::env::var("OCTAVIA_BRIDGE_AGENT_BIN");
        let program = program.expect("OCTAVIA_BRIDGE_AGENT_BIN names the built agent");
        let mut all: Vec<&str> = before.to_vec();
        all.push(&program);
        all.extend(words.split_whitespace());
        let mut command = Command::new(all[0]);
        command.args(&all[1..]).arg("--state-dir").arg(&self.state);
        command.arg("--nmstate-lock").arg(self.path("no-rival"));
        command
    }

    /// Runs the agent, with a policy if its text is not empty.
    pub(crate) fn run(&self, words: &str, policy: &str) -> Answer {
        self.run_under(&[], words, policy)
    }

    pub(crate) fn run_under(&self, before: &[&str], words: &str, policy: &str) -> Answer {
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
    pub(crate) fn ok(&self, words: &str, policy: &str) -> String {
        let answer = self.run(words, policy);
        assert_eq!(answer.status, Some(0), "{words}: {answer:#?}");
        answer.stdout
    }

    /// Runs the agent, which has to fail so, with these words in what it says.
    #[track_caller]
    pub(crate) fn fails(&self, status: i32, words: &str, policy: &str, says: &[&str]) {
        let answer = self.run(words, policy);
        assert_eq!(answer.status, Some(status), "{words}: {answer:#?}");
        for part in says {
            assert!(answer.stderr.contains(part), "{part:?} is not in {answer:#?}");
        }
    }

    /// Starts the daemon with this policy.
    pub(crate) fn keep(&self, policy: &str) -> Keeper {
        let log = File::create(self.path("log")).expect("create the log");
        let mut command = self.command(&[], "run");
        command.arg("-f").arg(self.file(policy)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Keeper { process: self.spawn(&mut command), log: self.path("log") }
    }

    fn file(&self, policy: &str) -> PathBuf {
        let path = self.path("policy.yaml");
        fs::write(&path, policy).expect("write the policy");
        path
    }

    /// Every change to links, addresses and routes from now on.
    pub(crate) fn changes(&self) -> Changes {
        let path = self.path("changes");
        let mut command = Command::new("ip");
        command.args(["-ts", "-o", "monitor", "link", "address", "route"]).stdin(Stdio::null());
        command.stdout(File::create(&path).expect("create the list of changes"));
        let process = self.spawn(&mut command);
        let mut changes = Changes { node: self.node.clone(), process, path, start: 0 };
        changes.take();
        changes
    }
}

impl Deref for Agent {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

/// A running daemon; killed when dropped.
pub(crate) struct Keeper {
    process: Child,
    log: PathBuf,
}

impl Keeper {
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("read the agent's log")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().try_into().expect("a process id"));
        kill(pid, signal).expect("send a signal");
    }

    /// Asks it to stop; returns its exit status.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.process.wait().expect("wait for the agent").code()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // It may have been stopped already.
        self.process.kill().unwrap_or_default();
        let _status = self.process.wait();
    }
}

/// What `ip monitor` tells.
pub(crate) struct Changes {
    node: Node,
    process: Child,
    path: PathBuf,
    start: usize,
}

impl Changes {
    fn told(&self) -> String {
        fs::read_to_string(&self.path).expect("read what ip monitor told")
    }

    /// The lines since the beginning or the last call, complete: a link made for that purpose is told of after all else.
    /// Lines about such links are left out, as are those about link-local addresses, with which the kernel takes seconds.
    pub(crate) fn take(&mut self) -> Vec<String> {
        until(PATIENCE, "ip monitor tells of the mark", || {
            // Again and again, since the first may come before ip monitor listens.
            self.node.ip("link add mark type bridge");
            self.node.ip("link del mark");
            thread::sleep(Duration::from_millis(20));
            self.told()[self.start..].lines().any(|line| line.contains("Deleted") && line.contains(" mark"))
        });
        let told = self.told();
        let lines = told[self.start..].lines();
        let lines = lines.filter(|line| ![" mark", "fe80:", "ff00:"].iter().any(|part| line.contains(part)));
        let lines = lines.map(ToOwned::to_owned).collect();
        self.start = told.len();
        lines
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.process.kill().unwrap_or_default();
        let _status = self.process.wait();
    }
}

/// Time from the first to the last of these lines, by the stamps of `ip -ts`: `[2026-01-31T23:59:59.123456]`.
pub(crate) fn span(lines: &[String]) -> Duration {
    let stamps: Vec<f64> = lines.iter().filter_map(|line| seconds(line)).collect();
    let (first, last) = (stamps.first().copied(), stamps.last().copied());
    let span = last.zip(first).map(|(last, first)| last - first).expect("lines with a time");
    // Past midnight.
    Duration::from_secs_f64(if span < 0.0 { span + 86_400.0 } else { span })
}

fn seconds(line: &str) -> Option<f64> {
    let (_, clock) = line.strip_prefix('[')?.split_once(']')?.0.split_once('T')?;
    let mut parts = clock.split(':').map(|part| part.parse::<f64>().ok());
    Some(parts.next()?? * 3600.0 + parts.next()?? * 60.0 + parts.next()??)
}

/// Waits until `so` holds, for at most `limit`.
#[track_caller]
pub(crate) fn until(limit: Duration, what: &str, so: impl Fn() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A figure for whoever reads the output; a passing test's own output is not shown.
pub(crate) fn report(text: &str) {
    // A closed standard error loses the figure and nothing else.
    writeln!(std::io::stderr(), "{text}").unwrap_or_default();
}
