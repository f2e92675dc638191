//! Files of the agent's own that it cannot use: they do not keep it from starting.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::scene::{AGENT, Answer, Node, POLICY, answer, complete, on_a_node, until};

const START: Duration = Duration::from_secs(30);

fn journal(node: &Node, lines: &[u8]) {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    fs::create_dir_all(node.path("state/agent")).unwrap();
    fs::write(node.path("state/agent/journal.jsonl"), [boot.as_bytes(), lines].concat()).unwrap();
}

fn bad(node: &Node, name: &str) -> bool {
    !node.path(&format!("state/agent/{name}")).exists()
        && node.path(&format!("state/agent/{name}.bad")).exists()
}

#[test]
fn a_journal_that_cannot_be_read_is_set_aside_and_the_policy_comes_into_force() {
    for lines in [
        // Of another release.
        b"{\"step\":{\"apply\":{\"step\":\"set-ageing\"},\"undo\":{\"step\":\"set-ageing\"}}}\n".as_slice(),
        b"\xff\xfe\x00\n",
        b"{\n",
        // A recovery was begun and did not end.
        b"recovering",
    ] {
        on_a_node(move |node| {
            journal(node, lines);
            let answer = node.run("apply -f -", POLICY);
            assert_eq!(answer.status, 0, "{}", answer.stderr);
            assert!(answer.stderr.contains("journal.jsonl.bad"), "{}", answer.stderr);
            assert!(complete(node) && bad(node, "journal.jsonl"));
            // Told until somebody has taken it away.
            let doctor = node.run("doctor", "").stdout;
            assert!(doctor.contains("journal.jsonl.bad"), "{doctor}");
            journal(node, lines);
            fs::write(node.path("policy.yaml"), POLICY.replace("1500", "1400")).unwrap();
            let _daemon = node.start(&format!("run -f {}", node.path("policy.yaml").display()));
            until(START, "the policy", || node.link("octbr").is_some_and(|link| link["mtu"] == 1400));
        });
    }
}

#[test]
fn what_this_release_has_written_is_set_aside_if_it_cannot_be_read() {
    for torn in [b"{".as_slice(), b"\xff", b"[1]"] {
        on_a_node(move |node| {
            node.ok("apply -f -", POLICY);
            fs::write(node.path("state/agent/written.json"), torn).unwrap();
            let answer = node.run("apply", "");
            assert_eq!(answer.status, 0, "{}", answer.stderr);
            assert!(answer.stderr.contains("a rollback may go unnoticed"), "{}", answer.stderr);
            assert!(complete(node) && bad(node, "written.json"));
        });
    }
}

/// A release that did not know how long a message may be died of this step, and then of every recovery from it.
#[test]
fn a_journal_with_a_step_that_no_message_can_express_is_recovered_from() {
    on_a_node(|node| {
        let hop = |n: u32| {
            let gateway = std::net::Ipv4Addr::from(0xac17_0000 + n);
            json!({"link": "enp6s0", "gateway": gateway, "weight": 1, "onlink": false})
        };
        let route = |word: &str| {
            json!({"step": word, "destination": "10.0.0.0/8", "table": 254, "metric": 0, "protocol": 79,
                "source": null, "mtu": null, "hops": (1..=4200).map(hop).collect::<Vec<_>>()})
        };
        let step = json!({"step": {"apply": route("add-route"), "undo": route("remove-route")}});
        for words in ["apply -f -", "remove"] {
            journal(node, format!("{step}\n").as_bytes());
            let answer = node.run(words, POLICY);
            assert_eq!(answer.status, 0, "{words}: {}", answer.stderr);
            assert!(answer.stderr.contains("its 1 steps were taken back"), "{words}: {}", answer.stderr);
            assert!(!node.path("state/agent/journal.jsonl").exists());
            assert!(!bad(node, "journal.jsonl"), "it could be read");
        }
    });
}

