//! Many runs at once: a node that starts, and a node whose pods come and go.

use octavia_bridge_tests::{Attached, Lab, Pod, conf};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread;

/// Runs `story` for each pod at the same time.
fn at_once<T: Send>(pods: &[Pod], story: impl Fn(&Pod) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let runs: Vec<_> = pods.iter().map(|pod| scope.spawn(|| story(pod))).collect();
        runs.into_iter().map(|run| run.join().expect("a run failed")).collect()
    })
}

#[test]
fn forty_adds_at_once_get_forty_addresses() {
    let node = Lab::new().node("node1");
    let conf = conf::octavia_with(json!({"ipam": {"range_end": "172.23.0.69"}}));
    let pods: Vec<Pod> = (0..40).map(|_| node.pod("worker")).collect();
    let before = node.snapshot(&[]);
    let attached: Vec<Attached> = at_once(&pods, |pod| pod.add(&conf).run().attached());
    // The lowest forty, each once.
    let given: BTreeSet<IpAddr> = attached.iter().map(Attached::ip).collect();
    let lowest: BTreeSet<IpAddr> = (30..70).map(|last| [172, 23, 0, last].into()).collect();
    assert_eq!(given, lowest);
    assert_eq!(node.ports("octbr").len(), 40);
    assert_eq!(node.allocations("172.23.0.0-24").len(), 40);
    // Each pod has the address that its own result names.
    for (pod, attached) in pods.iter().zip(&attached) {
        assert_eq!(pod.expect_link("net1").addresses(), [attached.address()]);
    }

    at_once(&pods, |pod| pod.del(&conf).run().silent_success());
    node.ip("link del octbr");
    node.snapshot(&[]).assert_same_as(&before);
}

#[test]
fn two_hundred_cycles_in_parallel_without_one_error() {
    let node = Lab::new().node("node1");
    let resident = node.pod("resident");
    resident.add(&conf::octavia()).run().attached();
    let before = node.snapshot(&[&resident]);
    let pods: Vec<Pod> = (0..8).map(|_| node.pod("worker")).collect();
    at_once(&pods, |pod| {
        for _ in 0..25 {
            pod.add(&conf::octavia()).run().attached();
            pod.del(&conf::octavia()).run().silent_success();
        }
    });
    node.snapshot(&[&resident]).assert_same_as(&before);
    assert!(pods.iter().all(|pod| pod.link_names().is_empty()));
}

#[test]
fn of_two_adds_of_one_attachment_one_wins() {
    let node = Lab::new().node("node1");
    for _ in 0..10 {
        let pod = node.pod("worker");
        let outcomes = thread::scope(|scope| {
            let add = || pod.add(&conf::octavia()).run();
            let runs = [scope.spawn(add), scope.spawn(add)];
            runs.map(|run| run.join().expect("a run failed"))
        });
        let (won, lost): (Vec<_>, Vec<_>) = outcomes.iter().partition(|outcome| outcome.status.success());
        assert_eq!((won.len(), lost.len()), (1, 1), "{outcomes:#?}");
        lost[0].error(103);
        // The loser has not undone the winner's work.
        assert_eq!(pod.expect_link("net1").addresses(), [won[0].attached().address()]);
        pod.del(&conf::octavia()).run().silent_success();
        assert!(node.allocations("172.23.0.0-24").is_empty());
    }
}

#[test]
fn an_add_and_a_del_of_one_attachment_do_not_mix() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    let before = node.snapshot(&[]);
    for _ in 0..25 {
        let pod = node.pod("worker");
        thread::scope(|scope| {
            scope.spawn(|| pod.add(&conf::octavia()).run().attached());
            scope.spawn(|| pod.del(&conf::octavia()).run().silent_success());
        });
        // Whichever was first: attached wholly or not at all.
        let (links, held) = (pod.link_names(), node.allocations("172.23.0.0-24"));
        assert_eq!(links.len(), held.len(), "{links:?} {held:?}");
        pod.del(&conf::octavia()).run().silent_success();
        node.snapshot(&[]).assert_same_as(&before);
    }
}
