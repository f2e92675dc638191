//! Addresses of a real Kubernetes API: time and requests of plugin and agent, beside a writer that does as whereabouts does.
//!
//! Run by `scripts/bench cluster`. Ours is a whole ADD, process, links and all; the peer's is the work with the API alone,
//! without a process to start.

mod burst;
mod faults;
mod memory;
mod node;
mod peers;
mod single;

use std::path::Path;
use std::process::ExitCode;

use octavia_bridge_cluster_tests::Cluster;
use octavia_bridge_tests::table;

/// Calls before the first that counts: they make pool and bridge.
const WARM_UP: usize = 3;

fn main() -> ExitCode {
    let Some((check, rounds)) = options() else { return ExitCode::from(2) };
    table::introduce(Path::new("/run"), rounds);
    let cluster = Cluster::shared();
    let mut rows = single::figures(cluster, rounds);
    rows.extend(burst::figures(cluster));
    rows.extend(faults::figures(cluster));
    rows.push(memory::figure(cluster));
    let met = table::print(["octavia-bridge", "whereabouts' writes"], &rows);
    if check && !met { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Whether to check, and how many calls for each figure; `None` for arguments that scripts/bench does not pass.
fn options() -> Option<(bool, usize)> {
    let (mut check, mut rounds) = (false, 60);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--check" => check = true,
            "--rounds" => rounds = arguments.next()?.parse().ok().filter(|&rounds| rounds > 0)?,
            _ => return None,
        }
    }
    Some((check, rounds))
}
