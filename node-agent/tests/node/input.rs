//! Wrong and missing input, and who else is at work.

use std::fs::File;

use crate::scene::{POLICY, on_a_node};

#[test]
fn wrong_input_is_told_with_status_2_and_touches_nothing() {
    on_a_node(|node| {
        let before = node.snapshot();
        for (words, yaml, part) in [
            (
                "apply -f -",
                "interfaces: [{name: v, vlan: {id: 4095}}, {name: b, type: ovs-bridge}]",
                "interfaces[0].vlan.id: 4095",
            ),
            (
                "apply -f -",
                "interfaces: [{name: v, vlan: {id: 4095}}, {name: b, type: ovs-bridge}]",
                "interfaces[1].type: ovs-bridge",
            ),
            ("apply -f /nowhere", "", "read /nowhere: No such file"),
            ("apply", "", "none was applied yet"),
            ("plan -f -", "]", "not YAML"),
            ("frobnicate", "", "frobnicate"),
            ("run --interval 86401", "", "from 1 to 86400 (a day)"),
            ("run --reclaim-grace 31536000", "", "from 1 to 86400 (a day)"),
            ("pools repair --reclaim-grace 0", "", "from 1 to 86400 (a day)"),
        ] {
            let answer = node.run(words, yaml);
            assert_eq!(answer.status, 2, "{words}: {}", answer.stderr);
            // Once: an error and its cause are not the same text twice.
            let times = answer.stderr.matches(part).count();
            assert!(times == 1 || (words == "frobnicate" && times > 0), "{part}: {}", answer.stderr);
        }
        assert_eq!(node.snapshot(), before);
    });
}

#[test]
fn a_missing_uplink_is_named_and_no_bridge_is_made() {
    on_a_node(|node| {
        let answer = node.run("apply -f -", &POLICY.replace("enp6s0", "enp7s0"));
        assert_eq!(answer.status, 1);
        assert!(answer.stderr.contains("octbr: enp7s0 does not exist"), "{}", answer.stderr);
        assert!(node.link("octbr").is_none());
    });
}

#[test]
fn kubernetes_nmstate_at_work_makes_the_agent_stand_down() {
    on_a_node(|node| {
        let lock = File::create(node.path("lock")).unwrap();
        node.ok("apply -f -", "interfaces: []");
        lock.lock().unwrap();
        for words in ["apply -f -", "remove"] {
            let answer = node.run(words, POLICY);
            assert_eq!(answer.status, 1);
            assert!(
                answer.stderr.contains("kubernetes-nmstate is running on this node"),
                "{}",
                answer.stderr
            );
        }
        assert!(node.link("octbr").is_none());
        assert_eq!(node.run("plan -f - --check", POLICY).status, 3);
    });
}

#[test]
fn ours_only_applies_the_rest_and_names_what_it_left() {
    on_a_node(|node| {
        let mixed = format!("{POLICY}- {{name: br-ex, type: ovs-bridge, state: up}}\n");
        assert_eq!(node.run("apply -f -", &mixed).status, 2);
        let answer = node.run("apply --ours-only -f -", &mixed);
        assert_eq!(answer.status, 0, "{}", answer.stderr);
        assert!(
            answer.stderr.contains(
                "left alone: interfaces[1]: br-ex is left out as a whole: type: ovs-bridge: not supported"
            ),
            "{}",
            answer.stderr
        );
        assert!(node.link("octbr").is_some());
    });
}
