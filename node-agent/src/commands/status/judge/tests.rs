use serde_json::json;

use super::*;

const NOW: &str = "2026-01-02T03:14:00Z";

/// A cluster of one node where all is well.
fn cluster() -> Objects {
    Objects {
        nodes: vec![json!({"metadata": {"name": "worker.0"}})],
        states: vec![json!({
            "metadata": {"name": "worker.0"},
            "status": {
                "handlerNmstateVersion": "octavia-bridge-agent 0.1.0",
                "lastSuccessfulUpdateTime": "2026-01-02T03:10:00Z",
                "currentState": {"interfaces": [{"name": "lo"}, {"name": "octbr"}]},
                "conditions": [
                    {"type": "Available", "status": "True", "message": ""},
                    {"type": "Degraded", "status": "False", "message": ""},
                ],
            },
        })],
        enactments: vec![json!({
            "metadata": {"name": "worker.0.oct.avia", "labels": {"nmstate.io/policy": "oct.avia"}},
            "status": {"conditions": [{"type": "Available", "status": "True", "message": "done"}]},
        })],
        namespace: Some("kube-system".into()),
        daemon_sets: vec![json!({
            "metadata": {"name": "octavia-bridge-agent", "namespace": "kube-system", "uid": "d-1"},
            "status": {"desiredNumberScheduled": 1, "numberReady": 1, "updatedNumberScheduled": 1},
        })],
        pods: vec![json!({
            "metadata": {"name": "agent-x", "ownerReferences": [{"uid": "d-1", "controller": true}]},
            "spec": {"nodeName": "worker.0"},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        })],
        pools: vec![json!({"metadata": {"name": "172.23.0.0-24"}, "spec": {"allocations": {"30": {}}}})],
        ranges: Vec::new(),
    }
}

fn judged(change: impl FnOnce(&mut Objects)) -> Overview {
    let mut objects = cluster();
    change(&mut objects);
    objects.judge(NOW.parse().unwrap())
}

/// The one thing that is wrong with the node.
#[track_caller]
fn wrong(change: impl FnOnce(&mut Objects)) -> String {
    let overview = judged(change);
    assert!(!overview.is_well());
    let [text] = &overview.nodes[0].wrong[..] else { panic!("{overview:?}") };
    text.clone()
}

#[test]
fn a_node_that_is_well_is_one_line() {
    let overview = judged(|_| {});
    assert!(overview.is_well());
    assert_eq!(
        overview.table(),
        [
            "NODE      AGENT  POLICIES  LINKS  STATUS",
            "worker.0  0.1.0  1/1       2      ok",
            "DaemonSet kube-system/octavia-bridge-agent: 1 of 1 agents ready, 1 up to date",
            "pool 172.23.0.0-24: 1 address in use",
        ]
    );
}

