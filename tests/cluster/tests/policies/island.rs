//! The bridge of a policy that is not in force: a pod waits for it, since a bridge that the plugin makes has no uplink.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::scene::{Node, Scene, octbr, program, until};

const DONE: &str = "SuccessfullyConfigured";
const FAILED: &str = "FailedToConfigure";

/// What the plugin answers; null if it has nothing to say.
fn plugin(node: &Node, verb: &str) -> Value {
    // Its own namespace stands for one that is never entered.
    node.plugin(verb, "cid1", "/proc/1/ns/net")
}

#[track_caller]
fn refuses(node: &Node, part: &str) {
    let is_so =
        |answer: &Value| answer["code"] == 50 && answer["msg"].as_str().is_some_and(|msg| msg.contains(part));
    until("STATUS with the policy's error", || plugin(node, "STATUS"), is_so);
}

fn doctor(node: &Node) -> String {
    let mut command = node.inside(&program());
    let output =
        command.arg("doctor").arg("--state-dir").arg(node.file("state")).output().expect("run doctor");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn with_port(port: &str) -> Value {
    json!({"name": "octbr", "type": "linux-bridge", "bridge": {"port": [{"name": port}]}})
}

#[test]
fn a_pod_waits_for_the_bridge_of_a_policy_that_is_refused_and_is_told_why() {
    let scene = Scene::new("island");
    let node = scene.node(0);
    scene.post("octavia", &json!([with_port("bond0"), {"name": "bond0", "type": "ovs-bridge"}]));
    scene.wait("octavia", FAILED);
    let why = "ovs-bridge: not supported";
    refuses(&node, why);
    let said = doctor(&node);
    let line = format!("policy {} is not in force", scene.called("octavia"));
    assert!(
        said.lines()
            .any(|told| told.starts_with("fail  policy") && told.contains(&line) && told.contains(why)),
        "{said}"
    );
    let answer = plugin(&node, "ADD");
    assert!(answer["code"] == 11 && answer["msg"].to_string().contains(why), "{answer}");
    assert!(node.link("octbr").is_none());
    // Once it is there with its uplink, whoever made it, there is nothing to wait for.
    node.ip("link add octbr type bridge");
    node.ip("link add bond0 type veth peer name wire0");
    node.ip("link set bond0 master octbr");
    refuses(&node, "is down");
    node.ip("link set octbr up");
    assert_eq!(plugin(&node, "STATUS"), Value::Null);
    assert!(doctor(&node).contains("is not in force"), "the policy is refused still");
    node.ip("link del octbr");
    // A restart forgets nothing before the API has told what there is.
    node.kill();
    node.start();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(3) {
        refuses(&node, why);
        thread::sleep(Duration::from_millis(100));
    }
    node.ip("link del bond0");
    scene.patch("octavia", &octbr(1500));
    scene.wait("octavia", DONE);
    assert_eq!(plugin(&node, "STATUS"), Value::Null);
    assert!(!doctor(&node).contains("not in force"));
}

#[test]
fn what_the_kernel_refuses_is_no_reason_for_an_island_either() {
    let scene = Scene::new("refused");
    let node = scene.node(0);
    // A bridge cannot be the port of a bridge; nobody knows before the kernel says so.
    node.ip("link add inner type bridge");
    scene.post("octavia", &json!([with_port("inner")]));
    scene.wait("octavia", FAILED);
    refuses(&node, "make inner a port of octbr");
    scene.delete("octavia");
    until("nothing is waited for", || plugin(&node, "STATUS"), Value::is_null);
}
