//! Users of one namespace write a network definition, and root reads it: the definition cannot make root run, read or write other
//! files.

use octavia_bridge_tests::call::DIRECTORIES;
use octavia_bridge_tests::{Call, Lab, Node, Outcome, Pod, ScriptedAgent, conf};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A directory of the node whose content a tenant writes, as an emptyDir is, and a program of theirs in it.
struct Volume {
    node: Node,
    folder: PathBuf,
}

impl Volume {
    fn new() -> Self {
        let node = Lab::new().node("node1");
        let folder = node.disk().join("volume");
        fs::create_dir_all(folder.join("attachments")).expect("write in the volume");
        let evil = folder.join("evil");
        fs::write(&evil, format!("#!/bin/sh\necho ran > {}/ran\necho '{{}}'\n", folder.display()))
            .expect("write in the volume");
        fs::set_permissions(&evil, fs::Permissions::from_mode(0o755)).expect("write in the volume");
        Self { node, folder }
    }

    fn conf(&self) -> Value {
        conf::octavia_with(json!({"cniVersion": "1.1.0", "dataDir": self.folder}))
    }

    /// A record of the pod's attachment that names `program` as the IPAM plugin to call.
    fn forge(&self, pod: &Pod, folder: &Path, program: &Path) {
        let record = json!({
            "version": 1, "network": "octavia", "containerId": pod.container_id(), "ifname": "net1", "netns": null,
            "link": null, "addressing": {"delegated": {"program": program, "config": "{}"}},
        });
        fs::create_dir_all(folder.join("attachments")).expect("write in the volume");
        let file = folder.join(format!("attachments/{}@net1.jsonl", pod.container_id()));
        fs::write(file, format!("{record}\n")).expect("write in the volume");
    }

    fn gc(&self) -> Call {
        self.node.gc(&conf::with(self.conf(), json!({"cni.dev/valid-attachments": []})))
    }

    #[track_caller]
    fn nothing_ran(&self) {
        assert!(!self.folder.join("ran").exists(), "root ran the tenant's program");
    }
}

/// A run for which the node's administrator has opened no directory.
fn closed(call: Call) -> Outcome {
    call.without_env(DIRECTORIES).run()
}

#[test]
fn a_forged_record_in_a_tenants_volume_runs_nothing() {
    let volume = Volume::new();
    let pod = volume.node.pod("worker");
    volume.forge(&pod, &volume.folder, &volume.folder.join("evil"));
    let folder = volume.folder.to_str().unwrap();
    for outcome in [closed(pod.add(&volume.conf())), closed(volume.gc())] {
        outcome.error(7).says(&["dataDir", folder, "/var/lib/octavia-bridge", "administrator"]);
        volume.nothing_ran();
    }
    let deleted = closed(pod.del(&volume.conf()));
    deleted.silent_success();
    assert!(deleted.stderr.contains("dataDir") && deleted.stderr.contains(folder), "{}", deleted.stderr);
    volume.nothing_ran();
    assert!(!volume.folder.join("pools").exists(), "something was written in the volume");
}

#[test]
fn a_forged_record_in_our_own_directory_runs_nothing_either() {
    for name in ["/evil", "../volume/evil", "octavia-ipam"] {
        let volume = Volume::new();
        let pod = volume.node.pod("worker");
        let program = match name {
            "/evil" => volume.folder.join("evil"),
            name => name.into(),
        };
        let conf = conf::octavia_with(json!({"cniVersion": "1.1.0"}));
        volume.forge(&pod, &volume.node.data_dir(), &program);
        volume.node.gc(&conf::with(conf.clone(), json!({"cni.dev/valid-attachments": []}))).run();
        volume.nothing_ran();
        volume.forge(&pod, &volume.node.data_dir(), &program);
        let path = format!("{}:/usr/lib/cni", volume.folder.display());
        pod.del(&conf).env("CNI_PATH", &path).run().silent_success();
        volume.nothing_ran();
    }
}

