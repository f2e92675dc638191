//! install and uninstall.

use std::fs;
use std::process::Command;

use crate::scene::{AGENT, POLICY, on_a_node};

#[test]
fn the_units_own_command_brings_the_kept_state_back_after_a_reboot() {
    on_a_node(|node| {
        let units = node.path("units");
        fs::create_dir(&units).unwrap();
        let words = format!("install --systemd --unit-dir {}", units.display());
        node.ok("apply -f -", POLICY);
        node.ok(&words, "");
        node.ok(&words, "");
        let enabled = units.join("multi-user.target.wants/octavia-bridge-agent.service");
        let unit = fs::read_to_string(&enabled).unwrap();
        assert!(unit.contains("Before=kubelet.service"), "{unit}");
        let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned();
        assert!(fs::exists(value("ConditionPathExists=")).unwrap());

        // What a reboot leaves.
        node.ip("link del octbr");
        let command = value("ExecStart=");
        let mut words = command.split(' ');
        assert_eq!(words.next(), Some(AGENT));
        assert!(Command::new(AGENT).args(words).status().unwrap().success());
        assert_eq!(node.link("enp6s0").unwrap()["master"], "octbr");

        for _ in 0..2 {
            node.ok(&format!("uninstall --systemd --unit-dir {}", units.display()), "");
        }
        assert!(fs::symlink_metadata(&enabled).is_err());
        assert!(node.link("octbr").is_some(), "links stay");
    });
}

#[test]
fn network_manager_is_told_of_what_the_program_makes_and_of_nothing_else() {
    on_a_node(|node| {
        let words = format!("install --network-manager --network-manager-dir {}", node.path("").display());
        let file = node.path("90-octavia-bridge.conf");
        // Nothing kept, nothing to tell.
        let answer = node.run(&words, "");
        assert_eq!(answer.status, 1);
        assert!(answer.stderr.contains("apply one first") && !file.exists(), "{}", answer.stderr);
        node.ok("apply -f -", &format!("{POLICY}- {{name: enp6s0, type: ethernet, state: up}}\n"));
        for _ in 0..2 {
            node.ok(&words, "");
        }
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("[keyfile]\nunmanaged-devices+=interface-name:=octbr\n"), "{text}");
        for _ in 0..2 {
            node.ok(&format!("un{words}"), "");
            assert!(!file.exists());
        }
        assert_eq!(node.run("install", "").status, 2, "whom to tell has to be said");
    });
}

#[test]
fn a_path_that_systemd_would_misread_is_refused() {
    on_a_node(|node| {
        let answer = crate::scene::answer(
            Command::new(AGENT)
                .args(["install", "--systemd", "--state-dir", "/var/lib/50%", "--unit-dir"])
                .arg(node.path("")),
            "",
        );
        assert_eq!(answer.status, 1);
        assert!(answer.stderr.contains("/var/lib/50% holds a character"), "{}", answer.stderr);
    });
}
