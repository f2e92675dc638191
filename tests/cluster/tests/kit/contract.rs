//! What the rest of the project takes for granted of the API, on whichever server these tests run.

use std::time::{Duration, Instant};

use octavia_bridge_cluster_tests::{Access, Cluster};
use serde_json::{Value, json};

/// A pool as whereabouts creates it.
fn pool(access: &Access) -> Value {
    let pool = json!({
        "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
        "kind": "IPPool",
        "metadata": {"name": "172.23.0.0-24"},
        "spec": {"range": "172.23.0.0/24", "allocations": {}},
    });
    access.create(&access.whereabouts("ippools"), &pool)
}

fn reservation(name: &str) -> Value {
    json!({
        "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
        "kind": "OverlappingRangeIPReservation",
        "metadata": {"name": name},
        "spec": {"podref": "openstack/octavia-worker-1", "ifname": "net1"},
    })
}

fn entry() -> Value {
    json!({"id": "c0ffee", "podref": "openstack/octavia-worker-1", "ifname": "net1"})
}

/// The patch that claims a key, with whereabouts' test of the version or without.
fn claim(key: u8, version: Option<&str>) -> Value {
    let path = format!("/spec/allocations/{key}");
    let mut patch = vec![
        json!({"op": "test", "path": path, "value": null}),
        json!({"op": "add", "path": path, "value": entry()}),
    ];
    if let Some(version) = version {
        patch.insert(0, json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}));
    }
    Value::Array(patch)
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().expect("an object has a version")
}

#[test]
fn the_definitions_keep_what_whereabouts_writes() {
    let access = Cluster::shared().namespace("definitions");
    let created = pool(&access);
    let path = access.whereabouts("ippools/172.23.0.0-24");
    let patched = access.call("PATCH", &path, Some(&claim(30, Some(version(&created))))).expect(200);
    assert_eq!(patched["spec"], json!({"range": "172.23.0.0/24", "allocations": {"30": entry()}}));

    let reservations = access.whereabouts("overlappingrangeipreservations");
    let mut written = reservation("172.23.0.30");
    written["spec"]["containerid"] = "c0ffee".into();
    assert_eq!(access.create(&reservations, &written)["spec"], written["spec"]);

    let slices = json!({
        "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
        "kind": "NodeSlicePool",
        "metadata": {"name": "octavia"},
        "spec": {"range": "172.23.0.0/24", "sliceSize": "/26"},
        "status": {"allocations": [{"nodeName": "worker-0", "sliceRange": "172.23.0.0/26"}]},
    });
    let created = access.create(&access.whereabouts("nodeslicepools"), &slices);
    assert_eq!((&created["spec"], &created["status"]), (&slices["spec"], &slices["status"]));
}

#[test]
fn the_definitions_refuse_and_drop_what_is_not_whereabouts() {
    let access = Cluster::shared().namespace("schema");
    let created = pool(&access);
    let path = access.whereabouts("ippools/172.23.0.0-24");
    let mut nobody = claim(30, None);
    nobody[1]["value"] = json!({"id": "c0ffee"});
    access.call("PATCH", &path, Some(&nobody)).expect(422);

    let mut more = claim(30, None);
    more[1]["value"]["node"] = "worker-0".into();
    let patched = access.call("PATCH", &path, Some(&more)).expect(200);
    assert_eq!(patched["spec"]["allocations"]["30"], entry(), "an unknown field is dropped");
    assert_ne!(version(&patched), version(&created));

    let no_map = json!({"metadata": {"name": "a"}, "spec": {"range": "10.0.0.0/24"}});
    let no_map = with_kind(no_map, "IPPool");
    access.call("POST", &access.whereabouts("ippools"), Some(&no_map)).expect(422);
    let no_spec = with_kind(json!({"metadata": {"name": "a"}}), "OverlappingRangeIPReservation");
    access.call("POST", &access.whereabouts("overlappingrangeipreservations"), Some(&no_spec)).expect(422);
}

fn with_kind(mut object: Value, kind: &str) -> Value {
    object["apiVersion"] = "whereabouts.cni.cncf.io/v1alpha1".into();
    object["kind"] = kind.into();
    object
}

