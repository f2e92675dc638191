//! The agent applies what is in force already, over a VLAN, with pods attached and talking.

use octavia_bridge_tests::traffic::{Echo, expect_answer};
use octavia_bridge_tests::{Changes, Lab, Stream, conf};

use crate::nodes::{PATIENCE, POLICY, attach, report, two_kept_nodes};

/// Fewer than over a veth (`tests/reapplied.rs`), for each takes a tenth of a second here.
const ROUNDS: usize = 100;

#[test]
fn a_hundred_times_it_writes_nothing_and_costs_no_packet() {
    let lab = Lab::new();
    let [node, other] = two_kept_nodes(&lab);
    let (worker, here) = attach(&node, "worker", &conf::octavia());
    let (manager, there) = attach(&other, "healthmanager", &conf::octavia());
    let _echoes = [Echo::start(&manager, there.ip()), Echo::start(&worker, here.ip())];
    expect_answer(&worker, there.ip(), PATIENCE);
    expect_answer(&manager, here.ip(), PATIENCE);
    let before = node.snapshot(&[&worker]);
    let mut changes = Changes::of(&node);
    let streams = [Stream::start(&worker, &manager, there.ip()), Stream::start(&manager, &worker, here.ip())];
    for round in 0..ROUNDS {
        assert_eq!(node.ok("apply", POLICY), "nothing to do\n", "round {round}");
    }
    for count in streams.map(Stream::end) {
        assert!(count.sent > 100 && count.lost.is_empty(), "{count:?}");
        report(&format!("vm: {ROUNDS} times applied again, {} packets, none lost", count.sent));
    }
    let told = changes.take();
    assert!(told.is_empty(), "{told:#?}");
    node.snapshot(&[&worker]).assert_same_as(&before);
}
