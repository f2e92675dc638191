//! A policy that cuts its node off is tried once, and once more when an annotation asks for it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde_json::{Value, json};

use crate::scene::{Node, Scene, bridge, message, until};

const DONE: &str = "SuccessfullyConfigured";
const FAILED: &str = "FailedToConfigure";

/// A router in a namespace of its own, at the other end of the wire; gone when dropped.
struct Router(Child);

impl Router {
    fn new(node: &Node) -> Self {
        let router = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "unshare", "--net", "sleep", "600"])
            .spawn()
            .expect("start the router");
        let pid = router.id().to_string();
        let router = Self(router);
        let own = fs::read_link("/proc/self/ns/net").expect("read the own namespace");
        until(
            "the router has a namespace",
            || fs::read_link(format!("/proc/{pid}/ns/net")).ok(),
            |other| other.as_ref().is_some_and(|other| *other != own),
        );
        node.ip(&format!("link set wire netns {pid}"));
        for words in ["link set lo up", "addr add 10.0.0.1/24 dev wire", "link set wire up"] {
            let mut command = Command::new("nsenter");
            command.args(["-t", &pid, "-n", "ip"]).args(words.split(' '));
            assert!(command.status().expect("run ip").success(), "{words}");
        }
        for words in
            ["link set enp6s0 up", "addr add 10.0.0.5/24 dev enp6s0", "route add default via 10.0.0.1"]
        {
            node.ip(words);
        }
        router
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        // Ended already, perhaps.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn without_ipv4() -> Value {
    json!([{"name": "enp6s0", "type": "ethernet", "state": "up", "ipv4": {"enabled": false}}])
}

fn is_whole(node: &Node) -> bool {
    node.ip("-4 addr show dev enp6s0").contains("inet 10.0.0.5/24")
        && node.ip("route show default").contains("via 10.0.0.1")
}

/// The kernel's word on each try: the address goes.
struct Tries {
    monitor: Child,
    file: PathBuf,
}

impl Tries {
    fn of(node: &Node) -> Self {
        let file = node.file("tries");
        let to = File::create(&file).expect("create the monitor's file");
        let mut monitor = node.inside(Path::new("ip"));
        let monitor = monitor.args(["monitor", "address"]).stdout(to).spawn().expect("start ip monitor");
        // It listens when it has told of an address of ours.
        let tries = Self { monitor, file };
        until(
            "the monitor listens",
            || {
                node.ip("addr add 10.9.9.9/32 dev lo");
                node.ip("addr del 10.9.9.9/32 dev lo");
                fs::read_to_string(&tries.file).expect("read what it said")
            },
            |said| said.contains("10.9.9.9"),
        );
        tries
    }

    fn count(&self) -> usize {
        let said = fs::read_to_string(&self.file).expect("read what the monitor said");
        said.lines().filter(|line| line.starts_with("Deleted") && line.contains("10.0.0.5/24")).count()
    }

    /// Waits for the so-many-th try and for its end.
    fn wait(&self, node: &Node, number: usize) {
        until("it is tried", || self.count(), |count| *count >= number);
        until("and taken back", || is_whole(node), |whole| *whole);
        assert_eq!(self.count(), number);
    }
}

impl Drop for Tries {
    fn drop(&mut self) {
        // Ended already, perhaps.
        drop(self.monitor.kill());
        drop(self.monitor.wait());
    }
}

fn ask_for(scene: &Scene, value: &str) {
    let retry = json!({"metadata": {"annotations": {"octavia-bridge.io/retry": value}}});
    scene.admin.call("PATCH", &scene.path("octavia"), Some(&retry)).expect(200);
}

/// Waits until the agent has looked again, several times.
fn looks(node: &Node) {
    for _ in 0..3 {
        node.ip("link del br-other");
        node.wait_link("br-other", |link| link["flags"].to_string().contains("UP"));
    }
}

#[test]
fn a_policy_that_cut_the_node_off_is_tried_again_only_when_it_is_asked_for() {
    let scene = Scene::new("cut");
    let node = scene.bare_node(0, &["--interval", "1"]);
    let _router = Router::new(&node);
    let tries = Tries::of(&node);
    node.start();
    scene.post("octavia", &without_ipv4());
    tries.wait(&node, 1);
    let failed = scene.wait("octavia", FAILED);
    let told = message(&failed).expect("a message");
    assert!(told.contains("octavia-bridge.io/retry"), "{told}");

    // Neither by a restart, nor by another policy, nor by an event.
    until("it is remembered", || node.file("state/agent/cut-off.json").exists(), |there| *there);
    node.kill();
    node.start();
    scene.post("other", &json!([bridge("br-other")]));
    scene.wait("other", DONE);
    looks(&node);
    assert_eq!(tries.count(), 1);
    scene.wait("octavia", FAILED);

    ask_for(&scene, "1");
    tries.wait(&node, 2);
    scene.wait("octavia", FAILED);
    // The same wish once more is none.
    ask_for(&scene, "1");
    looks(&node);
    assert_eq!(tries.count(), 2);
    // A policy that takes nothing away is another one.
    let harmless = json!([{"name": "enp6s0", "type": "ethernet", "state": "up"}]);
    scene.patch("octavia", &harmless);
    scene.wait("octavia", DONE);
    assert_eq!(tries.count(), 2);
}

/// Another policy is no reason to cut the node off once more.
#[test]
fn a_policy_in_force_that_would_cut_the_node_off_is_left_whatever_others_become() {
    let scene = Scene::new("cut-kept");
    let node = scene.bare_node(0, &["--interval", "1"]);
    node.start();
    scene.post("octavia", &without_ipv4());
    scene.wait("octavia", DONE);
    let tries = Tries::of(&node);
    // By hand, and against the policy; the agent sees it whole.
    node.signal("STOP");
    let _router = Router::new(&node);
    node.signal("CONT");
    tries.wait(&node, 1);
    scene.wait("octavia", FAILED);
    scene.post("other", &json!([bridge("br-other")]));
    scene.wait("other", DONE);
    looks(&node);
    scene.delete("other");
    scene.post("another", &json!([bridge("br-other"), bridge("br-another")]));
    scene.wait("another", DONE);
    looks(&node);
    assert_eq!(tries.count(), 1);
    ask_for(&scene, "1");
    tries.wait(&node, 2);
}
