//! A file beside the cluster's policies, such as a `ConfigMap` that is mounted.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::scene::{Node, Scene, bridge, message, octbr, until};

const DONE: &str = "SuccessfullyConfigured";

/// What kubelet does when a `ConfigMap` has changed.
fn turn(node: &Node, content: &serde_json::Value) {
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
