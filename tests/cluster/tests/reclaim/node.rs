//! What a node's own agent frees and puts back.

use std::fs;

use octavia_bridge_cluster_tests::{Agent, Claim, Fault, Ledger, Proxy, Range, Rule};
use serde_json::json;

use crate::scene::{Pod, Scene, eventually, record, record_of_an_add, record_of_the_dead, some_graces};

fn range() -> Range {
    Range::of("172.23.0", 30, 70)
}

#[test]
fn pods_that_are_gone_replaced_or_ended_leave_no_address_behind() {
    let scene = Scene::new("leaks");
    let node = scene.node("worker-1");
    let agent = scene.agent(&node);
    let pods: Vec<_> = ["lives", "deleted", "replaced", "succeeded", "failed"]
        .into_iter()
        .enumerate()
        .map(|(n, name)| (scene.pod(name, &node), format!("container-{n}")))
        .collect();
    for (n, (pod, container)) in pods.iter().enumerate() {
        assert_eq!(pod.claims(&agent, &range(), container), format!("172.23.0.{}", 30 + n));
    }
    // No DEL ever comes.
    scene.delete(&pods[1].0);
    scene.delete(&pods[2].0);
    let replacement = scene.pod("replaced", &node);
    scene.phase(&pods[3].0, "Succeeded");
    scene.phase(&pods[4].0, "Failed");
    // The record of one that died with its node says nothing against it.
    record_of_the_dead(&agent, "container-1");
    for n in 1..5 {
        scene.becomes_free(&format!("172.23.0.{}", 30 + n), &[&agent]);
    }
    assert!(scene.stands("172.23.0.30"), "its pod lives");
    Ledger::read(&scene.admin).assert_consistent();
    for (reason, count) in [("pod_absent", 1.0), ("pod_replaced", 1.0), ("pod_ended", 2.0)] {
        let figure = format!("octavia_bridge_reclaimed_total{{reason=\"{reason}\"}}");
        assert_eq!(agent.figure(&figure), Some(count), "{reason}\n{}", agent.log());
    }
    let log = agent.log();
    let said = format!(
        "reclaimed 172.23.0.31 of {} net1 (container container-1): there is no pod",
        pods[1].0.podref
    );
    assert!(log.contains(&said), "{log}");
    assert_eq!(replacement.claims(&agent, &range(), "container-9"), "172.23.0.31", "the lowest that is free");
}

#[test]
fn a_pod_of_the_same_name_keeps_what_is_its_own() {
    let scene = Scene::new("statefulset");
    let node = scene.node("worker-1");
    let patient = Agent::start(&scene.admin, &node);
    let old = scene.pod("octavia-worker-0", &node);
    assert_eq!(old.claims(&patient, &range(), "old"), "172.23.0.30");
    scene.delete(&old);
    let new = scene.pod("octavia-worker-0", &node);
    let answer = patient.claim_for(&range(), "new", &new.podref, &new.uid, &[]);
    assert_eq!(answer["contested"][0]["containerId"], "old", "{answer}");
    // The old one's sandbox is gone, and the new pod takes the address over: now it is its own, and lives.
    assert_eq!(new.claims_after(&patient, &range(), "new", &["old"]), "172.23.0.30");
    drop(patient);
    let agent = scene.agent(&node);
    agent.ready();
    some_graces();
    assert!(scene.stands("172.23.0.30"), "{}", agent.log());
    assert_eq!(scene.holder("172.23.0.30").map(|holder| holder.id).as_deref(), Some("new"));
    assert_eq!(agent.figure("octavia_bridge_reclaimed_total{reason=\"pod_replaced\"}"), Some(0.0));
}

#[test]
fn a_full_range_names_what_is_leaked() {
    let scene = Scene::new("full");
    let node = scene.node("worker-1");
    let agent = Agent::start(&scene.admin, &node);
    let range = Range::of("172.23.0", 30, 31);
    let [lives, gone, third] = ["lives", "gone", "third"].map(|name| scene.pod(name, &node));
    lives.claims(&agent, &range, "lives");
    assert_eq!(gone.claims(&agent, &range, "gone"), "172.23.0.31");
    scene.delete(&gone);
    let said = format!(
        "1 of pods that are gone from this node: 172.23.0.31 of {} net1 (container gone)",
        gone.podref
    );
    eventually("the failure names it", &[&agent], || {
        let answer = agent.claim_for(&range, "third", &third.podref, &third.uid, &[]);
        answer["failed"]["message"].as_str().is_some_and(|message| message.contains(&said))
    });
}

