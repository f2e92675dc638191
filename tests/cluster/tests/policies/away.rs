//! The API is away, or has no policies.

use octavia_bridge_cluster_tests::Cluster;
use serde_json::json;

use crate::scene::{Scene, octbr, until};

const DONE: &str = "SuccessfullyConfigured";

#[test]
fn without_the_api_what_was_in_force_is_kept_and_afterwards_what_has_changed_is_found() {
    let scene = Scene::new("away");
    let node = scene.node(0);
    scene.post("octavia", &octbr(1500));
    scene.post("gone", &json!([{"name": "br-gone", "type": "linux-bridge", "bridge": {"port": []}}]));
    scene.wait("octavia", DONE);
    scene.wait("gone", DONE);
    node.proxy().down();
    for restart in [false, true] {
        if restart {
            node.kill();
        }
        node.ip("link del octbr");
        if restart {
            node.start();
        }
        node.wait_link("octbr", |link| link["mtu"] == 1500);
    }
    scene.patch("octavia", &octbr(1400));
    scene.delete("gone");
    node.proxy().up();
    node.wait_link("octbr", |link| link["mtu"] == 1400);
    scene.wait_for_message("octavia", "1/1 nodes successfully configured");
    until("the enactment of what is gone", || scene.enactment(&node, "gone"), Option::is_none);
    assert!(node.link("br-gone").is_some(), "it stays");
}

/// A server of its own: definitions are for the whole of it.
#[test]
fn a_cluster_without_such_policies_is_looked_at_again() {
    let cluster = Cluster::start();
    let definition =
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/nodenetworkconfigurationpolicies.nmstate.io";
    let mut object = cluster.admin().get(definition);
    cluster.admin().delete(definition);
    until(
        "the kind is gone",
        || cluster.admin().call("GET", crate::scene::POLICIES, None).status,
        |status| *status == 404,
    );
    let scene = Scene::on(&cluster, "absent");
    let node = scene.node(0);
    until(
        "it says so",
        || node.log(),
        |log| log.contains("the API server has no nodenetworkconfigurationpolicies"),
    );
    for key in ["metadata", "status"] {
        object[key] = json!({"name": "nodenetworkconfigurationpolicies.nmstate.io"});
    }
    object["status"].take();
    cluster.admin().create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &object);
    until(
        "the kind is back",
        || cluster.admin().call("GET", crate::scene::POLICIES, None).status,
        |status| *status == 200,
    );
    scene.post("octavia", &octbr(1500));
    scene.wait("octavia", DONE);
    assert_eq!(node.log().matches("the API server has no").count(), 1, "said once\n{}", node.log());
}
