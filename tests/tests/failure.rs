//! ADD that fails leaves links, namespaces, pool and record as they were.

use octavia_bridge_tests::{CniError, Lab, Pod, conf};
use serde_json::{Map, Value, json};
use std::fs::{self, File};
use std::time::Duration;

/// No wait for a lock exceeds 30 s; the rest is for a busy machine.
const LONGEST_WAIT: Duration = Duration::from_secs(45);

/// Runs an ADD that must fail with `code` and change nothing, on a host without a bridge and on one with.
fn fails_without_a_trace(conf: &Value, code: u64) -> CniError {
    let node = Lab::new().node("node1");
    let first = fails_on(&node.pod("worker"), conf, code);
    node.bridge_with_uplink();
    fails_on(&node.pod("worker"), conf, code);
    first
}

fn fails_on(pod: &Pod, conf: &Value, code: u64) -> CniError {
    let before = pod.node().snapshot(&[pod]);
    let error = pod.add(conf).run().error(code);
    pod.node().snapshot(&[pod]).assert_same_as(&before);
    error
}

fn routes(routes: &Value) -> Value {
    conf::with_ipam(json!({"range": "172.23.0.0/24", "routes": routes}))
}

#[test]
fn a_route_that_the_kernel_refuses_undoes_everything() {
    // A gateway whose scope is not wider than the route's.
    let refused = json!({"dst": "172.25.0.0/16", "gw": "172.23.0.150", "scope": 254});
    let good = json!({"dst": "172.24.0.0/16", "gw": "172.23.0.150"});
    fails_without_a_trace(&routes(&json!([good, refused])), 100).says(&["172.25.0.0/16", "net1"]);
}

#[test]
fn ipv6_stays_switched_off_after_a_failure() {
    let pod = Lab::new().node("node1").pod("worker");
    for scope in ["all", "default"] {
        pod.set_sysctl(&format!("ipv6/conf/{scope}/disable_ipv6"), "1");
    }
    let refused = json!({"dst": "172.25.0.0/16", "gw": "172.23.0.150", "scope": 254});
    let dual =
        conf::with(routes(&json!([refused])), json!({"ipam": {"ipRanges": [{"range": "fd00:23::/64"}]}}));
    fails_on(&pod, &dual, 100);
}

#[test]
fn an_exhausted_pool_says_who_holds_what() {
    let conf = conf::octavia_with(json!({"ipam": {"range_end": "172.23.0.31"}}));
    let node = Lab::new().node("node1");
    let holders = ["one", "two"].map(|name| node.pod(name));
    for pod in &holders {
        pod.add(&conf).run().attached();
    }
    let error = fails_on(&node.pod("three"), &conf, 101);
    error.says(&[
        "172.23.0.30",
        "172.23.0.31",
        "2 used",
        "0 free",
        "docs/troubleshooting.md, \"Range full\"",
    ]);
    error.says(&holders.each_ref().map(Pod::container_id));
    // One goes, and there is room again.
    holders[0].del(&conf).run().silent_success();
    assert_eq!(node.pod("four").add(&conf).run().attached().address(), "172.23.0.30/24");
}

