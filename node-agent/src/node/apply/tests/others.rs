//! Others act between the plan, its steps, a kill, and the taking back: what they made stays, what they took away stays
//! away, and the next plan reaches its aim.

use std::path::Path;
use std::process::Command;

use octavia_bridge_netlink::Netlink;
use tempfile::TempDir;

use super::{in_a_namespace, ip};
use crate::node::apply::work::Work;
use crate::node::apply::{Journal, Targets, carry_out, plan_now, take_back};
use crate::node::desired::{self, Desired};
use crate::node::observed;
use crate::node::plan::Step;

/// A change: what there is before, and what is wanted then.
const CHANGES: [(&str, &str); 5] = [
    // A bridge with an address and a route, from nothing.
    (
        "interfaces: []",
        "{interfaces: [{name: octbr, type: linux-bridge, state: up, bridge: {port: [{name: eth1}]},
           ipv4: {enabled: true, address: [{ip: 172.23.0.5, prefix-length: 24}]}}],
          routes: {config: [{destination: 172.24.0.0/16, next-hop-address: 172.23.0.150, next-hop-interface: octbr}]}}",
    ),
    // Another address of the same subnet.
    (
        "interfaces: [{name: octbr, type: linux-bridge, state: up, bridge: {port: [{name: eth1}]},
           ipv4: {enabled: true, address: [{ip: 172.23.0.5, prefix-length: 24}]}}]",
        "interfaces: [{name: octbr, type: linux-bridge, state: up, bridge: {port: [{name: eth1}]},
           ipv4: {enabled: true, address: [{ip: 172.23.0.6, prefix-length: 24}]}}]",
    ),
    // What takes all addresses and routes of a link along.
    ("interfaces: []", "interfaces: [{name: eth0, type: ethernet, state: up, mtu: 1270}]"),
    // A NIC that becomes a port of the bridge that takes its address.
    (
        "interfaces: []",
        "{interfaces: [{name: octbr, type: linux-bridge, state: up, bridge: {port: [{name: eth0}]},
           ipv4: {enabled: true, address: [{ip: 10.0.0.5, prefix-length: 24}]}}],
          routes: {config: [{destination: 10.98.0.0/16, next-hop-address: 10.0.0.1, next-hop-interface: octbr}]}}",
    ),
    // A link of ours that goes.
    (
        "interfaces: [{name: octbr, type: linux-bridge, state: up, bridge: {port: [{name: eth1}]}}]",
        "interfaces: [{name: octbr, type: linux-bridge, state: absent}, {name: eth1, state: up}]",
    ),
];

/// What somebody else does, and how it is seen that nobody has undone it; each only where it can be done.
const ACTS: [(&str, &str, &str); 7] = [
    ("link add octbr address 02:aa:00:00:00:01 type bridge", "link show octbr", "02:aa:00:00:00:01"),
    ("link add octbr address 02:aa:00:00:00:01 up type bridge", "link show octbr", "02:aa:00:00:00:01"),
    ("route add 10.99.0.0/16 via 10.0.0.1 dev eth0", "route show", "10.99.0.0/16 via 10.0.0.1"),
    ("-6 route add fd99::/64 via fd00::1 dev eth0", "-6 route show", ""),
    (
        "addr add 10.5.0.5/24 dev eth0 label eth0:x",
        "addr show dev eth0",
        "inet 10.5.0.5/24 scope global eth0:x",
    ),
    ("addr del 10.0.0.5/24 dev eth0", "addr show dev eth0", ""),
    ("link del octbr", "link show", ""),
];

