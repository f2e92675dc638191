//! Links that lost the agent's mark while no agent ran, and what other programs did meanwhile.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::scene::{Node, POLICY, complete, on_a_node, until};

const SOON: Duration = Duration::from_secs(10);
const MARK: &str = "octavia-bridge: Configuring bridge octbr";
/// No word of its port, which the agent itself attached.
const ABSENT: &str = "interfaces: [{name: octbr, type: linux-bridge, state: absent}]";

fn alias(node: &Node) -> String {
    node.link("octbr").unwrap()["ifalias"].as_str().unwrap_or_default().to_owned()
}

fn file(node: &Node) -> std::path::PathBuf {
    node.path("state/agent/links.json")
}

fn run(node: &Node) -> String {
    fs::write(node.path("policy.yaml"), POLICY).unwrap();
    format!("run --health-bind none -f {}", node.path("policy.yaml").display())
}

/// Deletes octbr and creates another link in its place.
fn replace(node: &Node, by: &str) {
    fs::write(node.path("batch"), format!("link del octbr\nlink add {by}\n")).unwrap();
    node.ip(&format!("-batch {}", node.path("batch").display()));
}

#[test]
fn commands_and_an_agent_that_starts_know_a_link_that_lost_its_mark() {
    on_a_node(|node| {
        node.ok("apply -f -", POLICY);
        node.ip("link set octbr alias sw1");
        let plan = node.ok("plan -f -", ABSENT);
        assert!(plan.contains("delete octbr (bridge)") && plan.contains("overwrote the alias"), "{plan}");
        assert!(node.run("doctor", "").stdout.contains("overwrote the alias"));
        assert_eq!(alias(node), "sw1", "neither changes anything");
        let mut daemon = node.start(&run(node));
        until(SOON, "the mark is back", || alias(node) == MARK);
        assert_eq!(daemon.stop(), Some(0));
        node.ip("link set octbr alias sw1");
        node.ok("apply -f -", ABSENT);
        assert!(node.link("octbr").is_none() && node.link("enp6s0").is_some());

        node.ok("apply -f -", POLICY);
        node.ip("link set octbr alias sw1");
        node.ok("remove", "");
        assert!(node.link("octbr").is_none() && !file(node).exists());
    });
}

#[test]
fn what_is_refused_has_changed_nothing_not_even_a_lost_mark() {
    on_a_node(|node| {
        node.ok("apply -f -", POLICY);
        node.ip("link set octbr alias sw1");
        node.ip("link add foreign type bridge");
        node.ip("link set enp6s0 master foreign");
        node.pod("veth1");
        let before = node.snapshot();
        for (words, yaml) in [("apply -f -", POLICY), ("apply -f -", ABSENT), ("remove", "")] {
            let refused = node.run(words, yaml);
            assert_eq!(refused.status, 1, "{words}: {}", refused.stderr);
            assert_eq!((node.snapshot(), alias(node).as_str()), (before.clone(), "sw1"), "{words}");
        }
    });
}

#[test]
fn a_link_that_another_program_put_in_its_place_stays() {
    on_a_node(|node| {
        for by in [
            "octbr type bridge",
            // The index is used again, by a link of another kind with the same MAC address.
            "octbr index INDEX address MAC type veth peer name octbr-peer",
            // By one of another name.
            "other index INDEX address MAC type bridge",
        ] {
            node.ok("apply -f -", POLICY);
            let before = node.link("octbr").unwrap();
            let mac = before["address"].as_str().unwrap();
            replace(node, &by.replace("INDEX", &before["ifindex"].to_string()).replace("MAC", mac));
            let name = by.split(' ').next().unwrap();
            let removed = node.run("remove", "");
            assert_eq!((removed.status, removed.stdout.as_str()), (0, "nothing to do\n"), "{by}");
            assert!(node.link(name).is_some(), "{by}");
            if name == "octbr" {
                let refused = node.run("apply -f -", ABSENT);
                assert!(
                    refused.stderr.contains("did not make it")
                        || refused.stderr.contains("not of our making"),
                    "{by}: {}",
                    refused.stderr
                );
                assert!(node.link(name).is_some(), "{by}");
            }
            node.ip(&format!("link del {name}"));
        }
    });
}

