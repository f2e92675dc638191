//! The daemon: how soon it repairs, and what it takes while it has nothing to do.

use std::fs;
use std::thread;
use std::time::Duration;

use octavia_bridge_tests::Changes;
use octavia_bridge_tests::changes::{span, until};
use octavia_bridge_tests::statistics::quantile;
use octavia_bridge_tests::table::{Row, Unit};

use crate::peers::Scene;

/// How often each fault is made.
const ROUNDS: usize = 4;
/// Between two faults: what comes more often, the agent takes for a fight and waits.
pub(crate) const CALM: Duration = Duration::from_millis(2600);
const PATIENCE: Duration = Duration::from_secs(10);

/// Repairs of `b1` and its port, timed by the kernel's messages from the fault to the last of the repair.
pub(crate) fn figures(scene: &Scene) -> Vec<Row> {
    let node = &scene.node;
    let complete = || {
        let (bridge, port) = (node.link("b1"), node.link("v1"));
        let port_is = port.is_some_and(|port| port.is_up() && port.master() == Some("b1"));
        bridge.is_some_and(|bridge| bridge.is_up() && bridge.mtu() == 1500) && port_is
    };
    let keeper = node.keep(&scene.policy(1));
    until(PATIENCE, "the policy is in force", complete);
    // The first apply is over, and what was needed for it alone is given back.
    thread::sleep(CALM);
    let idle = resident(keeper.id()) / f64::from(1 << 20);
    let mut changes = Changes::of(node);
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        for fault in ["link del b1", "link set v1 nomaster", "link set v1 down", "link set b1 mtu 1400"] {
            thread::sleep(CALM);
            changes.take();
            node.ip(fault);
            until(PATIENCE, fault, complete);
            took.push(span(&changes.take()).as_secs_f64() * 1000.0);
        }
    }
    let longest = took.iter().copied().fold(0.0, f64::max);
    vec![
        Row::alone("repair, median", Unit::Milliseconds, quantile(&mut took, 0.5)).most(10.0),
        Row::alone("repair, longest", Unit::Milliseconds, longest).most(100.0),
        Row::alone("idle memory", Unit::Mebibytes, idle).most(8.0),
    ]
}

/// Memory of a process that is in use, in bytes, the program's file included.
fn resident(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("read the agent's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes =
        line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|value| value.parse::<u32>().ok());
    f64::from(kibibytes.unwrap_or_else(|| panic!("no VmRSS in:\n{status}"))) * 1024.0
}
