//! Two nodes from the first start over an upgrade and back to the removal, and what is on their disks each time.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use octavia_bridge_tests::Stream;
use serde_json::json;

use crate::host::{Host, content, difference};
use crate::image_folder;
use crate::kubelet::Pod;
use crate::scene::{BIN, Scene, eventually, policy};

const POLICIES: &str = "/apis/nmstate.io/v1/nodenetworkconfigurationpolicies";

#[test]
fn two_nodes_are_set_up_upgraded_rolled_back_and_cleared() {
    let scene = Scene::new();
    let bare = scene.hosts.each_ref().map(Host::files);
    let set = scene.apply("kubernetes");

    // The first start. It takes a policy and pods to have everything on the disk.
    let mut agents =
        scene.hosts.each_ref().map(|host| Some(Pod::start(scene.cluster, &set, host, 1, &image(1))));
    for agent in agents.iter_mut().flatten() {
        agent.ready();
        confined(agent);
    }
    scene.cluster.admin().create(POLICIES, &policy());
    for host in &scene.hosts {
        eventually("octbr has the NIC", || {
            host.node.link("enp6s0").filter(|nic| nic.master() == Some("octbr")).map(|_| ())
        });
    }
    let workers = ["worker-0", "worker-1"];
    let [one, other] = [0, 1].map(|n| {
        let worker = scene.pod(&scene.hosts[n], workers[n]);
        let result = worker.call(&scene.hosts[n], "ADD");
        assert_eq!(result["ips"][0]["address"], format!("172.23.0.{}/24", 30 + n));
        worker
    });
    for host in &scene.hosts {
        assert_eq!(plugins(host), installed(1, None), "{}", host.name);
    }

    // An upgrade and the way back, a node at a time, while packets flow between the pods.
    let ports = scene.hosts.each_ref().map(|host| host.node.links().len());
    let settled = scene.hosts.each_ref().map(Host::files);
    let stream = Stream::start(&one.sandbox, &other.sandbox, "172.23.0.31".parse().expect("an address"));
    for (roll_out, to, from) in [(2, 2, 1), (3, 1, 2)] {
        for (host, agent) in scene.hosts.iter().zip(&mut agents) {
            let log = agent.take().expect("an agent").stop();
            assert!(!log.contains("panicked"), "{log}");
            let mut next = Pod::start(scene.cluster, &set, host, roll_out, &image(to));
            next.ready();
            confined(&next);
            *agent = Some(next);
            assert_eq!(plugins(host), installed(to, Some(from)), "{}", host.name);
            let third = scene.pod(host, &format!("third-{roll_out}-{}", host.name));
            assert_eq!(
                third.call(host, "ADD")["ips"][0]["address"],
                "172.23.0.32/24",
                "the lowest that is free"
            );
            third.call(host, "DEL");
        }
    }
    let count = stream.end();
    assert_eq!((count.lost, count.sent > 0), (Vec::new(), true), "of {}", count.sent);
    for (n, host) in scene.hosts.iter().enumerate() {
        assert_eq!(host.node.links().len(), ports[n], "{}", host.name);
        // The plugin of before is kept beside the present one; it is all that two roll-outs leave.
        let left = difference(&settled[n], &host.files());
        assert!(
            left.iter().all(|line| line.contains(".previous") || line.contains("installed.json")),
            "{left:#?}"
        );
    }

    // The removal, in the order of docs/install.md.
    for (n, worker) in [one, other].into_iter().enumerate() {
        worker.call(&scene.hosts[n], "DEL");
    }
    let admin = scene.cluster.admin();
    // The NIC, which is not the agent's as a VLAN interface would be, is to be named: it loses its bridge.
    let nic = json!({"name": "enp6s0", "type": "ethernet"});
    let interfaces = json!([{"name": "octbr", "type": "linux-bridge", "state": "absent"}, nic]);
    let patch = json!({"spec": {"desiredState": {"interfaces": interfaces}}});
    admin.call("PATCH", &format!("{POLICIES}/octavia"), Some(&patch)).expect(200);
    for host in &scene.hosts {
        eventually("octbr is gone", || host.node.link("octbr").is_none().then_some(()));
    }
    admin.delete(&format!("{POLICIES}/octavia"));
    let uninstall = scene.apply("uninstall");
    for (host, agent) in scene.hosts.iter().zip(agents) {
        agent.expect("an agent").stop();
        let mut idle = Pod::start(scene.cluster, &uninstall, host, 4, &image(1));
        idle.ready();
        idle.stop();
    }
    for (before, host) in bare.iter().zip(&scene.hosts) {
        assert_eq!(host.node.link_names(), ["enp6s0"]);
        // Empty directories, which other programs may still have open. Until the next boot also a lock and a note in memory,
        // which says that no policy and no bridges are kept.
        assert_eq!(
            difference(before, &host.files()),
            [
                "+ /run/octavia-bridge/agent folder 700",
                "+ /run/octavia-bridge/agent/written.json file 644 45 bytes 0bc151487a8e1c0a",
                "+ /run/octavia-bridge/attachments folder 700",
                "+ /run/octavia-bridge/directory.lock file 600 0 bytes bd60acb658c79e45",
                "+ /var/k8s_nmstate folder 755",
                "+ /var/lib/octavia-bridge folder 755",
                "+ /var/lib/octavia-bridge/agent folder 700",
                "+ /var/lib/octavia-bridge/cluster-tombstones folder 700",
            ],
            "{}",
            host.name
        );
    }
}

fn image(number: u32) -> String {
    format!("octavia-bridge.test/octavia-bridge:{number}")
}

/// Asserts that a pod's process has what the manifest gives it, and no more.
fn confined(agent: &Pod<'_>) {
    // CAP_NET_ADMIN is number 12.
    let only = format!("{:016x}", 1_u64 << 12);
    for (key, value) in [
        ("CapBnd", only.as_str()),
        ("CapPrm", &only),
        ("CapEff", &only),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        assert_eq!(agent.process_status(key), value, "{key}");
    }
    assert!(agent.root_options().split(',').any(|option| option == "ro"), "{}", agent.root_options());
}

/// The files of the plugin in the CNI folder.
fn plugins(host: &Host) -> BTreeMap<PathBuf, String> {
    let files = host.files().into_iter().filter(|(path, _)| path.starts_with(BIN));
    files.filter(|(path, _)| path.to_string_lossy().contains("octavia")).collect()
}

/// What they should be: the plugin of an image under its names, and beside it that of the image before, which nobody else
/// may run.
fn installed(number: u32, before: Option<u32>) -> BTreeMap<PathBuf, String> {
    let file = |name: &str, mode: &str, number: u32| {
        let bytes = fs::read(image_folder(number).join("octavia-bridge")).expect("read the plugin");
        (Path::new(BIN).join(name), format!("file {mode} {}", content(&bytes)))
    };
    let names = ["octavia-bridge", "octavia-ipam"].map(|name| file(name, "755", number));
    names.into_iter().chain(before.map(|before| file(".octavia-bridge.previous", "600", before))).collect()
}
