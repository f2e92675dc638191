//! What `kubectl get nns` shows: the network of each node, and how its agent stands.

use std::fs;

use octavia_bridge_cluster_tests::Exchange;
use serde_json::{Value, json};

use crate::scene::{Node, Scene, command, conditions, octbr, text, until};

const STATES: &str = "/apis/nmstate.io/v1beta1/nodenetworkstates";

/// The node's object; null if there is none.
fn state(scene: &Scene, node: &Node) -> Value {
    let answer = scene.admin.call("GET", &format!("{STATES}/{}", node.name), None);
    if answer.status == 200 { answer.body } else { Value::Null }
}

fn interface(state: &Value, name: &str) -> Option<Value> {
    let all = state.pointer("/status/currentState/interfaces")?.as_array()?;
    all.iter().find(|one| one["name"] == name).cloned()
}

/// Waits until the node's state is `so`.
#[track_caller]
fn wait(scene: &Scene, node: &Node, what: &str, so: impl Fn(&Value) -> bool) -> Value {
    until(what, || state(scene, node), so)
}

/// Writes of the node's state so far.
fn writes(node: &Node) -> usize {
    let is_write = |one: &&Exchange| one.method == "PATCH" && one.path.contains("/nodenetworkstates/");
    node.proxy().exchanges().iter().filter(is_write).count()
}

