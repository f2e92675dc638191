//! Agents that start, die, and come back.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use octavia_bridge_cluster_tests::{Cluster, Fault, Ledger, Proxy, Rule};

use crate::node::{Node, OCTAVIA, Pod, address, claim, eventually};

#[test]
fn an_agent_that_starts_before_its_server_serves_when_that_is_there() {
    let admin = Cluster::shared().namespace("before");
    let proxy = Proxy::start(&admin);
    proxy.down();
    let node = Node::start(&proxy.access(), "node-1");
    let answer = node.claim(&OCTAVIA, &Pod::new(1));
    let text = answer["failed"]["message"].as_str().unwrap_or_default();
    assert!(text.contains("refused"), "{answer}");
    proxy.up();
    eventually("the agent serves", || address(&node.claim(&OCTAVIA, &Pod::new(1))).is_some());
    Ledger::read(&admin).assert_consistent();
}

#[test]
fn a_killed_agents_half_claims_go_with_their_pods() {
    let admin = Cluster::shared().namespace("killed");
    let proxy = Proxy::start(&admin);
    let mut node = Node::start(&proxy.access(), "node-1");
    node.add(&OCTAVIA, &Pod::new(0));
    for (method, path) in [("POST", "/overlappingrangeipreservations"), ("PATCH", "/ippools/")] {
        let hit = proxy.rule(Rule::on(method, path, Fault::HangAfter).first(1));
        let text = format!("{}\n", claim(&OCTAVIA, &Pod::new(1), Duration::from_secs(25)));
        let mut plugin = UnixStream::connect(node.socket()).expect("connect");
        plugin.write_all(text.as_bytes()).expect("write");
        eventually("the request is out", || hit.hits() == 1);
        node.kill();
        node.restart();
        // The runtime tries again, or deletes.
        if method == "POST" {
            assert_eq!(node.add(&OCTAVIA, &Pod::new(1)).to_string(), "172.23.0.31");
            Ledger::read(&admin).assert_consistent();
        }
        node.del(&Pod::new(1));
        let ledger = Ledger::read(&admin);
        ledger.assert_consistent();
        assert_eq!(ledger.reservations.len(), 1, "{method}");
        proxy.clear_rules();
    }
}

#[test]
fn tombstones_are_replayed_at_the_start_and_while_running() {
    let admin = Cluster::shared().namespace("tombstones");
    let mut node = Node::start(&admin, "node-1");
    for number in 0..4 {
        node.add(&OCTAVIA, &Pod::new(number));
    }
    node.kill();
    node.entomb(&Pod::new(1));
    node.restart();
    eventually("replayed at the start", || node.tombstones().is_empty());
    node.entomb(&Pod::new(2));
    // Of one who has nothing.
    node.entomb(&Pod::new(9));
    eventually("replayed while running", || node.tombstones().is_empty());
    let ledger = Ledger::read(&admin);
    ledger.assert_consistent();
    assert_eq!(ledger.reservations.keys().collect::<Vec<_>>(), ["172.23.0.30", "172.23.0.33"]);
}

#[test]
fn a_tombstone_is_not_for_who_is_attached_again() {
    let admin = Cluster::shared().namespace("again");
    let proxy = Proxy::start(&admin);
    let mut node = Node::start(&proxy.access(), "node-1");
    node.add(&OCTAVIA, &Pod::new(1));
    node.kill();
    node.entomb(&Pod::new(1));
    node.restart();
    // Whichever comes first, replay or claim: what is answered is what holds.
    let given = node.add(&OCTAVIA, &Pod::new(1));
    eventually("the tombstone is gone", || node.tombstones().is_empty());
    thread::sleep(Duration::from_secs(3));
    let ledger = Ledger::read(&admin);
    ledger.assert_consistent();
    assert_eq!(ledger.holder(given).map(|holder| holder.id.as_str()), Some("sandbox-1"));
}

#[test]
fn what_a_plugin_no_longer_waits_for_is_given_back() {
    let admin = Cluster::shared().namespace("gone");
    let proxy = Proxy::start(&admin);
    let node = Node::start(&proxy.access(), "node-1");
    node.add(&OCTAVIA, &Pod::new(0));
    let delayed = proxy.rule(Rule::on("PATCH", "/ippools/", Fault::Delay(Duration::from_secs(1))).first(1));
    let text = format!("{}\n", claim(&OCTAVIA, &Pod::new(1), Duration::from_secs(25)));
    let mut plugin = UnixStream::connect(node.socket()).expect("connect");
    plugin.write_all(text.as_bytes()).expect("write");
    eventually("the entry is on its way", || delayed.hits() == 1);
    plugin.shutdown(Shutdown::Both).expect("hang up");
    drop(plugin);
    eventually("it was done", || node.log().contains("did not wait"));
    eventually("and undone", || Ledger::read(&admin).reservations.len() == 1);
    Ledger::read(&admin).assert_consistent();
    assert_eq!(node.tombstones(), [""; 0]);
}

#[test]
fn a_stopping_agent_finishes_what_it_has_begun() {
    let admin = Cluster::shared().namespace("stop");
    let proxy = Proxy::start(&admin);
    let mut node = Node::start(&proxy.access(), "node-1");
    node.add(&OCTAVIA, &Pod::new(0));
    let delayed = proxy.rule(Rule::on("PATCH", "/ippools/", Fault::Delay(Duration::from_secs(1))).first(1));
    thread::scope(|scope| {
        let under_way = scope.spawn(|| node.claim(&OCTAVIA, &Pod::new(1)));
        eventually("the entry is on its way", || delayed.hits() == 1);
        node.terminate();
        let answer = under_way.join().expect("an answer");
        assert_eq!(
            address(&answer).map(|given| given.to_string()).as_deref(),
            Some("172.23.0.31"),
            "{answer}"
        );
    });
    assert!(node.ended().success());
    assert!(!node.socket().exists(), "the next one finds no stale socket");
    Ledger::read(&admin).assert_consistent();
}

#[test]
fn an_agent_that_is_replaced_moves_nothing() {
    let admin = Cluster::shared().namespace("replaced");
    let mut node = Node::start(&admin, "node-1");
    for number in 0..3 {
        node.add(&OCTAVIA, &Pod::new(number));
    }
    // With uid and version: what was written again, though with the same content, is another object.
    let read = || {
        let ledger = Ledger::read(&admin);
        ledger.assert_consistent();
        let objects = ledger.reservations.into_values().map(|reservation| reservation.object);
        let pools = ledger.pools.into_values().map(|pool| pool.holders);
        (objects.collect::<Vec<_>>(), pools.collect::<Vec<_>>())
    };
    let before = read();
    for _ in 0..2 {
        node.terminate();
        assert!(node.ended().success());
        node.restart();
        // It knows what is in use when it gives out the next one.
        assert_eq!(node.add(&OCTAVIA, &Pod::new(9)).to_string(), "172.23.0.33");
        node.del(&Pod::new(9));
        assert_eq!(read(), before);
    }
}