/// A pod was deleted by force, and its sandbox still runs; its successor on another node finds an entry that names no node, as in
/// networks without reservations.
#[test]
fn a_sandbox_that_no_node_is_known_of_is_not_taken_for_dead_at_once() {
    let scene = Scene::new("two-sandboxes");
    let (first, second) = (scene.node("worker-1"), scene.node("worker-2"));
    let old = scene.pod("octavia-worker-0", &first);
    {
        let agent = scene.agent(&first);
        assert_eq!(old.claims(&agent, &range(), "old"), "172.23.0.30");
    }
    scene.admin.delete(&scene.admin.whereabouts("overlappingrangeipreservations/172.23.0.30"));
    let agent = scene.agent(&second);
    // The API still has the old one.
    let claim = |container: &str, pod: &Pod| pod.claims_after(&agent, &range(), container, &["old"]);
    assert_eq!(claim("early", &old), "172.23.0.31");
    some_graces();
    assert_eq!(claim("early", &old), "172.23.0.31");
    assert_eq!(agent.release("early")["released"], 1);
    scene.delete(&old);
    let new = scene.pod("octavia-worker-0", &second);
    assert_eq!(claim("new", &new), "172.23.0.31");
    assert_eq!(agent.release("new")["released"], 1);
    // The runtime tries again, and for a grace period nothing shows that the old one runs.
    eventually("it is taken for gone", &[&agent], || {
        let address = claim("newer", &new);
        assert_eq!(agent.release("newer")["released"], 1);
        address == "172.23.0.30"
    });
}

#[test]
fn a_pod_that_only_the_watch_does_not_tell_of_lives() {
    let scene = Scene::new("late-watch");
    let node = scene.node("worker-1");
    let proxy = Proxy::start(&scene.admin);
    // The list is from before the pod, and after it nothing is heard.
    let watch = proxy.rule(Rule::on("GET", "/api/v1/pods?*watch=true", Fault::Hang));
    let agent = Scene::agent_at(&proxy.access(), &node);
    eventually("the watch hangs", &[&agent], || watch.hits() > 0);
    let pod = scene.pod("unheard-of", &node);
    let address = pod.claims(&agent, &range(), "container");
    let asked = || proxy.exchanges().iter().filter(|seen| seen.path.ends_with("/pods/unheard-of")).count();
    eventually("it is suspected, and asked for", &[&agent], || asked() >= 2);
    assert!(scene.stands(&address), "{}", agent.log());
}

#[test]
fn without_a_right_to_read_pods_nothing_is_proven() {
    let scene = Scene::new("no-pods");
    let node = scene.node("worker-1");
    for denied in ["/api/v1/pods?", "/pods/gone"] {
        let proxy = Proxy::start(&scene.admin);
        let hits = proxy.rule(Rule::on("GET", denied, Fault::answer(403)));
        let agent = Scene::agent_at(&proxy.access(), &node);
        let pod = scene.pod("gone", &node);
        let address = pod.claims(&agent, &range(), "container");
        scene.delete(&pod);
        eventually("it is refused", &[&agent], || hits.hits() >= 2);
        some_graces();
        assert!(scene.stands(&address), "{denied}\n{}", agent.log());
        let log = agent.log();
        assert!(log.contains("403 Forbidden"), "{log}");
        // With the right it goes on by itself.
        proxy.clear_rules();
        scene.becomes_free(&address, &[&agent]);
    }
}

/// As a load balancer answers that has lost its way.
#[test]
fn a_404_of_somebody_else_proves_nothing() {
    let scene = Scene::new("not-found");
    let node = scene.node("worker-1");
    let proxy = Proxy::start(&scene.admin);
    let watch = proxy.rule(Rule::on("GET", "/api/v1/pods?*watch=true", Fault::Hang));
    let strange = proxy.rule(Rule::on("GET", "/pods/", Fault::answer(404)));
    let agent = Scene::agent_at(&proxy.access(), &node);
    eventually("the watch hangs", &[&agent], || watch.hits() > 0);
    let address = scene.pod("lives", &node).claims(&agent, &range(), "container");
    eventually("it is answered so", &[&agent], || strange.hits() >= 2);
    some_graces();
    assert!(scene.stands(&address), "{}", agent.log());
}

