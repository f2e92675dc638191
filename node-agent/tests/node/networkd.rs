//! systemd-networkd on the same node, with a configuration for all links: the real one, of Debian's package systemd.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::scene::{Node, POLICY, complete, on_a_node, until};

const PROGRAM: &str = "/lib/systemd/systemd-networkd";
/// Its own directory of configurations, on the sandbox's tmpfs.
const FILES: &str = "/run/systemd/network";
const SOON: Duration = Duration::from_secs(60);
/// As the plugin names a pod's port.
const PORT: &str = "veth0123456789a";

/// Runs until it is dropped.
struct Networkd(Child);

impl Networkd {
    fn start(node: &Node) -> Self {
        // It gives up its rights to a user that a sandbox need not have. A read-only /sys tells it that there is no udev.
        let passwd = node.path("passwd");
        fs::write(&passwd, "root:x:0:0::/:/bin/sh\nsystemd-network:x:0:0::/:/bin/sh\n").unwrap();
        let inside = "mount -t sysfs -o ro sysfs /sys && mount --bind \"$1\" /etc/passwd && exec \"$2\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", inside, "sh"]).arg(&passwd).arg(PROGRAM);
        let log = fs::File::create(node.path("networkd.log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Self(command.spawn().unwrap())
    }
}

impl Drop for Networkd {
    fn drop(&mut self) {
        // Ended already, perhaps.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn has_master(node: &Node, port: &str, master: &str) -> bool {
    node.link(port).is_some_and(|link| link["master"] == master)
}

/// Another bridge with a port, which shows that networkd is at work.
fn others_bridge(node: &Node) {
    node.ip("link add other type bridge");
    node.ip("link set other up");
    node.ip("link add other-port type veth peer name other-end");
    node.ip("link set other-port master other up");
}

fn ours(node: &Node) -> String {
    let words = ["-o link show dev octbr", "-4 -o addr show dev octbr", "-4 route show dev octbr"];
    words.map(|words| node.ip(words)).concat() + &node.ip(&format!("-o link show dev {PORT}"))
}

#[test]
fn it_releases_pods_ports_unless_it_is_told_whose_they_are() {
    on_a_node(|node| {
        assert!(Path::new(PROGRAM).exists(), "{PROGRAM} is missing: install Debian's package systemd");
        fs::create_dir_all(FILES).unwrap();
        fs::write(format!("{FILES}/50-all.network"), "[Match]\nName=*\n\n[Network]\nDHCP=no\n").unwrap();
        let address = "  ipv4: {enabled: true, address: [{ip: 172.24.0.1, prefix-length: 24}]}\n";
        node.ok("apply -f -", &format!("{POLICY}{address}"));
        node.ip(&format!("link add {PORT} type veth peer name pod-end"));
        node.ip("link set pod-end up");
        node.ip(&format!("link set {PORT} master octbr up"));
        node.ip("route add 172.31.0.0/16 via 172.24.0.9");
        others_bridge(node);
        {
            let _networkd = Networkd::start(node);
            until(SOON, "it releases all ports", || {
                !has_master(node, PORT, "octbr") && !has_master(node, "other-port", "other")
            });
        }
        node.ip(&format!("link set {PORT} master octbr"));
        node.ip("link set other-port master other");
        node.ok("apply", "");
        node.ok(&format!("install --networkd --networkd-dir {FILES}"), "");
        // Carrier is told late.
        until(SOON, "the bridge has carrier", || ours(node).contains("LOWER_UP"));
        let before = ours(node);
        let _networkd = Networkd::start(node);
        until(SOON, "it is at work", || !has_master(node, "other-port", "other"));
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(ours(node), before, "{}", fs::read_to_string(node.path("networkd.log")).unwrap());
        assert!(has_master(node, PORT, "octbr"));
        // The NIC is networkd's still, so the agent puts it back into the bridge.
        node.ok("apply", "");
        assert!(complete(node));
    });
}
