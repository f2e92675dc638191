//! Links that the policy calls by alternative names.

use std::fs;
use std::time::Duration;

use crate::scene::{POLICY, complete, on_a_node, until};

const SOON: Duration = Duration::from_secs(20);

/// The NIC as a newer udev names it; the policy has the old name.
fn policy() -> String {
    POLICY.replace("enp6s0", "ens3")
}

#[test]
fn an_alternative_name_is_the_link() {
    on_a_node(|node| {
        node.ip("link property add dev enp6s0 altname ens3");
        let planned = node.ok("plan -f -", &policy());
        assert!(planned.contains("make enp6s0 (ens3) a port of octbr"), "{planned}");
        node.ok("apply -f -", &policy());
        assert!(complete(node));
        assert_eq!(node.ok("apply", ""), "nothing to do\n");
        let doctor = node.run("doctor", "").stdout;
        assert!(doctor.contains("octbr (1500 bytes) over enp6s0 (1500 bytes)"), "{doctor}");

        fs::write(node.path("policy.yaml"), policy()).unwrap();
        let run = format!("run --health-bind none -f {}", node.path("policy.yaml").display());
        let mut daemon = node.start(&run);
        until(SOON, "in force", || node.run("health ready", "").status == 0);
        for damage in ["link set enp6s0 nomaster", "link set enp6s0 down", "link set enp6s0 nomaster"] {
            node.ip(damage);
            until(SOON, damage, || complete(node));
        }
        assert_eq!(daemon.stop(), Some(0));
        // It may come later.
        node.ok("remove", "");
        node.ip("link property del dev enp6s0 altname ens3");
        let mut daemon = node.start(&run);
        until(SOON, "it waits", || node.log().contains("octbr: ens3 does not exist"));
        node.ip("link property add dev enp6s0 altname ens3");
        until(SOON, "the name is there", || complete(node));
        assert_eq!(daemon.stop(), Some(0));
    });
}

#[test]
fn a_clash_of_names_is_one_error_before_any_step() {
    on_a_node(|node| {
        node.ip("link property add dev enp6s0 altname octbr");
        let before = node.snapshot();
        for words in ["plan -f -", "apply -f -"] {
            let refused = node.run(words, POLICY);
            assert_eq!(refused.status, 1, "{}", refused.stdout);
            let text = "octbr and enp6s0 are names of one link, enp6s0";
            assert!(refused.stderr.contains(text), "{}", refused.stderr);
            assert_eq!(refused.stderr.trim().lines().count(), 1, "{}", refused.stderr);
        }
        let vlan = "interfaces: [{name: octbr, type: vlan, vlan: {base-iface: wire, id: 3}}]";
        let refused = node.run("apply -f -", vlan);
        assert_eq!(refused.status, 1);
        let text = "enp6s0 (octbr) exists and is of type ethernet, not vlan";
        assert!(refused.stderr.contains(text), "{}", refused.stderr);
        assert_eq!(node.snapshot(), before);
        assert!(!node.path("state/agent/journal.jsonl").exists());
        // Another entry of the same link.
        node.ip("link property del dev enp6s0 altname octbr");
        node.ip("link property add dev enp6s0 altname ens3");
        let twice = format!(
            "{POLICY}- {{name: ens3, type: ethernet, mtu: 1400}}\n- {{name: enp6s0, type: ethernet}}\n"
        );
        let refused = node.run("apply -f -", &twice);
        assert_eq!(refused.status, 1);
        assert!(refused.stderr.contains("names of one link, enp6s0"), "{}", refused.stderr);
    });
}

const LONG: &str = "enp0s31f6-of-the-board";

#[test]
fn a_longer_one_than_a_name_may_be_is_refused_with_the_way_out() {
    on_a_node(|node| {
        node.ip(&format!("link property add dev enp6s0 altname {LONG}"));
        let before = node.snapshot();
        for (place, policy) in [
            ("interfaces[0].bridge.port[0].name", POLICY.replace("enp6s0", LONG)),
            ("interfaces[0].name", format!("interfaces: [{{name: {LONG}, type: ethernet, mtu: 1400}}]")),
            ("interfaces[0].name", format!("interfaces: [{{name: {LONG}, state: absent}}]")),
            (
                "interfaces[0].vlan.base-iface",
                format!("interfaces: [{{name: v, type: vlan, vlan: {{base-iface: {LONG}, id: 3}}}}]"),
            ),
            (
                "interfaces[0].vrf.port[0]",
                format!("interfaces: [{{name: v, type: vrf, vrf: {{port: [{LONG}], route-table-id: 7}}}}]"),
            ),
            (
                "interfaces[0].link-aggregation.port[0]",
                format!(
                    "interfaces: [{{name: b, type: bond, link-aggregation: {{mode: active-backup, port: [{LONG}]}}}}]"
                ),
            ),
            (
                "routes.config[0].next-hop-interface",
                format!("routes: {{config: [{{destination: 10.9.0.0/16, next-hop-interface: {LONG}}}]}}"),
            ),
        ] {
            for words in ["plan -f -", "apply -f -"] {
                let refused = node.run(words, &policy);
                assert_eq!(refused.status, 2, "{policy}: {}", refused.stdout);
                let text = format!("{place}: use link name {LONG:?}: it has {} bytes", LONG.len());
                assert!(refused.stderr.contains(&text), "{text}: {}", refused.stderr);
                assert!(refused.stderr.contains("write the link's own name"), "{}", refused.stderr);
            }
        }
        assert_eq!(node.snapshot(), before);
    });
}

/// udev gives names for the board, the slot, the path and the hardware address.
#[test]
fn longer_ones_beside_the_own_name_are_in_nobody_s_way() {
    on_a_node(|node| {
        node.ip(&format!("link property add dev enp6s0 altname {LONG}"));
        node.ok("apply -f -", POLICY);
        node.ip("link property add dev octbr altname octavia-management-bridge");
        assert_eq!(node.ok("apply", ""), "nothing to do\n");
        node.pod("pod");
        // By a port that has only such names beside its own.
        node.ip("link property add dev pod altname pod-of-the-octavia-controller");
        assert_eq!(node.ok("plan", ""), "nothing to do\n");
        let refused = node.run("remove", "");
        assert!(refused.stderr.contains("pod would be cut off"), "{}", refused.stderr);
        node.ip("link del pod");
        node.ok("remove", "");
        assert!(node.link("octbr").is_none());
        assert!(node.link("enp6s0").unwrap()["master"].is_null());
    });
}