#[test]
fn an_api_that_is_away_proves_nothing_and_is_waited_for() {
    let scene = Scene::new("away");
    let node = scene.node("worker-1");
    let proxy = Proxy::start(&scene.admin);
    let agent = Scene::agent_at(&proxy.access(), &node);
    let (gone, lives) = (scene.pod("gone", &node), scene.pod("lives", &node));
    let left = gone.claims(&agent, &range(), "container-0");
    let kept = lives.claims(&agent, &range(), "container-1");
    proxy.down();
    scene.delete(&gone);
    some_graces();
    proxy.up();
    scene.becomes_free(&left, &[&agent]);
    assert!(scene.stands(&kept));
    // An answer that is cut off after the server has done it, and one that is refused before.
    for (name, path, method, fault) in [
        ("cut", "/ippools/", "PATCH", Fault::CutAfter),
        ("conflict", "/ippools/", "PATCH", Fault::answer(409)),
        ("half", "/overlappingrangeipreservations/", "DELETE", Fault::CutAfter),
        ("busy", "/overlappingrangeipreservations/", "DELETE", Fault::answer(500)),
    ] {
        let pod = scene.pod(name, &node);
        let address = pod.claims(&agent, &range(), name);
        let hits = proxy.rule(Rule::on(method, path, fault).first(1));
        scene.delete(&pod);
        scene.becomes_free(&address, &[&agent]);
        assert_eq!(hits.hits(), 1, "{name}");
        proxy.clear_rules();
    }
    assert!(scene.stands(&kept));
}

#[test]
fn an_agent_that_starts_finds_what_was_left_while_it_was_away() {
    let scene = Scene::new("restart");
    let node = scene.node("worker-1");
    let (gone, lives) = (scene.pod("gone", &node), scene.pod("lives", &node));
    let (left, kept) = {
        let agent = scene.agent(&node);
        (gone.claims(&agent, &range(), "container-0"), lives.claims(&agent, &range(), "container-1"))
    };
    scene.delete(&gone);
    let agent = scene.agent(&node);
    scene.becomes_free(&left, &[&agent]);
    some_graces();
    assert!(scene.stands(&kept));
}

#[test]
fn what_still_stands_on_the_node_is_kept_although_its_pod_was_deleted_by_force() {
    let scene = Scene::new("force");
    let node = scene.node("worker-1");
    let agent = scene.agent(&node);
    let pod = scene.pod("forced", &node);
    let address = pod.claims(&agent, &range(), "container");
    record(&agent, "container", &address);
    scene.delete(&pod);
    agent.wait("says why it keeps the address", |agent| {
        agent
            .log()
            .contains("is not reclaimed: its pod is gone from the API, but its network namespace")
            .then_some(())
    });
    assert!(scene.stands(&address));
    record_of_the_dead(&agent, "container");
    scene.becomes_free(&address, &[&agent]);
}

#[test]
fn a_pod_that_kubelet_has_from_a_file_is_known_by_its_name() {
    let scene = Scene::new("static");
    let node = scene.node("worker-1");
    let agent = scene.agent(&node);
    // The API's image of it has a uid of its own; plugins are told another one.
    let mirror = scene.pod_with("static", &node, &json!({"kubernetes.io/config.mirror": "abcdef"}));
    let answer = agent.claim_for(&range(), "container", &mirror.podref, "uid-of-the-file", &[]);
    assert!(answer["assigned"].is_array(), "{answer}");
    some_graces();
    assert!(scene.stands("172.23.0.30"), "{}", agent.log());
    scene.delete(&mirror);
    scene.becomes_free("172.23.0.30", &[&agent]);
}

/// Whereabouts' DEL after a lost race deletes a reservation by its name, whosever it is.
#[test]
fn a_reservation_that_somebody_deleted_is_made_anew() {
    let scene = Scene::new("reservation");
    let node = scene.node("worker-1");
    let agent = scene.agent(&node);
    let pod = scene.pod("lives", &node);
    let address = pod.claims(&agent, &range(), "container");
    let before = scene.reservation(&address).expect("a reservation");
    scene.admin.delete(&scene.admin.whereabouts(&format!("overlappingrangeipreservations/{address}")));
    eventually("it is back", &[&agent], || scene.reservation(&address).is_some());
    let after = scene.reservation(&address).expect("a reservation");
    assert_eq!(after["spec"], before["spec"]);
    assert_eq!(after["metadata"]["annotations"], before["metadata"]["annotations"]);
    assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
    // Of a release that is under way nothing is put back.
    assert_eq!(agent.release("container")["released"], 1);
    some_graces();
    assert!(scene.is_free(&address), "{}", agent.log());
    assert_eq!(agent.figure("octavia_bridge_restored_total{kind=\"reservation\"}"), Some(1.0));
}

