//! Tombstones on a disk that does not answer, and tombstones that such a disk brings late.

use std::thread;

use octavia_bridge_cluster_tests::{Cluster, Ledger};
use octavia_bridge_tests::{Lab, conf};
use serde_json::json;

use crate::node::{Node, OCTAVIA, Pod, address, eventually};

#[test]
fn a_frozen_disk_holds_up_only_those_who_have_to_change_it() {
    let admin = Cluster::shared().namespace("frozen");
    let node = Node::start(&admin, "node-1");
    let [first, second, third] = [1, 2, 3].map(Pod::new);
    node.add(&OCTAVIA, &first);
    let frozen = node.freeze_tombstones(&[&first, &second, &third]);
    // A frozen file system holds up also those who remove what is not there.
    let given = node.add(&OCTAVIA, &second);
    assert_eq!(node.release(&first)["released"], 1);
    // This one's cannot be removed, so it gets nothing that would be released again.
    node.entomb(&third);
    let refused = node.claim(&OCTAVIA, &third);
    assert_eq!(refused["failed"]["kind"], "unavailable", "{refused}");
    assert_eq!(address(&node.claim(&OCTAVIA, &second)), Some(given), "others are served");
    drop(frozen);
    eventually("the tombstone is gone", || node.tombstones().is_empty());
    node.add(&OCTAVIA, &third);
    let ledger = Ledger::read(&admin);
    ledger.assert_consistent();
    assert_eq!(ledger.reservations.len(), 2);
}

#[test]
fn a_late_tombstone_takes_nothing_from_who_was_attached_again() {
    let admin = Cluster::shared().namespace("late");
    let host = Lab::new().node("node-1");
    let proxy = octavia_bridge_cluster_tests::Proxy::start(&admin);
    let node = Node::start_on(&host, &proxy.listen_in(host.path()), "node-1");
    let conf = conf::without(conf::octavia(), "/ipam/datastore");
    let conf = conf::with(conf, json!({"agentSocket": node.socket()}));
    let pod = host.pod("worker");
    let sandbox = Pod { id: pod.container_id().to_owned(), name: "openstack/worker".into() };
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME=worker;K8S_POD_UID=uid-of-worker";
    let outcome = pod.add(&conf).args(args).run();
    let (given, host_link) = (outcome.attached().ip(), outcome.attached().host_link().to_owned());
    // The process that waited for the disk writes it now.
    node.entomb(&sandbox);
    eventually("the tombstone is gone", || node.tombstones().is_empty());
    let ledger = Ledger::read(&admin);
    ledger.assert_consistent();
    assert_eq!(
        ledger.holder(given).map(|holder| holder.id.clone()),
        Some(sandbox.id.clone()),
        "{}",
        node.log()
    );

    // While an ADD or a DEL is at work, nothing is known.
    let record = host.run_dir().join(format!("attachments/{}@net1.jsonl", sandbox.id));
    let record = std::fs::File::open(record).expect("open the record");
    record.lock().expect("lock the record");
    node.entomb(&sandbox);
    thread::sleep(std::time::Duration::from_secs(5));
    assert_eq!(node.tombstones().len(), 1, "left until that one is done");
    record.unlock().expect("unlock the record");
    eventually("the tombstone is gone", || node.tombstones().is_empty());
    assert!(Ledger::read(&admin).holder(given).is_some());

    // A DEL that was killed has removed the pair, and not the record.
    host.ip(&format!("link del {host_link}"));
    node.entomb(&sandbox);
    eventually("the tombstone is gone", || node.tombstones().is_empty());
    assert!(Ledger::read(&admin).reservations.is_empty(), "{}", node.log());
    pod.del(&conf).args(args).run().silent_success();
}