#[test]
fn an_address_that_another_pod_holds_is_not_given_twice() {
    let node = Lab::new().node("node1");
    let holder = node.pod("holder");
    holder.add(&conf::octavia()).args("IgnoreUnknown=1;K8S_POD_NAMESPACE=o;K8S_POD_NAME=p").run().attached();
    let pod = node.pod("worker");
    let before = node.snapshot(&[&pod]);
    let error = pod.add(&conf::octavia()).args("IP=172.23.0.30").run().error(102);
    error.says(&["172.23.0.30", "o/p", holder.container_id()]);
    node.snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn all_ranges_give_an_address_or_none_does() {
    let two = json!({"ipam": {"ipRanges": [{"range": "172.25.0.0/30"}]}});
    let conf = conf::octavia_with(two);
    let node = Lab::new().node("node1");
    let pods = ["one", "two"].map(|name| node.pod(name));
    for pod in &pods {
        pod.add(&conf).run().attached();
    }
    fails_on(&node.pod("three"), &conf, 101).says(&["172.25.0.0"]);
    assert_eq!(node.allocations("172.23.0.0-24").len(), 2);
}

#[test]
fn a_run_directory_that_cannot_be_written_is_named() {
    let pod = Lab::new().node("node1").pod("worker");
    let before = pod.node().snapshot(&[&pod]);
    let outcome = pod.add(&conf::octavia()).on_read_only_memory().run();
    outcome.error(5).says(&["/run/octavia-bridge", "Read-only"]);
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
    // Layer 2 needs no pool, but a record all the same.
    let outcome = pod.add(&conf::layer2()).on_read_only_memory().run();
    outcome.error(5).says(&["/run/octavia-bridge"]);
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn a_disk_that_cannot_be_written_is_not_needed() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    let pod = node.pod("worker");
    let before = node.snapshot(&[&pod]);
    pod.add(&conf::octavia()).on_read_only_disk().run().attached();
    node.status(&conf::octavia_with(json!({"cniVersion": "1.1.0"})))
        .on_read_only_disk()
        .run()
        .silent_success();
    pod.del(&conf::octavia()).on_read_only_disk().run().silent_success();
    node.snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn a_full_run_directory_loses_no_reservation_of_others() {
    let node = Lab::new().node_with_small_memory("node1", 64 * 1024);
    let holder = node.pod("holder");
    holder.add(&conf::octavia()).run().attached();
    // Page by page, until nothing more fits.
    let filler = node.run_dir().join("filler");
    let mut size = 0;
    while fs::write(&filler, vec![0; size + 4096]).is_ok() {
        size += 4096;
    }
    assert!(size > 0);
    fails_on(&node.pod("worker"), &conf::octavia(), 5);
    fs::remove_file(filler).unwrap();
    assert_eq!(node.pod("later").add(&conf::octavia()).run().attached().address(), "172.23.0.31/24");
}

#[test]
fn a_corrupt_or_foreign_pool_is_named_and_left_alone() {
    let named = |name: &str| {
        json!({"apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": "IPPool",
        "metadata": {"name": name}, "spec": {"range": "172.23.0.0/24", "allocations": {}}})
    };
    let mut bad_key = named("172.23.0.0-24");
    bad_key["spec"]["allocations"] = json!({"thirty": {"id": "x", "podref": "a/b"}});
    let mut other_range = named("172.23.0.0-24");
    other_range["spec"]["range"] = json!("10.0.0.0/8");
    let mut other_kind = named("172.23.0.0-24");
    other_kind["kind"] = json!("ConfigMap");
    for text in [
        "".to_owned(),
        "{".to_owned(),
        "[]".to_owned(),
        bad_key.to_string(),
        other_range.to_string(),
        other_kind.to_string(),
    ] {
        let node = Lab::new().node("node1");
        let pool = node.pool_file("172.23.0.0-24");
        fs::create_dir_all(pool.parent().unwrap()).unwrap();
        fs::write(&pool, &text).unwrap();
        let pod = node.pod("worker");
        pod.add(&conf::octavia()).run().error(106).says(&["172.23.0.0-24.json"]);
        assert_eq!(fs::read_to_string(&pool).unwrap(), text);
        assert_eq!((node.link_names().len(), pod.link_names().len()), (0, 0), "{text}");
        // Another network is not concerned.
        let other = conf::octavia_with(
            json!({"ipam": {"range": "172.29.0.0/24", "range_start": null, "range_end": null,
            "routes": []}}),
        );
        pod.add(&other).run().attached();
    }
}

#[test]
fn a_stuck_lock_of_the_store_ends_in_try_again() {
    let pod = Lab::new().node("node1").pod("worker");
    let pools = pod.node().run_dir().join("pools");
    fs::create_dir_all(&pools).unwrap();
    let lock = File::create(pools.join(".lock")).unwrap();
    lock.lock().unwrap();
    let before = pod.node().snapshot(&[&pod]);
    let outcome = pod.add(&conf::octavia()).run();
    outcome.error(11).says(&["/run/octavia-bridge/pools/.lock"]);
    assert!(outcome.took < LONGEST_WAIT, "{:?}", outcome.took);
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
    drop(lock);
    pod.add(&conf::octavia()).run().attached();
}

#[test]
fn a_stuck_lock_of_the_store_does_not_stop_del() {
    let pod = Lab::new().node("node1").pod("worker");
    pod.node().bridge_with_uplink();
    let before = pod.node().snapshot(&[&pod]);
    pod.add(&conf::octavia()).run().attached();
    let lock = File::create(pod.node().run_dir().join("pools/.lock")).unwrap();
    lock.lock().unwrap();
    let outcome = pod.del(&conf::octavia()).run();
    outcome.silent_success();
    assert!(outcome.took < LONGEST_WAIT, "{:?}", outcome.took);
    assert_eq!(pod.link_names(), [""; 0]);
    drop(lock);
    // The next call, for any pod, releases the address that could not be released then.
    let other = pod.node().pod("other");
    assert_eq!(other.add(&conf::octavia()).run().attached().address(), "172.23.0.30/24");
    other.del(&conf::octavia()).run().silent_success();
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn add_and_del_of_one_attachment_exclude_each_other() {
    let pod = Lab::new().node("node1").pod("worker");
    pod.add(&conf::octavia()).run().attached();
    let name = format!("attachments/{}@net1.jsonl", pod.container_id());
    let record = File::open(pod.node().run_dir().join(name)).unwrap();
    record.lock().unwrap();
    let before = pod.node().snapshot(&[&pod]);
    let outcome = pod.add(&conf::octavia()).run();
    outcome.error(11).says(&[pod.container_id()]);
    assert!(outcome.took < LONGEST_WAIT, "{:?}", outcome.took);
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn a_missing_ipam_plugin_is_named_with_the_places_looked_at() {
    let conf = conf::layer2_with(json!({"ipam": {"type": "no-such-ipam"}}));
    fails_without_a_trace(&conf, 7).says(&["no-such-ipam", "CNI_PATH", "/usr/lib/cni"]);
}

#[test]
fn the_default_store_is_not_replaced_by_another() {
    let without = conf::without(conf::octavia(), "/ipam/datastore");
    let pod = Lab::new().node("node1").pod("worker");
    let before = pod.node().snapshot(&[&pod]);
    let add = pod.add(&without).args("IgnoreUnknown=1;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME=worker-0");
    add.run().error(11).says(&["/run/octavia-bridge/agent.sock", "datastore", "kubernetes", "file"]);
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn a_large_pool_needs_little_memory() {
    let allocations: Map<String, Value> =
        (1..=60_000).map(|offset: u32| (offset.to_string(), held(offset))).collect();
    let document = json!({
        "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
        "kind": "IPPool",
        "metadata": {"name": "10.64.0.0-16"},
        "spec": {"range": "10.64.0.0/16", "allocations": allocations},
    });
    let node = Lab::new().node("node1");
    let file = node.pool_file("10.64.0.0-16");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, format!("{document:#}\n")).unwrap();

    let conf = conf::octavia_with(
        json!({"ipam": {"range": "10.64.0.0/16", "range_start": null, "range_end": null, "routes": []}}),
    );
    let pod = node.pod("worker");
    // Of its own, in bytes: what it has allocated, and the stack of a thread. The document alone has half of it.
    let limit = ["prlimit", "--data=16777216"];
    let attached = pod.add(&conf).under(&limit).run().attached();
    assert_eq!(attached.ip().to_string(), "10.64.234.97");
    assert_eq!(node.allocations("10.64.0.0-16").len(), 60_001);
    pod.del(&conf).under(&limit).run().silent_success();
    let after: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert!(after == document, "every entry is as it was");
}

fn held(offset: u32) -> Value {
    json!({"id": format!("{offset:064x}"), "podref": format!("openstack/worker-{offset}"), "ifname": "net1"})
}
