//! `octavia-bridge-agent status` from a workstation, and on a node.

use serde_json::{Value, json};

use crate::scene::{Node, Scene, octbr, program, until};

/// What `status` says of a node, from the API or, without a kubeconfig, from its agent; and its exit status.
fn status(node: &Node, from_api: bool) -> (i32, Value) {
    let mut command = node.inside(&program());
    command.args(["status", "--json", "--node", &node.name, "--health-socket"]).arg(node.file("health.sock"));
    if from_api {
        command.arg("--kubeconfig").arg(node.file("workstation"));
    }
    let output = command.env_remove("KUBECONFIG").output().expect("run the agent's program");
    let told = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code().unwrap_or(-1), told)
}

#[test]
fn a_node_is_well_or_wrong_by_its_cause_wherever_one_asks() {
    let scene = Scene::new("status");
    let node = scene.node(0);
    node.access().write_kubeconfig(&node.file("workstation"));
    scene.post("octavia", &octbr(1500));
    for from_api in [true, false] {
        let what = format!("the node is well, from the API: {from_api}");
        let (_, told) = until(
            &what,
            || status(&node, from_api),
            |(code, told)| *code == 0 && told["nodes"][0]["version"].is_string(),
        );
        let row = &told["nodes"][0];
        assert_eq!((&told["version"], &row["wrong"]), (&json!(1), &json!([])), "{told:#}");
        if from_api {
            assert_eq!((&row["node"], &row["policies"]), (&json!(node.name), &json!([1, 1])), "{told:#}");
        }
    }
    let mut missing = octbr(1500);
    missing[0]["bridge"]["port"] = json!([{"name": "enp6s0"}, {"name": "enp9s0"}]);
    scene.patch("octavia", &missing);
    for from_api in [true, false] {
        let what = format!("the missing NIC is named, from the API: {from_api}");
        until(
            &what,
            || status(&node, from_api),
            |(code, told)| {
                *code == 1 && told["nodes"][0]["wrong"].to_string().contains("enp9s0 does not exist")
            },
        );
    }
    let mut command = node.inside(&program());
    command.args(["status", "--node", "no-such-node", "--kubeconfig"]);
    let output = command.arg(node.file("workstation")).output().expect("run the agent's program");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no node no-such-node"));
}
