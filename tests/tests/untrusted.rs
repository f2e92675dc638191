//! Who may write a network definition decides nothing on the node beyond the pod's network: not which files root writes, nor
//! what stands in its logs, nor how long others wait.

use octavia_bridge_tests::{Call, Lab, Node, Outcome, conf};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// What the plugin sees as `/var/log`.
fn logs(node: &Node) -> PathBuf {
    let folder = node.disk().join("log");
    fs::create_dir_all(&folder).expect("make the node's /var/log");
    folder
}

/// The call with the node's own `/var/log`.
fn on_its_logs(call: &Call, node: &Node) -> Outcome {
    let mount = format!("/usr/bin/mount --bind {} /var/log && exec \"$@\"", logs(node).display());
    call.clone().under(&["/bin/sh", "-c", &mount, "sh"]).run()
}

/// An ADD with this log file, and a key that its author would like to see in another place.
fn add_logging(node: &Node, log_file: &str) -> Outcome {
    let pod = node.pod("worker");
    let ipam = json!({"log_file": log_file, "log_level": "debug", "x /run/evil.so ": 1});
    let outcome = on_its_logs(&pod.add(&conf::octavia_with(json!({"ipam": ipam}))), node);
    outcome.attached();
    outcome
}

/// Lines of stderr about the log file.
fn told(outcome: &Outcome) -> Vec<&str> {
    outcome.stderr.lines().filter(|line| line.contains("log_file")).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

#[test]
fn logs_are_written_where_logs_are_and_are_closed_to_others() {
    let node = Lab::new().node("node1");
    for name in ["whereabouts.log", "whereabouts-octavia.log", "octavia-bridge/octavia.log"] {
        let outcome = add_logging(&node, &format!("/var/log/{name}"));
        assert_eq!(told(&outcome), [""; 0]);
        let path = logs(&node).join(name);
        assert!(read(&path).contains("ADD"), "{name}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640, "{name}");
    }
    let folder = fs::metadata(logs(&node).join("octavia-bridge")).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o750);
}

#[test]
fn no_other_file_is_written_and_the_pod_is_attached() {
    let node = Lab::new().node("node1");
    let preload = node.disk().join("ld.so.preload");
    for log_file in [
        "/var/lib/ld.so.preload",
        "/var/log/../lib/ld.so.preload",
        "/var/log/octavia-bridge/../../lib/ld.so.preload",
        "/var/log/syslog",
        "relative.log",
    ] {
        let outcome = add_logging(&node, log_file);
        let told = told(&outcome);
        assert!(told.len() == 1 && told[0].contains("is not a place for logs"), "{log_file}: {told:?}");
        assert!(told[0].contains("/var/log/octavia-bridge/"), "what would be right: {told:?}");
    }
    assert!(!preload.exists() && fs::read_dir(logs(&node)).unwrap().next().is_none());
    // With links in their places, of which each would lead there.
    fs::write(&preload, "").unwrap();
    let at = |name: &str| logs(&node).join(name);
    symlink("/var/lib/ld.so.preload", at("whereabouts.log")).unwrap();
    symlink("/var/lib/missing", at("whereabouts-missing.log")).unwrap();
    fs::hard_link(&preload, at("whereabouts-hard.log")).unwrap();
    fs::create_dir(at("whereabouts-dir.log")).unwrap();
    for name in ["whereabouts.log", "whereabouts-missing.log", "whereabouts-hard.log", "whereabouts-dir.log"]
    {
        let outcome = add_logging(&node, &format!("/var/log/{name}"));
        let told = told(&outcome);
        assert!(told.len() == 1 && told[0].contains(name), "{name}: {told:?}");
    }
    symlink("/var/lib", at("octavia-bridge")).unwrap();
    let outcome = add_logging(&node, "/var/log/octavia-bridge/ld.so.preload");
    assert!(told(&outcome).len() == 1 && told(&outcome)[0].contains("symbolic link"), "{outcome:?}");
    assert_eq!(read(&preload), "");
    assert!(!node.disk().join("missing").exists());
}

#[test]
fn strict_networks_have_no_log_elsewhere() {
    let pod = Lab::new().node("node1").pod("worker");
    let ipam = json!({"log_file": "/tmp/whereabouts.log"});
    let strict = conf::octavia_with(json!({"strict": true, "ipam": ipam}));
    pod.add(&strict).run().error(7).says(&["ipam.log_file", "/tmp/whereabouts.log", "/var/log"]);
}

#[test]
fn keys_and_values_stay_on_their_line_and_are_seen() {
    let node = Lab::new().node("node1");
    const EVIL: &str = "x\nssh-rsa AAAA attacker\n\u{1b}[2J\u{202e}\u{2028}";
    const SHOWN: &str = r"x\nssh-rsa AAAA attacker\n";
    let ipam = json!({EVIL: 1, "log_file": "/var/log/whereabouts.log", "ipRanges": [{"range": "10.0.0.0/24", EVIL: 1}]});
    let evil = json!({
        EVIL: 1, "ipam": ipam, "runtimeConfig": {EVIL: 1}, "args": {"cni": {EVIL: 1}}, "dns": {EVIL: 1},
        "vlanTrunk": [{"id": 7, EVIL: 1}],
    });
    let pod = node.pod("worker");
    let warned =
        on_its_logs(&pod.add(&conf::octavia_with(conf::with(evil.clone(), json!({"vlanTrunk": []})))), &node);
    warned.attached();
    let log = read(&logs(&node).join("whereabouts.log"));
    for text in [&warned.stderr, &log] {
        assert!(text.matches(SHOWN).count() >= 5, "{text:?}");
        assert!(text.matches(r"[2J\u{202e}\u{2028}").count() >= 5, "{text:?}");
        assert!(text.lines().all(|line| !line.starts_with("ssh-rsa")), "{text:?}");
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{2028}']), "{text:?}");
    }
    for changes in [
        conf::with(evil, json!({"strict": true})),
        json!({"name": EVIL}),
        json!({"ipam": {"dataDir": EVIL}}),
        json!({"dataDir": EVIL}),
        json!({"bridge": EVIL}),
        json!({"ipam": {"range": EVIL}}),
    ] {
        let outcome = on_its_logs(&node.pod("worker").add(&conf::octavia_with(changes.clone())), &node);
        let error = outcome.any_error();
        for text in [&outcome.stderr, &error.msg, &error.details] {
            assert!(!text.trim_end().contains(char::is_control), "{changes}: {text:?}");
            assert!(!text.contains(['\u{202e}', '\u{2028}']), "{changes}: {text:?}");
        }
    }
}

#[test]
fn what_a_pod_was_given_before_it_keeps() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let conf = conf::octavia_with(json!({"cniVersion": "1.1.0"}));
    let allowing = conf::with(conf.clone(), json!({"capabilities": {"ips": true}}));
    let asking = |call: Call| call.args("IgnoreUnknown=1;IP=172.23.0.200");
    let attached = asking(pod.add(&allowing)).run().attached();
    assert_eq!(attached.address(), "172.23.0.200/24");
    asking(pod.check(&conf, &attached.result)).run().silent_success();
    asking(pod.del(&conf)).run().silent_success();
    asking(pod.add(&conf)).run().error(7).says(&["172.23.0.200"]);
}

