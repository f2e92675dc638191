//! Octavia's management network on real OVN: nodes that the agent keeps, pods that the plugin attached, Debian's Open vSwitch in
//! userspace, and an amphora behind octavia-link-router.
//!
//! Run by `scripts/e2e-ovn`.

mod addresses;
mod central;
mod chassis;
mod checks;
mod faults;
mod heartbeats;
mod pods;
mod programs;
mod topology;
mod traffic;

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use octavia_bridge_tests::table::line;

use crate::topology::Cloud;

fn main() -> ExitCode {
    let is_strict = env::args().skip(1).any(|word| word == "--check");
    let started = Instant::now();
    let mut cloud = Cloud::build();
    let pods: usize = cloud.workers.iter().map(|worker| worker.pods.len()).sum();
    line(&format!("two nodes, {pods} pods, three chassis and an amphora in {}", since(started)));
    let before = checks::all(&cloud);
    // What does not work at all has no silence to measure.
    let (is_heard, is_met) = if before { faults::all(&mut cloud) } else { (false, false) };
    let after = is_heard && checks::all(&cloud);
    if !after {
        line("");
        for complaint in cloud.complaints() {
            line(&complaint);
        }
    }
    line("");
    let passed = after && (is_met || !is_strict);
    line(&format!("{} in {}", if passed { "all passed" } else { "FAILED" }, since(started)));
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn since(moment: Instant) -> String {
    format!("{:.1} s", moment.elapsed().as_secs_f64())
}
