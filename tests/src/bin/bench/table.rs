//! The figures as a table.

use std::fs;
use std::io::{Write, stdout};
use std::path::Path;
use std::thread::available_parallelism;

/// What a row's numbers are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Milliseconds,
    /// 10^6 bytes.
    Megabytes,
}

/// One figure of both plugins.
#[derive(Debug)]
pub(crate) struct Row {
    name: &'static str,
    unit: Unit,
    ours: f64,
    /// `None` where there is nothing to compare with.
    peer: Option<f64>,
    target: Option<Target>,
}

#[derive(Debug, Clone, Copy)]
enum Target {
    Ratio(f64),
    Value(f64),
}

impl Row {
    pub(crate) fn new(name: &'static str, unit: Unit, ours: f64, peer: f64) -> Self {
        Self { name, unit, ours, peer: Some(peer), target: None }
    }

    /// A figure of ours that has no counterpart.
    pub(crate) fn alone(name: &'static str, unit: Unit, ours: f64) -> Self {
        Self { name, unit, ours, peer: None, target: None }
    }

    /// The ratio to the peer that is aimed at.
    pub(crate) fn at_most(self, ratio: f64) -> Self {
        Self { target: Some(Target::Ratio(ratio)), ..self }
    }

    /// The value, in the row's unit, that is aimed at.
    pub(crate) fn most(self, value: f64) -> Self {
        Self { target: Some(Target::Value(value)), ..self }
    }

    fn ratio(&self) -> Option<f64> {
        self.peer.map(|peer| self.ours / peer)
    }

    fn is_met(&self) -> Option<bool> {
        match self.target? {
            Target::Ratio(most) => self.ratio().map(|ratio| ratio <= most),
            Target::Value(most) => Some(self.ours <= most),
        }
    }

    fn cells(&self) -> [String; 6] {
        let unit = match self.unit {
            Unit::Milliseconds => "ms",
            Unit::Megabytes => "MB",
        };
        let figure = |value: f64| format!("{value:.2} {unit}");
        let target = match self.target {
            None => String::new(),
            Some(Target::Ratio(most)) => format!("<= {most:.2}"),
            Some(Target::Value(most)) => format!("<= {most} {unit}"),
        };
        let verdict = match self.is_met() {
            None => "",
            Some(true) => "met",
            Some(false) => "missed",
        };
        let ratio = self.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        let peer = self.peer.map(figure).unwrap_or_default();
        [self.name.to_owned(), figure(self.ours), peer, ratio, target, verdict.to_owned()]
    }
}

/// Says what the figures depend on.
pub(crate) fn introduce(disk: &Path, rounds: usize) {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default().trim().to_owned();
    let cpus = available_parallelism().map_or(0, usize::from);
    line(&format!(
        "kernel {}, {cpus} processors, load {}",
        read("/proc/sys/kernel/osrelease"),
        read("/proc/loadavg")
    ));
    line(&format!("files of both in {}; {rounds} calls each of ADD and DEL, in turns\n", disk.display()));
}

/// Returns whether every target is met.
pub(crate) fn print(rows: &[Row]) -> bool {
    let header = ["", "octavia-bridge", "bridge + host-local", "ratio", "target", ""];
    print_cells(header.map(str::to_owned));
    rows.iter().for_each(|row| print_cells(row.cells()));
    rows.iter().all(|row| row.is_met() != Some(false))
}

fn print_cells([name, ours, peer, ratio, target, verdict]: [String; 6]) {
    let text = format!("{name:37}  {ours:>14}  {peer:>19}  {ratio:>5}  {target:>7}  {verdict}");
    line(text.trim_end());
}

fn line(text: &str) {
    writeln!(stdout(), "{text}").expect("write to standard output");
}