#[test]
fn one_attachment_has_so_many_addresses_and_no_more() {
    let node = Lab::new().node("node1");
    let before = node.snapshot(&[]);
    let ranges = |count: usize| json!({"ipRanges": vec![json!({"range": "10.0.0.0/16"}); count]});
    let addresses: Vec<Value> =
        (0..3000).map(|n| json!({"address": format!("10.0.{}.{}/16", n / 250, n % 250 + 1)})).collect();
    let excludes: Vec<String> = (0..2000).map(|n| format!("10.0.{}.{}/32", n / 250, n % 250)).collect();
    let ips: Vec<String> = (0..500).map(|n| format!("10.0.1.{}", n % 250)).collect();
    let routes: Vec<Value> =
        (0..2000).map(|n| json!({"dst": format!("10.{}.{}.0/24", n / 250, n % 250)})).collect();
    for (conf, words) in [
        (conf::with_ipam(ranges(2500)), ["ipam.ipRanges", "2500", "64"]),
        (conf::with_ipam(json!({"addresses": addresses})), ["ipam.addresses", "3000", "64"]),
        (
            conf::with_ipam(json!({"range": "10.0.0.0/16", "exclude": excludes})),
            ["ipam.exclude", "2000", "1024"],
        ),
        (conf::with_ipam(json!({"range": "10.0.0.0/16", "routes": routes})), ["ipam.routes", "2000", "1024"]),
        (
            conf::with(
                conf::with_ipam(json!({"range": "10.0.0.0/16"})),
                json!({"runtimeConfig": {"ips": ips}}),
            ),
            ["runtimeConfig.ips", "500", "64"],
        ),
    ] {
        node.pod("worker").add(&conf).run().error(7).says(&words);
        node.snapshot(&[]).assert_same_as(&before);
    }
    let pod = node.pod("worker");
    let most = conf::with_ipam(ranges(64));
    let attached = pod.add(&most).run().attached();
    assert_eq!(attached.ips().len(), 64);
    pod.del(&most).run().silent_success();
}

#[test]
fn of_many_warnings_ten_are_said() {
    let pod = Lab::new().node("node1").pod("worker");
    let mut conf = conf::octavia_with(json!({"ipam": {"exclude": vec!["10.0.0.0/8"; 1000]}}));
    for n in 0..40_000 {
        conf[format!("k{n:06}")] = json!(1);
    }
    let outcome = pod.add(&conf).run();
    outcome.attached();
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    assert_eq!(lines.len(), 11, "{:.4000}", outcome.stderr);
    assert!(lines[0].contains("k000000: unknown key"), "{}", lines[0]);
    assert!(lines[10].contains("and 40990 more warnings"), "{}", lines[10]);
}

#[test]
fn a_configuration_has_a_limit_and_the_error_says_it() {
    let pod = Lab::new().node("node1").pod("worker");
    let conf = conf::octavia_with(json!({"x": "y".repeat(1 << 20)})).to_string();
    let error = pod.add(&json!({})).stdin(conf.clone()).run().error(6);
    error.says(&["stdin", "1048576 are the most", "bytes or more"]);
    assert!(error.msg.len() < 200, "{error:?}");
    let values = conf::octavia_with(json!({"x": vec![0; 100_000]})).to_string();
    pod.add(&json!({})).stdin(values).run().error(6).says(&["more than 65536 values"]);
    // A long text is cut where it is repeated.
    let name = pod.add(&conf::octavia_with(json!({"name": "a\n".repeat(100_000)}))).run().error(7);
    assert!(name.msg.len() < 20_000 && name.details.len() < 20_000, "{}", name.msg.len());
}