#[test]
fn the_default_directory_costs_no_look_for_links() {
    let node = Lab::new().node("node1");
    let told = node.disk().join("strace");
    let trace =
        ["/usr/bin/strace", "-f", "-qq", "-e", "trace=?readlink,readlinkat", "-e", "signal=none", "-o"];
    let under = [&trace[..], &[told.to_str().unwrap()]].concat();
    for (data_dir, is_free) in [("/var/lib/octavia-bridge", true), ("/var/lib/octavia-bridge/blue", false)] {
        let pod = node.pod("worker");
        let conf = conf::octavia_with(json!({"dataDir": data_dir}));
        // The first one closes the directory for older releases, and looks at where it leads.
        pod.add(&conf).run().attached();
        pod.del(&conf).run().silent_success();
        pod.add(&conf).under(&under).run().attached();
        let looks = fs::read_to_string(&told).unwrap();
        // A static program of glibc looks for itself.
        let looks: Vec<&str> = looks.lines().filter(|line| !line.contains("/proc/self/exe")).collect();
        assert_eq!(looks.is_empty(), is_free, "{data_dir}: {looks:?}");
    }
}

#[test]
fn a_directory_is_opened_by_the_administrator_and_by_nobody_else() {
    let volume = Volume::new();
    let pod = volume.node.pod("worker");
    let etc = volume.node.disk().join("etc/octavia-bridge");
    fs::create_dir_all(&etc).unwrap();
    let folder = volume.folder.to_str().unwrap();
    let run = |call: Call| closed(call.with_etc(etc.parent().unwrap()));
    for (text, words) in [
        ("{", "plugin.json"),
        (r#"{"directories": ["/srv"]}"#, folder),
        (r#"{"directories": ["/"]}"#, folder),
    ] {
        fs::write(etc.join("plugin.json"), text).unwrap();
        run(pod.add(&volume.conf())).error(7).says(&[words]);
    }
    fs::write(etc.join("plugin.json"), json!({"directories": [folder]}).to_string()).unwrap();
    run(pod.add(&volume.conf())).attached();
    assert!(volume.folder.join("pools").exists());
    run(pod.del(&volume.conf())).silent_success();
}

#[test]
fn a_directory_that_others_can_write_in_is_refused_even_where_it_is_allowed() {
    let volume = Volume::new();
    let pod = volume.node.pod("worker");
    for mode in [0o777, 0o775] {
        fs::set_permissions(&volume.folder, fs::Permissions::from_mode(mode)).unwrap();
        let error = pod.add(&volume.conf()).run().error(7);
        error.says(&["dataDir", &format!("{mode:04o}"), "root"]);
    }
    fs::set_permissions(&volume.folder, fs::Permissions::from_mode(0o755)).unwrap();
    let link = volume.node.disk().join("link");
    symlink("/tmp/nothing", &link).unwrap();
    let conf = conf::octavia_with(json!({"dataDir": link}));
    pod.add(&conf).run().error(7).says(&["dataDir", link.to_str().unwrap()]);
    let climbing = format!("/var/lib/octavia-bridge/../../../{}", volume.folder.display());
    pod.add(&conf::octavia_with(json!({"dataDir": climbing}))).run().error(7).says(&["dataDir", ".."]);
}

#[test]
fn a_network_is_not_in_the_way_of_another_or_of_the_agent() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let data_dir = Path::new("/var/lib/octavia-bridge");
    for taken in ["agent/bridges.json", "pools/172.23.0.0-24.json", "attachments/x/y", "agent.sock"] {
        let conf = conf::octavia_with(json!({"name": "other", "dataDir": data_dir.join(taken)}));
        pod.add(&conf).run().error(7).says(&["dataDir", taken, "choose another name"]);
        pod.del(&conf).run().silent_success();
        assert!(!node.data_dir().join(taken).exists(), "{taken}");
    }
    let other = conf::octavia_with(json!({"name": "other", "dataDir": data_dir.join("other.net")}));
    pod.add(&other).run().attached();
    pod.del(&other).run().silent_success();
    pod.add(&conf::octavia()).run().attached();
}

#[test]
fn a_directory_by_two_names_does_not_give_one_address_twice() {
    let node = Lab::new().node("node1");
    let of = |data_dir: &str| conf::octavia_with(json!({"dataDir": data_dir}));
    let real = "/var/lib/octavia-bridge/blue";
    fs::create_dir_all(node.data_dir().join("blue")).unwrap();
    symlink(real, node.data_dir().join("link")).unwrap();
    symlink("/var/lib/octavia-bridge", node.disk().join("alias")).unwrap();
    let [first, second] = ["first", "second"].map(|name| node.pod(name));
    first.add(&of(real)).run().attached();
    for (name, is_called) in [
        ("/var/lib/octavia-bridge/link", real),
        ("/var/lib/octavia-bridge/link/net", "/var/lib/octavia-bridge/blue/net"),
        ("/var/lib/alias/blue", real),
        ("/var/lib/alias", "/var/lib/octavia-bridge"),
    ] {
        let add = second.add(&of(name)).env(DIRECTORIES, "/var/lib/alias");
        add.run().error(7).says(&["dataDir", name, &format!("write {is_called}")]);
    }
    let attached = second.add(&of(real)).run().attached();
    assert_eq!(attached.address(), "172.23.0.31/24");
    for pod in [&first, &second] {
        pod.del(&of(real)).run().silent_success();
    }
}

/// As where `/var/lib` is on another disk: all names lead there by the same links.
#[test]
fn the_usual_directory_may_be_a_link() {
    let node = Lab::new().node("node1");
    fs::create_dir(node.disk().join("large")).unwrap();
    symlink("/var/lib/large", node.data_dir()).unwrap();
    let pod = node.pod("worker");
    for data_dir in ["/var/lib/octavia-bridge", "/var/lib/octavia-bridge/blue"] {
        let conf = conf::octavia_with(json!({"dataDir": data_dir}));
        assert_eq!(pod.add(&conf).run().attached().address(), "172.23.0.30/24");
        pod.del(&conf).run().silent_success();
    }
}

#[test]
fn del_of_a_refused_directory_removes_the_link_and_asks_the_nodes_agent() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let elsewhere =
        conf::without(conf::octavia_with(json!({"dataDir": node.disk().join("elsewhere")})), "/ipam");
    let attached = pod.add(&elsewhere).run().attached();
    assert!(node.link(attached.host_link()).is_some());
    let agent = ScriptedAgent::obliging(&node.run_dir().join("agent.sock"));
    let deleted = closed(pod.del(&elsewhere));
    deleted.silent_success();
    assert!(deleted.stderr.contains("dataDir"), "{}", deleted.stderr);
    assert!(node.link(attached.host_link()).is_none());
    assert_eq!(agent.calls().len(), 1, "{:?}", agent.calls());
    // Without an agent and without a link there is nothing to do.
    drop(agent);
    closed(pod.del(&elsewhere)).silent_success();
}

