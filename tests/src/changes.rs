//! The kernel's events about changes to a namespace's links, addresses and routes.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Namespace;

/// Deadline for the event about the mark, also on an emulated processor.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `ip monitor` tells.
#[derive(Debug)]
pub struct Changes<'a> {
    namespace: &'a Namespace,
    process: Child,
    folder: TempDir,
    start: usize,
}

impl<'a> Changes<'a> {
    /// Every change to links, addresses and routes from now on.
    pub fn of(namespace: &'a Namespace) -> Self {
        let folder = TempDir::with_prefix("changes-").expect("create a folder");
        let mut command = Command::new("ip");
        command.args(["-ts", "-o", "monitor", "link", "address", "route"]).stdin(Stdio::null());
        command.stdout(File::create(told(&folder)).expect("create the list of changes"));
        let process = namespace.spawn(&mut command);
        let mut changes = Self { namespace, process, folder, start: 0 };
        changes.take();
        changes
    }

    fn told(&self) -> String {
        fs::read_to_string(told(&self.folder)).expect("read what ip monitor told")
    }

    /// All lines since the beginning or the last call. A link that is created for this purpose marks the end. Omits lines about
    /// such links, and events that the kernel itself sends seconds later: about link-local addresses, and the bridge's own
    /// messages about the state of a port (which have no queueing discipline).
    #[track_caller]
    pub fn take(&mut self) -> Vec<String> {
        until(PATIENCE, "ip monitor tells of the mark", || {
            // Again and again, since the first may come before ip monitor listens.
            self.namespace.ip("link add mark type bridge");
            self.namespace.ip("link del mark");
            thread::sleep(Duration::from_millis(20));
            self.told()[self.start..].lines().any(|line| line.contains("Deleted") && line.contains(" mark"))
        });
        let told = self.told();
        let lines = told[self.start..].lines();
        let own =
            |line: &str| line.contains(" master ") && !line.contains(" qdisc ") && !line.contains("Deleted");
        let lines = lines.filter(|line| ![" mark", "fe80:", "ff00:"].iter().any(|part| line.contains(part)));
        let lines = lines.filter(|line| !own(line));
        let lines = lines.map(ToOwned::to_owned).collect();
        self.start = told.len();
        lines
    }
}

impl Drop for Changes<'_> {
    fn drop(&mut self) {
        self.process.kill().unwrap_or_default();
        let _status = self.process.wait();
    }
}

fn told(folder: &TempDir) -> PathBuf {
    folder.path().join("told")
}

/// Time from the first to the last of these lines, by the stamps of `ip -ts`: `[2026-01-31T23:59:59.123456]`.
///
/// # Panics
/// When none of the lines has a stamp.
pub fn span(lines: &[String]) -> Duration {
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
pub fn until(limit: Duration, what: &str, so: impl Fn() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
