//! How long a plugin waits for an agent that does not answer. Here, since these tests take as long as that.

use octavia_bridge_tests::scripted::oblige;
use octavia_bridge_tests::{Act, Lab, Node, ScriptedAgent, conf};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

const POD: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME=worker-0";
/// For a busy machine, beyond the plugin's own limits.
const LEEWAY: Duration = Duration::from_secs(10);

fn socket(node: &Node) -> PathBuf {
    node.disk().join("agent.sock")
}

fn cluster(node: &Node) -> Value {
    let conf = conf::without(conf::octavia(), "/ipam/datastore");
    conf::with(conf, json!({"cniVersion": "1.1.0", "agentSocket": socket(node)}))
}

fn tombstones(node: &Node) -> usize {
    std::fs::read_dir(node.data_dir().join("cluster-tombstones")).map_or(0, Iterator::count)
}

#[test]
fn an_add_gives_up_after_half_a_minute_and_notes_what_to_release() {
    let pod = Lab::new().node("node1").pod("worker");
    let before = pod.node().snapshot(&[&pod]);
    let _agent = ScriptedAgent::at(&socket(pod.node()), |_| Act::Hang);
    let outcome = pod.add(&cluster(pod.node())).args(POD).run();
    outcome.error(11).says(&["agent.sock", "does not answer"]);
    assert!(outcome.took < Duration::from_secs(30) + LEEWAY, "{:?}", outcome.took);
    assert_eq!(tombstones(pod.node()), 1, "it may still do what it was asked to");
    let after = pod.node().snapshot(&[&pod]).difference_from(&before);
    assert!(after.len() == 1 && after[0].contains("cluster-tombstones/"), "{after:?}");
}

#[test]
fn gc_of_many_waits_no_longer_than_del_of_one() {
    let lab = Lab::new();
    let node = lab.node("node1");
    let script = |call: &Value| if call["release"].is_null() { oblige(call) } else { Act::Hang };
    let _agent = ScriptedAgent::at(&socket(&node), script);
    let conf = cluster(&node);
    let pods: Vec<_> = (0..4).map(|n| node.pod(&format!("worker{n}"))).collect();
    for pod in &pods {
        pod.add(&conf).args(POD).run().attached();
    }
    let outcome = pods[0].del(&conf).run();
    outcome.silent_success();
    assert!(outcome.took < Duration::from_secs(5) + LEEWAY, "{:?}", outcome.took);
    let outcome = node.gc(&conf::with(conf, json!({"cni.dev/valid-attachments": []}))).run();
    outcome.silent_success();
    assert!(outcome.took < Duration::from_secs(5) + LEEWAY, "{:?}", outcome.took);
    assert_eq!(tombstones(&node), 4);
}

#[test]
fn status_waits_some_seconds() {
    let node = Lab::new().node("node1");
    let _agent = ScriptedAgent::at(&socket(&node), |_| Act::Hang);
    let outcome = node.status(&cluster(&node)).run();
    outcome.error(50).says(&["agent.sock", "does not answer"]);
    assert!(outcome.took < Duration::from_secs(5) + LEEWAY, "{:?}", outcome.took);
}
