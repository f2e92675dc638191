//! Each request of an operation, and each way in which it fails.

use std::thread;
use std::time::{Duration, Instant};

use octavia_bridge_cluster_tests::{Access, Cluster, Fault, Ledger, Proxy, Refusal, Rule};

use crate::node::{Node, OCTAVIA, Pod, address, eventually};

/// The requests of an ADD and of a DEL.
const ADD: [(&str, &str); 2] = [("POST", "/overlappingrangeipreservations"), ("PATCH", "/ippools/")];
const DEL: [(&str, &str); 2] = [("PATCH", "/ippools/"), ("DELETE", "/overlappingrangeipreservations/")];

/// A server that is silent for 4 s is away. Whoever waits for that a second time takes 8 s.
const ONCE: Duration = Duration::from_millis(7500);

fn faults() -> Vec<(&'static str, Fault)> {
    vec![
        ("404", Fault::answer(404)),
        ("409", Fault::answer(409)),
        ("422", Fault::answer(422)),
        ("429", Fault::Refuse(Refusal::new(429).retry_after(1))),
        ("500", Fault::answer(500)),
        ("503", Fault::answer(503)),
        ("504 after", Fault::RefuseAfter(Refusal::new(504))),
        ("409 after", Fault::RefuseAfter(Refusal::new(409))),
        ("cut before", Fault::CutBefore),
        ("cut after", Fault::CutAfter),
        ("hang", Fault::Hang),
        ("hang after", Fault::HangAfter),
    ]
}

/// One node behind a proxy, with one pod that is not concerned.
fn node(what: &str) -> (Access, Proxy, Node) {
    let admin = Cluster::shared().namespace(what);
    let proxy = Proxy::start(&admin);
    let node = Node::start(&proxy.access(), "node-1");
    node.add(&OCTAVIA, &Pod::new(0));
    (admin, proxy, node)
}

/// Success means both objects, at the moment of the answer; failure means none, before long.
#[track_caller]
fn assert_truthful(admin: &Access, given: Option<std::net::IpAddr>, pod: &Pod, what: &str) {
    let ledger = Ledger::read(admin);
    if let Some(given) = given {
        assert_eq!(ledger.holder(given).map(|holder| holder.id.as_str()), Some(pod.id.as_str()), "{what}");
        assert!(ledger.faults().is_empty(), "{what}: {:?}", ledger.faults());
    } else {
        eventually(what, || Ledger::read(admin).reservations.len() == 1);
        eventually(what, || Ledger::read(admin).faults().is_empty());
    }
}

#[test]
fn one_fault_in_an_add_is_overcome_or_told() {
    let (admin, proxy, node) = node("add-once");
    for (method, path) in ADD {
        for (name, fault) in faults() {
            let what = format!("{method} {path}: {name}");
            let rule = proxy.rule(Rule::on(method, path, fault).first(1));
            let started = Instant::now();
            let answer = node.claim(&OCTAVIA, &Pod::new(1));
            println!("{what}: {:?} {}", started.elapsed(), answer["failed"]["message"]);
            assert_eq!(rule.hits(), 1, "{what}");
            assert!(started.elapsed() < ONCE, "{what}: {:?}", started.elapsed());
            // Silence is not waited out a second time, and what the server says it does not know is not asked again.
            let told = name.starts_with("hang")
                || (name == "404" && method == "POST")
                || (name == "422" && method == "POST");
            assert_eq!(address(&answer).is_none(), told, "{what}: {answer}");
            proxy.clear_rules();
            assert_truthful(&admin, address(&answer), &Pod::new(1), &what);
            node.del(&Pod::new(1));
            assert_truthful(&admin, None, &Pod::new(1), &what);
        }
    }
    assert_eq!(node.tombstones(), [""; 0]);
}

