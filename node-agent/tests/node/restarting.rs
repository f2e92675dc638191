//! run: what an earlier process left half done, and when it may be taken back.

use std::fs::{self, File};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::scene::{AGENT, Daemon, Node, POLICY, complete, on_a_node, until};

const START: Duration = Duration::from_secs(30);

/// Runs a verb on the policy in `file` until its so-many-th request to the kernel, which kills it.
fn killed_at(node: &Node, request: usize, verb: &str, file: &str) {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=sendto"]);
    command.arg("-e").arg(format!("inject=sendto:signal=KILL:when={request}"));
    command.arg(AGENT).arg(verb).arg("-f").arg(node.path(file)).arg("--state-dir").arg(node.path("state"));
    let output = command.arg("--nmstate-lock").arg(node.path("lock")).output().unwrap();
    assert!(!output.status.success(), "{verb} ended before request {request}");
}

/// `POLICY` and six bridges more, so that there are requests enough to be killed at.
fn larger() -> String {
    let more = (0..6).map(|n| format!("- {{name: extra{n}, type: linux-bridge, state: up}}\n"));
    POLICY.to_owned() + &more.collect::<String>()
}

#[test]
fn killed_on_its_way_to_a_new_state_it_comes_back_to_the_kept_one() {
    on_a_node(|node| {
        node.ok("apply -f -", POLICY);
        let before = node.snapshot();
        fs::write(node.path("larger.yaml"), larger()).unwrap();
        let mut interrupted = 0;
        for request in (30..).step_by(6) {
            killed_at(node, request, "run", "larger.yaml");
            // It got there: from now on the larger state is the kept one.
            let kept = fs::read_to_string(node.path("state/agent/desired.json")).unwrap();
            let journal = fs::read_to_string(node.path("state/agent/journal.jsonl")).unwrap_or_default();
            if kept.contains("extra0") || journal.contains("\"reached\"") {
                break;
            }
            interrupted += usize::from(node.snapshot() != before);
            let mut daemon = node.start("run");
            let what = format!("killed at request {request}, it takes back what was half done");
            // A kill that came before the first change left nothing to take back: then it may not even listen to signals yet.
            until(START, &what, || node.snapshot() == before && node.run("health live", "").status == 0);
            assert_eq!(daemon.stop(), Some(0));
            assert!(!node.path("state/agent/journal.jsonl").exists(), "killed at request {request}");
        }
        assert!(interrupted >= 3, "the kills came too early or too late to prove anything: {interrupted}");
    });
}

#[test]
fn nothing_is_taken_back_while_kubernetes_nmstate_is_at_work() {
    on_a_node(|node| {
        fs::write(node.path("larger.yaml"), larger()).unwrap();
        for request in (40..100).step_by(6) {
            killed_at(node, request, "apply", "larger.yaml");
            if node.link("extra0").is_some() {
                break;
            }
        }
        assert!(node.path("state/agent/journal.jsonl").exists());
        let half_done = node.snapshot();
        assert!(half_done.contains("extra0"), "killed too early to prove anything");
        fs::write(node.path("policy.yaml"), POLICY).unwrap();
        let lock = File::create(node.path("lock")).unwrap();
        lock.lock().unwrap();
        let _daemon = node.start(&format!("run -f {}", node.path("policy.yaml").display()));
        until(START, "it says why it waits", || node.log().contains("kubernetes-nmstate is running"));
        thread::sleep(Duration::from_millis(300));
        assert_eq!(node.snapshot(), half_done);
        lock.unlock().unwrap();
        // It looks again every five seconds.
        until(Duration::from_secs(10), "what was half done is gone and the policy is in force", || {
            node.link("extra0").is_none() && complete(node)
        });
    });
}

#[test]
fn a_description_that_cannot_be_written_is_told_by_plan_alone() {
    on_a_node(|node| {
        let policy = POLICY.to_owned() + "- {name: enp6s0, type: ethernet, description: uplink}\n";
        for _ in 0..2 {
            let answer = node.run("apply -f -", &policy);
            assert_eq!(answer.status, 0, "{}", answer.stderr);
            assert!(!answer.stderr.contains("description"), "{}", answer.stderr);
        }
        assert_eq!(node.link("enp6s0").unwrap().get("ifalias"), None);
        let planned = node.ok("plan -f -", &policy);
        assert_eq!(planned.lines().filter(|line| line.starts_with("description not written")).count(), 1);
        assert!(planned.trim_end().ends_with(": enp6s0"), "{planned}");
        let _daemon = node.start("run --interval 1");
        thread::sleep(Duration::from_millis(2500));
        assert!(!node.log().contains("description"), "{}", node.log());
        // It is not told where the alias is as it should be.
        node.ip("link set enp6s0 alias uplink");
        assert!(!node.ok("plan -f -", &policy).contains("description"));
    });
}

/// As from a service manager that reloads what it has just started.
#[test]
fn a_reload_before_the_agent_listens_for_it_ends_nothing() {
    on_a_node(|node| {
        fs::write(node.path("policy.yaml"), POLICY).unwrap();
        let words = format!("run --health-bind none -f {}", node.path("policy.yaml").display());
        let agent = node.agent(&words);
        let mut command = Command::new("strace");
        command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=epoll_create1"]);
        command.args(["-e", "inject=epoll_create1:signal=HUP:when=1"]);
        command
            .arg(agent.get_program())
            .args(agent.get_args())
            .env("HEALTH_SOCKET", node.path("health.sock"));
        let mut daemon = Daemon(command.stderr(File::create(node.path("log")).unwrap()).spawn().unwrap());
        until(START, "it has reloaded", || node.log().contains("read the desired state again"));
        until(START, "the policy", || complete(node));
        assert_eq!(daemon.stop(), Some(0), "{}", node.log());
    });
}
