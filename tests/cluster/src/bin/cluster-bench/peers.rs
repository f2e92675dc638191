//! Nodes of a cluster that has whereabouts.

use std::thread;
use std::time::{Duration, Instant};

use octavia_bridge_cluster_tests::{Access, Claim, Rival};

/// The `n`-th attachment.
pub(crate) fn claim(n: usize) -> Claim {
    Claim::new(&format!("rival-{n}"), &format!("openstack/rival-{n}"))
}

/// A node of a range of its own.
pub(crate) fn peer(access: &Access) -> Rival {
    Rival::new(access, "172.22.0.0/20".parse().expect("a range"))
}

/// So many ADDs at once, each a process' in whereabouts.
pub(crate) fn at_once(access: &Access, count: usize) -> Duration {
    let rivals: Vec<Rival> = (0..count).map(|_| peer(access)).collect();
    let started = Instant::now();
    thread::scope(|scope| {
        for (n, rival) in rivals.iter().enumerate() {
            scope.spawn(move || rival.add(&claim(n)).unwrap_or_else(|e| panic!("the peer's ADD {n}: {e}")));
        }
    });
    started.elapsed()
}