#[test]
fn a_lasting_fault_in_an_add_is_told_within_five_seconds() {
    let (admin, proxy, node) = node("add-lasting");
    for (method, path) in ADD {
        for (name, fault) in faults() {
            // Conflicts without end are a matter of patience, and 429 is a server that will have time.
            if matches!(name, "409" | "429" | "409 after") {
                continue;
            }
            let what = format!("{method} {path}: {name}");
            proxy.rule(Rule::on(method, path, fault));
            let started = Instant::now();
            let answer = node.claim(&OCTAVIA, &Pod::new(1));
            let took = started.elapsed();
            println!("{what}: {took:?} {}", answer["failed"]["message"]);
            proxy.clear_rules();
            if let Some(given) = address(&answer) {
                assert!(name.ends_with("after"), "{what}: {answer}");
                assert_truthful(&admin, Some(given), &Pod::new(1), &what);
            } else {
                assert!(took < ONCE, "{what}: {took:?}");
                let text = answer["failed"]["message"].as_str().unwrap_or_default();
                assert!(text.contains(path.trim_matches('/')) && text.contains("https://"), "{what}: {text}");
                assert_eq!(answer["failed"]["kind"], "unavailable", "{what}: {answer}");
                assert_truthful(&admin, None, &Pod::new(1), &what);
            }
            node.del(&Pod::new(1));
            assert_truthful(&admin, None, &Pod::new(1), &what);
        }
    }
}

#[test]
fn a_fault_in_a_del_loses_nothing() {
    let (admin, proxy, node) = node("del");
    for lasting in [false, true] {
        for (method, path) in DEL {
            for (name, fault) in faults() {
                let what = format!("{method} {path}: {name}, lasting: {lasting}");
                node.add(&OCTAVIA, &Pod::new(1));
                let rule = Rule::on(method, path, fault);
                let rule = proxy.rule(if lasting { rule } else { rule.first(1) });
                if lasting && matches!(name, "409" | "429" | "409 after") {
                    proxy.clear_rules();
                } else {
                    let answer = node.release(&Pod::new(1));
                    println!("{what}: {answer}");
                    assert!(rule.hits() > 0, "{what}");
                    proxy.clear_rules();
                }
                node.del(&Pod::new(1));
                assert_truthful(&admin, None, &Pod::new(1), &what);
            }
        }
    }
    eventually("no tombstone is left", || node.tombstones().is_empty());
}

#[test]
fn a_server_that_asks_to_wait_is_waited_for() {
    let (admin, proxy, node) = node("wait");
    let busy = Fault::Refuse(Refusal::new(429).retry_after(3));
    proxy.rule(Rule::on("POST", "/overlappingrangeipreservations", busy).first(1));
    let started = Instant::now();
    let given = node.add(&OCTAVIA, &Pod::new(1));
    assert!(started.elapsed() >= Duration::from_secs(3));
    assert_truthful(&admin, Some(given), &Pod::new(1), "429");
}

#[test]
fn a_token_that_is_not_valid_is_named() {
    let admin = Cluster::shared().namespace("token");
    let node = Node::start(&admin.with_token("expired"), "node-1");
    let started = Instant::now();
    let answer = node.claim(&OCTAVIA, &Pod::new(1));
    assert!(started.elapsed() < Duration::from_secs(5));
    let text = answer["failed"]["message"].as_str().unwrap_or_default();
    assert!(text.contains("401 Unauthorized") && text.contains("token has expired"), "{answer}");
}

/// How long the server is away; a minute in a run by hand.
fn away() -> Duration {
    let seconds = std::env::var("OCTAVIA_BRIDGE_TEST_AWAY").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(5))
}

#[test]
fn a_server_that_is_away_is_named_and_its_return_noticed() {
    let (admin, proxy, node) = node("away");
    for silent in [false, true] {
        if silent {
            proxy.silent();
        } else {
            proxy.down();
        }
        for wait in [Duration::ZERO, away()] {
            thread::sleep(wait);
            let started = Instant::now();
            let answer = node.claim(&OCTAVIA, &Pod::new(1));
            let took = started.elapsed();
            println!("away, silent: {silent}, since {wait:?}: {took:?} {}", answer["failed"]["message"]);
            assert_eq!(answer["failed"]["kind"], "unavailable", "{answer}");
            assert!(took < ONCE, "{took:?}");
        }
        let answer = node.release(&Pod::new(0));
        assert_eq!(answer["failed"]["kind"], "unavailable", "{answer}");
        assert!(node.tombstones().contains(&"sandbox-0@net1".to_owned()), "{answer}");
        proxy.up();
        let started = Instant::now();
        eventually("tombstones are replayed", || node.tombstones().is_empty());
        println!("replayed after {:?}", started.elapsed());
        assert!(Ledger::read(&admin).reservations.is_empty());
        node.add(&OCTAVIA, &Pod::new(0));
        Ledger::read(&admin).assert_consistent();
    }
}
