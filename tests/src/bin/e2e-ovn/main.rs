//! Octavia's management network on real OVN: nodes that the agent keeps, pods that the plugin attached, Debian's Open vSwitch in
//! userspace, and an amphora behind octavia-link-router.
//!
//! Run by `scripts/e2e-ovn`.

mod addresses;
mod central;
mod chassis;
mod checks;
mod pods;
mod programs;
mod topology;
mod traffic;

use std::process::ExitCode;
use std::time::Instant;

use octavia_bridge_tests::table::line;

use crate::topology::Cloud;

fn main() -> ExitCode {
    let started = Instant::now();
    let cloud = Cloud::build();
    line(&format!(
        "two nodes, {} pods, three chassis and an amphora in {:.1} s",
        pods(&cloud),
        started.elapsed().as_secs_f64()
    ));
    let passed = checks::all(&cloud);
    if !passed {
        line("");
        for complaint in cloud.complaints() {
            line(&complaint);
        }
    }
    line("");
    line(&format!(
        "{} in {:.1} s",
        if passed { "all passed" } else { "FAILED" },
        started.elapsed().as_secs_f64()
    ));
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn pods(cloud: &Cloud) -> usize {
    cloud.workers.iter().map(|worker| worker.pods.len()).sum()
}
