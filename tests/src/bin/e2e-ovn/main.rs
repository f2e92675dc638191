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
use std::panic;
use std::process::ExitCode;
use std::time::Instant;

use octavia_bridge_tests::table::line;

use crate::topology::Cloud;

fn main() -> ExitCode {
    let is_strict = env::args().skip(1).any(|word| word == "--check");
    // What fails panics, here as in the tests, and OVN's daemons then say what they complain of.
    panic::catch_unwind(|| story(is_strict)).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn story(is_strict: bool) {
    let started = Instant::now();
    let mut cloud = Cloud::build();
    let pods: usize = cloud.workers.iter().map(|worker| worker.pods.len()).sum();
    line(&format!("two nodes, {pods} pods, three chassis and an amphora in {}", since(started)));
    checks::all(&cloud);
    let is_met = faults::all(&mut cloud);
    checks::all(&cloud);
    assert!(is_met || !is_strict, "a silence was longer than its target");
    line("");
    line(&format!("all passed in {}", since(started)));
}

fn since(moment: Instant) -> String {
    format!("{:.1} s", moment.elapsed().as_secs_f64())
}
