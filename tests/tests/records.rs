//! Records that cannot be read: torn ones, of a killed writer, and records of other programs.

use octavia_bridge_tests::{Attached, Lab, Node, Pod, conf};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::PathBuf;

const POOL: &str = "172.23.0.0-24";

fn octavia() -> Value {
    conf::octavia_with(json!({"cniVersion": "1.1.0"}))
}

/// GC of Octavia's network that knows the given pods.
fn gc(valid: &[&Pod]) -> Value {
    let valid: Vec<Value> =
        valid.iter().map(|pod| json!({"containerID": pod.container_id(), "ifname": "net1"})).collect();
    conf::with(octavia(), json!({"cni.dev/valid-attachments": valid}))
}

fn attached_pod() -> (Node, Pod, Attached) {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    let pod = node.pod("worker");
    let attached = pod.add(&octavia()).run().attached();
    (node, pod, attached)
}

fn record(pod: &Pod) -> PathBuf {
    let file = pod.node().run_dir().join(format!("attachments/{}@net1.jsonl", pod.container_id()));
    assert!(file.is_file(), "{} is missing", file.display());
    file
}

/// What a writer leaves that was killed, or whose machine lost its power.
const TORN: [&str; 3] = ["", "{\"cont", "\0\0\0\0"];

#[test]
fn gc_ends_what_a_torn_record_leaves_provable() {
    // The links died with the power or with the namespace; the pool was synced to disk and still has the entry.
    for torn in TORN {
        let (node, pod, attached) = attached_pod();
        let kept = node.pod("kept");
        kept.add(&octavia()).run().attached();
        let file = record(&pod);
        fs::write(&file, torn).unwrap();
        node.ip(&format!("link del {}", attached.host_link()));
        node.gc(&gc(&[&kept])).run().silent_success();
        let held: Vec<String> = node.allocations(POOL).keys().cloned().collect();
        assert_eq!(held, ["31"], "{torn:?}: the address is still reserved");
        assert!(!file.exists(), "{torn:?}");
        assert_eq!(kept.link_names(), ["net1"], "{torn:?}");
    }
}

#[test]
fn gc_leaves_a_live_attachment_alone_that_may_be_another_networks() {
    // A torn record does not name its network, and the list of one network says nothing about another network's pods.
    let other = conf::with(octavia(), json!({"name": "other", "ipam": {"network_name": "other"}}));
    for torn in TORN {
        let node = Lab::new().node("node1");
        let pod = node.pod("other");
        pod.add(&other).run().attached();
        fs::write(record(&pod), torn).unwrap();
        node.gc(&gc(&[])).run();
        assert_eq!(pod.expect_link("net1").addresses(), ["172.23.0.30/24"], "{torn:?}");
        assert_eq!(
            (node.ports("octbr").len(), node.allocations(&format!("other-{POOL}")).len()),
            (1, 1),
            "{torn:?}"
        );
    }
}

#[test]
fn gc_leaves_a_valid_attachment_alone_whatever_its_record() {
    for torn in TORN {
        let (node, pod, _) = attached_pod();
        fs::write(record(&pod), torn).unwrap();
        let before = node.snapshot(&[&pod]);
        node.gc(&gc(&[&pod])).run().silent_success();
        node.snapshot(&[&pod]).assert_same_as(&before);
    }
}

type Change = fn(&str) -> String;

/// A torn line has no end. These lines have one, so a later version or an administrator wrote them.
const STRANGE: [(&str, Change); 3] = [
    ("no JSON", |_| "nonsense\n".to_owned()),
    ("another format", |_| "{\"version\":2,\"stuff\":1}\n".to_owned()),
    ("a line in front", |good| format!("nonsense\n{good}")),
];
/// The first line is valid and the second is not: the plugin cannot know whether the attachment was finished.
const STRANGE_OUTCOME: (&str, Change) =
    ("an outcome that is none", |good| format!("{}\nnonsense\n", good.lines().next().unwrap_or_default()));

/// An attached pod whose record has been changed.
fn with_record(change: Change) -> (Node, Pod) {
    let (node, pod, _) = attached_pod();
    let good = fs::read_to_string(record(&pod)).expect("rewrite the record");
    fs::write(record(&pod), change(&good)).expect("rewrite the record");
    (node, pod)
}

#[test]
fn gc_and_add_touch_nothing_where_a_complete_line_cannot_be_read() {
    let mut wrong = Vec::new();
    let calls = STRANGE.iter().flat_map(|strange| [("GC", strange), ("ADD", strange)]);
    // GC may go on without the outcome: the first line names the network, and the runtime does not know the container.
    for (verb, (what, change)) in calls.chain([("ADD", &STRANGE_OUTCOME)]) {
        let (node, pod) = with_record(*change);
        let before = node.snapshot(&[&pod]);
        let outcome = if verb == "GC" { node.gc(&gc(&[])).run() } else { pod.add(&octavia()).run() };
        let difference = node.snapshot(&[&pod]).difference_from(&before);
        if outcome.status.success() || !difference.is_empty() {
            wrong.push(format!("{verb}, {what}: {:?} {difference:#?}", outcome.status.code()));
        } else {
            outcome.any_error().says(&[pod.container_id()]);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn del_goes_on_where_a_complete_line_cannot_be_read() {
    // A pod must be able to end; name, MAC and pool prove what is its own.
    for (what, change) in STRANGE.iter().chain([&STRANGE_OUTCOME]) {
        let (node, pod) = with_record(*change);
        let file = record(&pod);
        pod.del(&octavia()).run().silent_success();
        assert_eq!((pod.link_names().len(), node.link_names()), (0, vec!["octbr".to_owned()]), "{what}");
        assert!(node.allocations(POOL).is_empty() && !file.exists(), "{what}");
    }
}

#[test]
fn one_strange_record_does_not_keep_gc_from_the_others() {
    let (node, strange, _) = attached_pod();
    let gone = node.pod("gone");
    gone.add(&octavia()).run().attached();
    fs::write(record(&strange), "nonsense\n").unwrap();
    node.gc(&gc(&[])).run().any_error().says(&[strange.container_id()]);
    assert_eq!((gone.link_names().len(), strange.link_names().len()), (0, 1));
    let held: Vec<String> = node.allocations(POOL).keys().cloned().collect();
    assert_eq!(held, ["30"]);
}

#[test]
fn gc_does_not_wait_for_attachments_of_another_network() {
    let other = conf::with(octavia(), json!({"name": "other", "ipam": {"network_name": "other"}}));
    let node = Lab::new().node("node1");
    let pods = ["a", "b", "c"].map(|name| node.pod(name));
    let gone = node.pod("gone");
    gone.add(&octavia()).run().attached();
    // Each is in the middle of another ADD or DEL.
    let locks = pods.each_ref().map(|pod| {
        pod.add(&other).run().attached();
        let lock = File::open(record(pod)).unwrap();
        lock.lock().unwrap();
        lock
    });
    // Killed when it waits after all, which would be for half a minute at each.
    node.gc(&gc(&[])).under(&["/usr/bin/timeout", "-s", "KILL", "15"]).run().silent_success();
    assert_eq!(gone.link_names(), [""; 0]);
    drop(locks);
    assert_eq!(node.ports("octbr").len(), 3);
}
