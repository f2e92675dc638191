//! The API is away, or has no policies.

use octavia_bridge_cluster_tests::{Cluster, Fault, Rule};
use serde_json::{Value, json};

use crate::scene::{Scene, octbr, until};

const DONE: &str = "SuccessfullyConfigured";

#[test]
fn without_the_api_what_was_in_force_is_kept_and_afterwards_what_has_changed_is_found() {
    let scene = Scene::new("away");
    let node = scene.node(0);
    scene.post("octavia", &octbr(1500));
    scene.post("gone", &json!([{"name": "br-gone", "type": "linux-bridge", "bridge": {"port": []}}]));
    scene.wait("octavia", DONE);
    scene.wait("gone", DONE);
    node.proxy().down();
    for restart in [false, true] {
        if restart {
            node.kill();
        }
        node.ip("link del octbr");
        if restart {
            node.start();
        }
        node.wait_link("octbr", |link| link["mtu"] == 1500);
    }
    scene.patch("octavia", &octbr(1400));
    scene.delete("gone");
    node.proxy().up();
    node.wait_link("octbr", |link| link["mtu"] == 1400);
    scene.wait_for_message("octavia", "1/1 nodes successfully configured");
    until("the enactment of what is gone", || scene.enactment(&node, "gone"), Option::is_none);
    assert!(node.link("br-gone").is_some(), "it stays");
}

#[test]
fn requests_that_fail_are_made_again_until_all_is_told() {
    let scene = Scene::new("troubles");
    let node = scene.node(0);
    let faults =
        || [Fault::answer(409), Fault::answer(500), Fault::answer(429), Fault::CutBefore, Fault::CutAfter];
    for (method, pattern) in [
        ("POST", "/nodenetworkconfigurationenactments"),
        ("PATCH", "/nodenetworkconfigurationenactments"),
        ("PATCH", "/nodenetworkconfigurationpolicies"),
        ("GET", "/nodenetworkconfigurationenactments"),
        ("DELETE", "/nodenetworkconfigurationenactments"),
    ] {
        for fault in faults() {
            let hits = node.proxy().rule(Rule::on(method, pattern, fault).first(1));
            scene.post("octavia", &octbr(1500));
            let policy = scene.wait("octavia", DONE);
            assert_eq!(policy["status"]["conditions"][0]["message"], "1/1 nodes successfully configured");
            assert!(scene.enactment(&node, "octavia").is_some());
            scene.delete("octavia");
            until("the enactment is gone", || scene.enactment(&node, "octavia"), Option::is_none);
            assert_eq!(hits.hits(), 1, "{method} {pattern}: the fault must have happened");
        }
    }
}

/// As a server does that has just started. Nothing reports the same success once more.
#[test]
fn a_permission_that_is_missing_for_a_moment_leaves_the_agent_unready_for_a_moment() {
    let scene = Scene::new("forbidden");
    let node = scene.node(0);
    let hits = node.proxy().rule(Rule::on("POST", "/events", Fault::answer(403)).first(1));
    scene.post("octavia", &octbr(1500));
    scene.wait("octavia", DONE);
    until("it is missed", || node.is_ready(), |(_, said)| said.contains("cannot create events"));
    until("the agent asks again", || node.is_ready(), |(is_ready, _)| *is_ready);
    assert_eq!(hits.matched(), 1, "the request itself was not made again");
}

/// As by a webhook or a quota. Of the older policy the server hears nothing, of the younger one all.
#[test]
fn what_the_server_refuses_to_hear_of_one_policy_does_not_silence_another() {
    let scene = Scene::new("refused");
    let node = scene.node(0);
    let name = format!("{}.{}", node.name, scene.called("older"));
    for (method, path) in [
        ("PATCH", format!("/nodenetworkconfigurationenactments/{name}/status")),
        ("PATCH", format!("/nodenetworkconfigurationpolicies/{}/status", scene.called("older"))),
    ] {
        node.proxy().rule(Rule::on(method, &path, Fault::answer(422)));
    }
    scene.post("older", &json!([{"name": "br-older", "type": "linux-bridge", "bridge": {"port": []}}]));
    node.wait_link("br-older", |_| true);
    scene.post("octavia", &octbr(1500));
    scene.wait_for_message("octavia", "1/1 nodes successfully configured");
    scene.delete("octavia");
    until("the enactment of what is gone", || scene.enactment(&node, "octavia"), Option::is_none);
    node.proxy().clear_rules();
    scene.wait("older", DONE);
}

/// A server of its own: definitions are for the whole of it.
#[test]
fn a_cluster_without_such_policies_is_looked_at_again() {
    let cluster = Cluster::start();
    let definition =
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/nodenetworkconfigurationpolicies.nmstate.io";
    let mut object = cluster.admin().get(definition);
    cluster.admin().delete(definition);
    until(
        "the kind is gone",
        || cluster.admin().call("GET", crate::scene::POLICIES, None).status,
        |status| *status == 404,
    );
    let scene = Scene::on(&cluster, "absent");
    let node = scene.node(0);
    until(
        "it says so",
        || node.log(),
        |log| log.contains("the API server has no nodenetworkconfigurationpolicies"),
    );
    for key in ["metadata", "status"] {
        object[key] = json!({"name": "nodenetworkconfigurationpolicies.nmstate.io"});
    }
    object["status"].take();
    // As it was in earlier versions of kubernetes-nmstate.
    for version in object["spec"]["versions"].as_array_mut().expect("versions") {
        let status = version.pointer_mut("/schema/openAPIV3Schema/properties/status/properties");
        let status = status.and_then(Value::as_object_mut).expect("the status");
        status.remove("unavailableNodeCountMap").expect("it is in the definition");
    }
    cluster.admin().create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &object);
    until(
        "the kind is back",
        || cluster.admin().call("GET", crate::scene::POLICIES, None).status,
        |status| *status == 200,
    );
    scene.post("octavia", &octbr(1500));
    let told = scene.wait("octavia", DONE);
    let name = scene.called("octavia");
    let looks = || {
        let exchanges = node.proxy().exchanges();
        exchanges.iter().filter(|one| one.method == "GET" && one.path.ends_with(&name)).count()
    };
    let before = looks();
    until("it looks again and again", looks, |looks| *looks >= before + 2);
    assert_eq!(scene.policy("octavia"), told, "what is told already is not told again and again");
    scene.patch("octavia", &octbr(1400));
    node.wait_link("octbr", |link| link["mtu"] == 1400);
    until(
        "the new generation is told of",
        || scene.enactment(&node, "octavia"),
        |enactment| enactment.as_ref().is_some_and(|enactment| enactment["status"]["policyGeneration"] == 2),
    );
    scene.wait("octavia", DONE);
    assert_eq!(node.log().matches("the API server has no").count(), 1, "said once\n{}", node.log());
}
