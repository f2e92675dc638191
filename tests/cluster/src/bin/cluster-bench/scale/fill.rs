//! A pool with entries of many nodes, as agents write them: made of one that an agent has written.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use octavia_bridge_cluster_tests::{Access, Agent, Ledger, Range, Rival};
use serde_json::{Map, Value, json};

/// One more than the offset of the last address.
pub(crate) const ROOM: usize = 8190;
const SUBNET: &str = "10.64.0.0/19";
const POOL: &str = "10.64.0.0-19";
/// Requests under way at once.
const AT_ONCE: usize = 8;

/// The next pod of an agent.
pub(crate) fn claim(agent: &Agent) -> Value {
    static NUMBER: AtomicUsize = AtomicUsize::new(ROOM);
    let n = NUMBER.fetch_add(1, Ordering::Relaxed);
    agent.claim_for(&range(), &container(n), &podref(n), &uid(n), &[])
}

/// A node of a cluster with whereabouts, whose addresses are of the same pool.
pub(crate) fn peer(access: &Access) -> Rival {
    Rival::new(access, SUBNET.parse().expect("a subnet"))
}

/// Bytes of the pool's object, plain and as the server compresses it if it does; it does so with large ones.
pub(crate) fn sizes(access: &Access) -> [usize; 2] {
    let path = format!("{}/{POOL}", access.whereabouts("ippools"));
    [false, true].map(|compressed| access.size(&path, compressed))
}

/// Makes a pool with so many entries, which belong to pods of these nodes in turn.
pub(crate) fn pool(access: &Access, nodes: &[String], entries: usize) {
    let (entry, reservation) = first(access, &nodes[0]);
    let of = |object: &str, n: usize| {
        let text = object
            .replace(&container(1), &container(n))
            .replace(&podref(1), &podref(n))
            .replace(&uid(1), &uid(n))
            .replace(&nodes[0], &nodes[n % nodes.len()]);
        serde_json::from_str::<Value>(&text).expect("JSON is JSON with other words")
    };
    let path = access.whereabouts("overlappingrangeipreservations");
    let next = AtomicUsize::new(2);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n > entries {
                        return;
                    }
                    let mut object = of(&reservation, n);
                    object["metadata"]["name"] = address(n).into();
                    access.create(&path, &object);
                }
            });
        }
    });
    let others: Map<String, Value> = (2..=entries).map(|n| (n.to_string(), of(&entry, n))).collect();
    let path = format!("{}/{POOL}", access.whereabouts("ippools"));
    access.call("PATCH", &path, Some(&json!({"spec": {"allocations": others}}))).expect(200);
    Ledger::read(access).assert_consistent();
}

/// The first entry and its reservation, as an agent writes them, without what the server adds.
fn first(access: &Access, node: &str) -> (String, String) {
    let agent = Agent::start(access, node);
    agent.ready();
    let answer = agent.claim_for(&range(), &container(1), &podref(1), &uid(1), &[]);
    assert!(answer["assigned"].is_array(), "a claim failed: {answer}");
    let pool = access.get(&format!("{}/{POOL}", access.whereabouts("ippools")));
    let path = format!("{}/{}", access.whereabouts("overlappingrangeipreservations"), address(1));
    let mut reservation = access.get(&path);
    let metadata = reservation["metadata"].as_object_mut().expect("an object has metadata");
    metadata.retain(|key, _| ["annotations", "labels"].contains(&key.as_str()));
    (pool["spec"]["allocations"]["1"].to_string(), reservation.to_string())
}

fn range() -> Range {
    Range { subnet: SUBNET.into(), first: address(1), last: address(ROOM - 1) }
}

fn address(n: usize) -> String {
    format!("10.64.{}.{}", n / 256, n % 256)
}

/// As long as the ids of containerd and CRI-O.
fn container(n: usize) -> String {
    format!("{n:064x}")
}

fn podref(n: usize) -> String {
    format!("openstack/octavia-worker-{n:05}")
}

fn uid(n: usize) -> String {
    format!("{n:08}-4b0a-4c1e-9d57-0a6f3c2b1d90")
}
