//! Pods of the reference bridge plugin and ours on one bridge, as while a cluster moves from one to the other, and back.

use octavia_bridge_tests::traffic::{Echo, expect_answer};
use octavia_bridge_tests::{Call, Lab, Pod, Stream, conf};
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// The network as it was, and the same with one word changed. Both take addresses of one pool.
fn before_and_after() -> [Value; 2] {
    let after = conf::octavia_with(json!({"cniVersion": "1.0.0"}));
    [conf::with(after.clone(), json!({"type": "bridge"})), after]
}

/// As multus adds a pod with the network's present configuration: it is called by its `type`.
fn call(call: Call, pod: &Pod, conf: &Value) -> Call {
    let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME={}", pod.container_id());
    call.plugin(conf["type"].as_str().expect("a type")).args(&args)
}

#[test]
fn pods_of_the_reference_plugin_stay_attached_while_ours_come_and_go_and_the_other_way_round() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    let [before, after] = before_and_after();
    let attach = |name: &str, conf: &Value| {
        let pod = node.pod(name);
        let attached = call(pod.add(conf), &pod, conf).run().attached();
        (pod, attached)
    };
    let (old, there) = attach("old", &before);
    let (new, here) = attach("new", &after);
    let _echoes = [Echo::start(&old, there.ip()), Echo::start(&new, here.ip())];
    expect_answer(&new, there.ip(), PATIENCE);
    expect_answer(&old, here.ip(), PATIENCE);

    let streams = [Stream::start(&old, &new, here.ip()), Stream::start(&new, &old, there.ip())];
    for conf in [&after, &before, &after, &before] {
        let (pod, attached) = attach("passing", conf);
        let _echo = Echo::start(&pod, attached.ip());
        // The reference plugin announces before its port forwards (containernetworking/plugins#756): an address that was
        // another pod's a moment ago is not reached until its neighbours have forgotten that one.
        if conf == &after {
            for other in [&old, &new] {
                expect_answer(other, attached.ip(), PATIENCE);
            }
        }
        call(pod.del(conf), &pod, conf).run().silent_success();
    }
    for count in streams.map(Stream::end) {
        assert!(count.sent > 20 && count.lost.is_empty(), "{count:?}");
    }
    new.check(&after, &here.result).run().silent_success();
    call(old.check(&before, &there.result), &old, &before).run().silent_success();

    // One that was attached by the other plugin, as when multus has lost what it was added with.
    call(old.del(&after), &old, &after).run().silent_success();
    assert_eq!(node.allocations("172.23.0.0-24").keys().collect::<Vec<_>>(), ["31"], "its address is free");
    // The link is not ours to remove. It goes with the pod.
    assert_eq!(old.expect_link("net1").addresses(), [there.address()]);
    call(new.del(&before), &new, &before).run().silent_success();
    assert!(!new.link_names().iter().any(|name| name == "net1"), "the reference plugin removes any link");
}
