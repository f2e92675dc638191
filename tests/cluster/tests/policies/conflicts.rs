//! Policies that are wrong, or do not go together.

use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::scene::{Scene, bridge, message, octbr};

const DONE: &str = "SuccessfullyConfigured";
const FAILED: &str = "FailedToConfigure";

#[test]
fn the_younger_of_two_that_disagree_fails_and_names_the_other_until_that_is_gone() {
    let scene = Scene::new("conflict");
    let node = scene.node(0);
    scene.post("z-old", &octbr(1500));
    // Ages are in whole seconds.
    thread::sleep(Duration::from_millis(1100));
    scene.post("a-young", &octbr(1400));
    let failed = scene.wait("a-young", FAILED);
    let (young, old) = (scene.called("a-young"), scene.called("z-old"));
    let text = format!(
        "1/1 nodes failed to configure: {}: {young}: interfaces[0]: octbr is declared differently by {old}: interfaces[0]",
        node.name
    );
    assert_eq!(message(&failed), Some(text));
    scene.wait("z-old", DONE);
    assert_eq!(node.link("octbr").expect("the bridge")["mtu"], 1500);
    let events = scene.events("a-young");
    assert!(
        events
            .iter()
            .any(|(kind, reason, _)| (kind.as_str(), reason.as_str()) == ("Warning", "ReconcileFailed")),
        "{events:?}"
    );
    scene.delete("z-old");
    scene.wait("a-young", DONE);
    node.wait_link("octbr", |link| link["mtu"] == 1400);
}

#[test]
fn a_wrong_policy_tells_all_its_problems_and_what_was_in_force_is_kept() {
    let scene = Scene::new("wrong");
    let node = scene.node(0);
    scene.post("octavia", &octbr(1500));
    scene.wait("octavia", DONE);
    scene.patch(
        "octavia",
        &json!([
            {"name": "octbr", "type": "linux-bridge", "mtu": 1, "bridge": {"port": [{"name": "enp6s0"}]}},
            {"name": "bond0", "type": "ovs-bridge"},
        ]),
    );
    let failed = message(&scene.wait("octavia", FAILED)).expect("a message");
    for problem in
        ["interfaces[0].mtu: 1 is out of bounds, 68 to", "interfaces[1].type: ovs-bridge: not supported"]
    {
        assert!(failed.contains(problem), "{failed}");
    }
    node.ip("link del octbr");
    node.wait_link("octbr", |link| link["mtu"] == 1500);
    node.kill();
    node.ip("link del octbr");
    node.start();
    node.wait_link("octbr", |link| link["mtu"] == 1500);
    scene.patch("octavia", &octbr(1400));
    scene.wait("octavia", DONE);
    node.wait_link("octbr", |link| link["mtu"] == 1400);
}

#[test]
fn a_policy_that_the_kernel_does_not_take_holds_up_no_other() {
    let scene = Scene::new("apart");
    let node = scene.node(0);
    scene.post("octavia", &octbr(1500));
    scene.wait("octavia", DONE);
    // A stranger's link bears the name: nothing is done to it.
    node.ip("link add taken type veth peer name other");
    scene.post("taken", &json!([bridge("taken")]));
    let failed = message(&scene.wait("taken", FAILED)).expect("a message");
    assert!(failed.contains("taken"), "{failed}");
    scene.post("fine", &json!([bridge("fine")]));
    scene.wait("fine", DONE);
    scene.patch("octavia", &octbr(1400));
    node.wait_link("octbr", |link| link["mtu"] == 1400);
    scene.wait_for_message("octavia", "1/1 nodes successfully configured");
    node.ip("link del octbr");
    node.wait_link("octbr", |link| link["mtu"] == 1400);
    assert_eq!(scene.policy("octavia")["status"]["conditions"][0]["reason"], DONE);
    // It is tried again when it changes, and by and by.
    node.ip("link del taken");
    scene.patch("taken", &json!([bridge("taken"), bridge("another")]));
    scene.wait("taken", DONE);
}
