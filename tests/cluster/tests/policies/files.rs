//! A file beside the cluster's policies, such as a `ConfigMap` that is mounted.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::scene::{Node, Scene, bridge, message, octbr, until};

const DONE: &str = "SuccessfullyConfigured";

/// What kubelet does when a `ConfigMap` has changed.
fn turn(node: &Node, content: &Value) {
    let folder =
        node.file(&format!("content-{}", fs::read_dir(node.file("")).expect("read the folder").count()));
    fs::create_dir(&folder).expect("create a folder");
    fs::write(folder.join("policy.yaml"), content.to_string()).expect("write the file");
    symlink(&folder, node.file("next")).expect("link the folder");
    fs::rename(node.file("next"), node.file("data")).expect("turn the link");
}

#[test]
fn a_file_and_policies_are_one_state_and_the_file_may_change() {
    let scene = Scene::new("files");
    let node = scene.bare_node(0, &["-f", "policy.yaml"]);
    symlink("data/policy.yaml", node.file("policy.yaml")).expect("link the file");
    turn(&node, &json!({"interfaces": [bridge("br-file")]}));
    node.start();
    node.wait_link("br-file", |_| true);
    scene.post("octavia", &octbr(1500));
    scene.wait("octavia", DONE);
    assert!(node.link("br-file").is_some());
    // Labels come from the API: the same file may be on all nodes.
    let policy = |selector: &str| {
        json!({
            "kind": "NodeNetworkConfigurationPolicy",
            "metadata": {"name": "file"},
            "spec": {"nodeSelector": {selector: ""}, "desiredState": {"interfaces": [bridge("br-mine")]}},
        })
    };
    turn(&node, &policy(&scene.label()));
    node.wait_link("br-mine", |_| true);
    // For other nodes: nothing of it is wanted here, and that is no fault.
    turn(&node, &policy("octavia-bridge-test/elsewhere"));
    until("it is read", || node.log(), |log| log.contains("which this node does not bear"));
    // Wrong: what is kept stays.
    turn(&node, &json!({"interfaces": [{}]}));
    until("the complaint", || node.log(), |log| log.contains("interfaces[0].name: missing"));
    node.ip("link del octbr");
    node.wait_link("octbr", |link| link["mtu"] == 1500);
    // A file comes before policies.
    turn(&node, &json!({"interfaces": octbr(1400)}));
    let failed = scene.wait("octavia", "FailedToConfigure");
    assert!(message(&failed).expect("a message").contains("octbr is declared differently by"), "{failed:#}");
    node.wait_link("octbr", |link| link["mtu"] == 1400);
}

/// As `apply -f -` by another release has left it, which takes an MTU that this one refuses.
fn left_by_another_release(node: &Node, yaml: &str) {
    let choice = json!({"labels": [], "all_policies": false, "ours_only": false});
    let kept = json!({"texts": [{"origin": "-", "yaml": yaml}], "choice": choice});
    let told = json!({"version": 1, "policy": "standard input", "bridges": {"octbr": ["enp6s0"]}, "links": ["octbr", "enp6s0"]});
    fs::create_dir_all(node.file("state/agent")).expect("make the state directory");
    for (name, content) in [("desired.json", kept), ("bridges.json", told)] {
        fs::write(node.file("state/agent").join(name), content.to_string()).expect("write as it did");
    }
}

fn state(node: &Node, name: &str) -> Value {
    let text = fs::read(node.file("state/agent").join(name)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

#[test]
fn a_kept_file_that_this_release_refuses_is_not_lost_and_pods_wait_for_its_bridge() {
    let scene = Scene::new("refused-file");
    let node = scene.bare_node(0, &[]);
    let text = json!({"interfaces": octbr(1)}).to_string();
    left_by_another_release(&node, &text);
    node.start();
    // First without a policy of the cluster, then beside one.
    let is_safe = |node: &Node| {
        let told = state(node, "bridges.json");
        let refused = told["not_in_force"][0]["bridges"] == json!({"octbr": ["enp6s0"]});
        refused
            && told["bridges"]["octbr"] == json!(["enp6s0"])
            && state(node, "desired.json").to_string().contains("1 is out of bounds")
    };
    until(
        "it is kept as refused",
        || node.log() + &state(&node, "bridges.json").to_string(),
        |_| is_safe(&node),
    );
    scene.post("other", &json!([bridge("br-other")]));
    scene.wait("other", DONE);
    until("the policy is kept", || state(&node, "desired.json"), |kept| kept["policies"][0].is_object());
    node.kill();
    assert!(is_safe(&node) && node.link("octbr").is_none());
    let mut kept = state(&node, "desired.json");
    assert_eq!(kept["refused"]["texts"], json!([{"origin": "-", "yaml": text}]), "{kept:#}");
    // A release that understands it reads it again.
    kept["refused"]["texts"][0]["yaml"] = json!(json!({"interfaces": octbr(1400)}).to_string());
    fs::write(node.file("state/agent/desired.json"), kept.to_string()).expect("write it");
    node.start();
    node.wait_link("octbr", |link| link["mtu"] == 1400);
    let kept = until("it is kept", || state(&node, "desired.json"), |kept| kept.get("refused").is_none());
    assert_eq!(kept["texts"][0]["origin"], "-");
    assert!(node.link("br-other").is_some());
    until("it is in force", || state(&node, "bridges.json"), |told| told.get("not_in_force").is_none());
}

/// The cluster's policy names the bridge that the lost file did: nothing is missed any more.
#[test]
fn bridges_of_a_kept_state_that_cannot_be_read_are_waited_for_until_a_policy_names_them() {
    let scene = Scene::new("lost-file");
    let node = scene.bare_node(0, &[]);
    left_by_another_release(&node, &json!({"interfaces": octbr(1500)}).to_string());
    fs::write(node.file("state/agent/desired.json"), "{").expect("damage it");
    // One of a policy that was deleted meanwhile.
    let mut told = state(&node, "bridges.json");
    told["policy"] = json!("standard input, policy gone");
    told["bridges"]["br-gone"] = json!([]);
    told["origins"] = json!({"octbr": "standard input", "br-gone": "policy gone"});
    fs::write(node.file("state/agent/bridges.json"), told.to_string()).expect("write as it did");
    node.start();
    let told = until(
        "the plugin is told why",
        || state(&node, "bridges.json"),
        |told| told["not_in_force"][0]["bridges"] == json!({"octbr": ["enp6s0"]}),
    );
    assert_eq!(told["bridges"], json!({"octbr": ["enp6s0"]}));
    scene.post("octavia", &octbr(1500));
    scene.wait("octavia", DONE);
    until("it is in force", || state(&node, "bridges.json"), |told| told.get("not_in_force").is_none());
    until("it is kept", || state(&node, "desired.json"), |kept| kept.get("refused").is_none());
}
