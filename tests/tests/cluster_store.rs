//! Addresses of the cluster, asked of an agent that does as a test says; the real agent has its own tests.

use octavia_bridge_tests::scripted::{failed, oblige};
use octavia_bridge_tests::{Act, Call, Lab, Node, Pod, ScriptedAgent, conf};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

const POD: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME=worker-0;K8S_POD_UID=8a0c";

fn socket(node: &Node) -> PathBuf {
    node.disk().join("agent.sock")
}

/// The configuration of the seed as whereabouts' users have it, and where this node's agent listens.
fn cluster(node: &Node) -> Value {
    let conf = conf::without(conf::octavia(), "/ipam/datastore");
    conf::with(conf, json!({"cniVersion": "1.1.0", "agentSocket": socket(node)}))
}

fn add(pod: &Pod, conf: &Value) -> Call {
    pod.add(conf).args(POD)
}

/// What multus hands DEL from its cache for a list of plugins.
fn stripped() -> Value {
    json!({"cniVersion": "1.1.0", "name": "octavia", "type": "octavia-bridge", "ipam": {"type": "whereabouts"}})
}

fn tombstones(node: &Node) -> Vec<String> {
    let folder = fs::read_dir(node.data_dir().join("cluster-tombstones"));
    let names = folder.into_iter().flatten().map_while(Result::ok);
    let mut names: Vec<String> = names.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn tombstone_of(pod: &Pod) -> String {
    format!("{}@net1", pod.container_id())
}

#[test]
fn without_a_word_about_the_store_the_agent_is_asked_at_its_default_socket() {
    let pod = Lab::new().node("node1").pod("worker");
    pod.node().bridge_with_uplink();
    let before = pod.node().snapshot(&[&pod]);
    let agent = ScriptedAgent::obliging(&pod.node().run_dir().join("agent.sock"));
    let attached = add(&pod, &conf::without(conf::octavia(), "/ipam/datastore")).run().attached();
    assert_eq!(attached.address(), "172.23.0.30/24");
    assert_eq!(pod.expect_link("net1").addresses(), ["172.23.0.30/24"]);
    assert!(!pod.node().run_dir().join("pools").exists(), "two stores know of one address");
    let claim = &agent.calls()[0]["claim"];
    let owner = json!({"containerId": pod.container_id(), "ifname": "net1", "pod": "openstack/worker-0"});
    assert_eq!(claim["request"]["owner"], owner);
    assert_eq!(claim["podUid"], "8a0c");
    assert_eq!(claim["request"]["reserved"], json!(["172.23.0.150"]));
    assert_eq!(claim["request"]["wants"][0]["choice"]["lowest"]["last"], "172.23.0.70");

    // The record knows the rest.
    pod.del(&stripped()).run().silent_success();
    let released = json!({"containerId": pod.container_id(), "ifname": "net1"});
    assert_eq!(agent.calls()[1], json!({"version": 1, "release": released}));
    assert_eq!(agent.calls().len(), 2);
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn an_add_without_an_answer_fails_and_leaves_nothing() {
    let half = r#"{"version":1,"assigned":[{"address":"172.23.0.30/24","gateway":null}]}"#;
    let none = r#"{"version":1,"assigned":[]}"#;
    let other = r#"{"version":7,"granted":[]}"#;
    for (bytes, words) in [
        (String::new(), ["closed the connection", "log"]),
        (half.to_owned(), ["closed the connection", "log"]),
        ("{\"version\":1,\n".to_owned(), ["is not a reply", "log"]),
        (format!("{none}\n"), ["does not fit", "log"]),
        ("x".repeat(2 << 20), ["longer than", "log"]),
        (format!("{other}\n"), ["version 7", "update"]),
    ] {
        let pod = Lab::new().node("node1").pod("worker");
        let before = pod.node().snapshot(&[&pod]);
        let script = move |call: &Value| match call["claim"].is_null() {
            true => oblige(call),
            false => Act::Bytes(bytes.clone().into_bytes()),
        };
        let agent = ScriptedAgent::at(&socket(pod.node()), script);
        let error = add(&pod, &cluster(pod.node())).run().error(11);
        error.says(&["agent.sock"]).says(&words);
        // The agent may have assigned addresses, so the plugin tells it to release them.
        assert_eq!(agent.verbs(), ["claim", "release"], "{words:?}");
        pod.node().snapshot(&[&pod]).assert_same_as(&before);
    }
}

#[test]
fn an_agent_that_is_away_is_named_with_what_to_do() {
    let pod = Lab::new().node("node1").pod("worker");
    let before = pod.node().snapshot(&[&pod]);
    let refused = || {
        let outcome = add(&pod, &cluster(pod.node())).run();
        let path = socket(pod.node());
        outcome.error(11).says(&[
            path.to_str().unwrap(),
            "cannot connect",
            "check the octavia-bridge-agent pod",
        ]);
        pod.del(&cluster(pod.node())).run().silent_success();
        // It was asked nothing, so there is nothing to note for it either.
        pod.node().snapshot(&[&pod]).assert_same_as(&before);
    };
    refused();
    // One that was killed leaves its socket behind.
    drop(std::os::unix::net::UnixListener::bind(socket(pod.node())).unwrap());
    refused();
}

#[test]
fn an_agents_refusal_has_a_code_of_its_own() {
    for (kind, code, words) in [
        ("exhausted", 101, ["no free address", "octavia-bridge-agent pools` lists them"]),
        ("exhausted", 101, ["no free address", "docs/troubleshooting.md, \"Range full\""]),
        ("held", 102, ["held by", "another address"]),
        ("corrupt", 106, ["not what its name says", "repair the pool"]),
        ("unsupported", 2, ["too big", "configuration"]),
        ("version", 11, ["speaks 2", "update"]),
        ("malformed", 999, ["no verb", "report"]),
        ("unavailable", 11, ["401 Unauthorized", "log"]),
    ] {
        let pod = Lab::new().node("node1").pod("worker");
        let before = pod.node().snapshot(&[&pod]);
        let message = format!("pool\n172.23.0.0-24: {}", words[0]);
        let agent = ScriptedAgent::at(&socket(pod.node()), move |_| failed(kind, &message));
        add(&pod, &cluster(pod.node())).run().error(code).says(&words).says(&[r"pool\n172.23.0.0-24"]);
        // It says that it has done nothing.
        assert_eq!(agent.verbs(), ["claim"], "{kind}");
        pod.node().snapshot(&[&pod]).assert_same_as(&before);
    }
}

#[test]
fn an_add_that_fails_later_gives_the_address_back() {
    let pod = Lab::new().node("node1").pod("worker");
    // A gateway whose scope is not wider than the route's: the kernel refuses.
    let routes = json!([{"dst": "172.25.0.0/16", "gw": "172.23.0.150", "scope": 254}]);
    let conf = conf::with(cluster(pod.node()), json!({"ipam": {"routes": routes}}));
    let before = pod.node().snapshot(&[&pod]);
    let agent = ScriptedAgent::obliging(&socket(pod.node()));
    add(&pod, &conf).run().error(100).says(&["172.25.0.0/16"]);
    assert_eq!(agent.verbs(), ["claim", "release"]);
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
    drop(agent);

    // The same when the cluster cannot take it back now.
    let script = |call: &Value| match call["release"].is_null() {
        true => oblige(call),
        false => failed("unavailable", "API away"),
    };
    let agent = ScriptedAgent::at(&socket(pod.node()), script);
    add(&pod, &conf).run().error(100).says(&["172.25.0.0/16"]);
    assert_eq!(tombstones(pod.node()), [tombstone_of(&pod)]);
    assert_eq!(agent.verbs(), ["claim", "release"]);
}

#[test]
fn a_pod_ends_whatever_the_agent_does() {
    let silent =
        |act: Act| move |call: &Value| if call["release"].is_null() { oblige(call) } else { act.clone() };
    for act in [
        failed("unavailable", "API away"),
        failed("version", "speaks 2"),
        Act::Bytes(b"nonsense\n".to_vec()),
        Act::Bytes(Vec::new()),
    ] {
        let pod = Lab::new().node("node1").pod("worker");
        let agent = ScriptedAgent::at(&socket(pod.node()), silent(act));
        add(&pod, &cluster(pod.node())).run().attached();
        pod.del(&stripped()).run().silent_success();
        assert_eq!(pod.link_names(), [""; 0]);
        assert_eq!(tombstones(pod.node()), [tombstone_of(&pod)]);
        // The record is gone, so a repetition asks at the configured socket.
        pod.del(&cluster(pod.node())).run().silent_success();
        assert_eq!(agent.verbs(), ["claim", "release", "release"]);
    }
    let pod = Lab::new().node("node1").pod("worker");
    drop(add_and_forget(&pod));
    for _ in 0..2 {
        pod.del(&stripped()).run().silent_success();
        assert_eq!(tombstones(pod.node()), [tombstone_of(&pod)]);
    }
    assert!(fs::read_dir(pod.node().run_dir().join("attachments")).unwrap().next().is_none());
}

/// Attaches the pod by an agent that may go afterwards.
fn add_and_forget(pod: &Pod) -> ScriptedAgent {
    let agent = ScriptedAgent::obliging(&socket(pod.node()));
    add(pod, &cluster(pod.node())).run().attached();
    agent
}

#[test]
fn a_tombstone_that_cannot_be_written_is_an_error_and_del_may_be_repeated() {
    let pod = Lab::new().node("node1").pod("worker");
    drop(add_and_forget(&pod));
    let folder = pod.node().data_dir().join("cluster-tombstones");
    fs::remove_dir(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    pod.del(&stripped()).run().error(5).says(&["agent.sock", "cluster-tombstones"]);
    fs::remove_file(&folder).unwrap();
    pod.del(&stripped()).run().silent_success();
    assert_eq!(tombstones(pod.node()), [tombstone_of(&pod)]);
}

#[test]
fn only_the_agent_takes_an_earlier_tombstone_away_before_a_claim_succeeds() {
    let pod = Lab::new().node("node1").pod("worker");
    drop(add_and_forget(&pod));
    pod.del(&stripped()).run().silent_success();
    add(&pod, &cluster(pod.node())).run().error(11);
    assert_eq!(tombstones(pod.node()), [tombstone_of(&pod)], "the earlier release would be lost");
    let _agent = add_and_forget(&pod);
    assert_eq!(tombstones(pod.node()), [""; 0], "a replay would undo this claim");
}

#[test]
fn a_sandbox_is_alive_as_long_as_its_namespace() {
    let lab = Lab::new();
    let node = lab.node("node1");
    let (old, new) = (node.pod("old"), node.pod("new"));
    let id = old.container_id().to_owned();
    let script = move |call: &Value| {
        let contested = call["claim"]["request"]["owner"]["containerId"] != id.as_str()
            && !call["claim"].is_null()
            && call["claim"]["sandboxes"].is_null();
        let sandbox = |id: &str| json!({"containerId": id, "ifname": "net1"});
        match contested {
            true => Act::Answer(json!({"contested": [sandbox(&id), sandbox("never-here")]})),
            false => oblige(call),
        }
    };
    let agent = ScriptedAgent::at(&socket(&node), script);
    add(&old, &cluster(&node)).run().attached();
    for alive in [true, false] {
        if !alive {
            old.end_without_del();
        }
        add(&new, &cluster(&node)).run().attached();
        new.del(&cluster(&node)).run().silent_success();
        let told = agent.calls().iter().rev().find(|call| !call["claim"].is_null()).unwrap()["claim"].clone();
        assert_eq!(told["sandboxes"][0]["alive"], alive);
        assert_eq!(told["sandboxes"][1]["alive"], false);
    }
}

#[test]
fn check_and_status_ask_the_agent() {
    let pod = Lab::new().node("node1").pod("worker");
    let conf = cluster(pod.node());
    let agent = add_and_forget(&pod);
    let result = json!({"cniVersion": "1.1.0", "ips": [{"address": "172.23.0.30/24"}]});
    pod.check(&conf, &result).run().silent_success();
    pod.node().status(&conf).run().silent_success();
    assert_eq!(agent.verbs(), ["claim", "held", "usage"]);
    let held = &agent.calls()[1]["held"];
    assert_eq!(held["pools"], json!([["172.23.0.0-24", "172.23.0.0/24"]]));
    assert_eq!(agent.calls()[2]["usage"]["ranges"][0]["first"], "172.23.0.30");
    drop(agent);

    let away = socket(pod.node());
    pod.check(&conf, &result).run().error(11).says(&[away.to_str().unwrap()]);
    pod.node().status(&conf).run().error(50).says(&[away.to_str().unwrap()]);
    let full = json!({"pool": "172.23.0.0-24", "first": "172.23.0.30", "last": "172.23.0.70", "capacity": "41",
        "used": "41", "free": "0", "excluded": "0", "reserved": "0", "holders": []});
    let script = move |call: &Value| match call["usage"].is_null() {
        true => Act::Answer(json!({"held": []})),
        false => Act::Answer(json!({"usage": [full]})),
    };
    let _agent = ScriptedAgent::at(&away, script);
    pod.node().status(&conf).run().error(50).says(&["172.23.0.0-24", "41 used"]);
    pod.check(&conf, &result).run().error(104).says(&["172.23.0.30"]);
}

#[test]
fn a_pod_without_a_name_is_refused_before_anything_is_done() {
    let pod = Lab::new().node("node1").pod("worker");
    let agent = ScriptedAgent::obliging(&socket(pod.node()));
    for args in ["", "IgnoreUnknown=1;K8S_POD_NAMESPACE=openstack", "IgnoreUnknown=1;K8S_POD_NAME=worker-0"] {
        let outcome = pod.add(&cluster(pod.node())).args(args).run();
        outcome.error(4).says(&["K8S_POD_NAME", "K8S_POD_NAMESPACE", "file"]);
    }
    assert!(agent.calls().is_empty() && pod.node().has_no_files());
    // A runtime asks for STATUS without any pod.
    pod.node().status(&cluster(pod.node())).run().silent_success();
}

#[test]
fn the_file_store_asks_nobody() {
    let pod = Lab::new().node("node1").pod("worker");
    let agent = ScriptedAgent::obliging(&socket(pod.node()));
    let conf = conf::with(cluster(pod.node()), json!({"ipam": {"datastore": "file"}}));
    let attached = add(&pod, &conf).run().attached();
    pod.check(&conf, &attached.result).run().silent_success();
    pod.node().status(&conf).run().silent_success();
    pod.del(&conf).run().silent_success();
    // Nor on a node with addresses of a cluster, if there is no record and the configuration is clear.
    fs::create_dir_all(pod.node().data_dir().join("cluster-tombstones")).unwrap();
    pod.del(&conf).run().silent_success();
    assert!(agent.calls().is_empty());
}

#[test]
fn an_attachment_whose_record_is_lost_is_released_too() {
    let pod = Lab::new().node("node1").pod("worker");
    let agent = add_and_forget(&pod);
    // As a reboot leaves it: records and links are gone.
    fs::remove_dir_all(pod.node().run_dir().join("attachments")).unwrap();
    pod.ip("link del net1");
    pod.del(&cluster(pod.node())).run().silent_success();
    assert_eq!(agent.verbs(), ["claim", "release"]);
}

#[test]
fn each_attachment_is_released_where_it_was_claimed() {
    let pod = Lab::new().node("node1").pod("worker");
    let before = pod.node().snapshot(&[&pod]);
    let agent = add_and_forget(&pod);
    let file = conf::with(cluster(pod.node()), json!({"ipam": {"datastore": "file"}}));
    // The configuration has changed meanwhile.
    pod.del(&file).run().silent_success();
    assert_eq!(agent.verbs(), ["claim", "release"]);
    add(&pod, &file).run().attached();
    pod.del(&cluster(pod.node())).run().silent_success();
    assert!(pod.node().allocations("172.23.0.0-24").is_empty());
    assert_eq!(agent.verbs(), ["claim", "release"]);
    pod.node().ip("link del octbr");
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
}
