//! whereabouts' flat file, where its users have it: below /etc of the node, or where the network names it.

use octavia_bridge_tests::scripted::oblige;
use octavia_bridge_tests::{Act, Call, Lab, Node, Pod, ScriptedAgent, conf};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

const POD: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME=worker-0";
const USUAL: &str = "cni/net.d/whereabouts.d/whereabouts.conf";

fn socket(node: &Node) -> PathBuf {
    node.disk().join("agent.sock")
}

/// What the plugin sees as `/etc`.
fn etc(node: &Node) -> PathBuf {
    node.disk().join("etc")
}

/// Writes a file below the node's `/etc`, or anywhere.
fn put(node: &Node, name: &str, text: &str) -> PathBuf {
    let path = etc(node).join(name);
    fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("make its folder");
    fs::write(&path, text).expect("write the file");
    path
}

/// A network as whereabouts' users write it, with this `ipam` block.
fn network(node: &Node, ipam: &Value) -> Value {
    let block = conf::with(json!({"type": "whereabouts"}), ipam.clone());
    conf::layer2_with(json!({"cniVersion": "1.1.0", "agentSocket": socket(node), "ipam": block}))
}

/// The call with the node's own `/etc` and `/var/log`.
fn on_its_etc(call: &Call, node: &Node) -> Call {
    let log = node.disk().join("log");
    fs::create_dir_all(etc(node)).expect("make the node's /etc");
    fs::create_dir_all(&log).expect("make the node's /var/log");
    let mount = format!(
        "mount --bind {} /var/log && mount --bind {} /etc && exec \"$@\"",
        log.display(),
        etc(node).display()
    );
    call.clone().under(&["/bin/sh", "-c", &format!("PATH=/usr/bin:/bin; {mount}"), "sh"])
}

fn add(pod: &Pod, ipam: &Value) -> Call {
    on_its_etc(&pod.add(&network(pod.node(), ipam)).args(POD), pod.node())
}

/// The request of the last claim.
fn asked(agent: &ScriptedAgent) -> Value {
    let calls = agent.calls();
    let claim = calls.iter().rev().find(|call| !call["claim"].is_null());
    claim.expect("an ADD has claimed")["claim"]["request"].clone()
}

#[test]
fn a_network_written_for_whereabouts_and_its_file_work_unchanged() {
    let pod = Lab::new().node("node1").pod("worker");
    let agent = ScriptedAgent::obliging(&socket(pod.node()));
    let log = pod.node().disk().join("log/whereabouts.log");
    // As upstream's and OpenShift's installers write it, with what an administrator may add.
    let file = json!({
        "datastore": "kubernetes", "kubernetes": {"kubeconfig": "/etc/cni/net.d/whereabouts.d/whereabouts.kubeconfig"},
        "reconciler_cron_expression": "30 4 * * *", "log_file": "/var/log/whereabouts.log", "log_level": "debug",
        "configuration_path": "/etc/cni/net.d/whereabouts.d", "enable_overlapping_ranges": false,
        "exclude": ["172.23.0.40/32"], "routes": [{"dst": "172.24.0.0/16", "gw": "172.23.0.150"}],
    });
    put(pod.node(), USUAL, &file.to_string());
    let ipam = json!({"range": "172.23.0.0/24", "range_start": "172.23.0.30", "range_end": "172.23.0.70"});
    let outcome = add(&pod, &ipam).run();
    outcome.attached();
    assert_eq!(outcome.stderr, "", "nothing in it is worth a warning");
    assert_eq!(pod.expect_route("172.24.0.0/16").gateway(), "172.23.0.150");
    let request = asked(&agent);
    assert_eq!(request["wants"][0]["choice"]["lowest"]["exclude"], json!(["172.23.0.40/32"]));
    assert_eq!(request["reserved"], json!(["172.23.0.150"]));
    assert_eq!(request["overlapping"], true, "whereabouts does not take it from the file either");
    let text = fs::read_to_string(log).expect("read the log that the file names");
    assert!(text.contains("whereabouts.conf: exclude") && text.contains("ADD"), "{text}");
}

