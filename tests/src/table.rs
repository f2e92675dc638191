//! Measurements as a table: this project's, a peer's, their ratio, and the target.

use std::fs;
use std::io::{Write, stdout};
use std::path::Path;
use std::thread::available_parallelism;

/// What a row's numbers are.
#[derive(Debug, Clone, Copy)]
pub enum Unit {
    /// 10^-3 seconds.
    Milliseconds,
    /// 10^3 bytes.
    Kilobytes,
    /// 10^6 bytes.
    Megabytes,
    /// 2^20 bytes.
    Mebibytes,
    /// Times that something happened.
    Times,
    /// Requests to an API server.
    Requests,
}

/// One measurement of this project and of a peer.
#[derive(Debug)]
pub struct Row {
    name: String,
    unit: Unit,
    ours: f64,
    /// `None` where there is nothing to compare with.
    peer: Option<f64>,
    targets: Vec<Target>,
}

#[derive(Debug, Clone, Copy)]
enum Target {
    Ratio(f64),
    Value(f64),
}

impl Row {
    /// A measurement of this project and the same of the peer.
    pub fn new(name: impl Into<String>, unit: Unit, ours: f64, peer: f64) -> Self {
        Self { name: name.into(), unit, ours, peer: Some(peer), targets: Vec::new() }
    }

    /// A measurement without a counterpart.
    pub fn alone(name: impl Into<String>, unit: Unit, ours: f64) -> Self {
        Self { name: name.into(), unit, ours, peer: None, targets: Vec::new() }
    }

    /// The ratio to the peer that is aimed at.
    #[must_use]
    pub fn at_most(self, ratio: f64) -> Self {
        self.with(Target::Ratio(ratio))
    }

    /// The value, in the row's unit, that is aimed at.
    #[must_use]
    pub fn most(self, value: f64) -> Self {
        self.with(Target::Value(value))
    }

    fn with(mut self, target: Target) -> Self {
        self.targets.push(target);
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.peer.map(|peer| self.ours / peer)
    }

    fn is_met(&self) -> Option<bool> {
        let met = |target: &Target| match *target {
            // A ratio that is not a number is a miss.
            Target::Ratio(most) => self.ratio().is_some_and(|ratio| ratio <= most),
            Target::Value(most) => self.ours <= most,
        };
        (!self.targets.is_empty()).then(|| self.targets.iter().all(met))
    }

    fn cells(&self) -> [String; 6] {
        let unit = match self.unit {
            Unit::Milliseconds => "ms",
            Unit::Kilobytes => "kB",
            Unit::Megabytes => "MB",
            Unit::Mebibytes => "MiB",
            Unit::Times => "times",
            Unit::Requests => "requests",
        };
        let figure = |value: f64| format!("{value:.2} {unit}");
        let targets = self.targets.iter().map(|target| match target {
            Target::Ratio(most) => format!("<= {most:.2}"),
            Target::Value(most) => format!("<= {most} {unit}"),
        });
        let targets: Vec<String> = targets.collect();
        let verdict = match self.is_met() {
            None => "",
            Some(true) => "met",
            Some(false) => "missed",
        };
        let ratio = self.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        let peer = self.peer.map(figure).unwrap_or_default();
        [self.name.clone(), figure(self.ours), peer, ratio, targets.join(", "), verdict.to_owned()]
    }
}

/// Prints what the measurements depend on.
pub fn introduce(disk: &Path, rounds: usize) {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default().trim().to_owned();
    let cpus = available_parallelism().map_or(0, usize::from);
    line(&format!(
        "kernel {}, {cpus} processors, load {}",
        read("/proc/sys/kernel/osrelease"),
        read("/proc/loadavg")
    ));
    line(&format!("files of all in {}; {rounds} calls each, in turns", disk.display()));
}

/// Prints the measurements under the names of the two programs. Returns whether every target is met.
pub fn print([ours, peer]: [&str; 2], rows: &[Row]) -> bool {
    line("");
    print_cells(["", ours, peer, "ratio", "target", ""].map(str::to_owned));
    rows.iter().for_each(|row| print_cells(row.cells()));
    rows.iter().all(|row| row.is_met() != Some(false))
}

fn print_cells([name, ours, peer, ratio, target, verdict]: [String; 6]) {
    let text = format!("{name:46}  {ours:>20}  {peer:>19}  {ratio:>5}  {target:>17}  {verdict}");
    line(text.trim_end());
}

/// Prints a line among the measurements.
pub fn line(text: &str) {
    writeln!(stdout(), "{text}").expect("write to standard output");
}
