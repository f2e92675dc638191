//! What is at the other end of the wire.

use std::process::{Child, Command};
use std::time::Duration;

use crate::scene::{Node, until};

/// A router in a namespace of its own, at the other end of the wire; gone when dropped.
pub(crate) struct Router(Child);

impl Router {
    pub(crate) fn new(node: &Node, address: &str) -> Self {
        let router = Command::new("unshare").args(["--net", "sleep", "300"]).spawn().unwrap();
        let pid = router.id();
        let path = format!("/proc/{pid}/ns/net");
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        until(Duration::from_secs(10), "the router", || {
            std::fs::read_link(&path).is_ok_and(|other| other != own)
        });
        node.ip(&format!("link set wire netns {pid}"));
        let router = Self(router);
        router.ip("link set lo up");
        router.ip(&format!("addr add {address} dev wire"));
        router.ip("link set wire up");
        router
    }

    /// Takes a link of the node.
    pub(crate) fn take(&self, node: &Node, link: &str) {
        node.ip(&format!("link set {link} netns {}", self.0.id()));
    }

    pub(crate) fn ip(&self, words: &str) {
        self.text(words);
    }

    /// What `ip` prints there.
    pub(crate) fn text(&self, words: &str) -> String {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.0.id().to_string(), "-n", "ip"]).args(words.split_whitespace());
        let output = command.output().unwrap();
        assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        // Ended already, perhaps.
        let _: Result<(), _> = self.0.kill();
        let _: Result<_, _> = self.0.wait();
    }
}