#[test]
fn the_first_place_with_a_file_is_the_only_one() {
    let node = Lab::new().node("node1");
    let agent = ScriptedAgent::obliging(&socket(&node));
    let ipam = json!({"range": "172.23.0.0/24"});
    let excluded = |ipam: &Value| {
        let pod = node.pod("worker");
        add(&pod, ipam).run().attached();
        pod.del(&network(&node, ipam)).run().silent_success();
        asked(&agent)["wants"][0]["choice"]["lowest"]["exclude"].clone()
    };
    assert_eq!(excluded(&ipam), Value::Null, "no file is no error");
    let file = |last: u8| format!(r#"{{"exclude": ["172.23.0.{last}/32"], "log_level": "error"}}"#);
    put(&node, USUAL, &file(2));
    assert_eq!(excluded(&ipam), json!(["172.23.0.2/32"]));
    put(&node, &format!("kubernetes/{USUAL}"), &file(1));
    assert_eq!(excluded(&ipam), json!(["172.23.0.1/32"]));
    put(&node, "cni/net.d/whereabouts.d/own.conf", &file(9));
    let naming = |path: &str| conf::with(ipam.clone(), json!({"configuration_path": path}));
    assert_eq!(excluded(&naming("/etc/cni/net.d/whereabouts.d/own.conf")), json!(["172.23.0.9/32"]));
    // whereabouts goes on to the usual places, too.
    let missing = "/etc/cni/net.d/whereabouts.d/missing.conf";
    assert_eq!(excluded(&naming(missing)), json!(["172.23.0.1/32"]));
    let pod = node.pod("worker");
    let outcome = add(&pod, &naming(missing)).run();
    assert!(outcome.stderr.contains(missing) && outcome.stderr.contains("does not exist"), "{outcome:?}");
}

#[test]
fn distributions_keep_it_in_folders_of_their_own_which_may_be_links() {
    let node = Lab::new().node("node1");
    let agent = ScriptedAgent::obliging(&socket(&node));
    // As a snap's `current` is one.
    let real = node.disk().join("rancher/k3s/agent-1/etc/cni/net.d/whereabouts.d");
    fs::create_dir_all(&real).unwrap();
    symlink("agent-1", node.disk().join("rancher/k3s/agent")).unwrap();
    fs::write(real.join("whereabouts.conf"), r#"{"exclude": ["172.23.0.7/32"]}"#).unwrap();
    let file = "/var/lib/rancher/k3s/agent/etc/cni/net.d/whereabouts.d/whereabouts.conf";
    for ipam in [
        json!({"range": "172.23.0.0/24", "configuration_path": file}),
        // whereabouts finds none there; networks that do not name it are ones that it does not serve.
        json!({"range": "172.23.0.0/24"}),
    ] {
        let pod = node.pod("worker");
        add(&pod, &ipam).run().attached();
        assert_eq!(asked(&agent)["wants"][0]["choice"]["lowest"]["exclude"], json!(["172.23.0.7/32"]));
    }
    // The file itself may not be one.
    fs::write(node.disk().join("secret"), r#"{"range": "s3cret"}"#).unwrap();
    fs::remove_file(real.join("whereabouts.conf")).unwrap();
    symlink("/var/lib/secret", real.join("whereabouts.conf")).unwrap();
    let pod = node.pod("worker");
    let error = add(&pod, &json!({"configuration_path": file})).run().error(5);
    error.says(&[file, "symbolic link"]);
    assert!(!error.msg.contains("s3cret"), "{error:?}");
}

#[test]
fn no_other_file_of_the_node_is_read() {
    let pod = Lab::new().node("node1").pod("worker");
    let agent = ScriptedAgent::obliging(&socket(pod.node()));
    put(pod.node(), "secret.conf", r#"{"range": "s3cret"}"#);
    let before = pod.node().snapshot(&[&pod]);
    for path in [
        "/etc/secret.conf",
        "/etc/cni/net.d/whereabouts.d/../../../secret.conf",
        // Reading these waits for ever, or takes from others what they have not read yet.
        "/proc/kmsg",
        "/sys/kernel/tracing/trace_pipe",
        "/dev/stdin",
    ] {
        let error = add(&pod, &json!({"configuration_path": path})).run().error(7);
        error.says(&["ipam.configuration_path", path, "/etc/cni/net.d/whereabouts.d"]);
        assert!(!error.msg.contains("s3cret"), "{error:?}");
    }
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
    assert!(agent.calls().is_empty());
}

#[test]
fn a_network_of_the_file_store_does_not_know_of_it() {
    let pod = Lab::new().node("node1").pod("worker");
    put(pod.node(), USUAL, r#"{"exclude": ["172.23.0.30/32"], "gateway": "bogus"}"#);
    let attached = on_its_etc(&pod.add(&conf::octavia()), pod.node()).run().attached();
    assert_eq!(attached.address(), "172.23.0.30/24");
    let own = put(pod.node(), "own.conf", "{}");
    let conf = conf::octavia_with(json!({"ipam": {"configuration_path": own}}));
    pod.node().pod("other").add(&conf).run().error(2).says(&["configuration_path", "own.conf", "file"]);
}

#[test]
fn a_wrong_file_is_named_with_the_field() {
    let pod = Lab::new().node("node1").pod("worker");
    let agent = ScriptedAgent::at(&socket(pod.node()), |call: &Value| match call["claim"].is_null() {
        true => oblige(call),
        false => Act::Bytes(Vec::new()),
    });
    let before = pod.node().snapshot(&[&pod]);
    for (text, code, words) in [
        ("{", 7, ["whereabouts.conf", "EOF"]),
        ("[]", 7, ["whereabouts.conf", "not a JSON object"]),
        (r#"{"exclude": ["s3cret"]}"#, 7, ["whereabouts.conf: exclude[0]", "is neither a subnet nor"]),
        (r#"{"gateway": "10.0.0.1"}"#, 7, ["whereabouts.conf: gateway", "172.23.0.0/24"]),
        (
            r#"{"ipRanges": [{"range": "s3cret"}]}"#,
            7,
            ["whereabouts.conf: ipRanges[0].range", "is not a range"],
        ),
        (r#"{"routes": 7}"#, 7, ["whereabouts.conf: routes", "list"]),
        (r#"{"node_slice_size": "s3cret"}"#, 2, ["whereabouts.conf: node_slice_size", "not supported"]),
    ] {
        put(pod.node(), USUAL, text);
        let outcome = add(&pod, &json!({"range": "172.23.0.0/24"})).run();
        outcome.error(code).says(&words);
        // It is root's file, and the error the pod's author's to read.
        assert!(!format!("{outcome:?}").contains("s3cret"), "{outcome:?}");
    }
    fs::remove_file(etc(pod.node()).join(USUAL)).unwrap();
    fs::create_dir(etc(pod.node()).join(USUAL)).unwrap();
    add(&pod, &json!({"range": "172.23.0.0/24"}))
        .run()
        .error(5)
        .says(&["whereabouts.conf", "not a regular file"]);
    let relative = json!({"range": "172.23.0.0/24", "configuration_path": "own.conf"});
    add(&pod, &relative).run().error(7).says(&["ipam.configuration_path", "own.conf", "absolute"]);
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
    assert!(agent.calls().is_empty());
    // A pod ends all the same.
    on_its_etc(&pod.del(&network(pod.node(), &json!({}))), pod.node()).run().silent_success();
}

#[test]
fn the_ipam_only_face_reads_it_and_may_have_its_socket_in_the_block() {
    let pod = Lab::new().node("node1").pod("worker");
    let before = pod.node().snapshot(&[&pod]);
    let agent = ScriptedAgent::obliging(&socket(pod.node()));
    put(pod.node(), USUAL, r#"{"range": "172.23.0.0/24", "routes": [{"dst": "172.24.0.0/16"}]}"#);
    let block = json!({"type": "whereabouts", "agentSocket": socket(pod.node())});
    let conf = json!({"cniVersion": "1.1.0", "name": "octavia", "type": "macvlan", "ipam": block});
    let args = "K8S_POD_NAMESPACE=openstack;K8S_POD_NAME=worker-0;K8S_POD_UID=8a0c";
    let call = |command: Call| on_its_etc(&command.plugin("whereabouts").args(args), pod.node()).run();
    for _ in 0..2 {
        let result = call(pod.add(&conf)).success();
        assert_eq!(result["ips"], json!([{"address": "172.23.0.30/24"}]));
        assert_eq!(result["routes"], json!([{"dst": "172.24.0.0/16"}]));
    }
    assert_eq!(agent.calls()[0]["claim"]["podUid"], "8a0c");
    call(pod.check(&conf, &json!({"cniVersion": "1.1.0", "ips": []}))).silent_success();
    call(pod.node().status(&conf)).silent_success();
    let stripped =
        json!({"cniVersion": "1.1.0", "name": "octavia", "type": "macvlan", "ipam": {"type": "whereabouts"}});
    call(pod.del(&stripped)).silent_success();
    assert_eq!(agent.verbs(), ["claim", "claim", "held", "usage", "release"]);
    pod.node().snapshot(&[&pod]).assert_same_as(&before);

    // Without an agent: no success for ADD, a tombstone for DEL.
    drop(agent);
    call(pod.add(&conf)).error(11).says(&["agent.sock"]);
    call(pod.node().status(&conf)).error(50).says(&["agent.sock"]);
    let agent = ScriptedAgent::obliging(&socket(pod.node()));
    call(pod.add(&conf)).success();
    drop(agent);
    call(pod.del(&stripped)).silent_success();
    let tombstone = format!("cluster-tombstones/{}@net1", pod.container_id());
    assert!(pod.node().data_dir().join(tombstone).is_file());
}
