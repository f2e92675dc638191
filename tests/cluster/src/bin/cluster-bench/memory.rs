//! An agent's memory when the pools are large.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use octavia_bridge_cluster_tests::{Agent, Cluster, Range};
use octavia_bridge_tests::table::{self, Row, Unit};

const ALLOCATIONS: usize = 5000;
/// Claims under way at once: as many pods as a large node has, all started together.
const AT_ONCE: usize = 250;

pub(crate) fn figures(cluster: &Cluster) -> Vec<Row> {
    let admin = cluster.namespace("memory");
    let first = Agent::start(&admin, "memory");
    first.ready();
    let before = Memory::of(&first);
    let (subnet, first_address, last) = ("10.64.0.0/18", "10.64.0.1", "10.64.63.254");
    let range = Range { subnet: subnet.into(), first: first_address.into(), last: last.into() };
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= ALLOCATIONS {
                        return;
                    }
                    // As long as the ids of containerd and CRI-O.
                    let id = format!("{n:064x}");
                    let answer = first.claim(&range, &id, &format!("octavia-worker-{n}"), &[]);
                    if !answer["assigned"].is_array() {
                        failed.fetch_add(1, Ordering::Relaxed);
                        table::line(&format!("a claim failed: {answer}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    let used = "octavia_bridge_pool_used_addresses{pool=\"10.64.0.0-18\"}";
    // What failed is on its way out.
    assert!(failed > 0 || first.figure(used) == Some(ALLOCATIONS as f64));
    let wrote = Memory::of(&first);
    // One that has only read them.
    let second = Agent::start(&admin, "memory-2");
    second.ready();
    let read = Memory::of(&second);
    let bursts = format!("agent, {ALLOCATIONS} allocations, {AT_ONCE} at once: at most | at its start");
    let now = format!("agent, {ALLOCATIONS} allocations: who wrote them | who read them");
    // Memory for fewer than all is none that counts.
    let of_all = |figure: f64| if failed == 0 { figure } else { f64::INFINITY };
    vec![
        Row::new(bursts, Unit::Mebibytes, of_all(wrote.most), before.now).most(20.0),
        Row::new(now, Unit::Mebibytes, of_all(wrote.now), read.now).most(20.0),
    ]
}

/// Resident memory of a process, in MiB.
struct Memory {
    now: f64,
    /// Since it was started.
    most: f64,
}

impl Memory {
    fn of(agent: &Agent) -> Self {
        let status =
            fs::read_to_string(format!("/proc/{}/status", agent.id())).expect("read the agent's status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let kibibytes = line.and_then(|line| line.strip_suffix(" kB")?.parse::<f64>().ok());
            kibibytes.unwrap_or_else(|| panic!("no {name} in:\n{status}")) / 1024.0
        };
        Self { now: field("VmRSS:"), most: field("VmHWM:") }
    }
}
