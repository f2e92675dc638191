//! One item that always fails, beside others that do not.

use std::fs;

use octavia_bridge_cluster_tests::{Fault, Proxy, Range, Rule};

use crate::scene::{Scene, eventually, record};

fn range() -> Range {
    Range::of("172.23.0", 30, 70)
}

/// As an admission webhook refuses, or fails, for one object.
#[test]
fn one_release_that_always_fails_keeps_no_other_waiting() {
    for code in [403, 500] {
        let scene = Scene::new("stuck-release");
        let node = scene.node("worker-1");
        let proxy = Proxy::start(&scene.admin);
        let agent = Scene::agent_at(&proxy.access(), &node);
        // The folder lists them in any order, so the one that fails stands between others.
        let pods: Vec<_> = (0..5).map(|n| scene.pod(&format!("pod-{n}"), &node)).collect();
        for (n, pod) in pods.iter().enumerate() {
            pod.claims(&agent, &range(), &format!("container-{n}"));
        }
        let refused = proxy.rule(Rule::on(
            "DELETE",
            "/overlappingrangeipreservations/172.23.0.32",
            Fault::answer(code),
        ));
        for n in 0..5 {
            fs::create_dir_all(agent.tombstones()).expect("create the folder");
            fs::write(agent.tombstones().join(format!("container-{n}@net1")), "").expect("leave a tombstone");
        }
        for n in [0, 1, 3, 4] {
            eventually(&format!("address {n} is free"), &[&agent], || {
                scene.is_free(&format!("172.23.0.{}", 30 + n))
            });
        }
        assert!(refused.hits() > 0, "it was tried, too");
        assert!(scene.reservation("172.23.0.32").is_some());
        proxy.clear_rules();
        scene.becomes_free("172.23.0.32", &[&agent]);
    }
}

#[test]
fn one_reservation_that_cannot_be_made_anew_keeps_no_other_waiting() {
    let scene = Scene::new("stuck-reservation");
    let node = scene.node("worker-1");
    let proxy = Proxy::start(&scene.admin);
    let agent = Scene::agent_at(&proxy.access(), &node);
    let pods: Vec<_> = (0..3).map(|n| scene.pod(&format!("pod-{n}"), &node)).collect();
    for (n, pod) in pods.iter().enumerate() {
        let address = pod.claims(&agent, &range(), &format!("container-{n}"));
        record(&agent, &format!("container-{n}"), &address);
    }
    // All requests to make one look alike, so the first one to be made anew is the one that fails for a while.
    let refused =
        proxy.rule(Rule::on("POST", "/overlappingrangeipreservations", Fault::answer(403)).first(3));
    let kind = scene.admin.whereabouts("overlappingrangeipreservations");
    scene.admin.delete(&format!("{kind}/172.23.0.30"));
    eventually("it is tried", &[&agent], || refused.hits() > 0);
    scene.admin.delete(&format!("{kind}/172.23.0.31"));
    scene.admin.delete(&format!("{kind}/172.23.0.32"));
    for address in ["172.23.0.30", "172.23.0.31", "172.23.0.32"] {
        eventually(&format!("{address} is reserved again"), &[&agent], || {
            scene.reservation(address).is_some()
        });
    }
}
