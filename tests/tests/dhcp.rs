//! Addresses by DHCP: Debian's `dhcp` IPAM plugin with its daemon, and a DHCP server on the pods' network.

use octavia_bridge_tests::{Lab, Namespace, Node, Pod, conf};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A program that ends with this value.
struct Running(Child);

impl Running {
    fn start(namespace: &Namespace, command: &mut Command) -> Self {
        Self(namespace.spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().unwrap_or_default();
        let _: std::io::Result<_> = self.0.wait();
    }
}

/// A node whose bridge leads to a DHCP server.
struct Scene {
    node: Node,
    /// The server's leases are here.
    folder: PathBuf,
    _programs: [Running; 2],
    _server: Pod,
    _lab: Lab,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::new();
        let node = lab.node("node1");
        node.bridge_with_uplink();
        let server = node.pod("server");
        server.add(&conf::layer2()).run().attached();
        server.ip("addr add 10.9.0.1/24 dev net1");
        let folder = node.disk().to_owned();
        let settings = format!(
            "start 10.9.0.20\nend 10.9.0.22\ninterface net1\nlease_file {0}/leases\npidfile {0}/pid\nauto_time 1\n\
             option subnet 255.255.255.0\noption router 10.9.0.1\noption lease 600\n",
            folder.display()
        );
        fs::write(folder.join("udhcpd.conf"), settings).expect("write the server's settings");
        fs::write(folder.join("leases"), "").expect("make the file of leases");
        // -a: how long it probes whether another host has the address.
        let mut serve = Command::new("busybox");
        serve.args(["udhcpd", "-f", "-a", "50"]).arg(folder.join("udhcpd.conf"));
        let mut daemon = Command::new("/usr/lib/cni/dhcp");
        daemon.arg("daemon").arg("-socketpath").arg(folder.join("dhcp.sock"));
        let programs = [Running::start(&server, &mut serve), Running::start(&node, &mut daemon)];
        let deadline = Instant::now() + Duration::from_secs(10);
        while !folder.join("dhcp.sock").exists() {
            assert!(Instant::now() < deadline, "the daemon does not listen");
            sleep(Duration::from_millis(10));
        }
        Self { node, folder, _programs: programs, _server: server, _lab: lab }
    }

    fn conf(&self) -> Value {
        let ipam = json!({"type": "dhcp", "daemonSocketPath": self.folder.join("dhcp.sock")});
        conf::layer2_with(json!({"ipam": ipam}))
    }
}

#[test]
fn a_dhcp_client_has_its_interface_from_add_to_del() {
    let scene = Scene::new();
    let pods = ["one", "two"].map(|name| scene.node.pod(name));
    let attached = pods.each_ref().map(|pod| pod.add(&scene.conf()).run().attached());
    assert_ne!(attached[0].ip(), attached[1].ip());
    for (pod, attached) in pods.iter().zip(&attached) {
        assert!(attached.address().starts_with("10.9.0.2"), "{}", attached.address());
        let link = pod.expect_link("net1");
        assert_eq!(link.addresses(), [attached.address()]);
        // The MAC that the server knows.
        assert_eq!(link.mac(), attached.pod_mac());
        assert!(!attached.pod_mac().starts_with("0a:58"), "{}", attached.pod_mac());
        pod.ip("route get 10.9.0.1");
        pod.check(&scene.conf(), &attached.result).run().silent_success();
    }
    for pod in &pods {
        pod.del(&scene.conf()).run().silent_success();
        assert!(pod.link("net1").is_none());
        pod.del(&scene.conf()).run().silent_success();
    }
    // Both were released at the server: three addresses are enough for more than three pods.
    for round in 0..3 {
        let pod = scene.node.pod("next");
        pod.add(&scene.conf()).run().attached();
        pod.del(&scene.conf()).run().silent_success();
        assert!(pod.link("net1").is_none(), "round {round}");
    }
}

#[test]
fn a_server_that_does_not_answer_leaves_nothing_behind() {
    let scene = Scene::new();
    let pod = scene.node.pod("worker");
    let conf = conf::with(scene.conf(), json!({"ipam": {"daemonSocketPath": "/run/nowhere.sock"}}));
    // The delegate's own error, with its code.
    pod.add(&conf).run().error(999).says(&["/run/nowhere.sock"]);
    assert!(pod.link("net1").is_none());
    assert_eq!(scene.node.ports("octbr").len(), 1, "the server's");
}
