//! DEL: repeated, in any order, with the namespace gone or the configuration stripped, it succeeds and leaks nothing.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use octavia_bridge_tests::changes::until;
use octavia_bridge_tests::traffic::{AT_ONCE, Echo, expect_answer};
use octavia_bridge_tests::{Attached, Lab, Node, Pod, Snapshot, conf};
use serde_json::{Value, json};

/// A node with a bridge, and a snapshot of it, before the pod of the story is attached.
fn attached_pod() -> (Node, Snapshot, Pod, Attached) {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    let before = node.snapshot(&[]);
    let pod = node.pod("worker");
    let attached = pod.add(&conf::octavia()).run().attached();
    assert_ne!(node.snapshot(&[]), before, "a snapshot must show an attachment");
    (node, before, pod, attached)
}

#[test]
fn add_and_del_leave_no_trace() {
    let pod = Lab::new().node("node1").pod("worker");
    pod.node().bridge_with_uplink();
    let before = pod.node().snapshot(&[&pod]);
    pod.add(&conf::octavia()).run().attached();
    pod.del(&conf::octavia()).run().silent_success();
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn del_may_be_repeated_and_may_come_without_an_add() {
    let (node, before, pod, _) = attached_pod();
    let stranger = node.pod("stranger");
    for _ in 0..3 {
        pod.del(&conf::octavia()).run().silent_success();
        stranger.del(&conf::octavia()).run().silent_success();
        node.snapshot(&[]).assert_same_as(&before);
    }
}

#[test]
fn a_del_without_an_add_writes_nothing() {
    let pod = Lab::new().node("node1").pod("worker");
    pod.del(&conf::octavia()).run().silent_success();
    assert!(!pod.node().pool_file("172.23.0.0-24").exists());
}

#[test]
fn the_namespace_may_be_unknown_by_now() {
    for how in ["unset", "empty", "missing"] {
        let (node, before, pod, _) = attached_pod();
        let del = pod.del(&conf::octavia());
        let del = match how {
            "unset" => del.without_env("CNI_NETNS"),
            "empty" => del.env("CNI_NETNS", ""),
            _ => del.env("CNI_NETNS", "/run/netns/never-was"),
        };
        del.run().silent_success();
        node.snapshot(&[]).assert_same_as(&before);
        assert_eq!(pod.link_names(), [""; 0], "{how}");
    }
}

#[test]
fn the_namespace_may_be_gone_by_now() {
    let (node, before, pod, _) = attached_pod();
    pod.remove();
    // The kernel takes the pair away in its own time; DEL must not stumble over either state.
    pod.del(&conf::octavia()).run().silent_success();
    node.snapshot(&[]).assert_same_as(&before);
}

#[test]
fn a_namespace_path_may_belong_to_a_newer_pod_by_now() {
    let (node, _, pod, _) = attached_pod();
    pod.replace();
    let newer = "newer-pod";
    let attached = pod.add(&conf::octavia()).env("CNI_CONTAINERID", newer).run().attached();
    // A late DEL of the old pod.
    pod.del(&conf::octavia()).run().silent_success();
    assert_eq!(pod.link_names(), ["net1"]);
    assert_eq!(pod.expect_link("net1").mac(), attached.pod_mac());
    assert_eq!(node.ports("octbr"), [attached.host_link()]);
    let held = node.allocations("172.23.0.0-24");
    let holders: Vec<&str> = held.values().filter_map(|holder| holder["id"].as_str()).collect();
    assert_eq!(holders, [newer]);
}

#[test]
fn the_pod_may_have_renamed_or_enslaved_its_interface() {
    let (node, before, pod, _) = attached_pod();
    pod.ip("link set net1 down");
    pod.ip("link set net1 name octavia");
    pod.ip("link add br-octavia type bridge");
    pod.ip("link set octavia master br-octavia address 02:00:00:00:00:77");
    pod.del(&conf::octavia()).run().silent_success();
    assert_eq!(pod.link_names(), ["br-octavia"]);
    node.snapshot(&[]).assert_same_as(&before);
}

#[test]
fn a_foreign_link_of_that_name_in_the_pod_stays() {
    let (node, before, pod, attached) = attached_pod();
    node.ip(&format!("link del {}", attached.host_link()));
    pod.ip("link add net1 type veth peer name other");
    pod.del(&conf::octavia()).run().silent_success();
    assert_eq!(pod.link_names(), ["net1", "other"]);
    node.snapshot(&[]).assert_same_as(&before);
}

#[test]
fn a_foreign_link_of_that_name_on_the_host_stays() {
    let (node, _, pod, attached) = attached_pod();
    let name = attached.host_link();
    node.ip(&format!("link del {name}"));
    node.ip(&format!("link add {name} type veth peer name other"));
    pod.del(&conf::octavia()).run().silent_success();
    assert!(node.link(name).is_some());
    assert!(node.allocations("172.23.0.0-24").is_empty());
}

#[test]
fn the_bridge_may_be_gone_by_now() {
    let (node, _, pod, attached) = attached_pod();
    node.ip("link del octbr");
    pod.del(&conf::octavia()).run().silent_success();
    assert!(node.link(attached.host_link()).is_none());
    assert!(node.allocations("172.23.0.0-24").is_empty());
}

#[test]
fn a_stripped_configuration_is_enough() {
    // What multus keeps of a NAD that is a list of plugins (multus-cni#755), and even less.
    for stripped in [
        json!({"cniVersion": "0.3.1", "name": "octavia", "type": "octavia-bridge", "ipam": {"type": "whereabouts"}}),
        json!({"cniVersion": "0.3.1", "name": "octavia", "type": "octavia-bridge"}),
    ] {
        let (node, before, pod, _) = attached_pod();
        pod.del(&stripped).without_env("CNI_NETNS").run().silent_success();
        node.snapshot(&[]).assert_same_as(&before);
    }
}

#[test]
fn a_configuration_gone_bad_does_not_stop_it() {
    let (node, before, pod, _) = attached_pod();
    let bad = json!({
        "mtu": -5,
        "bridge": "",
        "isGateway": true,
        "prevResult": {"ips": "nonsense"},
        "ipam": {"range": "nonsense", "range_start": "172.23.9.9", "routes": [{"dst": "x"}]},
    });
    pod.del(&conf::octavia_with(bad)).args("foo").run().silent_success();
    node.snapshot(&[]).assert_same_as(&before);
}

#[test]
fn del_needs_nothing_of_the_configuration() {
    for wrong in [
        json!({"name": null}),
        json!({"name": ""}),
        json!({"name": "a/b"}),
        json!({"name": 7}),
        json!({"ipam": []}),
        json!({"ipam": {"type": 7}}),
        json!({"ipam": {"type": "a/b"}}),
        json!({"agentSocket": 7}),
        json!({"dataDir": 5}),
        json!({"cniVersion": "9.9"}),
        json!({"cniVersion": 1}),
    ] {
        let node = Lab::new().node("node1");
        let pod = node.pod("worker");
        pod.add(&conf::octavia()).run().attached();
        // Not merged into the good one: what is wrong takes its place.
        let mut conf = conf::octavia();
        for (key, value) in wrong.as_object().unwrap() {
            conf[key] = value.clone();
        }
        assert!(!pod.add(&conf).run().status.success(), "{wrong}");
        pod.del(&conf).run().silent_success();
        assert_eq!(pod.link_names(), [""; 0], "{wrong}");
        assert!(node.allocations("172.23.0.0-24").is_empty(), "{wrong}");
        pod.del(&conf).run().silent_success();
    }
}

#[test]
fn del_of_what_add_refuses_succeeds() {
    let lab = Lab::new();
    let node = lab.node("node1");
    let pod = node.pod("worker");
    for ifname in ["all", "default", "a%b"] {
        pod.add(&conf::octavia()).ifname(ifname).run().error(4);
        pod.del(&conf::octavia()).ifname(ifname).run().silent_success();
    }
    // None of them assigns an address: no program, this plugin, and a copy of it.
    fs::copy(lab.bin().join("octavia-bridge"), lab.bin().join("copied-bridge")).unwrap();
    for program in ["never-installed", "octavia-bridge", "copied-bridge"] {
        let conf = conf::layer2_with(json!({"ipam": {"type": program}}));
        pod.add(&conf).run().error(7).says(&["ipam.type"]);
        for _ in 0..2 {
            pod.del(&conf).run().silent_success();
        }
        assert_eq!(pod.link_names(), [""; 0], "{program}");
    }
    let long = "c".repeat(201);
    pod.add(&conf::octavia()).env("CNI_CONTAINERID", &long).run().error(4);
    pod.del(&conf::octavia()).env("CNI_CONTAINERID", &long).run().silent_success();
}

#[test]
fn a_torn_record_counts_as_none_and_the_names_are_found_anyway() {
    for torn in ["", "{\"cont", "\0\0\0\0"] {
        let (node, before, pod, _) = attached_pod();
        let record = node.run_dir().join(format!("attachments/{}@net1.jsonl", pod.container_id()));
        assert!(record.is_file(), "{}", record.display());
        fs::write(&record, torn).unwrap();
        pod.del(&conf::octavia()).run().silent_success();
        assert_eq!(pod.link_names(), [""; 0]);
        node.snapshot(&[]).assert_same_as(&before);
    }
}

#[test]
fn a_strange_record_stays_as_long_as_its_ipam_plugin_is_missing() {
    let (node, _, pod, _) = attached_pod();
    let record = node.run_dir().join(format!("attachments/{}@net1.jsonl", pod.container_id()));
    fs::write(&record, "another version's\n").unwrap();
    let conf = conf::layer2_with(json!({"ipam": {"type": "never-installed"}}));
    pod.del(&conf).run().error(7).says(&["never-installed"]);
    assert!(record.is_file());
}

#[test]
fn the_others_do_not_notice() {
    let node = Lab::new().node("node1");
    let pods: Vec<Pod> = ["a", "b", "c", "d"].map(|name| node.pod(name)).into();
    let ends: Vec<Attached> = pods.iter().map(|pod| pod.add(&conf::octavia()).run().attached()).collect();
    // Neither in the order of their coming nor in the reverse.
    for gone in [1, 3] {
        pods[gone].del(&conf::octavia()).run().silent_success();
    }
    assert_eq!(pods[0].link_names(), ["net1"]);
    let _echo = Echo::start(&pods[2], ends[2].ip());
    expect_answer(&pods[0], ends[2].ip(), AT_ONCE);
    let held: Vec<String> = node.allocations("172.23.0.0-24").keys().cloned().collect();
    assert_eq!(held, ["30", "32"]);
}

#[test]
fn an_address_that_cannot_be_released_now_is_released_later() {
    let (node, before, pod, attached) = attached_pod();
    let pool = node.pool_file("172.23.0.0-24");
    let good = fs::read(&pool).unwrap();
    fs::write(&pool, "{ torn").unwrap();
    pod.del(&conf::octavia()).run().silent_success();
    assert!(node.link(attached.host_link()).is_none());
    let tombstones = fs::read_dir(node.run_dir().join("tombstones")).unwrap().count();
    assert_eq!(tombstones, 1);
    assert_eq!(fs::read(&pool).unwrap(), b"{ torn");

    // An administrator restores the document; the next call settles the debt.
    fs::write(&pool, good).unwrap();
    let next = node.pod("next");
    let again = next.add(&conf::octavia()).run().attached();
    assert_eq!(again.address(), attached.address());
    next.del(&conf::octavia()).run().silent_success();
    node.snapshot(&[]).assert_same_as(&before);
}

#[test]
fn a_container_whose_namespace_was_made_anew_is_attached_anew() {
    // As after a reboot: the record and the pool are there, links and namespaces are not.
    let (node, before, pod, attached) = attached_pod();
    pod.replace();
    let again = pod.add(&conf::octavia()).run().attached();
    assert_eq!(again.address(), attached.address());
    assert_eq!(pod.expect_link("net1").addresses(), [again.address()]);
    pod.del(&conf::octavia()).run().silent_success();
    node.snapshot(&[]).assert_same_as(&before);
}

#[test]
fn a_late_del_does_not_take_the_address_of_the_pods_next_container() {
    let node = Lab::new().node("node1");
    let (old, new) = (node.pod("old"), node.pod("new"));
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME=octavia-worker-0";
    let first = old.add(&conf::octavia()).args(args).run().attached();
    // Only where the old container is gone; as long as it lives, its address is in use.
    old.end_without_del();
    let second = new.add(&conf::octavia()).args(args).run().attached();
    assert_eq!(second.address(), first.address());
    old.del(&conf::octavia()).args(args).run().silent_success();
    assert_eq!(new.expect_link("net1").addresses(), [second.address()]);
    assert_eq!(node.allocations("172.23.0.0-24")["30"]["id"], new.container_id());
}

#[test]
fn del_reads_what_other_plugins_read() {
    let conf = |odd: &[u8]| {
        let known = br#""cniVersion":"1.0.0","name":"octavia","type":"octavia-bridge""#;
        [&b"{"[..], known, b",\"note\":", odd, b"}"].concat()
    };
    let deep = [&b"["[..].repeat(500)[..], &b"]"[..].repeat(500)].concat();
    for odd in [&br#""\ud800""#[..], b"\"caf\xe9\"", b"1e999", &deep] {
        let (node, before, pod, _) = attached_pod();
        pod.del(&conf::octavia()).stdin(conf(odd)).run().silent_success();
        node.snapshot(&[]).assert_same_as(&before);
    }
}

/// As multus-dynamic-networks unplugs an interface, which knows the container's id and not the sandbox's.
#[test]
fn del_by_another_container_id_with_the_pod_s_uid_and_the_result_ends_what_is_meant() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME=worker-0;K8S_POD_UID=";
    let attached = pod.add(&conf::octavia()).args(&format!("{args}u1")).run().attached();
    let before = node.snapshot(&[&pod]);
    let del = |uid: &str, conf: &Value| {
        let del = pod.del(conf).args(&format!("{args}{uid}")).env("CNI_CONTAINERID", "sandbox2");
        del.run().silent_success();
    };
    let with_result = conf::octavia_with(json!({ "prevResult": attached.result }));
    // Another pod; a DEL after an ADD that failed, which has no result; a result of another link.
    del("u2", &with_result);
    del("u1", &conf::octavia());
    let mut other = with_result.clone();
    for interface in other["prevResult"]["interfaces"].as_array_mut().unwrap() {
        interface["name"] = "veth0".into();
    }
    del("u1", &other);
    node.snapshot(&[&pod]).assert_same_as(&before);
    del("u1", &with_result);
    assert!(pod.link("net1").is_none());
    assert!(node.allocations("172.23.0.0-24").is_empty());
}