#[test]
fn witnesses_that_disagree_are_told_by_every_command() {
    on_a_node(|node| {
        node.ok("apply -f -", POLICY);
        let index = node.link("octbr").unwrap()["ifindex"].to_string();
        // A bridge has a MAC address by chance.
        replace(node, &format!("octbr index {index} type bridge"));
        for (words, yaml) in [("plan -f -", POLICY), ("doctor", ""), ("apply -f -", POLICY), ("remove", "")] {
            let answer = node.run(words, yaml);
            let said = answer.stdout + &answer.stderr;
            assert!(said.contains("does not decide whose it is"), "{words}: {said}");
        }
        assert_eq!(alias(node), "");
        node.ip(&format!("link set octbr alias {}", "octavia-bridge"));
        node.ok("remove", "");
        assert!(node.link("octbr").is_none(), "given back");
    });
}

/// The kernel tells of each link that is gone, so a running agent is not misled by the same index.
#[test]
fn a_link_with_the_same_index_and_mac_is_not_taken_for_the_one_that_is_gone() {
    on_a_node(|node| {
        let mut daemon = node.start(&run(node));
        until(SOON, "the policy is in force", || complete(node) && file(node).exists());
        let before = node.link("octbr").unwrap();
        let by = format!(
            "octbr index {} address {} type bridge",
            before["ifindex"],
            before["address"].as_str().unwrap()
        );
        // Not in the middle of a look. It learns of both changes at once.
        thread::sleep(Duration::from_secs(1));
        daemon.signal(Signal::SIGSTOP);
        replace(node, &by);
        daemon.signal(Signal::SIGCONT);
        until(SOON, "it is kept, since a policy names it", || complete(node));
        assert_eq!(alias(node), "");
        assert_eq!(daemon.stop(), Some(0));
        node.ok("remove", "");
        assert!(node.link("octbr").is_some());
    });
}

#[test]
fn a_witness_that_cannot_be_used_is_set_aside_and_nothing_else_is_lost() {
    on_a_node(|node| {
        let whole = |node: &Node| fs::read_to_string(file(node)).unwrap();
        for damage in
            [|_: String| "{".to_owned(), |text: String| text.replace("\"version\": 1", "\"version\": 9")]
        {
            node.ok("apply -f -", POLICY);
            fs::write(file(node), damage(whole(node))).unwrap();
            assert!(node.run("plan", "").stdout.contains("links.json"), "told, and left");
            let mut daemon = node.start(&run(node));
            until(SOON, "told", || node.run("health ready", "").stdout.contains("links.json.bad"));
            until(SOON, "seen anew", || file(node).exists());
            assert_eq!(daemon.stop(), Some(0));
            fs::remove_file(node.path("state/agent/links.json.bad")).unwrap();
            node.ip("link set octbr alias sw1");
            node.ok("remove", "");
            assert!(node.link("octbr").is_none());
        }
    });
}

#[test]
fn a_full_disk_is_told_and_the_mark_is_kept_all_the_same() {
    on_a_node(|node| {
        fs::create_dir_all(node.path("state")).unwrap();
        let state = node.path("state").display().to_string();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs", &state]).status();
        assert!(mounted.unwrap().success());
        node.ok("apply -f -", POLICY);
        fs::remove_file(file(node)).unwrap();
        assert!(fs::write(format!("{state}/fill"), vec![0; 1 << 20]).is_err(), "the disk is not full");
        let mut daemon = node.start("run --health-bind none");
        let ready = || node.run("health ready", "").stdout;
        until(SOON, "told", || ready().contains("which links the agent created: No space left"));
        node.ip("link set octbr alias sw1");
        until(SOON, "this process knows", || alias(node) == MARK);
        fs::remove_file(format!("{state}/fill")).unwrap();
        node.ip("link set octbr down");
        until(SOON, "written", || file(node).exists());
        assert_eq!(daemon.stop(), Some(0));
        assert!(!file(node).with_extension("json.tmp").exists());
        assert!(Command::new("umount").arg(&state).status().unwrap().success());
    });
}

#[test]
fn ports_that_an_earlier_release_attached_do_not_keep_a_bridge_from_going() {
    on_a_node(|node| {
        node.ok("apply -f -", POLICY);
        // Which wrote no such file.
        fs::remove_file(file(node)).unwrap();
        fs::write(node.path("policy.yaml"), ABSENT).unwrap();
        let policy = node.path("policy.yaml");
        let _daemon = node.start(&format!("run --health-bind none -f {}", policy.display()));
        until(SOON, "it is gone", || node.link("octbr").is_none());
    });
}
