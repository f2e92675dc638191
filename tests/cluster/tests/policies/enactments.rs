//! Enactments that others delete, and nodes that are registered anew.

use octavia_bridge_cluster_tests::{Exchange, Fault, Rule};
use serde_json::{Value, json};

use crate::scene::{Scene, octbr, text, until};

const DONE: &str = "SuccessfullyConfigured";
const WATCH: &str = "/nodenetworkconfigurationenactments?";

fn uid(object: &Value) -> String {
    text(&object["metadata"]["uid"])
}

/// Not by the sum over all nodes, whose turn comes the later the more nodes there are.
#[test]
fn an_enactment_that_was_deleted_is_created_again_by_its_nodes_own_watch() {
    let scene = Scene::new("deleted");
    let node = scene.node(0);
    scene.post("octavia", &octbr(1500));
    scene.wait("octavia", DONE);
    let before = scene.enactment(&node, "octavia").expect("it is written before success is told");
    node.proxy().rule(Rule::on("GET", "/nodenetworkconfigurationpolicies/", Fault::answer(503)));
    for _ in 0..2 {
        let gone = scene.enactment(&node, "octavia").expect("it is there");
        let path = format!("{}/{}.{}", crate::scene::ENACTMENTS, node.name, scene.called("octavia"));
        scene.admin.delete(&path);
        let back = until(
            "it is back, with all that it says",
            || scene.enactment(&node, "octavia"),
            |now| now.as_ref().is_some_and(|now| uid(now) != uid(&gone) && now.get("status").is_some()),
        );
        let back = back.expect("just seen");
        assert_eq!(back["status"]["desiredState"], before["status"]["desiredState"]);
        assert_eq!(back["metadata"]["labels"], before["metadata"]["labels"]);
    }
    node.proxy().clear_rules();
    // The server sends each agent its own only, and of these the metadata.
    let watches =
        |one: &&Exchange| one.method == "GET" && one.path.contains(WATCH) && one.path.contains("watch=");
    let exchanges = node.proxy().exchanges();
    let watches: Vec<&Exchange> = exchanges.iter().filter(watches).collect();
    let own = |one: &&Exchange| one.path.contains("labelSelector=nmstate.io");
    assert!(!watches.is_empty() && watches.iter().all(own), "{watches:?}");
    assert_eq!(scene.events("octavia").len(), 1, "success is told once");
}

/// The controllers collect what the node of before owned.
#[test]
fn enactments_follow_a_node_that_is_registered_anew() {
    let scene = Scene::new("anew");
    let node = scene.node(0);
    scene.post("octavia", &octbr(1500));
    scene.wait("octavia", DONE);
    let owner = |enactment: &Value| text(&enactment["metadata"]["ownerReferences"][0]["uid"]);
    let path = format!("/api/v1/nodes/{}", node.name);
    for _ in 0..2 {
        let before = scene.admin.get(&path);
        let enactment = scene.enactment(&node, "octavia").expect("there");
        assert_eq!(owner(&enactment), uid(&before));
        scene.admin.delete(&path);
        let object = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": node.name, "labels": before["metadata"]["labels"]},
        });
        scene.admin.create("/api/v1/nodes", &object);
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        scene.admin.call("PATCH", &format!("{path}/status"), Some(&ready)).expect(200);
        let now = uid(&scene.admin.get(&path));
        assert_ne!(now, uid(&before));
        until(
            "the new node owns it, and it says how the policy stands",
            || scene.enactment(&node, "octavia"),
            |one| {
                one.as_ref()
                    .is_some_and(|one| owner(one) == now && one.pointer("/status/conditions/0").is_some())
            },
        );
        scene.wait_for_message("octavia", "1/1 nodes successfully configured");
    }
    assert!(node.link("octbr").is_some_and(|link| link["mtu"] == 1500));
}

/// The look over all nodes hears of it before the watch does.
#[test]
fn the_enactment_of_a_policy_that_is_deleted_while_the_watch_is_away_is_deleted_too() {
    let scene = Scene::new("unheard");
    let node = scene.node(0);
    scene.post("octavia", &octbr(1500));
    scene.wait("octavia", DONE);
    let watch = "/nodenetworkconfigurationpolicies?*watch=true";
    node.proxy().rule(Rule::on("GET", watch, Fault::answer(503)));
    node.proxy().down();
    scene.delete("octavia");
    node.proxy().up();
    let is_look = |one: &Exchange| one.path.ends_with(&scene.called("octavia")) && one.status == Some(404);
    until("the look finds that it is gone", || node.proxy().exchanges(), |all| all.iter().any(is_look));
    node.proxy().clear_rules();
    until("its enactment is gone", || scene.enactment(&node, "octavia"), Option::is_none);
}