/// Its runtime gives the DEL the result of the first ADD all the same.
#[test]
fn del_after_a_failed_add_of_another_container_id_ends_nothing() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME=worker-0;K8S_POD_UID=u1";
    let attached = pod.add(&conf::octavia()).args(args).run().attached();
    let before = node.snapshot(&[&pod]);
    let with_result = conf::octavia_with(json!({ "prevResult": attached.result }));
    let del = pod.del(&with_result).args(args).env("CNI_CONTAINERID", "sandbox2");
    // Refused because the interface is there, and for what its configuration says.
    for (mistake, code) in [(json!({}), 4), (json!({ "mtu": 7 }), 7)] {
        let add = pod.add(&conf::octavia_with(mistake)).args(args).env("CNI_CONTAINERID", "sandbox2");
        add.run().error(code);
        let outcome = del.run();
        outcome.silent_success();
        assert!(outcome.stderr.contains("stays"), "{:?}", outcome.stderr);
        node.snapshot(&[&pod]).assert_same_as(&before);
    }
    // A GC forgets such a failure as well.
    pod.add(&conf::octavia()).args(args).env("CNI_CONTAINERID", "sandbox2").run().error(4);
    let valid = json!([{ "containerID": pod.container_id(), "ifname": "net1" }]);
    let gc = conf::octavia_with(json!({ "cniVersion": "1.1.0", "cni.dev/valid-attachments": valid }));
    node.gc(&gc).run().silent_success();
    node.snapshot(&[&pod]).assert_same_as(&before);
    // The next one follows no failure.
    del.run().silent_success();
    assert!(pod.link("net1").is_none());
    assert!(node.allocations("172.23.0.0-24").is_empty());
}