#[test]
fn a_nodes_links_addresses_and_routes_are_shown_without_those_of_pods() {
    let scene = Scene::new("shown");
    let node = scene.bare_node(0, &[]);
    node.ip("link set enp6s0 up");
    node.ip("link add eth0 type veth peer name gateway");
    node.ip("address add 192.0.2.7/24 dev eth0");
    node.ip("link set gateway up");
    node.ip("link set eth0 up");
    node.ip("route add 198.51.100.0/24 via 192.0.2.1");
    // A routing daemon may add thousands.
    node.ip("route add 203.0.113.0/24 via 192.0.2.1 proto bird");
    // As another CNI plugin attaches a pod: any name, no bridge, a route for the pod's address.
    command("ip", &["netns", "add", "pod-of-shown"]);
    node.ip("link add cali12345 type veth peer name eth0 netns pod-of-shown");
    node.ip("link set cali12345 up");
    node.ip("route add 10.244.0.7/32 dev cali12345");
    node.start();
    scene.post("octavia", &octbr(1500));
    scene.wait("octavia", "SuccessfullyConfigured");
    let shown = wait(&scene, &node, "it has the bridge", |state| interface(state, "octbr").is_some());
    let bridge = interface(&shown, "octbr").expect("just seen");
    assert_eq!((&bridge["type"], &bridge["state"]), (&json!("linux-bridge"), &json!("up")));
    assert_eq!(bridge["bridge"]["port"], json!([{"name": "enp6s0"}]));
    let nic = interface(&shown, "eth0").expect("the NIC is shown");
    assert_eq!(nic["ipv4"]["address"], json!([{"ip": "192.0.2.7", "prefix-length": 24}]));
    let routes = &shown["status"]["currentState"]["routes"]["config"];
    assert_eq!(
        (routes.as_array().map(Vec::len), &routes[0]["destination"]),
        (Some(1), &json!("198.51.100.0/24"))
    );
    assert!(!shown.to_string().contains("cali12345"), "{shown:#}");
    let own = scene.admin.get(&format!("/api/v1/nodes/{}", node.name));
    let owner = &shown["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["uid"]), (&json!("Node"), &own["metadata"]["uid"]));
    let version = text(&shown["status"]["handlerNmstateVersion"]);
    assert!(version.starts_with("octavia-bridge-agent "), "{version}");
    assert!(text(&shown["status"]["lastSuccessfulUpdateTime"]).ends_with('Z'), "{shown:#}");

    // Pods that come cost no write; a link of the node does.
    let before = writes(&node);
    node.ip("link add vethab type veth peer name eth1 netns pod-of-shown");
    node.ip("link set vethab master octbr up");
    node.ip("link add lxc1 type veth peer name eth2 netns pod-of-shown");
    let pods = node.ip("-br link show");
    assert!(pods.contains("vethab") && pods.contains("lxc1"), "{pods}");
    std::thread::sleep(std::time::Duration::from_secs(15));
    assert_eq!(writes(&node), before);
    node.ip("link add extra type bridge");
    let shown = wait(&scene, &node, "it has the new link", |state| interface(state, "extra").is_some());
    for pod in ["vethab", "lxc1", "cali12345"] {
        assert!(!shown.to_string().contains(pod), "{pod}: {shown:#}");
    }
    // By hand, or with a node that had this name.
    scene.admin.delete(&format!("{STATES}/{}", node.name));
    node.ip("link delete extra");
    wait(&scene, &node, "it is back", |state| interface(state, "octbr").is_some());
}

/// The controllers collect what the node of before owned, at once or a while later.
#[test]
fn the_state_follows_a_node_that_is_registered_anew() {
    let scene = Scene::new("state-anew");
    let node = scene.node(0);
    scene.post("octavia", &octbr(1500));
    let path = format!("{STATES}/{}", node.name);
    let owner = |state: &Value| text(&state["metadata"]["ownerReferences"][0]["uid"]);
    for is_late in [false, true] {
        wait(&scene, &node, "it has the bridge", |state| interface(state, "octbr").is_some());
        let own = format!("/api/v1/nodes/{}", node.name);
        scene.admin.delete(&own);
        if !is_late {
            scene.admin.delete(&path);
        }
        scene.register(&node.name);
        let uid = text(&scene.admin.get(&own)["metadata"]["uid"]);
        if is_late {
            let before = writes(&node);
            until("it is written for the new node", || writes(&node), |count| *count > before);
            scene.admin.delete(&path);
        }
        wait(&scene, &node, "the new node owns it", |state| owner(state) == uid);
    }
}

#[test]
fn how_the_agent_stands_is_in_the_conditions() {
    let scene = Scene::new("stands");
    let node = scene.node(0);
    scene.post("octavia", &octbr(1500));
    let healthy = wait(&scene, &node, "it is well", |state| {
        let told = conditions(state);
        told.len() == 2 && told[0][1] == "True" && told[1][1] == "False"
    });
    assert_eq!(conditions(&healthy)[0][0], "Available");
    assert_eq!(conditions(&healthy)[1], ["Degraded", "False", "AgentReady", ""]);
    let mut missing = octbr(1500);
    missing[0]["bridge"]["port"] = json!([{"name": "enp6s0"}, {"name": "enp9s0"}]);
    scene.patch("octavia", &missing);
    let degraded = wait(&scene, &node, "it is degraded", |state| {
        conditions(state).get(1).is_some_and(|one| one[3].contains("enp9s0"))
    });
    let [available, degraded] = &conditions(&degraded)[..] else { panic!("{degraded:#}") };
    assert_eq!(available[..3], ["Available", "True", "LinksNotAsWanted"], "pods are served");
    assert_eq!(degraded[..3], ["Degraded", "True", "LinksNotAsWanted"]);
    assert!(degraded[3].contains("enp9s0 does not exist"), "{degraded:?}");
    let since = |state: &Value, n: usize| text(&state["status"]["conditions"][n]["lastTransitionTime"]);
    let now = state(&scene, &node);
    assert_eq!(since(&now, 0), since(&healthy, 0), "it was available all the time");
    // Another process of the agent goes on from there.
    node.kill();
    let before = writes(&node);
    node.start();
    // Times in the object are whole seconds, which a new process may share with the one before.
    until("the new process has written", || writes(&node), |count| *count > before);
    let again = state(&scene, &node);
    assert_eq!(since(&again, 0), since(&healthy, 0), "{again:#}");
    node.ip("link add enp9s0 type veth peer name wire9");
    wait(&scene, &node, "it is well again", |state| {
        conditions(state).get(1).is_some_and(|one| one[1] == "False")
    });
}

#[test]
fn where_kubernetes_nmstate_is_at_work_its_handler_writes_the_state() {
    let scene = Scene::new("handler");
    let node = scene.bare_node(0, &[]);
    let lock = fs::File::create(node.file("handler_lock")).expect("create the lock");
    lock.lock().expect("lock it");
    let object = json!({
        "apiVersion": "nmstate.io/v1beta1", "kind": "NodeNetworkState", "metadata": {"name": node.name},
    });
    scene.admin.create(STATES, &object);
    let theirs = json!({"currentState": {"hostname": {"running": "theirs"}, "interfaces": []}});
    let path = format!("{STATES}/{}/status", node.name);
    scene.admin.call("PATCH", &path, Some(&json!({"status": theirs}))).expect(200);
    node.start();
    until("the agent stands aside", || node.readiness(), |told| told.contains("kubernetes-nmstate"));
    node.ip("link add extra type bridge");
    scene.post("octavia", &octbr(1500));
    std::thread::sleep(std::time::Duration::from_secs(15));
    assert_eq!(state(&scene, &node)["status"], theirs);
    // It is removed from the cluster; nothing of what it knew stays.
    drop(lock);
    let ours = wait(&scene, &node, "the agent takes over", |state| interface(state, "octbr").is_some());
    assert_eq!(ours["status"]["currentState"].get("hostname"), None, "{ours:#}");
}
