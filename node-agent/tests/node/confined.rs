//! As in the pod of the `DaemonSet`: `CAP_NET_ADMIN` alone, `/proc/sys` read-only and the host's elsewhere.

use std::process::Command;

use crate::scene::{AGENT, Answer, Node, POLICY, answer, on_a_node};

/// Runs the agent with `capabilities` only, as setpriv takes them, and `words` that may name `$SYS`, the host's `/proc/sys`.
fn confined(node: &Node, capabilities: &str, words: &str, yaml: &str) -> Answer {
    let script = format!(
        "mkdir -p $SYS/net && mount --bind /proc/sys/net $SYS/net \
         && mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys \
         && exec setpriv --no-new-privs --inh-caps=-all --ambient-caps=-all --bounding-set={capabilities} \
         {AGENT} --state-dir $STATE --nmstate-lock $LOCK {words}"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]);
    let folders = [("SYS", "host-proc-sys"), ("STATE", "state"), ("LOCK", "lock")];
    answer(command.envs(folders.map(|(name, folder)| (name, node.path(folder)))), yaml)
}

#[test]
fn one_capability_and_the_host_s_settings_are_enough() {
    on_a_node(|node| {
        let applied = confined(node, "-all,+net_admin", "--proc-sys $SYS apply -f -", POLICY);
        assert_eq!(applied.status, 0, "{}", applied.stderr);
        let octbr = node.link("octbr").unwrap();
        assert_eq!(octbr["addr_info"], serde_json::json!([]), "IPv6 is off");
        let disabled = std::fs::read_to_string("/proc/sys/net/ipv6/conf/octbr/disable_ipv6");
        assert_eq!(disabled.unwrap().trim(), "1");
        let removed = confined(node, "-all,+net_admin", "remove", "");
        assert_eq!((removed.status, node.link("octbr")), (0, None), "{}", removed.stderr);
    });
}

#[test]
fn without_that_capability_it_says_so_and_leaves_nothing() {
    on_a_node(|node| {
        let before = node.snapshot();
        let applied = confined(node, "-all", "--proc-sys $SYS apply -f -", POLICY);
        assert_eq!(applied.status, 1);
        assert!(applied.stderr.contains("Operation not permitted"), "{}", applied.stderr);
        assert_eq!(node.snapshot(), before);
    });
}

#[test]
fn settings_that_are_read_only_are_named_with_the_remedy() {
    on_a_node(|node| {
        let before = node.snapshot();
        let applied = confined(node, "-all,+net_admin", "apply -f -", POLICY);
        assert_eq!(applied.status, 1);
        for words in ["/proc/sys/net/ipv6/conf/octbr/", "Read-only file system", "--proc-sys"] {
            assert!(applied.stderr.contains(words), "{words}: {}", applied.stderr);
        }
        assert_eq!(node.snapshot(), before, "taken back");
    });
}
