//! An agent's memory when the pools are large.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use octavia_bridge_cluster_tests::{Agent, Cluster, Range};
use octavia_bridge_tests::table::{Row, Unit};

const ALLOCATIONS: usize = 5000;
/// Claims under way at once.
const AT_ONCE: usize = 50;

pub(crate) fn figure(cluster: &Cluster) -> Row {
    let admin = cluster.namespace("memory");
    let first = Agent::start(&admin, "memory");
    first.ready();
    let (subnet, first_address, last) = ("10.64.0.0/18", "10.64.0.1", "10.64.63.254");
    let range = Range { subnet: subnet.into(), first: first_address.into(), last: last.into() };
    let next = AtomicUsize::new(0);
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
                    assert!(answer["assigned"].is_array(), "{answer}");
                }
            });
        }
    });
    let used = "octavia_bridge_pool_used_addresses{pool=\"10.64.0.0-18\"}";
    assert_eq!(first.figure(used), Some(ALLOCATIONS as f64));
    // One that has only read them, and one that has written them all.
    let second = Agent::start(&admin, "memory-2");
    second.ready();
    let name = format!("agent with {ALLOCATIONS} allocations: who wrote | who read");
    Row::new(name, Unit::Mebibytes, resident(&first), resident(&second)).most(20.0)
}

fn resident(agent: &Agent) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).expect("read the agent's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kibibytes.unwrap_or_else(|| panic!("no VmRSS in:\n{status}")) / 1024.0
}