/// Whereabouts' reconciler removes entries of pods that it takes for dead.
#[test]
fn an_entry_that_somebody_removed_is_put_back_while_its_sandbox_stands() {
    let scene = Scene::new("entry");
    let node = scene.node("worker-1");
    let agent = scene.agent(&node);
    let remove = |key: &str| {
        let patch = json!([{"op": "remove", "path": format!("/spec/allocations/{key}")}]);
        let pool = scene.admin.whereabouts("ippools/172.23.0.0-24");
        scene.admin.call("PATCH", &pool, Some(&patch)).expect(200);
    };
    let (known, unknown) = (scene.pod("known", &node), scene.pod("unknown", &node));
    assert_eq!(known.claims(&agent, &range(), "known"), "172.23.0.30");
    assert_eq!(unknown.claims(&agent, &range(), "unknown"), "172.23.0.31");
    record(&agent, "known", "172.23.0.30");
    remove("30");
    remove("31");
    eventually("it is back", &[&agent], || scene.holder("172.23.0.30").is_some());
    let holder = scene.holder("172.23.0.30").expect("an entry");
    assert_eq!((holder.id.as_str(), holder.podref.as_str()), ("known", known.podref.as_str()));
    // Whether the other one is an attachment, or what a failed ADD has left, nobody knows.
    assert!(scene.holder("172.23.0.31").is_none());
    assert!(scene.reservation("172.23.0.31").is_some(), "so nobody gets the address");
    scene.delete(&unknown);
    scene.becomes_free("172.23.0.31", &[&agent]);
}

/// Whereabouts' reconciler takes both away from a pod whose network-status does not tell of the address yet.
#[test]
fn an_address_that_whereabouts_reconciler_freed_is_kept_from_others_while_its_sandbox_stands() {
    let scene = Scene::new("reconciler");
    let node = scene.node("worker-1");
    let agent = scene.agent(&node);
    let (lives, ends) = (scene.pod("lives", &node), scene.pod("ends", &node));
    assert_eq!(lives.claims(&agent, &range(), "lives"), "172.23.0.30");
    assert_eq!(ends.claims(&agent, &range(), "ends"), "172.23.0.31");
    record(&agent, "lives", "172.23.0.30");
    let freed = scene.rival().reconcile().expect("the reconciler's run");
    assert_eq!(freed.iter().map(ToString::to_string).collect::<Vec<_>>(), ["172.23.0.30", "172.23.0.31"]);
    eventually("it is whole again", &[&agent], || {
        !scene.is_free("172.23.0.30") && scene.holder("172.23.0.30").is_some()
    });
    assert!(scene.stands("172.23.0.30"));
    assert!(scene.is_free("172.23.0.31"), "nobody knows whether that one lives\n{}", agent.log());
    // After its DEL nothing comes back.
    assert_eq!(agent.release("lives")["released"], 1);
    fs::remove_file(agent.state().join("attachments/lives@net1.jsonl")).expect("remove the record");
    some_graces();
    assert!(scene.is_free("172.23.0.30"), "{}", agent.log());
}

/// The agent hears of its own deletion before the server answers it.
#[test]
fn a_reservation_that_a_claim_gave_up_does_not_come_back() {
    let scene = Scene::new("gave-way");
    let node = scene.node("worker-1");
    let proxy = Proxy::start(&scene.admin);
    let agent = Scene::agent_at(&proxy.access(), &node);
    let (first, second) = (scene.pod("first", &node), scene.pod("second", &node));
    assert_eq!(first.claims(&agent, &range(), "first"), "172.23.0.30");
    let slow = std::time::Duration::from_secs(1);
    let patch = proxy.rule(Rule::on("PATCH", "/ippools/", Fault::Delay(slow)).first(1));
    let deletion =
        proxy.rule(Rule::on("DELETE", "/overlappingrangeipreservations/", Fault::DelayAfter(slow)).first(1));
    record_of_an_add(&agent, "second");
    let address = std::thread::scope(|threads| {
        let claim = threads.spawn(|| second.claims(&agent, &range(), "second"));
        eventually("its patch is on the way", &[&agent], || patch.hits() == 1);
        // Whereabouts writes the entry before the reservation.
        let entry = json!({"id": "theirs", "podref": "ns/theirs", "ifname": "net1"});
        let patch = json!([{"op": "add", "path": "/spec/allocations/31", "value": entry}]);
        let pool = scene.admin.whereabouts("ippools/172.23.0.0-24");
        scene.admin.call("PATCH", &pool, Some(&patch)).expect(200);
        claim.join().expect("an address")
    });
    assert_eq!((deletion.hits(), address == "172.23.0.31"), (1, false), "{address}");
    record(&agent, "second", &address);
    some_graces();
    assert_eq!(scene.reservation("172.23.0.31"), None, "{}", agent.log());
    assert!(scene.stands(&address));
    assert!(!agent.log().contains("was deleted while its pod lives"), "{}", agent.log());
}

