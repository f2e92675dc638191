//! As in the pod of the `DaemonSet`: `CAP_NET_ADMIN` alone, `/proc/sys` read-only and the host's elsewhere.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::scene::{AGENT, Answer, Daemon, Node, POLICY, answer, complete, on_a_node, until};

/// Runs the agent to its end, as [`confined`] does.
fn run(node: &Node, capabilities: &str, words: &str, yaml: &str) -> Answer {
    answer(&mut confined(node, capabilities, words), yaml)
}

/// The agent with `capabilities` only, as setpriv takes them, and `words` that may name `$SYS`, the host's `/proc/sys`.
fn confined(node: &Node, capabilities: &str, words: &str) -> Command {
    let script = format!(
        "mkdir -p $SYS/net && mount --bind /proc/sys/net $SYS/net \
         && mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys \
         && exec setpriv --no-new-privs --inh-caps=-all --ambient-caps=-all --bounding-set={capabilities} \
         {AGENT} --state-dir $STATE --nmstate-lock $LOCK {words}"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]);
    let folders = [("SYS", "host-proc-sys"), ("STATE", "state"), ("LOCK", "lock")];
    command.envs(folders.map(|(name, folder)| (name, node.path(folder))));
    command
}

#[test]
fn one_capability_and_the_host_s_settings_are_enough() {
    on_a_node(|node| {
        let applied = run(node, "-all,+net_admin", "--proc-sys $SYS apply -f -", POLICY);
        assert_eq!(applied.status, 0, "{}", applied.stderr);
        let octbr = node.link("octbr").unwrap();
        assert_eq!(octbr["addr_info"], serde_json::json!([]), "IPv6 is off");
        let disabled = fs::read_to_string("/proc/sys/net/ipv6/conf/octbr/disable_ipv6");
        assert_eq!(disabled.unwrap().trim(), "1");
        let removed = run(node, "-all,+net_admin", "remove", "");
        assert_eq!((removed.status, node.link("octbr")), (0, None), "{}", removed.stderr);
    });
}

#[test]
fn they_are_enough_to_keep_it_so() {
    on_a_node(|node| {
        fs::write(node.path("policy"), POLICY).unwrap();
        let words = format!("--proc-sys $SYS run --health-bind none -f {}", node.path("policy").display());
        let mut command = confined(node, "-all,+net_admin", &words);
        let log = fs::File::create(node.path("log")).unwrap();
        let _daemon = Daemon(command.stdin(Stdio::null()).stderr(log).spawn().unwrap());
        let kept = || complete(node);
        until(Duration::from_secs(30), "the bridge is made", kept);
        node.ip("link delete octbr");
        until(Duration::from_secs(30), "it is made anew", kept);
    });
}

#[test]
fn without_that_capability_it_says_so_and_leaves_nothing() {
    on_a_node(|node| {
        let before = node.snapshot();
        let applied = run(node, "-all", "--proc-sys $SYS apply -f -", POLICY);
        assert_eq!(applied.status, 1);
        assert!(applied.stderr.contains("Operation not permitted"), "{}", applied.stderr);
        assert_eq!(node.snapshot(), before);
    });
}

#[test]
fn settings_that_are_read_only_are_named_with_the_remedy() {
    on_a_node(|node| {
        let before = node.snapshot();
        let applied = run(node, "-all,+net_admin", "apply -f -", POLICY);
        assert_eq!(applied.status, 1);
        for words in ["/proc/sys/net/ipv6/conf/octbr/", "Read-only file system", "--proc-sys"] {
            assert!(applied.stderr.contains(words), "{words}: {}", applied.stderr);
        }
        assert_eq!(node.snapshot(), before, "taken back");
    });
}