fn want(yaml: &str) -> Desired {
    let text = desired::Text { origin: "test".into(), yaml: yaml.into() };
    desired::read(&[text], &desired::Choice::default()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn try_ip(words: &str) -> Option<String> {
    let output = Command::new("ip").args(words.split_whitespace()).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

async fn reach(netlink: &Netlink, yaml: &str, journal: &Path) {
    let desired = want(yaml);
    let plan = plan_now(netlink, &desired).await.unwrap();
    let done = carry_out(netlink, &desired, plan, &Targets::default(), journal, None).await;
    drop(done.unwrap_or_else(|error| panic!("{yaml}: {error}")).end());
    let left = plan_now(netlink, &desired).await.unwrap();
    assert_eq!(left.steps, [], "{yaml}");
}

fn prepare() {
    for link in ["eth0", "eth1"] {
        ip(&format!("link add {link} type veth peer name {link}-wire"));
        ip(&format!("link set {link}-wire up"));
        ip(&format!("link set {link} up"));
    }
    ip("addr add 10.0.0.5/24 dev eth0");
    ip("addr add fd00::5/64 dev eth0 nodad");
    ip("route add 10.98.0.0/16 via 10.0.0.1 dev eth0");
    ip("-6 route add fd98::/64 via fd00::1 dev eth0");
}

#[test]
fn after_a_kill_nothing_of_others_is_taken_back() {
    for (before, after) in CHANGES {
        for (act, look, seen) in ACTS {
            in_a_namespace(async move || {
                for kill in 0.. {
                    if !killed(before, after, kill, (act, look, seen)).await {
                        break;
                    }
                }
            });
        }
    }
}

/// Returns whether there were so many steps.
async fn killed(before: &str, after: &str, kill: usize, (act, look, seen): (&str, &str, &str)) -> bool {
    let netlink = Netlink::open().await.unwrap();
    let journal = TempDir::new().unwrap();
    for link in ["octbr", "eth0", "eth1"] {
        // The last round's, if any.
        drop(try_ip(&format!("link del {link}")));
    }
    prepare();
    reach(&netlink, before, journal.path()).await;
    let desired = want(after);
    let plan = plan_now(&netlink, &desired).await.unwrap();
    let number = plan.steps.len();
    let now = observed::read(&netlink).await.unwrap();
    let mut work = Work::begin(&netlink, &desired, &now, journal.path());
    for planned in plan.steps.into_iter().take(kill) {
        assert!(work.step(planned).await.is_ok());
    }
    drop(work);
    let acted = try_ip(act).is_some();

    let left = Journal::left_behind(journal.path()).unwrap();
    drop(take_back(&netlink, &left.begun).await);
    left.journal.end().unwrap();
    let what = format!("{act}, after {kill} steps towards {after}");
    if acted && !seen.is_empty() {
        let now = try_ip(look).unwrap_or_default();
        assert!(now.contains(seen), "{what}: {now}");
    }
    if acted && act.starts_with("addr del") {
        assert!(!try_ip("addr show dev eth0").unwrap().contains("10.0.0.5/24"), "{what}");
    }
    let conflicts = plan_now(&netlink, &desired).await.is_err();
    if !conflicts {
        reach(&netlink, after, journal.path()).await;
    }
    assert!(!conflicts || act.contains("link add octbr"), "{what}");
    kill < number
}

#[test]
fn a_plan_that_is_outdated_ends_well_and_takes_nothing_of_others_along() {
    for (before, after) in CHANGES {
        for (act, look, seen) in ACTS {
            in_a_namespace(async move || outdated(before, after, (act, look, seen)).await);
        }
    }
}

async fn outdated(before: &str, after: &str, (act, look, seen): (&str, &str, &str)) {
    let netlink = Netlink::open().await.unwrap();
    let journal = TempDir::new().unwrap();
    prepare();
    reach(&netlink, before, journal.path()).await;
    let desired = want(after);
    let plan = plan_now(&netlink, &desired).await.unwrap();
    let acted = try_ip(act).is_some();
    let done = carry_out(&netlink, &desired, plan, &Targets::default(), journal.path(), None).await;
    let mut notes = String::new();
    match done {
        Ok(done) => {
            notes = done.notes.join("; ");
            drop(done.end());
        }
        // The other's bridge cannot be deleted.
        Err(error) => assert!(act.contains("link add octbr"), "{act} before {after}: {error}"),
    }
    if acted && !seen.is_empty() {
        let now = try_ip(look).unwrap_or_default();
        // A route by what has become a port leads nowhere, and is named.
        let is_named = after.contains("port: [{name: eth0}]")
            && seen.split(' ').next().is_some_and(|destination| notes.contains(destination));
        assert!(now.contains(seen) || is_named, "{act} before {after}: {now}; {notes}");
    }
    assert!(!journal.path().join("journal.jsonl").exists(), "{act} before {after}");
    assert!(Journal::left_behind(journal.path()).is_none());
}

/// The journal has the step, and the process was killed before the kernel had the request, or between this and the next.
#[test]
fn a_link_that_was_noted_and_not_made_is_not_taken_from_who_made_it_then() {
    const TOKEN: u32 = 77;
    for (made, stays) in [
        ("link add octbr address 02:aa:00:00:00:01 type bridge", true),
        ("link add octbr address 02:aa:00:00:00:01 group 78 type bridge", true),
        // Ours, as the first request leaves it.
        ("link add octbr address 02:aa:00:00:00:01 group 77 type bridge", false),
    ] {
        in_a_namespace(async move || {
            let netlink = Netlink::open().await.unwrap();
            let journal = TempDir::new().unwrap();
            let plan =
                plan_now(&netlink, &want("interfaces: [{name: octbr, type: linux-bridge}]")).await.unwrap();
            let mut next = plan.steps.into_iter().next().unwrap();
            let (Step::Create(new), Step::Delete(undo)) = (&mut next.apply, &mut next.undo) else {
                panic!("the first step is {}", next.apply)
            };
            (new.token, undo.token) = (Some(TOKEN), Some(TOKEN));
            Journal::begin(journal.path()).unwrap().about_to(&next).unwrap();
            ip(made);

            let left = Journal::left_behind(journal.path()).unwrap();
            drop(take_back(&netlink, &left.begun).await);
            assert_eq!(try_ip("link show octbr").is_some(), stays, "{made}");
        });
    }
}
