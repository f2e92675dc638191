//! ADD and DEL of one attachment at the same time: afterwards there is all of it or nothing.

use octavia_bridge_tests::{Call, Lab, Node, Outcome, Pod, conf};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::thread;
use std::time::Duration;

const POOL: &str = "172.23.0.0-24";
/// For a process to start. One that takes longer comes second, which is right as well, and proves less.
const HEAD_START: Duration = Duration::from_millis(100);
const ROUNDS: u64 = 4;
/// With links, and without: as an IPAM plugin.
const FACES: [&str; 2] = ["octavia-bridge", "octavia-ipam"];

fn octavia() -> Value {
    conf::octavia_with(json!({"cniVersion": "1.1.0"}))
}

/// Holds the lock of the node's pools until dropped.
fn hold_the_store(node: &Node) -> File {
    let pools = node.run_dir().join("pools");
    fs::create_dir_all(&pools).expect("make the folder of the pools");
    let lock = File::create(pools.join(".lock")).expect("make the store's lock file");
    lock.lock().expect("lock the store");
    lock
}

/// What there is of the one attachment: its entry in the pool, its interface in the pod, its record.
fn parts(pod: &Pod) -> (usize, usize, usize) {
    (pod.node().allocations(POOL).len(), pod.link_names().len(), records(pod.node()))
}

/// After an ADD and a DEL of one attachment that ran at the same time: which came first is open, but it is as if one
/// had come after the other. Whatever is left is a whole attachment, and ends like one.
fn all_or_nothing(pod: &Pod, face: &str, add: &Outcome, del: &Outcome, story: &str) {
    del.silent_success();
    let whole = (1, usize::from(face == "octavia-bridge"), 1);
    if parts(pod) == (0, 0, 0) {
        // Nothing was ever there, or DEL came last.
        return;
    }
    assert_eq!(parts(pod), whole, "{face}, {story}: entry, interface and record; {add:#?}");
    let result = add.success();
    pod.check(&octavia(), &result).plugin(face).run().silent_success();
    pod.del(&octavia()).plugin(face).run().silent_success();
    assert_eq!(parts(pod), (0, 0, 0), "{face}, {story}");
}

/// Runs two calls, the second after `between`; returns what became of both.
fn one_behind_the_other(
    first: &Call,
    between: impl FnOnce(),
    second: &Call,
    then: impl FnOnce(),
) -> (Outcome, Outcome) {
    thread::scope(|scope| {
        let first = scope.spawn(|| first.run());
        between();
        let second = scope.spawn(|| second.run());
        then();
        (first.join().expect("the first call's thread"), second.join().expect("the second call's thread"))
    })
}

/// A DEL waits for the store, an ADD arrives and waits as well, then the store is free.
fn both_wait_for_the_store(face: &str, node: &Node, round: u64) {
    let pod = node.pod("worker");
    let (add, del) = (pod.add(&octavia()).plugin(face), pod.del(&octavia()).plugin(face));
    let store = hold_the_store(node);
    let one_waits = || node.until_locks_are_waited_for(1);
    let (del, add) = one_behind_the_other(&del, one_waits, &add, || {
        node.until_locks_are_waited_for(2);
        drop(store);
    });
    // DEL was there first, so what this ADD made cannot be what that DEL was about.
    if add.status.success() {
        assert_eq!(node.allocations(POOL).len(), 1, "{face}, round {round}: success without an entry");
    }
    all_or_nothing(&pod, face, &add, &del, &format!("round {round}"));
}

/// One of the two is held up right before it takes the store's lock, when it has already looked at everything else;
/// the other one comes along meanwhile.
fn one_overtakes_the_other(face: &str, node: &Node, slow: &str) {
    let pod = node.pod("worker");
    let (add, del) = (pod.add(&octavia()).plugin(face), pod.del(&octavia()).plugin(face));
    // A store that is there, so that DEL has to ask it even on a node without any attachment.
    drop(hold_the_store(node));
    let head_start = || thread::sleep(HEAD_START);
    let late = "inject=flock:delay_enter=600000";
    let lock = "/run/octavia-bridge/pools/.lock";
    let strace =
        ["/usr/bin/strace", "-f", "-qq", "-o", "/dev/null", "-P", lock, "-e", "trace=flock", "-e", late];
    let (add, del) = if slow == "DEL" {
        let (del, add) = one_behind_the_other(&del.under(&strace), head_start, &add, || {});
        (add, del)
    } else {
        one_behind_the_other(&add.under(&strace), head_start, &del, || {})
    };
    all_or_nothing(&pod, face, &add, &del, &format!("a slow {slow}"));
}

/// How many attachments the node remembers.
fn records(node: &Node) -> usize {
    let folder = node.run_dir().join("attachments");
    if !folder.exists() {
        return 0;
    }
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("list {}: {e}", folder.display()));
    files.map_while(Result::ok).filter(|file| file.path().extension().is_some_and(|e| e == "jsonl")).count()
}

fn meet_in_every_way(face: &str, node: impl Fn() -> Node) {
    for round in 0..ROUNDS {
        both_wait_for_the_store(face, &node(), round);
    }
    for slow in ["ADD", "DEL"] {
        one_overtakes_the_other(face, &node(), slow);
    }
}

#[test]
fn on_a_node_that_was_used_before() {
    for face in FACES {
        let node = Lab::new().node("node1");
        let earlier = node.pod("earlier");
        earlier.add(&octavia()).plugin(face).run().success();
        earlier.del(&octavia()).plugin(face).run().silent_success();
        meet_in_every_way(face, || node.clone());
    }
}

#[test]
fn on_a_node_that_never_had_an_attachment() {
    // No folder of records yet, so nothing to lock for the first DEL unless it makes it.
    for face in FACES {
        meet_in_every_way(face, || Lab::new().node("node1"));
    }
}

#[test]
fn several_dels_of_one_attachment_all_succeed() {
    for face in FACES {
        let node = Lab::new().node("node1");
        let pod = node.pod("worker");
        pod.add(&octavia()).plugin(face).run().success();
        let store = hold_the_store(&node);
        thread::scope(|scope| {
            let dels: Vec<_> =
                (0..3).map(|_| scope.spawn(|| pod.del(&octavia()).plugin(face).run())).collect();
            node.until_locks_are_waited_for(3);
            drop(store);
            for del in dels {
                del.join().expect("a DEL's thread").silent_success();
            }
        });
        assert_eq!(
            (node.allocations(POOL).len(), pod.link_names().len(), records(&node)),
            (0, 0, 0),
            "{face}"
        );
    }
}
