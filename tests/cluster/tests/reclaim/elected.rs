//! What one agent of all frees: of nodes that are gone, and of pods of which only the name is known.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use octavia_bridge_cluster_tests::{Agent, Claim, Ledger, Proxy, Range};
use serde_json::{Value, json};

use crate::scene::{Scene, eventually, some_graces};

fn range() -> Range {
    Range::of("172.23.0", 30, 70)
}

fn is_elected(agent: &Agent) -> bool {
    agent.figure("octavia_bridge_reclaim_elected") == Some(1.0)
}

fn lease(scene: &Scene) -> String {
    let namespace = scene.admin.namespace();
    format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/octavia-bridge-reclaim")
}

#[test]
fn one_of_two_agents_frees_what_a_lost_node_has_left() {
    let scene = Scene::new("lost-node");
    let [one, two, lost] = ["worker-1", "worker-2", "worker-3"].map(|name| scene.node(name));
    let (gone, alive) = (scene.pod("gone", &lost), scene.pod("alive", &lost));
    let here = scene.pod("here", &one);
    let (left, kept) = {
        let agent = scene.agent(&lost);
        (gone.claims(&agent, &range(), "container-0"), alive.claims(&agent, &range(), "container-1"))
    };
    let (first, second) = (scene.agent(&one), scene.agent(&two));
    let ours = here.claims(&first, &range(), "container-2");
    let both = [&first, &second];
    eventually("one is elected", &both, || is_elected(&first) || is_elected(&second));
    // The pod is gone, but its node is there: its own agent knows more, and comes back.
    scene.delete(&gone);
    some_graces();
    assert!(scene.stands(&left), "{}{}", first.log(), second.log());
    scene.admin.delete(&format!("/api/v1/nodes/{lost}"));
    scene.becomes_free(&left, &both);
    assert!(scene.stands(&kept), "its pod is in the API still, on whichever node");
    assert!(scene.stands(&ours));
    scene.delete(&alive);
    scene.becomes_free(&kept, &both);
    assert!(scene.stands(&ours));
    let reclaimed =
        |agent: &Agent| agent.figure("octavia_bridge_reclaimed_total{reason=\"pod_absent\"}").unwrap_or(0.0);
    let elected_alone = [reclaimed(&first), reclaimed(&second)];
    assert!(elected_alone.contains(&2.0) && elected_alone.contains(&0.0), "{elected_alone:?}");
}

#[test]
fn the_other_agent_takes_over_and_no_clock_matters() {
    let scene = Scene::new("takeover");
    let [one, two] = ["worker-1", "worker-2"].map(|name| scene.node(name));
    let mut first = scene.agent(&one);
    eventually("it is elected", &[&first], || is_elected(&first));
    let second = scene.agent(&two);
    let before = scene.admin.get(&lease(&scene));
    assert_eq!(before["spec"]["holderIdentity"], one);
    // As if the holder's clock were far behind: that it renews the lease is what counts.
    some_graces();
    assert!(!is_elected(&second), "{}", second.log());
    first.kill();
    // And far ahead, of one that is dead.
    let late = json!({"spec": {"renewTime": "2099-01-01T00:00:00.000000Z"}});
    scene.admin.call("PATCH", &lease(&scene), Some(&late)).expect(200);
    eventually("the other one is elected", &[&second], || is_elected(&second));
    let after = scene.admin.get(&lease(&scene));
    assert_eq!(after["spec"]["holderIdentity"], two);
    assert_eq!(after["spec"]["leaseTransitions"], 1);
    // It does what the first one would have done.
    let claim = Claim::new("theirs", &format!("{}/never-was", scene.admin.namespace()));
    scene.rival().add(&claim).expect("an address");
    scene.becomes_free("172.23.0.30", &[&second]);
}

/// It ships with the manifests; agents may not make it.
#[test]
fn without_the_lease_no_agent_is_elected_and_the_log_says_what_to_do() {
    let scene = Scene::new("no-lease");
    let node = scene.node("worker-1");
    scene.admin.delete(&lease(&scene));
    let agent = scene.agent(&node);
    let missing = format!("the Lease {}/octavia-bridge-reclaim is missing", scene.admin.namespace());
    agent.wait("says that the lease is missing", |agent| agent.log().contains(&missing).then_some(()));
    assert!(agent.log().contains("apply the manifests again"), "{}", agent.log());
    assert!(!is_elected(&agent));
    let (namespace, path) = (scene.admin.namespace(), lease(&scene));
    let collection = path.rsplit_once('/').expect("a path").0;
    let object = json!({"metadata": {"name": "octavia-bridge-reclaim", "namespace": namespace}});
    scene.admin.create(collection, &object);
    eventually("it is elected", &[&agent], || is_elected(&agent));
}

#[test]
fn what_whereabouts_wrote_is_freed_when_nobody_is_called_so_and_never_else() {
    let scene = Scene::new("whereabouts");
    let node = scene.node("worker-1");
    let agent = scene.agent(&node);
    let rival = scene.rival();
    let names = ["running", "ended", "replaced", "elsewhere", "gone"];
    let pods = names.map(|name| scene.pod(name, if name == "elsewhere" { "unknown" } else { &node }));
    for (n, pod) in pods.iter().enumerate() {
        rival.add(&Claim::new(&format!("theirs-{n}"), &pod.podref)).expect("an address");
    }
    // An ended pod of whereabouts' cannot be told from an earlier one of the name.
    scene.phase(&pods[1], "Failed");
    scene.delete(&pods[2]);
    scene.pod("replaced", &node);
    scene.delete(&pods[4]);
    scene.becomes_free("172.23.0.34", &[&agent]);
    some_graces();
    for (n, name) in names[..4].iter().enumerate() {
        assert!(scene.stands(&format!("172.23.0.{}", 30 + n)), "{name}\n{}", agent.log());
    }
    Ledger::read(&scene.admin).assert_consistent();
}

