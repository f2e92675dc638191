//! What the agent's files say when another release has written them: an upgrade and a rollback lose nothing, also after a kill
//! half-way. The older release is the one whose journal was on disk, beside the kept policy.

use octavia_bridge_tests::agent::POLICY;
use octavia_bridge_tests::{Agent, Lab, Node};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The policy as the older release understands it, in the form of its file.
fn desired() -> Value {
    let choice = json!({"labels": [], "all_policies": false, "ours_only": false});
    json!({"texts": [{"origin": "-", "yaml": POLICY}], "choice": choice})
}

/// What the older release told the plugin.
fn bridges() -> Value {
    json!({"version": 1, "policy": "standard input", "bridges": {"octbr": ["enp6s0"]}})
}

/// The first step for the policy, as both releases write it into the journal of a process that is killed in it.
fn created() -> Value {
    let new = |step: &str| {
        json!({"step": step, "name": "octbr", "kind": {"bridge": {"stp": false}}, "mac": null, "mtu": null,
            "alias": "octavia-bridge", "ipv6": {"disabled": true, "accept-ra": false}})
    };
    json!({"step": {"apply": new("create"), "undo": new("delete")}})
}

fn attached() -> Value {
    let to = |master: Option<&str>| json!({"step": "set-master", "link": "enp6s0", "master": master});
    json!({"step": {"apply": to(Some("octbr")), "undo": to(None)}})
}

fn journal(path: &Path, lines: &[Value]) {
    let mut text = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("read which boot this is");
    for line in lines {
        text += &format!("{line}\n");
    }
    fs::create_dir_all(path.parent().expect("a directory")).expect("make the journal's directory");
    fs::write(path, text).expect("write a journal");
}

struct Host {
    node: Node,
    agent: Agent,
    _switch: Node,
}

impl Host {
    fn new() -> Self {
        let lab = Lab::new();
        let [node, switch] = [lab.node("node1"), lab.node("switch")];
        lab.trunk(&node, &switch);
        let agent = Agent::beside_plugin(&node);
        fs::create_dir_all(agent.path("agent")).expect("make the state directory");
        Self { node, agent, _switch: switch }
    }

    fn older_wrote(&self, name: &str, content: &Value) {
        fs::write(self.agent.path("agent").join(name), content.to_string()).expect("write as it did");
    }
}

#[test]
fn a_policy_that_an_older_release_kept_is_kept_on() {
    let host = Host::new();
    host.older_wrote("desired.json", &desired());
    host.older_wrote("bridges.json", &bridges());
    assert!(host.agent.ok("apply", "").contains("create octbr"));
    let kept = fs::read_to_string(host.agent.path("agent/desired.json")).expect("read what is kept");
    assert_eq!(
        serde_json::from_str::<Value>(&kept).expect("JSON"),
        desired(),
        "the older one reads it again"
    );
    let told = fs::read_to_string(host.agent.path("agent/bridges.json")).expect("read what is told");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(
        (&told["version"], &told["bridges"]),
        (&json!(1), &bridges()["bridges"]),
        "as does its plugin"
    );
    host.agent.ok("remove", "");
    assert!(host.node.link("octbr").is_none());
}

#[test]
fn what_an_older_release_left_half_way_is_taken_back() {
    let host = Host::new();
    let path = host.agent.path("agent/journal.jsonl");
    host.node.ip("link add octbr type bridge");
    host.node.ip("link set octbr alias octavia-bridge");
    host.node.ip("link set enp6s0 master octbr");
    journal(&path, &[created(), attached()]);
    let answer = host.agent.run("apply", "interfaces: []");
    assert_eq!(answer.status, Some(0), "{answer:#?}");
    assert!(answer.stderr.contains("its 2 steps were taken back"), "{answer:#?}");
    assert!(host.node.link("octbr").is_none() && !path.exists());
    assert_eq!(host.node.expect_link("enp6s0").master(), None);
}

/// Moves the times of the agent's files on disk: a clock has stepped, or an archive was unpacked.
fn touch(host: &Host, date: &str) {
    for name in ["desired.json", "bridges.json"] {
        let touched =
            Command::new("touch").arg("-d").arg(date).arg(host.agent.path("agent").join(name)).status();
        assert!(touched.expect("run touch").success());
    }
}

/// This release is killed half-way, and the older one keeps the links after a rollback: its journal is elsewhere. The next
/// upgrade must not take back by now what pods use, whatever the clock says.
#[test]
fn a_journal_from_before_a_rollback_takes_nothing_back() {
    for rewritten in ["bridges.json", "desired.json"] {
        let host = Host::new();
        host.agent.ok("apply", POLICY);
        let kept = desired();
        let reached = json!({"reached": {"keep": {"texts": [], "choice": kept["choice"]}}});
        journal(&host.agent.journal(), &[created(), attached(), reached]);
        // The older release writes the policy only if it differs, and what the plugin is told always.
        match rewritten {
            "bridges.json" => host.older_wrote("bridges.json", &bridges()),
            name => host.older_wrote(name, &kept),
        }
        touch(&host, "2001-01-01");
        let before = host.node.expect_link("octbr").index();
        let answer = host.agent.run("apply", "");
        assert_eq!(answer.status, Some(0), "{rewritten}: {answer:#?}");
        assert_eq!(answer.stdout, "nothing to do\n", "{rewritten}: {answer:#?}");
        assert!(answer.stderr.contains("an older release"), "{rewritten}: {answer:#?}");
        assert_eq!(host.node.expect_link("octbr").index(), before);
        assert!(!host.agent.journal().exists());
    }
}

/// Somebody has taken the port meanwhile, and damaged a file, and the clock has stepped: none of that is an older release.
#[test]
fn a_journal_of_its_own_counts_whatever_the_clock_says() {
    for date in ["2001-01-01", "2100-01-01"] {
        let host = Host::new();
        host.agent.ok("apply", POLICY);
        journal(&host.agent.journal(), &[created(), attached()]);
        host.node.ip("link add br-other type bridge");
        host.node.ip("link set enp6s0 master br-other");
        fs::write(host.agent.path("agent/bridges.json"), "{").expect("damage it");
        touch(&host, date);
        let answer = host.agent.run("apply", "interfaces: []");
        assert_eq!(answer.status, Some(0), "{date}: {answer:#?}");
        assert!(!answer.stderr.contains("an older release"), "{date}: {answer:#?}");
        assert!(host.node.link("octbr").is_none(), "{date}: {answer:#?}");
        assert_eq!(host.node.expect_link("enp6s0").master(), Some("br-other"), "{date}: {answer:#?}");
        assert!(!host.agent.journal().exists());
    }
}
