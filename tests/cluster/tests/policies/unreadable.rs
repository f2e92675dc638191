//! A policy that the server accepts and no reader of JSON with a bound does: nested 200 deep.

use serde_json::{Value, json};

use crate::scene::{Scene, bridge, conditions, until};

const DONE: &str = "SuccessfullyConfigured";

fn deep() -> Value {
    let nested = (0..200).fold(json!(1), |inner, _| json!([inner]));
    json!([{"name": "br-deep", "type": "linux-bridge", "a": nested}])
}

#[test]
fn it_is_refused_by_its_name_and_holds_up_no_other() {
    let scene = Scene::new("deep");
    // One agent hears of it by its watch, and another finds it in its list.
    let node = scene.node(0);
    let late = scene.bare_node(1, &[]);
    scene.post("good", &json!([bridge("br-good")]));
    node.wait_link("br-good", |_| true);
    scene.post("deep", &deep());
    until(
        "it is refused on the node that watches",
        || scene.enactment(&node, "deep"),
        |enactment| enactment.as_ref().is_some_and(is_refused),
    );
    late.start();
    scene.post("later", &json!([bridge("br-later")]));
    for node in [&node, &late] {
        node.wait_link("br-good", |_| true);
        node.wait_link("br-later", |_| true);
        until(
            "it is refused",
            || scene.enactment(node, "deep"),
            |enactment| enactment.as_ref().is_some_and(is_refused),
        );
        let said = format!("{} cannot be read: recursion limit exceeded", scene.called("deep"));
        assert_eq!(node.log().matches(&said).count(), 1, "{}", node.log());
    }
    scene.wait("later", DONE);
    // As text: what reads documents in these tests stops at that depth, too.
    until(
        "its status says so",
        || scene.policy("deep").to_string(),
        |text| {
            text.contains("FailedToConfigure")
                && text.contains("the policy cannot be read: recursion limit exceeded")
        },
    );
    // It does harm neither while it goes nor afterwards.
    scene.delete("deep");
    scene.post("last", &json!([bridge("br-last")]));
    for node in [&node, &late] {
        node.wait_link("br-last", |_| true);
        until("its enactment is gone", || scene.enactment(node, "deep"), Option::is_none);
    }
    scene.wait("last", DONE);
}

fn is_refused(enactment: &Value) -> bool {
    conditions(enactment).iter().any(|[name, status, _, said]| {
        name == "Failing" && status == "True" && said.contains("cannot be read")
    })
}
