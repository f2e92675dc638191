//! An agent killed at any of its requests to the kernel.

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
            if outcome.status == 0 {
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