#[test]
fn each_fault_is_told_by_its_cause() {
    let degraded = wrong(|objects| {
        let conditions = &mut objects.states[0]["status"]["conditions"];
        for condition in [0, 1] {
            conditions[condition]["status"] = json!("True");
            conditions[condition]["message"] = json!("policy: octbr: enp6s0 does not exist");
        }
    });
    assert_eq!(degraded, "policy: octbr: enp6s0 does not exist");
    let stale = wrong(|objects| {
        objects.states[0]["status"]["lastSuccessfulUpdateTime"] = json!("2026-01-02T03:03:59Z");
    });
    assert!(stale.starts_with("the agent wrote last at 2026-01-02T03:03:59Z"), "{stale}");
    let never = wrong(|objects| objects.states.clear());
    assert!(never.contains("has not written a NodeNetworkState"), "{never}");
    let waits = wrong(|objects| {
        let told = json!([
            {"type": "Available", "status": "Unknown", "message": ""},
            {"type": "Progressing", "status": "True", "message": "waiting: enp6s0"},
        ]);
        objects.enactments[0]["status"]["conditions"] = told;
    });
    assert_eq!(waits, "policy oct.avia: waiting: enp6s0");
    let pulled = wrong(|objects| {
        let waiting = json!([{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]);
        objects.pods[0]["status"] = json!({"phase": "Pending", "containerStatuses": waiting});
    });
    assert_eq!(pulled, "its agent, pod agent-x, is not ready (ImagePullBackOff)");
    let overview = judged(|objects| objects.daemon_sets[0]["status"]["updatedNumberScheduled"] = json!(0));
    assert!(!overview.is_well() && overview.wrong[0].ends_with("1 of 1 agents ready, 0 up to date"));
}

#[test]
fn notes_and_other_programs_are_not_faults() {
    let noted = judged(|objects| {
        objects.states[0]["status"]["conditions"][0]["message"] = json!("policy: left alone");
    });
    assert_eq!((noted.is_well(), &noted.nodes[0].notes[..]), (true, &["policy: left alone".to_owned()][..]));
    let theirs = judged(|objects| objects.states[0]["status"]["handlerNmstateVersion"] = json!("2.2.50"));
    assert!(theirs.is_well() && theirs.nodes[0].notes[0].contains("kubernetes-nmstate"), "{theirs:?}");
}

#[test]
fn a_node_without_an_agent_is_not_called_ok() {
    let one = judged(|objects| objects.nodes.push(json!({"metadata": {"name": "infra"}})));
    assert!(one.is_well(), "{one:?}");
    assert_eq!(one.table()[1], "infra     -      -         -      note: no agent runs on this node");
    let none = judged(|objects| {
        objects.states.clear();
        objects.pods.clear();
    });
    assert_eq!((none.is_well(), &none.wrong[..]), (false, &["no node runs an agent".to_owned()][..]));
}

#[test]
fn a_pod_that_only_looks_like_an_agent_is_not_believed() {
    let others = [
        json!([]),
        json!([{"uid": "d-2", "controller": true}]),
        json!([{"uid": "d-1", "controller": false}]),
    ];
    for owners in others {
        let overview = judged(|objects| {
            let mut pod = objects.pods[0].clone();
            pod["metadata"] = json!({"name": "tenant", "ownerReferences": owners});
            pod["status"] = json!({"phase": "Failed"});
            objects.pods.push(pod);
        });
        assert!(overview.is_well(), "{owners}: {overview:?}");
    }
    let unknown = judged(|objects| {
        (objects.namespace, objects.daemon_sets, objects.pods) = (None, Vec::new(), Vec::new());
    });
    assert!(unknown.is_well() && unknown.cluster[0].contains("--agent-namespace"), "{unknown:?}");
}

#[test]
fn a_node_that_is_to_have_no_agent_is_not_wrong() {
    let off = |objects: &mut Objects| {
        objects.nodes[0]["metadata"]["labels"] = json!({"octavia-bridge.io/agent": "disabled"});
        objects.states[0]["status"]["lastSuccessfulUpdateTime"] = json!("2025-12-24T00:00:00Z");
        objects.enactments[0]["status"]["conditions"] = json!([]);
    };
    let overview = judged(|objects| {
        off(objects);
        objects.pods.clear();
        objects.nodes.push(json!({"metadata": {"name": "worker.1"}}));
        let mut state = cluster().states.remove(0);
        state["metadata"]["name"] = json!("worker.1");
        objects.states.push(state);
    });
    let line = "worker.0  -      -         -      note: no agent runs on this node: label octavia-bridge.io/agent=disabled";
    assert_eq!((overview.is_well(), &overview.table()[1][..]), (true, line));
    // Its agent still runs.
    assert!(!judged(off).is_well());
}

#[test]
fn a_full_range_is_told_whatever_room_its_subnet_has() {
    let mut objects = cluster();
    let entry = |id: &str| json!({"id": id, "podref": "openstack/pod", "ifname": "net1"});
    let pool = |name: &str, range: &str, allocations: Value| {
        json!({
            "apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": "IPPool", "metadata": {"name": name},
            "spec": {"range": range, "allocations": allocations},
        })
    };
    objects.pools = vec![
        pool("172.23.0.0-24", "172.23.0.0/24", json!({"32": entry("b"), "99": entry("c")})),
        // As after the range's prefix length was changed.
        pool("172.23.0.0-25", "172.23.0.0/25", json!({"30": entry("a")})),
        // Nothing to do with the ranges, damaged or not.
        pool("10.1.0.0-24", "10.1.0.0/24", json!({"1": "damaged"})),
    ];
    let definition = |name: &str, ipam: Value| {
        json!({
            "metadata": {"name": name, "namespace": "openstack"},
            "spec": {"config": json!({"type": "octavia-bridge", "ipam": ipam}).to_string()},
        })
    };
    // The next hop is never assigned.
    let octavia = json!({
        "type": "whereabouts", "range": "172.23.0.0/24", "range_start": "172.23.0.30", "range_end": "172.23.0.32",
        "routes": [{"dst": "172.24.0.0/16", "gw": "172.23.0.31"}],
    });
    let definitions = [
        definition("octavia", octavia),
        definition("new", json!({"type": "octavia-ipam", "range": "fd00:2::/125"})),
        definition("other", json!({"type": "host-local"})),
    ];
    objects.ranges = crate::commands::networks::among(&definitions);
    let ranges = |objects: &Objects| {
        let mut told = objects.judge(NOW.parse().unwrap()).cluster;
        told.retain(|line| line.starts_with("range: "));
        told
    };
    let full = "range: 2 of 2 addresses 172.23.0.30-172.23.0.32 of network openstack/octavia in use, full";
    let new = "range: 0 of 6 addresses fd00:2::1-fd00:2::6 of network openstack/new in use";
    assert_eq!(ranges(&objects), [full, new]);
    // Of network fd00, not of fd00:2::/64.
    objects.pools.push(pool("fd00-2---64", "2::/64", json!({"1": entry("a")})));
    assert_eq!(ranges(&objects), [full, new]);
    objects.pools[1]["spec"]["range"] = json!("172.23.0.0/26");
    assert_eq!(ranges(&objects), [new], "a damaged pool says nothing");
}