#[test]
fn more_next_hops_than_a_message_can_express_are_refused_by_path() {
    on_a_node(|node| {
        let before = node.snapshot();
        let hop = |n: u32| {
            let gateway = std::net::Ipv4Addr::from(0xac17_0000 + n);
            json!({"destination": "10.0.0.0/8", "next-hop-interface": "octbr", "next-hop-address": gateway, "weight": 1})
        };
        for (number, said) in [
            (200, "routes.config[128]: one next hop to 10.0.0.0/8 too many"),
            (4200, "routes.config: 4200 entries, and at most 1024 are allowed"),
        ] {
            let routes = json!({"routes": {"config": (1..=number).map(hop).collect::<Vec<_>>()}});
            let answer = node.run("apply -f -", &format!("{POLICY}\n---\n{routes}"));
            assert_eq!(answer.status, 2, "{}", answer.stderr);
            assert!(answer.stderr.contains(said), "{}", answer.stderr);
            assert_eq!(node.snapshot(), before);
        }
    });
}

/// Killed at its first requests by the recovery itself.
#[test]
fn a_recovery_that_was_killed_is_not_tried_again() {
    on_a_node(|node| {
        let killed = |request: usize| -> Answer {
            let mut command = Command::new("strace");
            command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=sendto"]);
            command.arg("-e").arg(format!("inject=sendto:signal=KILL:when={request}"));
            command.arg(AGENT).args(["apply", "-f", "-", "--state-dir"]).arg(node.path("state"));
            answer(command.arg("--nmstate-lock").arg(node.path("lock")), POLICY)
        };
        let journal = node.path("state/agent/journal.jsonl");
        for request in 1.. {
            assert_ne!(killed(request).status, 0, "never killed with steps done");
            if fs::read_to_string(&journal).is_ok_and(|text| text.lines().count() > 1) {
                break;
            }
            node.ok("apply -f -", "interfaces: []");
        }
        assert_ne!(killed(1).status, 0);
        let answer = node.run("apply -f -", POLICY);
        assert_eq!(answer.status, 0, "{}", answer.stderr);
        assert!(answer.stderr.contains("did not end, and is not tried again"), "{}", answer.stderr);
        assert!(complete(node) && bad(node, "journal.jsonl"));
    });
}

/// What the plugin is told.
fn told(node: &Node) -> Value {
    serde_json::from_slice(&fs::read(node.path("state/agent/bridges.json")).unwrap_or_default())
        .unwrap_or_default()
}

/// A pod waits for the bridge, and the reason is told.
fn waits_for_octbr(node: &Node) -> bool {
    let told = told(node);
    let why = told["not_in_force"][0]["why"].as_str().unwrap_or_default();
    told["bridges"]["octbr"] == json!(["enp6s0"]) && why.contains("apply it again from its file")
}

#[test]
fn a_kept_state_that_cannot_be_read_is_set_aside() {
    on_a_node(|node| {
        node.ok("apply -f -", POLICY);
        let kept = node.path("state/agent/desired.json");
        let aside = node.path("state/agent/desired.json.bad");
        fs::write(&kept, b"\xff\xfe{").unwrap();
        // Which looks only.
        assert_eq!(node.run("plan", "").status, 1);
        assert!(kept.exists());
        for _ in 0..2 {
            let answer = node.run("apply", "");
            assert_eq!(answer.status, 2, "{}", answer.stderr);
            assert!(answer.stderr.contains("apply it again from its file"), "{}", answer.stderr);
            assert!(aside.exists() && waits_for_octbr(node));
        }
        let doctor = node.run("doctor", "").stdout;
        assert!(doctor.contains("policy kept in desired.json is not in force"), "{doctor}");
        assert!(
            doctor.contains("apply the corrected file with `octavia-bridge-agent apply -f FILE`"),
            "{doctor}"
        );
        // Another one that fails does not make it known.
        let fails = "interfaces: [{name: br-other, type: linux-bridge, bridge: {port: [{name: octbr}]}}]";
        assert_ne!(node.run("apply -f -", fails).status, 0);
        assert!(waits_for_octbr(node));
        node.ok("apply -f -", POLICY);
        assert_eq!(told(node).get("not_in_force"), None);
        fs::write(&kept, "{}").unwrap();
        fs::write(node.path("policy.yaml"), POLICY.replace("1500", "1400")).unwrap();
        let mut daemon = node.start(&format!("run -f {}", node.path("policy.yaml").display()));
        until(START, "the policy", || node.link("octbr").is_some_and(|link| link["mtu"] == 1400));
        assert_eq!(daemon.stop(), Some(0));
        fs::write(&kept, "{}").unwrap();
        // What was kept would have said whose port it is.
        node.ip("link set enp6s0 nomaster");
        node.ok("remove", "");
        assert!(node.link("octbr").is_none() && !kept.exists());
    });
}

