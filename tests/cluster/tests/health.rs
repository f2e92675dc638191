//! What the agent tells of itself when it serves the pools of a cluster.

use std::time::Duration;
use std::{fs, thread};

use octavia_bridge_cluster_tests::{Access, Agent, Cluster, Fault, Page, Proxy, Range, Rule};
use serde_json::{Value, json};

fn start(access: &Access, node: &str) -> Agent {
    Cluster::shared().node(node);
    Agent::start(access, node)
}

#[test]
fn it_is_ready_when_it_serves_pools_and_says_how_full_they_are() {
    let admin = Cluster::shared().namespace("ready");
    let agent = start(&admin, "node1");
    agent.ready();
    let Page { text, .. } = agent.page("/readyz");
    for line in [
        "ok    policy   no policy applies",
        "ok    api      https://",
        "ok    pools    watched: 0",
        "ok    socket",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert_eq!(agent.page("/healthz").status, 200);

    let range = Range::of("10.1.0", 30, 34);
    for n in 0..5 {
        let answer = agent.claim(&range, &format!("container-{n}"), &format!("pod-{n}"), &[]);
        assert!(answer["assigned"].is_array(), "{answer}");
    }
    let full = agent.claim(&range, "container-5", "pod-5", &[]);
    assert_eq!(full["failed"]["kind"], "exhausted", "{full}");
    let note = "note  pools    range 10.1.0.30-10.1.0.34 of 10.1.0.0-24 is full: 5 of 5 addresses in use";
    assert!(agent.page("/readyz").text.contains(note), "{}", agent.page("/readyz").text);
    assert_eq!(agent.release("container-0")["released"], 1);
    assert!(!agent.page("/readyz").text.contains("is full"));

    let pool = "{pool=\"10.1.0.0-24\"}";
    let range = "{pool=\"10.1.0.0-24\",first=\"10.1.0.30\",last=\"10.1.0.34\"}";
    for (name, labels, value) in [
        ("pools_synced", "", 1.0),
        ("pool_used_addresses", pool, 4.0),
        ("pool_capacity_addresses", pool, 254.0),
        ("pool_damaged", pool, 0.0),
        ("range_used_addresses", range, 4.0),
        ("range_free_addresses", range, 1.0),
        ("range_capacity_addresses", range, 5.0),
        ("allocations_total", "{result=\"assigned\"}", 5.0),
        ("allocations_total", "{result=\"exhausted\"}", 1.0),
        ("allocation_duration_seconds_count", "", 5.0),
        ("allocation_conflicts_total", "", 0.0),
        ("releases_total", "{result=\"released\"}", 1.0),
        ("tombstones", "", 0.0),
        ("policy_state", "{state=\"none\"}", 1.0),
    ] {
        let figure = format!("octavia_bridge_{name}{labels}");
        assert_eq!(agent.figure(&figure), Some(value), "{figure}\n{}", agent.page("/metrics").text);
    }
    let created = "{verb=\"create\",resource=\"overlappingrangeipreservations\",code=\"201\"}";
    assert_eq!(agent.figure(&format!("octavia_bridge_api_requests_total{created}")), Some(5.0));
}

#[test]
fn what_others_took_first_is_a_conflict() {
    let admin = Cluster::shared().namespace("conflict");
    let proxy = Proxy::start(&admin);
    // Told nothing, it learns of the rival's reservation only when it wants the same.
    proxy.rule(Rule::on("GET", "/overlappingrangeipreservations?*watch=true", Fault::Hang));
    let agent = start(&proxy.access(), "node1");
    agent.ready();
    let reservation = serde_json::json!({
        "apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": "OverlappingRangeIPReservation",
        "metadata": {"name": "10.2.0.10"}, "spec": {"podref": "a/b", "ifname": "net1"},
    });
    admin.create(&admin.whereabouts("overlappingrangeipreservations"), &reservation);
    let range = Range::of("10.2.0", 10, 20);
    let answer = agent.claim(&range, "container", "pod", &[]);
    assert!(answer["assigned"].is_array(), "{answer}");
    assert_eq!(agent.figure("octavia_bridge_allocation_conflicts_total"), Some(1.0));
    let requests = "{verb=\"create\",resource=\"overlappingrangeipreservations\",code=\"409\"}";
    assert_eq!(agent.figure(&format!("octavia_bridge_api_requests_total{requests}")), Some(1.0));
}

#[test]
fn an_api_that_is_away_is_told_and_so_is_its_return() {
    let admin = Cluster::shared().namespace("away");
    let proxy = Proxy::start(&admin);
    proxy.down();
    // It starts all the same.
    let agent = start(&proxy.access(), "node1");
    let waits = |agent: &Agent, what: &str| {
        agent.wait(what, |agent| {
            let Page { status, text } = agent.page("/readyz");
            (status == 503 && text.contains(what)).then_some(text)
        })
    };
    let text = waits(&agent, "wait  api      no answer from https://127.0.0.1:");
    assert!(text.to_lowercase().contains("connection refused"), "{text}");
    waits(&agent, "wait  pools    the pools were not read yet: cannot list ippools in ");
    assert_eq!(agent.page("/healthz").status, 200, "starting it anew would help nobody");
    assert_eq!(agent.figure("octavia_bridge_pools_synced"), Some(0.0));
    proxy.up();
    agent.ready();
    assert_eq!(agent.figure("octavia_bridge_pools_synced"), Some(1.0));
    // A node without an address needs no watch.
    let range = Range::of("10.6.0", 10, 20);
    assert!(agent.claim(&range, "container", "pod", &[])["assigned"].is_array());
    proxy.down();
    waits(&agent, "wait  pools    the watch of the pools fails");
    let log = agent.log();
    assert!(log.contains("WARN cannot list ippools in "), "{log}");
    assert!(!log.contains("failed with error"), "each failure once, and by what was attempted\n{log}");
    proxy.up();
    agent.ready();
}

#[test]
fn a_node_whose_attachments_have_other_addresses_watches_nothing() {
    let admin = Cluster::shared().namespace("elsewhere");
    // It watches in any case.
    let elected = start(&admin, "node1");
    elected.wait("is elected", |agent| agent.log().contains("elected to reclaim").then_some(()));
    let idle = start(&admin, "node2");
    let line = "ok    pools    not watched: no pod of this node has an address of the cluster";
    let is_idle = |agent: &Agent| agent.page("/readyz").text.contains(line);
    idle.wait("watches nothing", |agent| is_idle(agent).then_some(()));
    let records = idle.state().join("attachments");
    fs::create_dir_all(&records).expect("make the directory of records");
    let record = |addressing: &str| {
        let line =
            format!("{{\"version\":1,\"network\":\"n\",\"netns\":null,\"addressing\":{addressing}}}\n");
        fs::write(records.join("c1@net1.jsonl"), line).expect("write a record");
    };
    record(r#""pool""#);
    // Agents look every two seconds.
    thread::sleep(Duration::from_secs(6));
    assert!(is_idle(&idle), "{}", idle.page("/readyz").text);
    record(r#"{"cluster":{"socket":"/run/octavia-bridge/agent.sock"}}"#);
    idle.wait("watches", |agent| (!is_idle(agent)).then_some(()));
}

#[test]
fn a_pool_that_is_damaged_is_told_and_does_not_make_nodes_unready() {
    let admin = Cluster::shared().namespace("damaged");
    let agent = start(&admin, "node1");
    agent.ready();
    let pool = serde_json::json!({
        "apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": "IPPool",
        "metadata": {"name": "10.3.0.0-24"},
        "spec": {"range": "10.3.0.0/24", "allocations": {"three": {"id": "x", "podref": "a/b"}}},
    });
    admin.create(&admin.whereabouts("ippools"), &pool);
    let damaged = "octavia_bridge_pool_damaged{pool=\"10.3.0.0-24\"}";
    agent.wait("has seen the pool", |agent| agent.figure(damaged).filter(|value| *value == 1.0));
    let Page { status, text } = agent.page("/readyz");
    assert_eq!(status, 200, "{text}");
    assert!(
        text.contains("note  pools    ippools 10.3.0.0-24 is damaged, and the agent leaves it alone"),
        "{text}"
    );
}

#[test]
fn a_policy_that_is_refused_is_told_as_one_that_fails() {
    let admin = Cluster::shared().namespace("refused");
    let agent = start(&admin, "node-refusing");
    agent.ready();
    let path = "/apis/nmstate.io/v1/nodenetworkconfigurationpolicies";
    let policy = |name: &str, interfaces: Value| {
        let object = json!({
            "apiVersion": "nmstate.io/v1", "kind": "NodeNetworkConfigurationPolicy", "metadata": {"name": name},
            "spec": {
                "nodeSelector": {"kubernetes.io/hostname": "node-refusing"}, "desiredState": {"interfaces": interfaces},
            },
        });
        admin.create(path, &object);
    };
    policy("refused-ovs", json!([{"name": "bond0", "type": "ovs-bridge"}]));
    let failed = "octavia_bridge_policy_state{state=\"failed\"}";
    agent.wait("counts it as failed", |agent| agent.figure(failed).filter(|value| *value == 1.0));
    let Page { status, text } = agent.page("/readyz");
    assert!(text.contains("note  policy   policy refused-ovs is not in force: refused-ovs: "), "{text}");
    assert!(status == 200 && !text.contains("no policy applies"), "no pod waits for it\n{text}");
    assert_eq!(agent.figure("octavia_bridge_applies_total{result=\"failed\"}"), Some(1.0));
    policy("refused-octbr", json!([{"name": "octbr", "type": "linux-bridge", "mtu": "big"}]));
    let warns = "warn  policy   policy refused-octbr is not in force: refused-octbr: interfaces[0].mtu";
    agent.wait("says that pods wait", |agent| {
        let Page { status, text } = agent.page("/readyz");
        assert_eq!(status, 200, "a user's policy does not stop a roll-out\n{text}");
        text.contains(warns).then_some(())
    });
    assert!(agent.probe("ready").0);
    for name in ["refused-ovs", "refused-octbr"] {
        admin.delete(&format!("{path}/{name}"));
    }
    agent.wait("knows that they are gone", |agent| agent.figure(failed).filter(|value| *value == 0.0));
    agent.ready();
}

#[test]
fn a_socket_that_somebody_removed_is_told() {
    let admin = Cluster::shared().namespace("socket");
    let agent = start(&admin, "node1");
    agent.ready();
    fs::remove_file(agent.socket()).expect("remove the socket");
    let Page { status, text } = agent.page("/readyz");
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("agent.sock is gone"), "{text}");
}

#[test]
fn releases_that_wait_are_counted() {
    let admin = Cluster::shared().namespace("tombstones");
    let proxy = Proxy::start(&admin);
    let agent = start(&proxy.access(), "node1");
    agent.ready();
    let range = Range::of("10.4.0", 10, 20);
    assert!(agent.claim(&range, "container", "pod", &[])["assigned"].is_array());
    proxy.down();
    assert_eq!(agent.release("container")["failed"]["kind"], "unavailable");
    let tombstones = |agent: &Agent| agent.figure("octavia_bridge_tombstones");
    assert_eq!(tombstones(&agent), Some(1.0));
    assert_eq!(agent.figure("octavia_bridge_releases_total{result=\"failed\"}"), Some(1.0));
    proxy.up();
    agent.wait("does what it owes", |agent| tombstones(agent).filter(|waiting| *waiting == 0.0));
}

#[test]
fn probes_are_answered_while_a_hundred_pods_wait_for_their_addresses() {
    let admin = Cluster::shared().namespace("storm");
    let proxy = Proxy::start(&admin);
    let agent = start(&proxy.access(), "node1");
    agent.ready();
    // Each claim waits for as long as the server is silent.
    proxy.rule(Rule::on("POST", "/ippools", Fault::Hang));
    let range = Range::of("10.5.0", 1, 250);
    thread::scope(|scope| {
        let claims: Vec<_> = (0..100)
            .map(|n| {
                let (agent, range) = (&agent, &range);
                scope.spawn(move || agent.claim(range, &format!("container-{n}"), &format!("pod-{n}"), &[]))
            })
            .collect();
        for _ in 0..10 {
            assert_eq!(agent.probe("live"), (true, "ok\n".to_owned()));
            let (_, ready) = agent.probe("ready");
            assert!(ready.contains("socket   plugins are answered on"), "{ready}");
        }
        assert!(claims.iter().any(|claim| !claim.is_finished()), "no claim was under way");
    });
}
