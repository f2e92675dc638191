//! Unfinished work is not reported as finished: a removal that fails half-way, an ADD that fails before it begins.

use octavia_bridge_tests::{Call, Lab, Node, Pod, conf};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

const POOL: &str = "172.23.0.0-24";

fn attached_pod() -> (Node, Pod) {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    let pod = node.pod("worker");
    pod.add(&conf::octavia()).run().attached();
    (node, pod)
}

/// Lets the kernel refuse the nth message of a call, as it does when it has no memory for it.
fn refusing_message(call: Call, nth: usize) -> Call {
    let inject = format!("inject=sendto:error=ENOBUFS:when={nth}");
    call.under(&["/usr/bin/strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=sendto", "-e", &inject])
}

#[test]
fn an_address_stays_its_pods_while_the_link_is_there() {
    let mut refused = 0;
    for nth in 1..10 {
        let (node, pod) = attached_pod();
        let del = refusing_message(pod.del(&conf::octavia()), nth).run();
        let link_left = !pod.link_names().is_empty();
        assert!(
            !link_left || node.allocations(POOL).contains_key("30"),
            "message {nth}: the address is free too early"
        );
        refused += usize::from(link_left);
        if link_left {
            del.any_error();
        }
        pod.del(&conf::octavia()).run().silent_success();
        assert!(pod.link_names().is_empty() && node.allocations(POOL).is_empty(), "message {nth}");
    }
    assert!(refused >= 2, "no refusal came before the link was gone: the test did not do what it says");
}

#[test]
fn a_bridge_that_a_failed_add_never_touched_keeps_what_others_made_of_it() {
    let node = Lab::new().node("node1");
    node.ip("link add octbr type bridge");
    let one = conf::with(conf::octavia(), json!({"ipam": {"range_end": "172.23.0.30"}}));
    let holder = node.pod("holder");
    holder.add(&one).plugin("octavia-ipam").run().success();
    let pod = node.pod("worker");
    // The administrator comes while the ADD waits for the store.
    let lock = fs::File::open(node.run_dir().join("pools/.lock")).unwrap();
    lock.lock().unwrap();
    std::thread::scope(|scope| {
        let add = scope.spawn(|| pod.add(&one).run());
        let deadline = Instant::now() + Duration::from_secs(5);
        let record = node.run_dir().join(format!("attachments/{}@net1.jsonl", pod.container_id()));
        while fs::metadata(&record).map_or(0, |file| file.len()) == 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        node.ip("link set octbr up");
        lock.unlock().unwrap();
        add.join().unwrap().error(101);
    });
    assert!(node.expect_link("octbr").is_up(), "the failed ADD took down what it had not brought up");
}

#[test]
fn gc_frees_nothing_of_another_network_by_a_record_it_cannot_read() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let other = conf::with(conf::octavia(), json!({"name": "other"}));
    pod.add(&other).plugin("octavia-ipam").run().success();
    let record = node.run_dir().join(format!("attachments/{}@net1.jsonl", pod.container_id()));
    let text = fs::read_to_string(&record).unwrap().replace("\"version\":1", "\"version\":2");
    fs::write(&record, text).unwrap();
    let gc = conf::with(conf::octavia(), json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": []}));
    node.gc(&gc).run().any_error().says(&[pod.container_id()]);
    assert!(node.allocations(POOL).contains_key("30") && record.is_file());
}

#[test]
fn a_record_that_leads_nowhere_is_no_endless_loop() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let folder = node.run_dir().join("attachments");
    fs::create_dir_all(&folder).unwrap();
    symlink("/nonexistent/record", folder.join(format!("{}@net1.jsonl", pod.container_id()))).unwrap();
    let started = Instant::now();
    pod.add(&conf::octavia()).run().error(5).says(&["symbolic link"]);
    assert!(started.elapsed() < Duration::from_secs(40));
}

#[test]
fn an_ipam_add_after_an_unfinished_one_is_whole() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let conf = conf::with(conf::octavia(), json!({"cniVersion": "1.0.0"}));
    let result = pod.add(&conf).plugin("octavia-ipam").run().success();
    let record = node.run_dir().join(format!("attachments/{}@net1.jsonl", pod.container_id()));
    let text = fs::read_to_string(&record).unwrap();
    let intent = text.lines().next().unwrap().to_owned() + "\n";
    fs::write(&record, intent).unwrap();
    let again = pod.add(&conf).plugin("octavia-ipam").run().success();
    assert_eq!(again["ips"], result["ips"]);
    pod.check(&conf, &again).plugin("octavia-ipam").run().silent_success();
}

#[test]
fn an_ipam_del_leaves_the_bridges_attachment_alone() {
    let (node, pod) = attached_pod();
    let before = node.snapshot(&[&pod]);
    pod.del(&conf::octavia()).plugin("octavia-ipam").run().silent_success();
    node.snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn table_0_is_the_main_table() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let routes = json!([{"dst": "172.24.0.0/16", "gw": "172.23.0.150", "table": 0, "priority": 0}]);
    let conf = conf::with(conf::octavia(), json!({"cniVersion": "1.0.0", "ipam": {"routes": routes}}));
    let attached = pod.add(&conf).run().attached();
    pod.check(&conf, &attached.result).run().silent_success();
}
