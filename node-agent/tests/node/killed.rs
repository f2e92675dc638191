//! An agent killed at any of its requests to the kernel.

use std::fs;
use std::process::Command;

use crate::scene::{AGENT, POLICY, answer, on_a_node};

#[test]
fn what_a_killed_apply_had_begun_is_taken_back_by_the_next_start() {
    on_a_node(|node| {
        let before = node.snapshot();
        let mut interrupted = 0;
        for request in 1.. {
            let mut killed = Command::new("strace");
            killed.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=sendto"]);
            killed.arg("-e").arg(format!("inject=sendto:signal=KILL:when={request}"));
            killed.arg(AGENT).args(["apply", "-f", "-", "--state-dir"]).arg(node.path("state"));
            killed.arg("--nmstate-lock").arg(node.path("lock"));
            let outcome = answer(&mut killed, POLICY);
            // Or killed when all was done and kept.
            let kept = fs::read_to_string(node.path("state/agent/desired.json"));
            if outcome.status == 0 || kept.is_ok_and(|kept| kept.contains("octbr")) {
                break;
            }
            interrupted += usize::from(node.snapshot() != before);
            // Whatever this next start is asked for, it cleans up first.
            node.ok("apply -f -", "interfaces: []");
            assert_eq!(node.snapshot(), before, "killed at request {request}");
            assert!(!node.path("state/agent/journal.jsonl").exists());
        }
        assert!(interrupted >= 4, "the kills came too early or too late to prove anything: {interrupted}");
        assert_eq!(node.ok("plan -f -", POLICY), "nothing to do\n");
    });
}

#[test]
fn a_bridge_that_pods_have_come_to_use_is_not_taken_back() {
    on_a_node(|node| {
        for request in 1.. {
            let mut killed = Command::new("strace");
            killed.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=sendto"]);
            killed.arg("-e").arg(format!("inject=sendto:signal=KILL:when={request}"));
            killed.arg(AGENT).args(["apply", "-f", "-", "--state-dir"]).arg(node.path("state"));
            killed.arg("--nmstate-lock").arg(node.path("lock"));
            assert_ne!(answer(&mut killed, POLICY).status, 0, "never killed with a bridge made");
            if node.link("octbr").is_some_and(|link| link.get("ifalias").is_some()) {
                break;
            }
            node.ok("apply -f -", "interfaces: []");
        }
        node.pod("veth1");
        let index = node.link("octbr").unwrap()["ifindex"].clone();
        let answer = node.run("apply -f -", POLICY);
        assert_eq!(answer.status, 0, "{}", answer.stderr);
        assert!(answer.stderr.contains("octbr stays: veth1 would be cut off"), "{}", answer.stderr);
        assert_eq!(node.link("veth1").unwrap()["master"], "octbr");
        assert_eq!(node.link("octbr").unwrap()["ifindex"], index);
        assert!(crate::scene::complete(node));
    });
}

/// The system calls of files with which `apply` ends: the new state is put in the old one's place, the journal goes.
#[test]
fn what_was_reached_before_the_kill_is_kept_and_not_taken_back() {
    on_a_node(|node| {
        let changed = POLICY.replace("1500", "1400");
        let mut killed_late = 0;
        for call in ["rename", "renameat", "renameat2", "unlink", "unlinkat"] {
            for nth in 1.. {
                node.ok("apply -f -", POLICY);
                let mut killed = Command::new("strace");
                killed.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
                killed.arg("-e").arg(format!("inject={call}:signal=KILL:when={nth}"));
                killed.arg(AGENT).args(["apply", "-f", "-", "--state-dir"]).arg(node.path("state"));
                killed.arg("--nmstate-lock").arg(node.path("lock"));
                if answer(&mut killed, &changed).status == 0 {
                    break;
                }
                // Killed before its first step, it has changed nothing and keeps nothing new.
                if node.link("octbr").unwrap()["mtu"] == 1500 {
                    continue;
                }
                killed_late += 1;
                node.ok("apply", "");
                assert_eq!(node.link("octbr").unwrap()["mtu"], 1400, "killed at {call} {nth}");
                assert!(!node.path("state/agent/journal.jsonl").exists());
            }
        }
        assert!(killed_late >= 2, "the kills came too early to prove anything: {killed_late}");
    });
}