/// The runtime loses patience with an ADD that waits for a bridge, say.
#[test]
fn del_after_a_killed_add_of_another_container_id_ends_nothing() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME=worker-0;K8S_POD_UID=u1";
    let attached = pod.add(&conf::octavia()).args(args).run().attached();
    let add = pod.add(&conf::octavia()).args(args).env("CNI_CONTAINERID", "sandbox2");
    // The bridge lacks what a policy says, so the ADD waits.
    let told = json!({ "version": 1, "policy": "p", "bridges": { "octbr": ["enp9s0"] } });
    let folder = node.data_dir().join("agent");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("bridges.json"), told.to_string()).unwrap();
    let before = node.snapshot(&[&pod]);
    let [log, pid] = ["log", "pid"].map(|file| node.disk().join(file));
    let note_pid = format!("echo $$ >{}; exec \"$0\"", pid.display());
    let add = add.under(&["/bin/sh", "-c", &note_pid]).logging_to(&log);
    let killed = thread::scope(|threads| {
        let add = threads.spawn(|| add.run());
        until(Duration::from_secs(60), "the ADD waits", || {
            fs::read_to_string(&log).is_ok_and(|log| log.contains("waiting for"))
        });
        let pid = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        add.join().unwrap()
    });
    assert_eq!(killed.status.signal(), Some(9), "{killed:?}");
    let with_result = conf::octavia_with(json!({ "prevResult": attached.result }));
    let outcome = pod.del(&with_result).args(args).env("CNI_CONTAINERID", "sandbox2").run();
    outcome.silent_success();
    assert!(outcome.stderr.contains("stays"), "{:?}", outcome.stderr);
    node.snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn del_by_another_container_id_says_what_stays() {
    let (node, _, pod, attached) = attached_pod();
    let before = node.snapshot(&[&pod]);
    let other = pod.del(&conf::octavia()).env("CNI_CONTAINERID", "sandbox2");
    let outcome = other.run();
    outcome.silent_success();
    for word in ["net1", "stays", pod.container_id(), "sandbox2"] {
        assert!(outcome.stderr.contains(word), "no {word} in {:?}", outcome.stderr);
    }
    node.snapshot(&[&pod]).assert_same_as(&before);
    assert_eq!(pod.expect_link("net1").addresses(), [attached.address()]);
    // The pod's uid is not known, so that a result alone shows nothing.
    let result = json!({ "prevResult": attached.result });
    pod.del(&conf::octavia_with(result)).env("CNI_CONTAINERID", "sandbox2").run().silent_success();
    node.snapshot(&[&pod]).assert_same_as(&before);
    // Of another namespace, and of what is gone, there is nothing to say.
    let elsewhere = node.pod("elsewhere");
    let outcome = elsewhere.del(&conf::octavia()).run();
    outcome.silent_success();
    assert!(!outcome.stderr.contains("stays"), "{:?}", outcome.stderr);
}
