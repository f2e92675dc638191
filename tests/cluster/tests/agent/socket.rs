//! The socket: who may ask, and what is no question.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::{fs, thread};

use octavia_bridge_cluster_tests::Cluster;
use serde_json::{Value, json};

use crate::node::{Node, OCTAVIA, Pod, say};

#[test]
fn what_is_no_call_is_said_to_be_none() {
    let admin = Cluster::shared().namespace("malformed");
    let node = Node::start(&admin, "node-1");
    let whole = json!({"version": 1, "release": {"containerId": "a", "ifname": "net1"}}).to_string();
    let range = json!({"subnet": "10.33.0.0/24", "first": "10.33.0.1", "last": "10.33.0.254"});
    let want = json!({"pool": "10.33.0.0-24", "subnet": "10.33.0.0/24", "gateway": null, "choice": {"lowest": range}});
    let claim = |wants: usize| {
        let owner = json!({"containerId": "a", "ifname": "net1", "pod": "openstack/worker-0"});
        let request = json!({"owner": owner, "networkName": null, "overlapping": true, "reserved": [],
            "wants": vec![&want; wants]});
        json!({"version": 1, "claim": {"patienceMs": 1000, "request": request}}).to_string()
    };
    let (claim, many) = (claim(1), claim(2500));
    let long = format!("{{\"version\":1,\"release\":\"{}\"}}\n", "x".repeat(1 << 20));
    for (text, kind, words) in [
        ("\n".to_owned(), "malformed", "has no version"),
        ("hello\n".to_owned(), "malformed", "has no version"),
        ("{\"version\":1}\n".to_owned(), "malformed", "the call is malformed"),
        ("{\"version\":1,\"feed\":{}}\n".to_owned(), "malformed", "the call is malformed"),
        (format!("{}\n", whole.replace("\"a\"", "7")), "malformed", "the call is malformed"),
        (format!("{}\n", whole.replace(":1,", ":2,")), "version", "install the agent of the same release"),
        (format!("{}\n", whole.replace(":1,", ":0,")), "version", "install the plugin of the same release"),
        ("{\"version\":7,\"future\":[]}\n".to_owned(), "version", "speaks version 7, the agent version 1"),
        (long, "malformed", "one line of at most 1048576 bytes"),
        (format!("{}\n", claim.replace("\"net1\"", "\"net/\"")), "malformed", "net/"),
        (format!("{}\n", claim.replace("10.33.0.0-24", "net1")), "malformed", "pool net1 does not keep"),
        (format!("{many}\n"), "unsupported", "2500 addresses of one attachment are too many"),
        (whole, "malformed", "no complete line within"),
    ] {
        let answer = say(&node.socket(), text.as_bytes());
        let answer: Value =
            serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{text:.60}: {answer:?}: {e}"));
        assert_eq!(answer["version"], 1);
        assert_eq!(answer["failed"]["kind"], kind, "{text:.60}: {answer}");
        let message = answer["failed"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "{text:.60}: {answer}");
    }
    // Nobody of them was an end.
    node.add(&OCTAVIA, &Pod::new(1));
}

#[test]
fn silent_callers_do_not_keep_others_waiting() {
    let admin = Cluster::shared().namespace("silent");
    let node = Node::start(&admin, "node-1");
    let silent: Vec<UnixStream> =
        (0..300).map(|_| UnixStream::connect(node.socket()).expect("connect")).collect();
    node.add(&OCTAVIA, &Pod::new(1));
    // More than the agent serves at once: those who say something come after the others have been given up.
    let more: Vec<UnixStream> = thread::scope(|scope| {
        let more = (0..300).map(|_| scope.spawn(|| UnixStream::connect(node.socket()).expect("connect")));
        more.collect::<Vec<_>>().into_iter().map(|one| one.join().expect("connected")).collect()
    });
    node.add(&OCTAVIA, &Pod::new(2));
    drop((silent, more));
}

#[test]
fn only_root_gets_there() {
    let admin = Cluster::shared().namespace("root");
    let node = Node::start(&admin, "node-1");
    let mode = |path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let folder = node.path("run");
    assert_eq!((mode(folder), mode(node.socket())), (0o700, 0o600));
}

#[test]
fn what_is_missing_is_named() {
    let admin = Cluster::shared().namespace("missing");
    let node = Node::start(&admin, "node-1");
    let run = |arguments: &[&str]| {
        let mut agent = Command::new(crate::node::program());
        agent.arg("run").args(arguments).arg("--state-dir").arg(node.path("other")).env_remove("NODE_NAME");
        let output = agent.output().expect("run the agent");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let kubeconfig = node.path("kubeconfig").display().to_string();
    let socket = node.socket().display().to_string();
    for (arguments, words) in [
        (vec!["--cluster", "--kubeconfig", &kubeconfig], "--node-name"),
        (vec!["--cluster", "--node-name", "n"], "--kubeconfig"),
        (vec!["--cluster", "--node-name", "n", "--kubeconfig", "/nowhere"], "/nowhere"),
        (
            vec!["--cluster", "--node-name", "n", "--kubeconfig", &kubeconfig, "--socket", &socket],
            "answers on",
        ),
        (
            vec!["--cluster", "--node-name", "n", "--kubeconfig", &kubeconfig, "--pool-namespace", "A"],
            "namespace",
        ),
        (vec!["--kubeconfig", &kubeconfig], "--cluster"),
    ] {
        let (status, said) = run(&arguments);
        assert_ne!(status, Some(0), "{arguments:?}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}