#[test]
fn halves_are_judged_like_wholes() {
    let scene = Scene::new("halves");
    let node = scene.node("worker-1");
    let agent = scene.agent(&node);
    let (lives, gone) = (scene.pod("lives", &node), scene.pod("gone", &node));
    // Without overlapping ranges there are no reservations; upstream #712 leaves reservations without an entry.
    let entry = |id: &str, podref: &str| json!({"id": id, "podref": podref, "ifname": "net1"});
    let pool = json!({
        "apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": "IPPool",
        "metadata": {"name": "10.9.0.0-24"},
        "spec": {"range": "10.9.0.0/24", "allocations": {
            "1": entry("a", &lives.podref), "2": entry("b", &gone.podref), "3": entry("c", "no pod"),
        }},
    });
    scene.admin.create(&scene.admin.whereabouts("ippools"), &pool);
    for (address, podref) in [("10.9.0.4", &lives.podref), ("10.9.0.5", &gone.podref)] {
        let reservation = json!({
            "apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": "OverlappingRangeIPReservation",
            "metadata": {"name": address}, "spec": {"podref": podref, "ifname": "net1"},
        });
        scene.admin.create(&scene.admin.whereabouts("overlappingrangeipreservations"), &reservation);
    }
    scene.delete(&gone);
    scene.becomes_free("10.9.0.2", &[&agent]);
    scene.becomes_free("10.9.0.5", &[&agent]);
    some_graces();
    let ledger = Ledger::read(&scene.admin);
    let held: Vec<String> = ledger.pools["10.9.0.0-24"].holders.keys().map(ToString::to_string).collect();
    assert_eq!(
        held,
        ["10.9.0.1", "10.9.0.3"],
        "the last names no pod, so nothing is proven\n{}",
        agent.log()
    );
    assert_eq!(ledger.reservations.keys().collect::<Vec<_>>(), ["10.9.0.4"]);
}

/// Whereabouts gives a pod's entry to its next sandbox and leaves the reservation as it was.
#[test]
fn an_entry_that_whereabouts_took_over_is_not_judged_by_the_uid_of_before() {
    let scene = Scene::new("taken-over");
    let node = scene.node("worker-1");
    let agent = scene.agent(&node);
    let old = scene.pod("octavia-worker-0", &node);
    assert_eq!(old.claims(&agent, &range(), "old"), "172.23.0.30");
    let address = scene.rival().add(&Claim::new("new", &old.podref)).expect("an address");
    assert_eq!(address.to_string(), "172.23.0.30");
    scene.delete(&old);
    let new = scene.pod("octavia-worker-0", &node);
    some_graces();
    assert!(scene.stands("172.23.0.30"), "{}", agent.log());
    assert_eq!(scene.holder("172.23.0.30").map(|holder| holder.id).as_deref(), Some("new"));
    scene.delete(&new);
    scene.becomes_free("172.23.0.30", &[&agent]);
}

/// A thousand entries of whereabouts' must not be a thousand requests in each round.
#[test]
fn questions_for_pods_of_others_have_a_budget_and_each_has_its_turn() {
    const PODS: usize = 100;
    let scene = Scene::new("budget");
    let node = scene.node("worker-1");
    let mut allocations: BTreeMap<String, Value> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for number in 0..PODS {
        let pod = scene.pod(&format!("pod-{number}"), &node);
        let entry = json!({"id": format!("container-{number}"), "podref": pod.podref, "ifname": "net1"});
        allocations.insert((number + 1).to_string(), entry);
        names.insert(pod.name);
    }
    let pool = json!({
        "apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": "IPPool", "metadata": {"name": "172.23.0.0-24"},
        "spec": {"range": "172.23.0.0/24", "allocations": allocations},
    });
    scene.admin.create(&scene.admin.whereabouts("ippools"), &pool);
    let proxy = Proxy::start(&scene.admin);
    let agent = Scene::agent_at(&proxy.access(), &node);
    let prefix = scene.admin.core("pods/");
    let asked = || -> Vec<String> {
        let asked = proxy.exchanges().into_iter().filter(|one| one.method == "GET");
        asked.filter_map(|one| one.path.strip_prefix(&prefix).map(ToOwned::to_owned)).collect()
    };
    eventually("it asks", &[&agent], || !asked().is_empty());
    // What exists is due again after five seconds here, so there is always something to ask.
    let (started, before) = (Instant::now(), asked().len());
    thread::sleep(Duration::from_secs(8));
    let (questions, elapsed) = (asked().len() - before, started.elapsed());
    let budget = 5.0 * elapsed.as_secs_f64() + 2.0;
    assert!(questions > 0 && questions as f64 <= budget, "{questions} in {elapsed:?}");
    eventually("each was asked for", &[&agent], || names.iter().all(|name| asked().contains(name)));
    assert_eq!(Ledger::read(&scene.admin).pools.values().map(|pool| pool.holders.len()).sum::<usize>(), PODS);
}