/// A reservation that a claim could not give back, and the agent's restart made it forget that.
#[test]
fn a_reservation_that_its_pod_has_no_use_for_is_released() {
    let scene = Scene::new("surplus");
    let node = scene.node("worker-1");
    let agent = scene.agent(&node);
    let pod = scene.pod("lives", &node);
    let address = pod.claims(&agent, &range(), "container");
    record(&agent, "container", &address);
    let mut surplus = scene.reservation(&address).expect("a reservation");
    surplus["metadata"] = json!({"name": "172.23.0.40", "annotations": surplus["metadata"]["annotations"]});
    scene.admin.create(&scene.admin.whereabouts("overlappingrangeipreservations"), &surplus);
    scene.becomes_free("172.23.0.40", &[&agent]);
    assert!(scene.stands(&address), "{}", agent.log());
}

#[test]
fn a_rival_that_works_meanwhile_loses_nothing() {
    let scene = Scene::new("rival");
    let node = scene.node("worker-1");
    let agent = scene.agent(&node);
    let rival = scene.rival();
    let theirs: Vec<_> = (0..4).map(|n| scene.pod(&format!("theirs-{n}"), &node)).collect();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for round in 0..3 {
                for (n, pod) in theirs.iter().enumerate() {
                    let claim = Claim::new(&format!("theirs-{n}-{round}"), &pod.podref);
                    rival.add(&claim).expect("an address");
                    if round < 2 {
                        rival.del(&claim).expect("released");
                    }
                }
            }
        });
        for n in 0..8 {
            let pod = scene.pod(&format!("ours-{n}"), &node);
            let address = pod.claims(&agent, &range(), &format!("ours-{n}"));
            scene.delete(&pod);
            eventually("it is reclaimed", &[&agent], || {
                scene.holder(&address).is_none_or(|holder| holder.podref != pod.podref)
            });
        }
    });
    some_graces();
    let ledger = Ledger::read(&scene.admin);
    ledger.assert_consistent();
    let holders = &ledger.pools["172.23.0.0-24"].holders;
    let mut ids: Vec<&str> = holders.values().map(|holder| holder.id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["theirs-0-2", "theirs-1-2", "theirs-2-2", "theirs-3-2"], "{}", agent.log());
}

#[test]
fn a_reservation_deleted_while_no_agent_was_there_is_made_anew() {
    let scene = Scene::new("unseen");
    let node = scene.node("worker-1");
    let first = Agent::start(&scene.admin, &node);
    let pods: Vec<_> = (0..3).map(|n| scene.pod(&format!("octavia-worker-{n}"), &node)).collect();
    for (n, pod) in pods.iter().enumerate() {
        assert_eq!(pod.claims(&first, &range(), &format!("container-{n}")), format!("172.23.0.{}", 30 + n));
    }
    drop(first);
    for address in ["172.23.0.30", "172.23.0.31"] {
        let path = format!("{}/{address}", scene.admin.whereabouts("overlappingrangeipreservations"));
        scene.admin.delete(&path);
    }
    let agent = scene.agent(&node);
    // Of the other one it is not known that its sandbox stands here.
    record(&agent, "container-0", "172.23.0.30");
    eventually("the reservation is back", &[&agent], || scene.reservation("172.23.0.30").is_some());
    let again = scene.reservation("172.23.0.30").expect("just seen");
    assert_eq!(again["spec"]["containerid"], "container-0", "{again}");
    assert_eq!(again["metadata"]["annotations"]["octavia-bridge/pod-uid"], pods[0].uid.as_str(), "{again}");
    some_graces();
    assert!(scene.reservation("172.23.0.31").is_none());
    let restored = agent.figure("octavia_bridge_restored_total{kind=\"reservation\"}");
    assert_eq!(restored, Some(1.0), "{}", agent.log());
    // Its release takes it away again.
    assert_eq!(agent.release("container-0")["released"], 1);
    assert!(scene.is_free("172.23.0.30"));
}
