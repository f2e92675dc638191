//! run: what drifts is put right.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::scene::{POLICY, complete, on_a_node, until};

/// Longest time a repair may take on a busy test machine: less than until the next reading without an event, after 60 s.
/// scripts/bench tells what it takes.
const REPAIR: Duration = Duration::from_secs(15);
const START: Duration = Duration::from_secs(30);

#[test]
fn every_drift_is_repaired_at_once_and_stopping_leaves_the_links() {
    on_a_node(|node| {
        fs::write(node.path("policy.yaml"), POLICY).unwrap();
        let mut daemon = node.start(&format!("run -f {}", node.path("policy.yaml").display()));
        until(START, "the first apply", || complete(node));
        for words in [
            "link del octbr",
            "link set octbr mtu 1400",
            "link set octbr type bridge stp_state 1",
            "link set octbr down",
            "link set enp6s0 nomaster",
            "link set enp6s0 down",
        ] {
            // A pause, so that six faults of a test are not taken for a fight.
            std::thread::sleep(Duration::from_millis(2600));
            node.ip(words);
            until(REPAIR, words, || complete(node));
        }
        assert_eq!(daemon.stop(), Some(0));
        assert!(complete(node));
    });
}

#[test]
fn the_kept_state_is_enough_to_start_from() {
    on_a_node(|node| {
        node.ok("apply -f -", POLICY);
        node.ip("link del octbr");
        let mut daemon = node.start("run");
        until(START, "the kept state", || complete(node));
        assert_eq!(daemon.stop(), Some(0));
    });
}

#[test]
fn an_uplink_that_is_late_is_waited_for() {
    on_a_node(|node| {
        node.ip("link del enp6s0");
        fs::write(node.path("policy.yaml"), POLICY).unwrap();
        let _daemon = node.start(&format!("run -f {}", node.path("policy.yaml").display()));
        until(START, "it says what it waits for", || node.log().contains("enp6s0 does not exist"));
        assert!(node.link("octbr").is_none(), "no bridge without its uplink");
        node.ip("link add enp6s0 type veth peer name wire");
        until(REPAIR, "the bridge", || complete(node));
    });
}

#[test]
fn a_hangup_reads_the_file_again_and_a_wrong_one_changes_nothing() {
    on_a_node(|node| {
        let file = node.path("policy.yaml");
        fs::write(&file, POLICY).unwrap();
        let daemon = node.start(&format!("run -f {}", file.display()));
        until(START, "the first apply", || complete(node));
        fs::write(&file, "interfaces: [{}]").unwrap();
        daemon.signal(Signal::SIGHUP);
        until(START, "the complaint", || node.log().contains("interfaces[0].name: missing"));
        assert!(complete(node));
        fs::write(&file, POLICY.replace("1500", "1400")).unwrap();
        daemon.signal(Signal::SIGHUP);
        until(START, "the new MTU", || node.link("octbr").is_some_and(|link| link["mtu"] == 1400));
    });
}

#[test]
fn a_file_that_has_changed_is_read_without_being_told_to() {
    on_a_node(|node| {
        let file = node.path("policy.yaml");
        fs::write(&file, POLICY).unwrap();
        let _daemon = node.start(&format!("run -f {}", file.display()));
        until(START, "the first apply", || complete(node));
        // As a ConfigMap's file is replaced.
        fs::write(node.path("next"), POLICY.replace("1500", "1400")).unwrap();
        fs::rename(node.path("next"), &file).unwrap();
        until(Duration::from_secs(30), "the new MTU", || {
            node.link("octbr").is_some_and(|link| link["mtu"] == 1400)
        });
    });
}

#[test]
fn against_another_keeper_it_gives_way_with_a_warning() {
    on_a_node(|node| {
        fs::write(node.path("policy.yaml"), POLICY).unwrap();
        let _daemon = node.start(&format!("run -f {}", node.path("policy.yaml").display()));
        until(START, "the first apply", || complete(node));
        until(START, "the warning", || {
            node.ip("link set octbr mtu 1400");
            std::thread::sleep(Duration::from_millis(50));
            node.log().contains("something undoes what is kept here")
        });
        until(Duration::from_secs(20), "the repair after the pause", || complete(node));
    });
}
