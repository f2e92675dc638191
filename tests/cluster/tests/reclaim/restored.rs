//! etcd, restored from a backup while agents and pods go on.

use octavia_bridge_cluster_tests::{Cluster, Ledger, Range};
use serde_json::json;

use crate::scene::{Scene, eventually, record};

/// A server of its own: it is ended and comes back as it was some time ago.
#[test]
fn addresses_of_live_pods_that_a_restore_lost_are_put_back() {
    let cluster = Cluster::start();
    let scene = Scene { admin: cluster.namespace("restored") };
    let node = scene.node("worker-1");
    let agent = scene.agent(&node);
    let range = Range::of("172.23.0", 30, 70);
    let pods: Vec<_> = (0..4).map(|n| scene.pod(&format!("pod-{n}"), &node)).collect();
    pods[0].claims(&agent, &range, "container-0");
    record(&agent, "container-0", "172.23.0.30");
    let backup = cluster.back_up();
    for (n, pod) in pods.iter().enumerate().skip(1) {
        assert_eq!(pod.claims(&agent, &range, &format!("container-{n}")), format!("172.23.0.{}", 30 + n));
        record(&agent, &format!("container-{n}"), &format!("172.23.0.{}", 30 + n));
    }
    // A gap that the servers' own start does not make up for.
    let pod = scene.admin.core("pods/pod-0");
    for n in 0..400 {
        let patch = json!({"metadata": {"annotations": {"n": n.to_string()}}});
        scene.admin.call("PATCH", &pod, Some(&patch)).expect(200);
    }
    cluster.restore(&backup);
    // What came after the backup is lost. The agent may have put addresses back by now.
    assert!(scene.admin.get(&pod)["metadata"]["annotations"]["n"].is_null(), "the server did not go back");
    for n in 0..4 {
        let address = format!("172.23.0.{}", 30 + n);
        eventually(&format!("{address} is back"), &[&agent], || {
            let ledger = Ledger::read(&scene.admin);
            ledger.holder(address.parse().expect("an address")).is_some()
                && ledger.reservations.contains_key(&address)
        });
    }
    Ledger::read(&scene.admin).assert_consistent();
    assert!(agent.log().contains("went back from version"), "{}", agent.log());
    // A fresh agent of another node gives away none of them.
    let other = scene.agent(&scene.node("worker-2"));
    let new = scene.pod("new", &scene.node_name("worker-2"));
    assert_eq!(new.claims(&other, &range, "container-9"), "172.23.0.34");
    eventually("the first agent hears of it", &[&agent], || {
        agent.page("/readyz").text.contains("addresses in use: 5")
    });
}
