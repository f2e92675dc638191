//! Several nodes tell of one policy.

use std::time::Duration;

use octavia_bridge_cluster_tests::{Exchange, Fault, Rule};
use serde_json::{Value, json};

use crate::scene::{Node, Scene, octbr, until};

const DONE: &str = "SuccessfullyConfigured";

#[test]
fn three_nodes_at_once_agree_and_one_that_vanishes_is_not_counted() {
    let scene = Scene::new("many");
    let nodes: Vec<Node> = (0..3).map(|number| scene.node(number)).collect();
    for mtu in [1500, 1400, 1300] {
        if mtu == 1500 {
            scene.post("octavia", &octbr(mtu));
        } else {
            scene.patch("octavia", &octbr(mtu));
            until(
                "the old success is taken back, or the new one is there",
                || scene.policy("octavia"),
                |policy| {
                    let generation = policy["metadata"]["generation"].to_string();
                    policy["status"]["unavailableNodeCountMap"].get(&generation).is_some()
                },
            );
        }
        let policy = scene.wait("octavia", DONE);
        assert_eq!(policy["status"]["conditions"][0]["message"], "3/3 nodes successfully configured");
        for node in &nodes {
            assert_eq!(node.link("octbr").expect("before success is told")["mtu"], mtu);
        }
    }
    nodes[1].vanish(&[scene.called("octavia")]);
    let policy = scene.wait_for_message("octavia", "2/2 nodes successfully configured");
    assert_eq!(policy["status"]["conditions"][0]["reason"], DONE);
}

/// A sum that was true when it was made does not replace a later one.
#[test]
fn what_a_slow_node_has_to_say_comes_too_late() {
    let scene = Scene::new("late");
    let slow = scene.bare_node(0, &[]);
    let other = scene.bare_node(1, &[]);
    // The first says that the policy is under way, the second that the other node is waited for.
    let delay = Fault::Delay(Duration::from_secs(8));
    let late = slow.proxy().rule(Rule::on("PATCH", "/nodenetworkconfigurationpolicies", delay).nth(2));
    slow.start();
    scene.post("octavia", &octbr(1500));
    until("it begins to say so", || late.hits(), |hits| *hits == 1);
    other.start();
    scene.wait_for_message("octavia", "2/2 nodes successfully configured");
    let answered = || {
        let patches =
            |one: &&Exchange| one.method == "PATCH" && one.path.contains("/nodenetworkconfigurationpolicies");
        slow.proxy().exchanges().iter().filter(patches).filter_map(|one| one.status).collect::<Vec<_>>()
    };
    let answers = until("it has said so", answered, |answers| answers.len() >= 2);
    assert_eq!(answers[..2], [200, 409]);
    scene.wait_for_message("octavia", "2/2 nodes successfully configured");
}

#[test]
fn a_node_that_says_nothing_is_waited_for_and_named() {
    let scene = Scene::new("silent");
    let _node = scene.node(0);
    let silent = scene.bare_node(1, &[]);
    scene.post("octavia", &octbr(1500));
    let text = format!("Policy is progressing 1/2 nodes finished: no report yet from {}", silent.name);
    let policy = scene.wait_for_message("octavia", &text);
    assert_eq!(policy["status"]["conditions"][0]["reason"], "ConfigurationProgressing");
    silent.start();
    scene.wait_for_message("octavia", "2/2 nodes successfully configured");
}

#[test]
fn labels_decide_and_may_change() {
    let scene = Scene::new("labels");
    let node = scene.node(0);
    let other = scene.node(1);
    scene.post("octavia", &octbr(1500));
    scene.wait_for_message("octavia", "2/2 nodes successfully configured");
    other.set_label(&scene.label(), &Value::Null);
    scene.wait_for_message("octavia", "1/1 nodes successfully configured");
    node.set_label(&scene.label(), &Value::Null);
    let policy = scene.wait("octavia", "NoMatchingNode");
    assert_eq!(policy["status"]["conditions"][3]["message"], "Policy does not match any node");
    assert_eq!((scene.enactment(&node, "octavia"), scene.enactment(&other, "octavia")), (None, None));
    assert!(node.link("octbr").is_some(), "it stays");
    node.set_label(&scene.label(), &json!(""));
    scene.wait_for_message("octavia", "1/1 nodes successfully configured");
    // One that nobody matches from the start is told of, too.
    scene.admin.create(crate::scene::POLICIES, &json!({
        "apiVersion": "nmstate.io/v1",
        "kind": "NodeNetworkConfigurationPolicy",
        "metadata": {"name": scene.called("nowhere")},
        "spec": {"nodeSelector": {"octavia-bridge-test/nowhere": ""}, "desiredState": {"interfaces": octbr(1500)}},
    }));
    scene.wait("nowhere", "NoMatchingNode");
}
