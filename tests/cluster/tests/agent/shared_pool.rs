//! Agents and whereabouts write to the same pools.

use std::sync::Mutex;
use std::thread;

use octavia_bridge_cluster_tests::{Cluster, Ledger, Operation, Rival, doubles};

use crate::node::{Network, Node, Pod};

/// Fewer addresses than pods: some ADDs find none.
const NARROW: Network =
    Network { range: "172.23.0.0/24", first: "172.23.0.30", last: "172.23.0.45", overlapping: true };

/// How many operations each writer does; more for a long run by hand.
fn operations() -> u32 {
    std::env::var("OCTAVIA_BRIDGE_TEST_OPERATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(150)
}

/// Five pods of a node, attached and detached without end.
fn churn(node: &Node, network: &Network, begin: usize, done: &Mutex<Vec<Operation>>) {
    thread::scope(|scope| {
        for slot in 0..5 {
            scope.spawn(move || {
                for round in 0..operations() as usize / 10 {
                    let pod = Pod::new(begin + slot * 10_000 + round);
                    for add in [true, false] {
                        let operation = node.operate(network, &pod, add);
                        done.lock().expect("nobody panics").push(operation);
                    }
                }
            });
        }
    });
}

#[test]
fn with_whereabouts_in_one_pool_no_address_is_given_twice() {
    let admin = Cluster::shared().namespace("rival");
    let nodes = [Node::start(&admin, "node-1"), Node::start(&admin, "node-2")];
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for (number, node) in nodes.iter().enumerate() {
            let done = &done;
            scope.spawn(move || churn(node, &NARROW, (number + 1) * 100_000, done));
        }
        for (name, seed) in [("rival-a", 1), ("rival-b", 2)] {
            let (admin, done) = (&admin, &done);
            scope.spawn(move || {
                let address = |text: &str| text.parse().expect("an address");
                let rival = Rival::new(admin, NARROW.range.parse().expect("a range"));
                let rival = rival.between(address(NARROW.first), address(NARROW.last));
                rival.work(name, 5, operations() / 2, seed, |operation| {
                    done.lock().expect("nobody panics").push(operation);
                });
            });
        }
    });
    let operations = done.into_inner().expect("nobody panics");
    assert_eq!(doubles(&operations), [""; 0]);
    let failed = |name: &str| {
        let mine = operations.iter().filter(move |operation| operation.id.starts_with(name));
        mine.filter_map(|operation| operation.error.clone()).collect::<Vec<_>>()
    };
    // Ours fail for no other reason than a full pool.
    let ours: Vec<String> =
        failed("sandbox").into_iter().filter(|e| !e.contains("no free address")).collect();
    assert_eq!(ours, [""; 0]);
    println!("{} operations, {} of rivals failed", operations.len(), failed("rival").len());
    let ledger = Ledger::read(&admin);
    let of_ours: Vec<String> =
        ledger.faults().into_iter().filter(|fault| fault.contains("sandbox")).collect();
    assert_eq!(of_ours, [""; 0]);
}

#[test]
fn of_overlapping_ranges_no_address_is_given_twice() {
    let admin = Cluster::shared().namespace("overlap");
    let nodes = [Node::start(&admin, "node-1"), Node::start(&admin, "node-2")];
    let wide = Network { range: "172.23.0.0/23", ..NARROW };
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for (number, node) in nodes.iter().enumerate() {
            for (kind, network) in [NARROW, wide].into_iter().enumerate() {
                let done = &done;
                scope.spawn(move || churn(node, &network, (2 * number + kind + 1) * 100_000, done));
            }
        }
    });
    let operations = done.into_inner().expect("nobody panics");
    assert_eq!(doubles(&operations), [""; 0]);
    let failed = operations.iter().filter_map(|operation| operation.error.as_deref());
    let failed: Vec<&str> = failed.filter(|error| !error.contains("no free address")).collect();
    assert_eq!(failed, [""; 0]);
    let ledger = Ledger::read(&admin);
    ledger.assert_consistent();
    assert!(ledger.reservations.is_empty());
}
