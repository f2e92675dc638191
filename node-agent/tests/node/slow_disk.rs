//! A disk that takes its time: repair does not wait for it.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::scene::{AGENT, Daemon, Node, POLICY, on_a_node, until};

const SOON: Duration = Duration::from_secs(60);

/// An agent of which each wait for the disk takes so long.
fn start(node: &Node, delay: Duration) -> Daemon {
    start_slowly(node, "fsync,fdatasync", delay, &[])
}

/// An agent of which each of these calls takes so long, of any file or of these.
pub(crate) fn start_slowly(node: &Node, calls: &str, delay: Duration, files: &[&str]) -> Daemon {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={calls}"));
    command.arg("-e").arg(format!("inject={calls}:delay_enter={}", delay.as_micros()));
    for file in files {
        command.arg("-P").arg(node.path(file));
    }
    // Without its tracer it would go on.
    command.args(["setpriv", "--pdeathsig", "KILL", AGENT, "run", "--health-bind", "none", "-f"]);
    command.arg(node.path("policy.yaml")).arg("--state-dir").arg(node.path("state"));
    command.arg("--nmstate-lock").arg(node.path("lock")).env("HEALTH_SOCKET", node.path("health.sock"));
    let log = fs::File::create(node.path("log")).unwrap();
    Daemon(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

fn is_up(node: &Node, name: &str) -> bool {
    node.link(name).is_some_and(|link| link["flags"].as_array().unwrap().contains(&"UP".into()))
}

#[test]
fn links_are_repaired_while_a_new_policy_is_on_its_way_to_the_disk() {
    on_a_node(|node| {
        node.ok("apply -f -", POLICY);
        fs::write(node.path("policy.yaml"), POLICY.replace("1500", "1400")).unwrap();
        let kept = || fs::read_to_string(node.path("state/agent/desired.json")).unwrap();
        let journal = node.path("state/agent/journal.jsonl");
        let _daemon = start(node, Duration::from_secs(8));
        until(SOON, "the new one is in force", || node.link("octbr").is_some_and(|link| link["mtu"] == 1400));
        // A process that is killed now leaves to the next what is to be kept.
        until(SOON, "the journal says so", || {
            fs::read_to_string(&journal).is_ok_and(|journal| journal.contains("\"reached\""))
        });
        for fault in ["set octbr down", "set enp6s0 nomaster", "del octbr"] {
            node.ip(&format!("link {fault}"));
            until(SOON, fault, || {
                is_up(node, "octbr") && node.link("enp6s0").is_some_and(|link| link["master"] == "octbr")
            });
        }
        assert!(!kept().contains("1400"), "the disk was faster than the repair, which proves nothing");
        until(SOON * 2, "it is kept", || kept().contains("1400") && !journal.exists());
    });
}

/// The journal of the one, which is not on the disk yet, must not be left behind: the next start would keep the older one.
#[test]
fn a_change_that_is_not_begun_leaves_the_journal_of_the_one_before_to_its_end() {
    on_a_node(|node| {
        node.ok("apply -f -", POLICY);
        node.ip("link add nic-a type veth peer name wire-a");
        node.ip("link set nic-a up");
        node.ip("link set wire-a up");
        node.ip("addr add 10.1.1.1/24 dev nic-a");
        node.ip("route add default via 10.1.1.9");
        let first = POLICY.replace("1500", "1400");
        fs::write(node.path("policy.yaml"), &first).unwrap();
        let journal = node.path("state/agent/journal.jsonl");
        let _daemon = start(node, Duration::from_secs(8));
        until(SOON, "the journal says that it is in force", || {
            fs::read_to_string(&journal).is_ok_and(|journal| journal.contains("\"reached\""))
        });
        let second = format!("{first}- {{name: nic-a, type: ethernet, mtu: 1300}}\n");
        fs::write(node.path("policy.yaml"), second).unwrap();
        until(SOON, "the next is refused", || {
            fs::read_to_string(node.path("log")).unwrap().contains("does not answer even before the change")
        });
        assert!(journal.exists(), "the disk was faster, which proves nothing");
        let kept = || fs::read_to_string(node.path("state/agent/desired.json")).unwrap();
        until(SOON * 2, "the first is kept", || kept().contains("1400") && !journal.exists());
    });
}

/// Longer than any test waits.
const FOR_EVER: Duration = Duration::from_secs(3600);

#[test]
fn links_are_repaired_while_the_disk_does_not_take_what_the_plugin_is_told() {
    on_a_node(|node| {
        node.ok("apply -f -", POLICY);
        let second = format!("{POLICY}- {{name: br-new, type: linux-bridge}}\n");
        fs::write(node.path("policy.yaml"), second).unwrap();
        let files = ["state/agent/bridges.json", "state/agent/bridges.json.tmp"];
        let _daemon = start_slowly(node, "rename,renameat,renameat2", FOR_EVER, &files);
        until(SOON, "it is told", || {
            node.run("health ready", "")
                .stdout
                .contains("tell the plugin which bridges are kept: not done within")
        });
        for fault in ["set octbr down", "set enp6s0 nomaster", "del octbr"] {
            node.ip(&format!("link {fault}"));
            until(SOON, fault, || {
                is_up(node, "octbr") && node.link("enp6s0").is_some_and(|link| link["master"] == "octbr")
            });
        }
        assert!(node.link("br-new").is_none(), "the plugin does not know of it");
    });
}

#[test]
fn links_are_repaired_while_a_policy_that_was_reached_before_is_on_its_way_to_the_disk() {
    on_a_node(|node| {
        node.ok("apply -f -", POLICY);
        let second = POLICY.replace("1500", "1400");
        fs::write(node.path("policy.yaml"), &second).unwrap();
        let journal = node.path("state/agent/journal.jsonl");
        let is_reached = || fs::read_to_string(&journal).is_ok_and(|journal| journal.contains("\"reached\""));
        let first = start(node, FOR_EVER);
        until(SOON, "the journal says that it is in force", is_reached);
        drop(first);
        node.ip("link set octbr down");
        let _second = start(node, FOR_EVER);
        until(SOON, "repaired", || is_up(node, "octbr"));
        node.ip("link del octbr");
        until(SOON, "repaired", || is_up(node, "octbr"));
        assert_eq!(node.link("octbr").unwrap()["mtu"], 1400);
    });
}
