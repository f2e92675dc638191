//! doctor: each thing that can be wrong is named, and nothing else.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::scene::{AGENT, Answer, Node, POLICY, answer, complete, on_a_node, until};

/// The kernel tells of a carrier some time after what brought it about.
const CARRIER: Duration = Duration::from_secs(5);

fn doctor(node: &Node, words: &str) -> Answer {
    let devices = node.path("devices");
    node.run(&format!("doctor --network-manager-devices {} {words}", devices.display()), "")
}

/// A node as it should be.
fn healthy(node: &Node) {
    node.ok("apply -f -", POLICY);
    until(CARRIER, "the uplink forwards", || doctor(node, "").status == 0);
}

/// Expects this line about a check among the others, and a status to match.
#[track_caller]
fn says(answer: &Answer, level: &str, check: &str, part: &str) {
    let found = answer.stdout.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(level) && words.next() == Some(check) && line.contains(part)
    });
    assert!(found, "no line \"{level} {check} … {part}\" in\n{}{}", answer.stdout, answer.stderr);
    let fails = answer.stdout.lines().any(|line| line.starts_with("fail"));
    assert_eq!(answer.status, i32::from(fails), "{}", answer.stdout);
}

#[test]
fn on_a_healthy_node_everything_is_well_and_stays_as_it_is() {
    on_a_node(|node| {
        healthy(node);
        let before = node.snapshot();
        says(&doctor(node, ""), "ok", "rivals", "whether NetworkManager does cannot be seen without /");
        fs::write(node.path("devices"), "").unwrap();
        says(&doctor(node, ""), "warn", "rivals", "cannot be seen: read /");
        fs::remove_file(node.path("devices")).unwrap();
        fs::create_dir(node.path("devices")).unwrap();
        let answer = doctor(node, "");
        for (check, part) in [
            ("kernel", "bridge is loaded"),
            ("policy", "1 interface and 0 routes match the policy"),
            ("policy", "the plugin waits for octbr"),
            ("path", "octbr (1500 bytes) over enp6s0 (1500 bytes)"),
            ("filters", "no firewall drops all frames between ports of octbr"),
            ("rivals", "neither"),
            ("pools", "0 pools with 0 addresses in use"),
        ] {
            says(&answer, "ok", check, part);
        }
        let json: Value = serde_json::from_str(&doctor(node, "--json").stdout).unwrap();
        assert_eq!(json["version"], 1);
        let findings = json["findings"].as_array().unwrap();
        assert_eq!(findings.len(), answer.stdout.lines().count());
        assert!(findings.iter().all(|finding| finding["check"].is_string() && finding["text"].is_string()));
        // Beside a daemon, which holds the lock.
        let _daemon = node.start("run --health-bind none");
        until(CARRIER, "the daemon is at work", || node.run("health live", "").status == 0);
        until(CARRIER, "all is well", || !doctor(node, "").stdout.contains("fail"));
        says(&doctor(node, ""), "ok", "agent", "answers");
        assert_eq!(node.snapshot(), before);
    });
}

#[test]
fn an_agent_that_is_away_or_misses_something_is_told() {
    on_a_node(|node| {
        assert!(!doctor(node, "").stdout.contains("agent  "), "no trace of an agent");
        healthy(node);
        says(&doctor(node, ""), "warn", "agent", "only `apply` repairs the links");
        let mut daemon = node.start("run --health-bind none");
        until(CARRIER, "the agent answers", || doctor(node, "").stdout.contains("answers"));
        // Its process stands still.
        daemon.signal(Signal::SIGSTOP);
        says(&doctor(node, ""), "fail", "agent", "does not answer within");
        daemon.signal(Signal::SIGCONT);
        node.ip("link del enp6s0");
        until(CARRIER, "it knows", || {
            doctor(node, "").stdout.lines().any(|line| line.starts_with("fail  agent    policy: "))
        });
        drop(daemon);
        says(&doctor(node, ""), "fail", "agent", "the agent was killed");
        // One that is stopped leaves no socket.
        daemon = node.start("run --health-bind none");
        until(CARRIER, "the agent answers", || doctor(node, "").stdout.contains("answers"));
        assert_eq!(daemon.stop(), Some(0));
        says(&doctor(node, ""), "warn", "agent", "only `apply` repairs the links");
        fs::create_dir(node.path("state/cluster-tombstones")).unwrap();
        says(&doctor(node, ""), "fail", "agent", "pods get no addresses from the cluster");
        fs::remove_dir(node.path("state/cluster-tombstones")).unwrap();
        let file = node.path("state/agent/desired.json");
        let mut kept: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        kept["policies"] = kept["texts"].take();
        kept["texts"] = Value::Array(Vec::new());
        fs::write(&file, kept.to_string()).unwrap();
        says(&doctor(node, ""), "fail", "agent", "the cluster's policies are not followed here");
    });
}

