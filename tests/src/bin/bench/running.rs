//! The work alone, of programs that already run: the agent by its own metrics, a process that calls nmstate's library, and
//! `ip -batch` with commands from a pipe.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use octavia_bridge_tests::Namespace;
use octavia_bridge_tests::agent::Keeper;

use crate::peers::{Scene, bench_peer};

/// Pause between two reads of the agent's metrics: answering takes time from its work.
const PAUSE: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(20);
/// Where the daemon answers.
const PORT: u16 = 29808;
const NOTHING: &str = r#"{"interfaces": []}"#;
/// A command that `ip` answers with a line.
const SHOW: &str = "link show dev lo\n";

/// Plans of one sort that the agent reported: their number, and the sum of their seconds.
#[derive(Debug, Clone, Copy)]
struct Told {
    count: f64,
    seconds: f64,
}

/// The agent, in a separate scene.
pub(crate) struct Daemon<'a> {
    scene: &'a Scene,
    keeper: Keeper,
}

impl<'a> Daemon<'a> {
    /// One that has nothing to keep yet.
    pub(crate) fn in_scene(scene: &'a Scene) -> Self {
        scene.node.ip("link set lo up");
        let daemon = Self { keeper: scene.node.keep(NOTHING), scene };
        daemon.after("check", None);
        daemon
    }

    /// Milliseconds from its first reading of the kernel to its last, for a new policy; and the same until it is kept on disk.
    pub(crate) fn make(&self) -> [f64; 2] {
        let before = self.told("apply");
        self.give(&self.scene.policy(1));
        let now = self.after("apply", before);
        let links = (now.seconds - before.map_or(0.0, |told| told.seconds)) * 1000.0;
        let log = self.keeper.log();
        let whole = log.lines().rev().find_map(|line| milliseconds(line.rsplit_once(" steps in ")?.1));
        [links, whole.unwrap_or_else(|| panic!("no steps in:\n{log}"))]
    }

    /// The same where there is nothing to do. The kernel's messages of what was done make it look, too, and not only we do.
    pub(crate) fn again(&self) -> f64 {
        self.calm();
        let before = self.told("check");
        self.give(&self.scene.policy(1));
        let now = self.after("check", before);
        let (count, seconds) = before.map_or((0.0, 0.0), |told| (told.count, told.seconds));
        (now.seconds - seconds) * 1000.0 / (now.count - count)
    }

    /// It has nothing to keep any more.
    pub(crate) fn forget(&self) {
        self.calm();
        let before = self.told("check");
        self.give(NOTHING);
        self.after("check", before);
    }

    fn give(&self, policy: &str) {
        self.scene.node.file(policy);
        self.keeper.signal(Signal::SIGHUP);
    }

    /// Waits until it has not looked for a while.
    fn calm(&self) {
        let looks = || self.told("check").map(|told| told.count);
        let (started, mut before) = (Instant::now(), looks());
        loop {
            assert!(started.elapsed() < PATIENCE, "the daemon has been looking for {PATIENCE:?}");
            thread::sleep(3 * PAUSE);
            let now = looks();
            if now == before {
                return;
            }
            before = now;
        }
    }

    /// The metrics after one more plan.
    fn after(&self, sort: &str, before: Option<Told>) -> Told {
        let (started, count) = (Instant::now(), before.map_or(0.0, |told| told.count));
        loop {
            thread::sleep(PAUSE);
            match self.told(sort) {
                Some(now) if now.count > count => return now,
                _ => assert!(
                    started.elapsed() < PATIENCE,
                    "no {sort} within {PATIENCE:?}:\n{}",
                    self.keeper.log()
                ),
            }
        }
    }

    /// `None` until it listens.
    fn told(&self, sort: &str) -> Option<Told> {
        let namespace: &Namespace = &self.scene.node;
        let page = namespace.run(|| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).ok()?;
            write!(stream, "GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n").expect("ask for figures");
            let mut page = String::new();
            stream.read_to_string(&mut page).expect("read figures");
            Some(page)
        })?;
        let figure = |what: &str| {
            let name = format!("octavia_bridge_{sort}_duration_seconds_{what} ");
            let value = page.lines().find_map(|line| line.strip_prefix(&name)).and_then(|v| v.parse().ok());
            value.unwrap_or_else(|| panic!("no {name}in:\n{page}"))
        };
        Some(Told { count: figure("count"), seconds: figure("sum") })
    }
}

/// A duration as the agent logs it, `1.5ms`.
fn milliseconds(text: &str) -> Option<f64> {
    let (number, unit) = text.split_at(text.find(char::is_alphabetic)?);
    let unit = match unit.trim() {
        "s" => 1e3,
        "ms" => 1.0,
        "µs" => 1e-3,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * unit)
}

/// A program that is asked over a pipe, a line each way; killed when dropped.
pub(crate) struct Asked<'a> {
    scene: &'a Scene,
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl<'a> Asked<'a> {
    /// A process that calls nmstate.
    pub(crate) fn nmstate(scene: &'a Scene) -> Self {
        Self::start(scene, Command::new(bench_peer()).arg("--repeat"))
    }

    /// `ip`, which executes its commands as they arrive. Start a new one each time: it remembers the indices of deleted
    /// links.
    pub(crate) fn ip(scene: &'a Scene) -> Self {
        let mut ip = Self::start(scene, Command::new("ip").args(["-oneline", "-batch", "-"]));
        ip.ask(SHOW);
        ip
    }

    fn start(scene: &'a Scene, command: &mut Command) -> Self {
        let mut process = scene.node.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let questions = process.stdin.take().expect("stdin is piped");
        let answers = BufReader::new(process.stdout.take().expect("stdout is piped"));
        Self { scene, process, questions, answers }
    }

    /// Milliseconds of nmstate's call, by the process that makes it.
    pub(crate) fn apply(&mut self) -> f64 {
        let file = self.scene.node.file(&self.scene.for_nmstate(1));
        let nanoseconds = self.ask(&format!("{}\n", file.display()));
        let nanoseconds: f64 = nanoseconds.trim().parse().expect("a number of nanoseconds");
        nanoseconds / 1e6
    }

    /// Milliseconds from handing `ip` the commands to its answer to one more, which shows a link.
    pub(crate) fn batch(&mut self) -> f64 {
        let commands = self.scene.for_ip(1) + SHOW;
        let started = Instant::now();
        self.ask(&commands);
        started.elapsed().as_secs_f64() * 1000.0
    }

    fn ask(&mut self, question: &str) -> String {
        self.questions.write_all(question.as_bytes()).expect("ask a program");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("read a program's answer");
        assert!(!answer.is_empty(), "a program ended that was to answer:\n{question}");
        answer
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        // It may have ended already.
        self.process.kill().unwrap_or_default();
        let _status = self.process.wait();
    }
}