#[test]
fn a_policy_has_a_status_of_its_own_in_both_versions() {
    let cluster = Cluster::shared();
    // Not in a namespace: the name of this test's own one tells it from other runs'.
    let name = cluster.namespace("policy").namespace().to_owned();
    let admin = cluster.admin();
    let policies = "/apis/nmstate.io/v1/nodenetworkconfigurationpolicies";
    let interface = json!({"name": "octbr", "type": "linux-bridge", "state": "up", "bridge": {"port": []}});
    let policy = json!({
        "apiVersion": "nmstate.io/v1",
        "kind": "NodeNetworkConfigurationPolicy",
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"node-role.kubernetes.io/worker": ""},
            "maxUnavailable": "50%",
            "desiredState": {"interfaces": [interface]},
        },
        "status": {"conditions": [{"type": "Available", "status": "True"}]},
    });
    let created = admin.create(policies, &policy);
    assert_eq!(created["spec"], policy["spec"]);
    assert_eq!(created["status"], Value::Null, "the status is written by its own path only");

    let condition = json!({
        "type": "Available",
        "status": "True",
        "reason": "SuccessfullyConfigured",
        "message": "1/1 nodes successfully configured",
        "lastHeartbeatTime": "2026-01-01T00:00:00Z",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let status = json!({"status": {"conditions": [condition], "unavailableNodeCountMap": {"1": 0}}});
    let path = format!("{policies}/{name}");
    admin.call("PATCH", &format!("{path}/status"), Some(&status)).expect(200);
    let older = admin.get(&path.replace("/v1/", "/v1beta1/"));
    assert_eq!((&older["spec"], &older["status"]), (&policy["spec"], &status["status"]));
    admin.call("PATCH", &path, Some(&json!({"spec": {"maxUnavailable": 3}}))).expect(200);
    admin.delete(&path);
}

#[test]
fn enactments_and_node_states_keep_their_status() {
    let cluster = Cluster::shared();
    let name = cluster.namespace("enactment").namespace().to_owned();
    let admin = cluster.admin();
    let time = "2026-01-01T00:00:00Z";
    for (plural, kind, status) in [
        (
            "nodenetworkconfigurationenactments",
            "NodeNetworkConfigurationEnactment",
            json!({
                "conditions": [{"type": "Failing", "status": "True", "reason": "FailedToConfigure"}],
                "desiredState": {"interfaces": [{"name": "octbr"}]},
                "desiredStateMetaInfo": {"time": time, "version": "1"},
                "capturedStates": {"uplink": {"state": {"interfaces": []}, "metaInfo": {"version": "1"}}},
                "policyGeneration": 3,
                "features": ["linux-bridge"],
                "retryCount": {"3": 2},
            }),
        ),
        (
            "nodenetworkstates",
            "NodeNetworkState",
            json!({
                "currentState": {"interfaces": [{"name": "octbr"}]},
                "lastSuccessfulUpdateTime": time,
                "handlerNmstateVersion": "2.2",
            }),
        ),
    ] {
        let collection = format!("/apis/nmstate.io/v1beta1/{plural}");
        let object = json!({"apiVersion": "nmstate.io/v1beta1", "kind": kind, "metadata": {"name": name}});
        admin.create(&collection, &object);
        let path = format!("{collection}/{name}");
        admin.call("PATCH", &format!("{path}/status"), Some(&json!({"status": status}))).expect(200);
        assert_eq!(admin.get(&path)["status"], status, "{kind}");
        admin.delete(&path);
    }
}

#[test]
fn the_kinds_have_the_short_names_that_users_type() {
    let kinds = Cluster::shared().admin().get("/apis/nmstate.io/v1beta1");
    for (plural, short) in [
        ("nodenetworkconfigurationpolicies", "nncp"),
        ("nodenetworkconfigurationenactments", "nnce"),
        ("nodenetworkstates", "nns"),
    ] {
        let resources = kinds["resources"].as_array().expect("a list of resources");
        let kind =
            resources.iter().find(|kind| kind["name"] == plural).unwrap_or_else(|| panic!("no {plural}"));
        assert_eq!(kind["shortNames"], json!([short]));
    }
}

#[test]
fn a_patch_whose_test_fails_is_422_and_changes_nothing() {
    let access = Cluster::shared().namespace("patch");
    let created = pool(&access);
    let path = access.whereabouts("ippools/172.23.0.0-24");
    let stale = version(&created);
    access.call("PATCH", &path, Some(&claim(30, Some(stale)))).expect(200);
    let late = access.call("PATCH", &path, Some(&claim(31, Some(stale))));
    assert_eq!((late.status, late.reason()), (422, "Invalid"), "{}", late.body);
    let taken = access.call("PATCH", &path, Some(&claim(30, None)));
    assert_eq!((taken.status, taken.reason()), (422, "Invalid"), "{}", taken.body);
    let gone = json!([{"op": "remove", "path": "/spec/allocations/99"}]);
    access.call("PATCH", &path, Some(&gone)).expect(422);
    let allocations = access.get(&path)["spec"]["allocations"].clone();
    assert_eq!(allocations, json!({"30": entry()}));
}

#[test]
fn patches_of_different_keys_do_not_need_the_version() {
    let access = Cluster::shared().namespace("commute");
    pool(&access);
    let path = access.whereabouts("ippools/172.23.0.0-24");
    for key in [30, 31] {
        access.call("PATCH", &path, Some(&claim(key, None))).expect(200);
    }
    let none = json!([{"op": "remove", "path": "/spec/allocations/30"}]);
    let left = access.call("PATCH", &path, Some(&none)).expect(200);
    assert_eq!(left["spec"]["allocations"], json!({"31": entry()}));
}

#[test]
fn a_name_is_given_once() {
    let access = Cluster::shared().namespace("name");
    let reservations = access.whereabouts("overlappingrangeipreservations");
    access.create(&reservations, &reservation("172.23.0.30"));
    let second = access.call("POST", &reservations, Some(&reservation("172.23.0.30")));
    assert_eq!((second.status, second.reason()), (409, "AlreadyExists"));
}

#[test]
fn a_stale_put_is_409_and_one_that_changes_nothing_keeps_the_version() {
    let access = Cluster::shared().namespace("put");
    let created = pool(&access);
    let path = access.whereabouts("ippools/172.23.0.0-24");
    let same = access.call("PUT", &path, Some(&created)).expect(200);
    assert_eq!(version(&same), version(&created));
    access.call("PATCH", &path, Some(&claim(30, None))).expect(200);
    let stale = access.call("PUT", &path, Some(&created));
    assert_eq!((stale.status, stale.reason()), (409, "Conflict"));
}

#[test]
fn a_delete_may_name_the_object_it_means() {
    let access = Cluster::shared().namespace("delete");
    let reservations = access.whereabouts("overlappingrangeipreservations");
    let first = access.create(&reservations, &reservation("172.23.0.30"));
    let path = format!("{reservations}/172.23.0.30");
    let of = |object: &Value| json!({"preconditions": {"uid": object["metadata"]["uid"]}});
    access.call("DELETE", &path, Some(&of(&first))).expect(200);
    let second = access.create(&reservations, &reservation("172.23.0.30"));
    let wrong = access.call("DELETE", &path, Some(&of(&first)));
    assert_eq!((wrong.status, wrong.reason()), (409, "Conflict"));
    access.call("DELETE", &path, Some(&of(&second))).expect(200);
    access.call("GET", &path, None).expect(404);
}

#[test]
fn a_watch_tells_changes_and_marks_its_place() {
    let access = Cluster::shared().namespace("watch");
    let created = pool(&access);
    access.call("PATCH", &access.whereabouts("ippools/172.23.0.0-24"), Some(&claim(30, None))).expect(200);
    let watch = format!(
        "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds=5&resourceVersion={}",
        access.whereabouts("ippools"),
        version(&created)
    );
    let started = Instant::now();
    let events = access.call("GET", &watch, None).expect(200);
    assert!(started.elapsed() < Duration::from_secs(60), "a watch ends when its time is over");
    let events = events.as_str().expect("a watch is a line of JSON for each event").lines();
    let events: Vec<Value> =
        events.map(|line| serde_json::from_str(line).expect("an event is one line of JSON")).collect();
    assert_eq!(events[0]["type"], "MODIFIED");
    assert_eq!(events[0]["object"]["spec"]["allocations"], json!({"30": entry()}));
    let mark = events.last().expect("there are events");
    assert_eq!(mark["type"], "BOOKMARK", "{events:?}");
    assert!(mark["object"]["metadata"]["resourceVersion"].is_string());
}

#[test]
fn rights_are_what_roles_say() {
    let cluster = Cluster::shared();
    let admin = cluster.namespace("rights");
    let agent = cluster.service_account(admin.namespace(), "agent");
    let pools = admin.whereabouts("ippools");
    agent.call("GET", &pools, None).expect(403);
    admin.apply(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules:
  - {apiGroups: [whereabouts.cni.cncf.io], resources: [ippools], verbs: [list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: agent}]
",
    );
    // The authorizer hears of a role a moment after it is written.
    let started = Instant::now();
    while agent.call("GET", &pools, None).status != 200 {
        assert!(started.elapsed() < Duration::from_secs(30), "the role has no effect");
    }
    agent.call("POST", &pools, Some(&json!({}))).expect(403);
    agent.with_token("not-a-token").call("GET", &pools, None).expect(401);
}
