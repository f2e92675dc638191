//! Tombstones on a disk that does not answer.

use octavia_bridge_cluster_tests::{Cluster, Ledger};

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
