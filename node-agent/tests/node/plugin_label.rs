//! The `SELinux` label of a plugin that is replaced.

use std::process::Command;

use rustix::fs::{XattrFlags, lsetxattr};
use tempfile::TempDir;

use crate::plugin_folder::plugin;
use crate::scene::{AGENT, answer, on_a_node};

#[test]
fn a_label_that_must_not_be_set_is_told_and_the_plugin_installed() {
    on_a_node(|node| {
        // A tmpfs of the sandbox's own, where its root may set labels; the agent is told that it may not.
        let bin = TempDir::new_in("/run").unwrap();
        let install = |mark: &str| {
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=fsetxattr:error=EPERM"]);
            strace.arg(AGENT).args(["install", "--cni-bin-dir"]).arg(bin.path());
            strace.args(["--plugin", &plugin(node, mark), "--state-dir"]).arg(node.path("state"));
            let answer = answer(&mut strace, "");
            assert_eq!(answer.status, 0, "{}", answer.stderr);
            answer.stderr
        };
        assert_eq!(install("v1"), "", "without a label there is nothing to tell");
        let file = bin.path().join("octavia-bridge");
        lsetxattr(&file, "security.selinux", b"system_u:object_r:bin_t:s0", XattrFlags::empty()).unwrap();
        let told = install("v2");
        assert!(told.contains("octavia-bridge loses its SELinux label system_u:object_r:bin_t:s0"), "{told}");
        assert!(std::fs::read_to_string(file).unwrap().contains("v2"));
    });
}