#[test]
fn an_agent_is_not_believed_where_the_network_alone_says_that_one_listens() {
    let node = Lab::new().node("node1");
    let socket = node.disk().join("agent.sock");
    let agent = ScriptedAgent::obliging(&socket);
    let conf = conf::without(conf::octavia_with(json!({"agentSocket": socket})), "/ipam/datastore");
    let pod = node.pod("worker");
    let args = "K8S_POD_NAMESPACE=openstack;K8S_POD_NAME=worker";
    closed(pod.add(&conf).args(args)).error(7).says(&["agentSocket", socket.to_str().unwrap()]);
    assert!(agent.calls().is_empty());
    closed(pod.del(&conf)).silent_success();
    assert!(agent.calls().is_empty(), "{:?}", agent.calls());
}

#[test]
fn links_in_our_own_directory_lead_nowhere() {
    let node = Lab::new().node("node1");
    let target = node.disk().join("target");
    let pod = node.pod("worker");
    let conf = conf::octavia();
    fs::create_dir_all(node.run_dir().join("pools")).unwrap();
    symlink(&target, node.run_dir().join("pools/.lock")).unwrap();
    pod.add(&conf).run().error(5).says(&[".lock", "symbolic link"]);
    assert!(!target.exists());
    fs::remove_file(node.run_dir().join("pools/.lock")).unwrap();
    fs::create_dir_all(node.run_dir().join("attachments")).unwrap();
    fs::write(&target, "kept\n").unwrap();
    let record = node.run_dir().join(format!("attachments/{}@net1.jsonl", pod.container_id()));
    symlink(&target, &record).unwrap();
    pod.add(&conf).run().error(5).says(&["record", "symbolic link"]);
    assert_eq!(fs::read_to_string(&target).unwrap(), "kept\n");
}