#[test]
fn another_user_is_told_to_be_root_and_nothing_else() {
    on_a_node(|node| {
        healthy(node);
        for folder in [node.path("."), node.path("state"), node.path("state/agent")] {
            fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
        }
        // In a directory that this user can enter.
        let program = node.path("agent");
        fs::copy(AGENT, &program).unwrap();
        let mut command = Command::new(&program);
        command.arg("doctor").arg("--state-dir").arg(node.path("state")).uid(65534);
        let said = answer(&mut command, "");
        assert_eq!((said.status, said.stdout.as_str()), (1, ""), "{}", said.stderr);
        assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
        assert!(said.stderr.trim_end().ends_with("run as root"), "{}", said.stderr);
    });
}

#[test]
fn in_the_agents_container_no_option_is_needed() {
    on_a_node(|node| {
        healthy(node);
        let _daemon = node.start("run --health-bind none");
        until(CARRIER, "the daemon is at work", || node.run("health live", "").status == 0);
        let mut command = Command::new(AGENT);
        command
            .arg("doctor")
            .env("STATE_DIR", node.path("state"))
            .env("HEALTH_SOCKET", node.path("health.sock"));
        let said = answer(&mut command, "");
        says(&said, "ok", "agent", "answers");
        says(&said, "ok", "policy", "the plugin waits for octbr");
    });
}

#[test]
fn a_node_that_differs_from_its_policy_is_told_with_what_is_missing() {
    on_a_node(|node| {
        says(&doctor(node, ""), "warn", "policy", "no policy is kept");
        healthy(node);
        node.ip("link set wire down");
        until(CARRIER, "no carrier", || doctor(node, "").status == 1);
        says(&doctor(node, ""), "fail", "path", "enp6s0 has no carrier");
        node.ip("link set octbr down");
        says(&doctor(node, ""), "fail", "policy", "the node differs from the policy; to do: set octbr up");
        node.ip("link del octbr");
        says(&doctor(node, ""), "fail", "policy", "create octbr (bridge)");
        node.ip("link del enp6s0");
        says(&doctor(node, ""), "fail", "policy", "enp6s0 does not exist");
        node.ip("link add octbr type veth peer name enp6s0");
        says(&doctor(node, ""), "fail", "policy", "octbr exists and is of type ethernet");
        fs::write(node.path("state/agent/desired.json"), "{").unwrap();
        says(&doctor(node, ""), "fail", "policy", "read the kept state");
    });
}

#[test]
fn a_plugin_that_would_make_its_own_bridge_is_told() {
    on_a_node(|node| {
        healthy(node);
        let file = node.path("state/agent/bridges.json");
        let written = fs::read_to_string(&file).unwrap();
        fs::write(&file, written.replace("octbr", "other")).unwrap();
        says(&doctor(node, ""), "fail", "policy", "may create a bridge without an uplink");
        fs::remove_file(&file).unwrap();
        says(&doctor(node, ""), "fail", "policy", "may create a bridge without an uplink");
        node.ok("apply", "");
        assert_eq!((doctor(node, "").status, fs::read_to_string(&file).unwrap()), (0, written));
    });
}

#[test]
fn whoever_else_keeps_the_links_is_named() {
    on_a_node(|node| {
        healthy(node);
        let index = node.link("octbr").unwrap()["ifindex"].to_string();
        fs::create_dir(node.path("devices")).unwrap();
        let device = node.path("devices").join(index);
        fs::write(&device, "[device]\nmanaged=false\n").unwrap();
        says(&doctor(node, ""), "ok", "rivals", "neither");
        fs::write(&device, "[device]\nmanaged=true\n").unwrap();
        says(&doctor(node, ""), "warn", "rivals", "NetworkManager manages octbr");
        let lock = File::create(node.path("lock")).unwrap();
        lock.lock().unwrap();
        says(&doctor(node, ""), "fail", "rivals", "kubernetes-nmstate is running");
    });
}