/// The command line of an agent whose API server does not answer.
pub(crate) fn run_in_a_cluster(node: &Node) -> String {
    let kubeconfig = "{apiVersion: v1, kind: Config, current-context: c, \
        clusters: [{name: k, cluster: {server: 'http://127.0.0.1:9'}}], \
        contexts: [{name: c, context: {cluster: k, user: u}}], users: [{name: u, user: {}}]}";
    fs::write(node.path("kubeconfig"), kubeconfig).unwrap();
    format!(
        "run --cluster --node-name n --kubeconfig {} --socket {} --health-bind none",
        node.path("kubeconfig").display(),
        node.path("agent.sock").display()
    )
}

/// The running agent does.
fn tells_of_the_lost(node: &Node) -> bool {
    node.run("health ready", "").stdout.contains("policy kept in desired.json is not in force")
}

/// As after a power cut of the whole cluster: the API server comes later.
#[test]
fn pods_wait_for_the_bridges_of_a_kept_state_that_cannot_be_read() {
    on_a_node(|node| {
        node.ok("apply -f -", POLICY);
        fs::write(node.path("state/agent/desired.json"), "{").unwrap();
        node.ip("link del octbr");
        let words = run_in_a_cluster(node);
        // The next process knows as well, and one whose files cannot be read.
        for files in ["", "", " -f /nowhere"] {
            let mut daemon = node.start(&format!("{words}{files}"));
            until(START, "it tells", || tells_of_the_lost(node));
            assert!(waits_for_octbr(node), "{files}: {:#}", told(node));
            assert_eq!(daemon.stop(), Some(0));
            assert!(waits_for_octbr(node), "{files}: {:#}", told(node));
        }
        // A file that makes it known.
        fs::write(node.path("policy.yaml"), POLICY).unwrap();
        let _daemon = node.start(&format!("{words} -f {}", node.path("policy.yaml").display()));
        until(START, "the policy", || complete(node));
        until(START, "it is kept", || told(node).get("not_in_force").is_none());
    });
}

#[test]
fn pods_wait_for_the_bridges_of_lost_policies_also_where_a_file_names_another() {
    on_a_node(|node| {
        node.ok("apply -f -", POLICY);
        let promise = node.path("state/agent/bridges.json");
        let of_cluster = fs::read_to_string(&promise).unwrap().replace("standard input", "policy a");
        fs::write(&promise, of_cluster).unwrap();
        fs::write(node.path("state/agent/desired.json"), "{").unwrap();
        node.ip("link del octbr");
        fs::write(node.path("other.yaml"), "interfaces: [{name: br-other, type: linux-bridge}]").unwrap();
        let words = run_in_a_cluster(node);
        let named = format!("{words} -f {}", node.path("other.yaml").display());
        let unreadable = format!("{words} -f /nowhere");
        // The last two go on with the file's text, too.
        for words in [&named, &named, &words, &unreadable] {
            let mut daemon = node.start(words);
            until(START, "the file's bridge", || told(node)["bridges"].get("br-other").is_some());
            until(START, "it tells", || tells_of_the_lost(node));
            assert_eq!(daemon.stop(), Some(0));
            assert!(waits_for_octbr(node), "{words}: {:#}", told(node));
        }
        node.ok("apply", "");
        assert!(waits_for_octbr(node), "{:#}", told(node));
    });
}
