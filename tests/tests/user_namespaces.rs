//! Pods with user namespaces (`hostUsers: false`): the network namespace belongs to another user namespace than the plugin's.

use octavia_bridge_tests::wire::{Announcement, Form, Wire};
use octavia_bridge_tests::{Lab, Node, Pod, conf};
use serde_json::json;
use std::fs;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(5);

/// A process in a separate user namespace, in which it has created a network namespace.
struct Owner(Child);

impl Owner {
    fn start(node: &Node) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "sleep", "60"]);
        let owner = Self(node.spawn(&mut command));
        let ours = fs::read_link("/proc/self/ns/user").expect("read our user namespace");
        let deadline = Instant::now() + PATIENCE;
        // The command is `sleep` once all is in place.
        while fs::read_to_string(owner.file("comm")).is_ok_and(|name| name.trim() != "sleep") {
            assert!(Instant::now() < deadline, "no user namespace");
            sleep(Duration::from_millis(5));
        }
        assert_ne!(fs::read_link(owner.file("ns/user")).expect("read its user namespace"), ours);
        owner
    }

    fn file(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.0.id())
    }

    /// Puts its network namespace in the place of the pod's.
    fn be(&self, pod: &Pod) {
        pod.remove();
        fs::write(pod.path(), "").expect("make a file to mount on");
        let mut mount = Command::new("mount");
        let output = pod.node().output(mount.args(["--bind", &self.file("ns/net")]).arg(pod.path()));
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().unwrap_or_default();
        let _: std::io::Result<_> = self.0.wait();
    }
}

#[test]
fn a_pod_of_another_user_namespace_is_attached_checked_and_ended() {
    let dual = conf::with_ipam(json!({
        "range": "172.23.0.0/24", "ipRanges": [{"range": "fd00:23::/64"}], "routes": [{"dst": "fd00:24::/64"}],
    }));
    let node = Lab::new().node("node1");
    let peer = node.pod("peer");
    peer.add(&dual).run().attached();
    let pod = node.pod("worker");
    let owner = Owner::start(&node);
    owner.be(&pod);
    let before = node.snapshot(&[&pod]);

    let mut wire = Wire::listen(&peer);
    let attached = pod.add(&dual).run().attached();
    let told = wire.expect_announcement_of(attached.ip(), PATIENCE);
    let mac = attached.pod_mac().to_owned();
    assert_eq!(told, Announcement { address: attached.ip(), mac, form: Form::ArpRequest });
    assert_eq!(pod.sysctl("ipv6/conf/net1/accept_ra").as_deref(), Some("0"));
    assert_eq!(pod.sysctl("ipv4/conf/net1/arp_notify").as_deref(), Some("1"));
    assert_eq!(pod.expect_link("net1").addresses().len(), 2);
    pod.check(&dual, &attached.result).run().silent_success();
    pod.add(&dual).run().error(103);

    pod.del(&dual).run().silent_success();
    node.snapshot(&[&pod]).assert_same_as(&before);
    drop(owner);
}