#[test]
fn a_strict_reverse_path_filter_is_told_where_the_node_has_an_address_there() {
    on_a_node(|node| {
        healthy(node);
        fs::write("/proc/sys/net/ipv4/conf/octbr/rp_filter", "1").unwrap();
        assert!(!doctor(node, "").stdout.contains("rp_filter"), "the bridge has no address");
        let address = "  ipv4: {enabled: true, address: [{ip: 172.23.0.1, prefix-length: 24}]}\n";
        node.ok("apply -f -", &format!("{POLICY}{address}"));
        says(&doctor(node, ""), "warn", "filters", "rp_filter is strict on octbr");
        fs::write("/proc/sys/net/ipv4/conf/octbr/rp_filter", "2").unwrap();
        fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0").unwrap();
        assert!(!doctor(node, "").stdout.contains("rp_filter"));
    });
}

#[test]
fn pools_that_cannot_be_read_and_releases_to_be_done_are_told() {
    on_a_node(|node| {
        healthy(node);
        for folder in ["pools", "tombstones"] {
            fs::create_dir(node.path("state").join(folder)).unwrap();
        }
        let pool = node.path("state/pools/172.23.0.0-24.json");
        let document = |name: &str| {
            format!(
                r#"{{"apiVersion":"whereabouts.cni.cncf.io/v1alpha1","kind":"IPPool","metadata":{{"name":"{name}"}},
                "spec":{{"range":"172.23.0.0/24","allocations":{{"30":{{"id":"a","podref":"","ifname":"net1"}}}}}}}}"#
            )
        };
        fs::write(&pool, document("172.23.0.0-24")).unwrap();
        fs::write(node.path("state/pools/.lock"), "").unwrap();
        says(&doctor(node, ""), "ok", "pools", "1 pool with 1 address in use");
        File::create(node.path("state/tombstones/cid@net1")).unwrap();
        says(&doctor(node, ""), "warn", "pools", "1 release pending: cid net1");
        for text in [document("another"), document("172.23.0.0-24")[..90].to_owned(), String::new()] {
            fs::write(&pool, text).unwrap();
            says(&doctor(node, ""), "fail", "pools", "172.23.0.0-24.json");
        }
    });
}

#[test]
fn what_was_installed_is_looked_for() {
    on_a_node(|node| {
        healthy(node);
        let bin = crate::plugin_folder::folder(node);
        let plugin = crate::plugin_folder::plugin(node, "v1");
        node.ok(&format!("install --cni-bin-dir {bin} --plugin {plugin}"), "");
        says(&doctor(node, ""), "ok", "plugin", "bin/octavia-ipam is unchanged since it was installed");
        fs::remove_file(node.path("bin/octavia-ipam")).unwrap();
        fs::write(node.path("bin/octavia-bridge"), "another's").unwrap();
        let answer = doctor(node, "");
        says(&answer, "warn", "plugin", "bin/octavia-ipam was installed, and cannot be read: No such file");
        says(&answer, "warn", "plugin", "bin/octavia-bridge differs from what was installed");
        fs::write(node.path("state/agent/installed.json"), "{").unwrap();
        says(&doctor(node, ""), "fail", "plugin", "installed.json is not what was written there");
    });
}

#[test]
fn the_plugin_is_asked_where_the_runtime_finds_it() {
    on_a_node(|node| {
        healthy(node);
        let program = node.path("octavia-bridge");
        let words = format!("--plugin {}", program.display());
        says(&doctor(node, &words), "fail", "plugin", "No such file");
        for (script, mode, level, part) in [
            ("#!/bin/sh\necho '{\"supportedVersions\": [\"0.3.1\"]}'\n", 0o755, "ok", "speaks CNI 0.3.1"),
            ("#!/bin/sh\necho '{\"supportedVersions\": [\"0.3.1\"]}'\n", 0o644, "fail", "Permission denied"),
            ("#!/bin/sh\necho hello\n", 0o755, "fail", "is not a CNI plugin"),
            ("#!/bin/sh\nexec sleep 60\n", 0o755, "fail", "not answered within 5 s"),
        ] {
            // A new file each time: one that is being executed cannot be written.
            fs::write(node.path("new"), script).unwrap();
            fs::set_permissions(node.path("new"), PermissionsExt::from_mode(mode)).unwrap();
            fs::rename(node.path("new"), &program).unwrap();
            says(&doctor(node, &words), level, "plugin", part);
        }
        assert!(complete(node));
    });
}
