//! Many at once.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use octavia_bridge_cluster_tests::{Cluster, Ledger, Proxy};

use crate::node::{Network, Node, Pod, address, eventually};

/// Room for hundreds.
const WIDE: Network =
    Network { range: "172.30.0.0/20", first: "172.30.0.10", last: "172.30.15.254", overlapping: true };

/// `each` pods on every node at once; how long the last one took.
fn crowd(nodes: &[Node], network: &Network, each: usize) -> Duration {
    let started = Instant::now();
    let addresses: Vec<IpAddr> = thread::scope(|scope| {
        let pods = (0..each * nodes.len())
            .map(|number| scope.spawn(move || nodes[number % nodes.len()].add(network, &Pod::new(number))));
        pods.collect::<Vec<_>>().into_iter().map(|pod| pod.join().expect("an address")).collect()
    });
    let took = started.elapsed();
    let distinct: BTreeSet<IpAddr> = addresses.iter().copied().collect();
    assert_eq!(distinct.len(), addresses.len(), "no address twice");
    took
}

fn disperse(nodes: &[Node], each: usize) {
    thread::scope(|scope| {
        for number in 0..each * nodes.len() {
            scope.spawn(move || nodes[number % nodes.len()].del(&Pod::new(number)));
        }
    });
}

#[test]
fn a_hundred_at_once_on_one_node() {
    let admin = Cluster::shared().namespace("hundred");
    let audit = Cluster::shared().audit();
    let nodes = [Node::start(&admin, "node-1")];
    // A new pool, too.
    let mark = audit.mark();
    let took = crowd(&nodes, &WIDE, 100);
    let requests = audit.since(mark).iter().filter(|r| r.namespace == admin.namespace()).count();
    println!("100 at once on one node: {took:?}, {requests} requests");
    let ledger = Ledger::read(&admin);
    ledger.assert_consistent();
    assert_eq!(ledger.reservations.len(), 100);
    assert!(requests <= 200, "{requests} requests for 100 addresses");
    // The server's notes on who wrote which field would be half as large again, and most of its work.
    let pool = admin.get(&format!("{}/172.30.0.0-20", admin.whereabouts("ippools")));
    assert!(pool["metadata"].get("managedFields").is_none(), "{}", pool["metadata"]);
    let started = Instant::now();
    disperse(&nodes, 100);
    println!("100 DELs at once: {:?}", started.elapsed());
    let ledger = Ledger::read(&admin);
    ledger.assert_consistent();
    assert!(ledger.reservations.is_empty());
}

#[test]
fn a_hundred_at_once_over_ten_nodes() {
    let admin = Cluster::shared().namespace("ten");
    let audit = Cluster::shared().audit();
    let nodes: Vec<Node> = (0..10).map(|number| Node::start(&admin, &format!("node-{number}"))).collect();
    let mark = audit.mark();
    let took = crowd(&nodes, &WIDE, 10);
    let requests = audit.since(mark).iter().filter(|r| r.namespace == admin.namespace()).count();
    println!("100 at once over ten nodes: {took:?}, {requests} requests");
    let ledger = Ledger::read(&admin);
    ledger.assert_consistent();
    assert_eq!(ledger.reservations.len(), 100);
    disperse(&nodes, 10);
    assert!(Ledger::read(&admin).reservations.is_empty());
}

#[test]
fn another_networks_crowd_does_not_matter() {
    let admin = Cluster::shared().namespace("other");
    // What one waits for another would be seen when each request takes a while.
    let proxy = Proxy::start(&admin);
    proxy.latency(Duration::from_millis(10));
    let nodes = [Node::start(&proxy.access(), "node-1")];
    let quiet = Network { range: "10.2.0.0/24", first: "10.2.0.1", last: "10.2.0.254", overlapping: true };
    nodes[0].add(&quiet, &Pod::new(1000));
    let slowest = thread::scope(|scope| {
        let crowd = scope.spawn(|| crowd(&nodes, &WIDE, 300));
        let mut slowest = Duration::ZERO;
        let mut number = 1001;
        while !crowd.is_finished() {
            let started = Instant::now();
            nodes[0].add(&quiet, &Pod::new(number));
            slowest = slowest.max(started.elapsed());
            number += 1;
        }
        println!("300 at once at 10 ms per request: {:?}", crowd.join().expect("all have one"));
        slowest
    });
    println!("meanwhile on another network at most {slowest:?}");
    Ledger::read(&admin).assert_consistent();
}

/// Of what it reads the agent keeps a third. Its brief is 20 MiB in all with 5,000 allocations, which a release build meets;
/// this one is not optimised.
#[test]
fn five_thousand_allocations_are_a_few_mebibytes() {
    let admin = Cluster::shared().namespace("memory");
    let node = Node::start(&admin, "node-1");
    let at_first = node.memory();
    let large =
        [("10.10.0.0/19", "10.10.0.1", "10.10.31.254"), ("10.11.0.0/19", "10.11.0.1", "10.11.31.254")];
    for (pool, (range, first, last)) in large.into_iter().enumerate() {
        let network = Network { range, first, last, overlapping: true };
        for batch in 0..25 {
            thread::scope(|scope| {
                for number in 0..100 {
                    let pod = Pod {
                        id: format!("{:064}", pool * 10_000 + batch * 100 + number),
                        name: format!("openstack/octavia-worker-{pool}-{batch}-{number}"),
                    };
                    let node = &node;
                    // On a busy machine the server may not answer in time; who attaches pods tries again.
                    let claimed = move || address(&node.claim(&network, &pod)).is_some();
                    scope.spawn(move || eventually("an address", claimed));
                }
            });
        }
    }
    let (now, most) = node.memory();
    println!("5000 allocations: {at_first:?} KiB at first, {now} KiB now, {most} KiB at most");
    assert_eq!(Ledger::read(&admin).reservations.len(), 5000);
    assert!(now < at_first.0 + (20 << 10), "{at_first:?} KiB at first, {now} KiB now");
}
