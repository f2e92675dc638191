//! Addresses of a real Kubernetes API: time and requests of plugin and agent, beside a writer that does as whereabouts does.
//!
//! Run by `scripts/bench cluster`. Ours is a whole ADD, process, links and all; the peer's is the work with the API alone,
//! without a process to start.

mod burst;
mod faults;
mod memory;
mod node;
mod peers;
mod scale;
mod single;

use std::path::Path;
use std::process::ExitCode;

use octavia_bridge_cluster_tests::Cluster;
use octavia_bridge_tests::table::{self, Row};

use crate::scale::Size;

/// Calls before the first that counts: they make pool and bridge.
const WARM_UP: usize = 3;

/// Figures of one part, from so many calls each.
type Figures = fn(&Cluster, usize) -> Vec<Row>;

const PARTS: [(&str, Figures); 4] = [
    ("single", single::figures),
    ("burst", |cluster, _| burst::figures(cluster)),
    ("faults", |cluster, _| faults::figures(cluster)),
    ("memory", |cluster, _| memory::figures(cluster)),
];

fn main() -> ExitCode {
    let Some(Options { check, rounds, only }) = options() else { return ExitCode::from(2) };
    table::introduce(Path::new("/run"), rounds);
    let cluster = Cluster::shared();
    let mut rows = Vec::new();
    match only {
        Only::Scale(size) => rows = scale::figures(cluster, rounds, size),
        Only::All => PARTS.iter().for_each(|(_, figures)| rows.extend(figures(cluster, rounds))),
        Only::Part(figures) => rows = figures(cluster, rounds),
    }
    let met = table::print(["octavia-bridge", "whereabouts' writes"], &rows);
    if check && !met { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What scripts/bench passes on.
struct Options {
    check: bool,
    /// Calls for each figure.
    rounds: usize,
    only: Only,
}

enum Only {
    /// All parts.
    All,
    Part(Figures),
    /// In clusters of several sizes, or of one.
    Scale(Option<Size>),
}

/// `None` for arguments that scripts/bench does not pass.
fn options() -> Option<Options> {
    let (mut check, mut rounds, mut only) = (false, 60, Only::All);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--check" => check = true,
            "--rounds" => rounds = arguments.next()?.parse().ok().filter(|&rounds| rounds > 0)?,
            "scale" => only = Only::Scale(None),
            "--only" => {
                let name = arguments.next()?;
                only = match only {
                    Only::Scale(_) => Only::Scale(Some(Size::parse(&name)?)),
                    _ => Only::Part(PARTS.iter().find(|(part, _)| *part == name)?.1),
                };
            }
            _ => return None,
        }
    }
    Some(Options { check, rounds, only })
}
