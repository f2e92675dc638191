//! Where a policy that the node agent keeps names the bridge, the plugin waits for the agent and never makes a bridge of
//! its own, which would have no uplink.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use octavia_bridge_tests::agent::POLICY;
use octavia_bridge_tests::changes::until;
use octavia_bridge_tests::{Agent, Lab, Node, Outcome, Pod, conf};
use serde_json::{Value, json};

/// How long an ADD waits for the agent.
const PATIENCE: Duration = Duration::from_secs(20);
/// For a program to start and to do what it does first, on however busy a machine.
const START: Duration = Duration::from_secs(30);

/// Runs the agent to its end; its files are where the plugin has its own.
fn agent(node: &Node, words: &str, policy: &str) -> Output {
    let mut command = Agent::beside_plugin(node).command(&[], words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = node.spawn(&mut command);
    // One that takes no policy may have ended already.
    child.stdin.take().expect("piped").write_all(policy.as_bytes()).unwrap_or_default();
    child.wait_with_output().expect("wait for the agent")
}

#[track_caller]
fn agent_ok(node: &Node, words: &str, policy: &str) {
    let output = agent(node, words, policy);
    assert!(output.status.success(), "{words}: {output:?}");
}

/// A host with an uplink and nothing made on it, and what the uplink leads to.
fn node_with_uplink() -> [Node; 2] {
    let lab = Lab::new();
    let nodes = [lab.node("node1"), lab.node("switch")];
    lab.trunk(&nodes[0], &nodes[1]);
    nodes
}

fn conf_of_status() -> Value {
    conf::octavia_with(json!({"cniVersion": "1.1.0"}))
}

fn is_complete(node: &Node) -> bool {
    node.expect_link("enp6s0").master() == Some("octbr") && node.expect_link("octbr").is_up()
}

/// An ADD that has ended waits no more; what became of it is seen then.
fn until_it_waits_for_the_agent(log: &Path, adding: &ScopedJoinHandle<'_, Outcome>) {
    let waits = || fs::read_to_string(log).is_ok_and(|log| log.contains("waiting for octavia-bridge-agent"));
    until(START, "the ADD waits for the agent", || waits() || adding.is_finished());
}

#[test]
fn an_add_waits_for_the_bridge_and_is_answered_once_the_agent_has_made_it() {
    for fault in ["link del octbr", "link set octbr down", "link set enp6s0 nomaster"] {
        let [node, _switch] = node_with_uplink();
        agent_ok(&node, "apply -f -", POLICY);
        node.ip(fault);
        let pod = node.pod("worker");
        let log = node.disk().join("log");
        let outcome = thread::scope(|scope| {
            let adding = scope.spawn(|| pod.add(&conf::octavia()).logging_to(&log).run());
            until_it_waits_for_the_agent(&log, &adding);
            agent_ok(&node, "apply", "");
            adding.join().expect("the thread of ADD")
        });
        outcome.attached();
        assert!(outcome.took < PATIENCE, "{fault}: only at the deadline, {:?}", outcome.took);
        assert!(is_complete(&node), "{fault}");
        // The mark of the agent: the plugin's own bridges have none.
        assert_eq!(node.expect_link("octbr").alias(), "octavia-bridge", "{fault}");
    }
}

#[test]
fn an_add_that_waits_in_vain_says_for_what_and_makes_nothing() {
    let check = |fault: &str, lack: &str| {
        let [node, _switch] = node_with_uplink();
        agent_ok(&node, "apply -f -", POLICY);
        node.ip(fault);
        let unmanaged = conf::octavia_with(json!({"bridgeMode": "unmanaged"}));
        let pods = [(node.pod("worker"), conf::octavia()), (node.pod("housekeeping"), unmanaged)];
        let before = node.snapshot(&[&pods[0].0, &pods[1].0]);
        let wait = |(pod, conf): &(Pod, Value)| {
            let outcome = pod.add(conf).run();
            outcome.error(11).says(&["octbr", lack, "standard input", "octavia-bridge-agent"]);
            assert!((PATIENCE..PATIENCE * 2).contains(&outcome.took), "{fault}: {:?}", outcome.took);
        };
        thread::scope(|scope| pods.iter().for_each(|pod| drop(scope.spawn(move || wait(pod)))));
        node.snapshot(&[&pods[0].0, &pods[1].0]).assert_same_as(&before);
        // STATUS waits for nothing.
        let outcome = node.status(&conf_of_status()).run();
        outcome.error(50).says(&["octbr", lack]);
        assert!(outcome.took < PATIENCE / 2, "{fault}: {:?}", outcome.took);
        agent_ok(&node, "apply", "");
        node.status(&conf_of_status()).run().silent_success();
    };
    thread::scope(|scope| {
        for (fault, lack) in [
            ("link del octbr", "does not exist"),
            ("link set octbr down", "is down"),
            ("link set enp6s0 nomaster", "lacks its uplink enp6s0"),
        ] {
            let check = &check;
            scope.spawn(move || check(fault, lack));
        }
    });
}

#[test]
fn a_missing_nic_is_named_also_where_the_policy_has_no_vlan() {
    let [node, _switch] = node_with_uplink();
    agent_ok(&node, "apply -f -", POLICY);
    node.ip("link set enp6s0 down");
    node.ip("link set enp6s0 name enp7s0");
    let refusal = node.status(&conf_of_status()).run().error(50);
    refusal.says(&["lacks its uplink enp6s0; the policy waits for enp6s0, which does not exist"]);
}

#[test]
fn adds_and_the_first_apply_at_the_same_moment_end_with_one_bridge_that_has_its_uplink() {
    for round in 0..8 {
        let [node, _switch] = node_with_uplink();
        let pods: Vec<_> = (0..3).map(|_| node.pod("worker")).collect();
        let applied = thread::scope(|scope| {
            let adds: Vec<_> =
                pods.iter().map(|pod| scope.spawn(|| pod.add(&conf::octavia()).run())).collect();
            // From before the plugin's first look to after its last.
            thread::sleep(Duration::from_millis(round * 3));
            let applied = agent(&node, "apply -f -", POLICY);
            for add in adds {
                add.join().expect("the thread of ADD").attached();
            }
            applied
        });
        assert!(applied.status.success(), "round {round}: {applied:?}");
        assert!(is_complete(&node), "round {round}");
        let again = agent(&node, "plan --check", "");
        assert!(again.status.success(), "round {round}: {again:?}");
    }
}

#[test]
fn what_the_agent_wrote_and_the_plugin_cannot_read_is_not_guessed() {
    let [node, _switch] = node_with_uplink();
    agent_ok(&node, "apply -f -", POLICY);
    node.ip("link del octbr");
    let file = node.data_dir().join("agent/bridges.json");
    let written = fs::read_to_string(&file).expect("the agent has told the plugin");
    let pod = node.pod("worker");
    for (text, says) in [
        (written.replace("\"version\": 1", "\"version\": 2"), "version 2"),
        (written[..written.len() / 2].to_owned(), "EOF"),
        (String::new(), "EOF"),
    ] {
        fs::write(&file, &text).expect("spoil the file");
        pod.add(&conf::octavia()).run().error(11).says(&["bridges.json", says]);
        node.status(&conf_of_status()).run().error(50).says(&["bridges.json", says]);
        assert!(node.link("octbr").is_none(), "{text}");
    }
    // The agent's next start repairs it.
    agent_ok(&node, "apply", "");
    assert_eq!(fs::read_to_string(&file).expect("read it again"), written);
    pod.add(&conf::octavia()).run().attached();
}

#[test]
fn without_a_kept_policy_for_the_bridge_the_plugin_makes_it_as_ever() {
    // What ends a policy's word on the bridge, each after the policy was in force.
    for end in [
        ("remove", ""),
        (
            "apply -f -",
            "interfaces: [{name: octbr, type: linux-bridge, state: absent}, {name: enp6s0, type: ethernet}]",
        ),
        ("apply -f -", "interfaces: [{name: other, type: linux-bridge, state: up}]"),
    ] {
        let [node, _switch] = node_with_uplink();
        agent_ok(&node, "apply -f -", POLICY);
        agent_ok(&node, end.0, end.1);
        node.output(Command::new("ip").args(["link", "del", "octbr"]));
        node.pod("worker").add(&conf::octavia()).run().attached();
        assert_eq!(node.expect_link("octbr").alias(), "", "{end:?}");
    }
    // A policy that never came into force.
    let [node, _switch] = node_with_uplink();
    let failed = agent(&node, "apply -f -", &POLICY.replace("enp6s0", "enp7s0"));
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    node.pod("worker").add(&conf::octavia()).run().attached();

    // One that fails leaves the word of the one before it.
    let [node, _switch] = node_with_uplink();
    agent_ok(&node, "apply -f -", POLICY);
    let other = "interfaces: [{name: other, type: linux-bridge, bridge: {port: [{name: enp7s0}]}}]";
    let failed = agent(&node, "apply -f -", other);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    node.ip("link del octbr");
    node.status(&conf_of_status()).run().error(50).says(&["octbr", "does not exist"]);
}

/// The folder that the plugin locks while it makes a bridge, locked as if another ADD were doing that.
fn lock_of_bridges(node: &Node) -> File {
    let folder = node.run_dir().join("attachments");
    fs::create_dir_all(&folder).expect("make the folder of records");
    File::open(&folder).expect("open the folder of records")
}

#[test]
fn a_policy_that_comes_while_an_add_waits_for_its_turn_to_make_the_bridge_is_heeded() {
    let [node, _switch] = node_with_uplink();
    let lock = lock_of_bridges(&node);
    lock.lock_shared().expect("lock");
    let pod = node.pod("worker");
    let log = node.disk().join("log");
    let outcome = thread::scope(|scope| {
        let adding = scope.spawn(|| pod.add(&conf::octavia()).logging_to(&log).run());
        // It has found neither policy nor bridge, and waits for the lock.
        node.until_locks_are_waited_for(1);
        agent_ok(&node, "apply -f -", POLICY);
        node.ip("link del octbr");
        lock.unlock().expect("unlock");
        until_it_waits_for_the_agent(&log, &adding);
        assert!(node.link("octbr").is_none(), "made without the agent");
        agent_ok(&node, "apply", "");
        adding.join().expect("the thread of ADD")
    });
    outcome.attached();
    assert!(is_complete(&node));
    assert_eq!(node.expect_link("octbr").alias(), "octavia-bridge");
}

#[test]
fn the_agent_looks_at_the_links_only_when_no_plugin_is_about_to_make_a_bridge() {
    let [node, _switch] = node_with_uplink();
    let lock = lock_of_bridges(&node);
    lock.lock().expect("lock");
    thread::scope(|scope| {
        let applying = scope.spawn(|| agent(&node, "apply -f -", POLICY));
        node.until_locks_are_waited_for(1);
        assert!(!applying.is_finished());
        // What the plugin makes before it lets go is what the agent finds.
        node.ip("link add octbr type bridge");
        lock.unlock().expect("unlock");
        let applied = applying.join().expect("the thread of apply");
        assert!(applied.status.success(), "{applied:?}");
        let said = String::from_utf8_lossy(&applied.stdout);
        assert!(!said.contains("create octbr"), "{said}");
    });
    assert!(is_complete(&node));
}

#[test]
fn no_bridge_gets_the_name_of_a_policy_s_other_links_whatever_folder_a_network_names() {
    let [node, _switch] = node_with_uplink();
    // As at boot: the NIC is not there yet.
    let policy = "
interfaces:
- {name: octbr, type: linux-bridge, bridge: {port: [{name: enp7s0.24}]}}
- {name: enp7s0.24, type: vlan, vlan: {base-iface: enp7s0, id: 24}}
- {name: br-free, type: linux-bridge, state: absent}
";
    fs::create_dir_all(node.data_dir()).expect("make the agent's folder");
    let other = node.disk().join("other.yaml");
    fs::write(&other, "interfaces: [{name: br-other, type: linux-bridge}]").expect("write another policy");
    let _keeper = Agent::beside_plugin(&node).keep_with(policy, &format!("-f {}", other.display()));
    let file = node.data_dir().join("agent/bridges.json");
    until(START, "the agent has told the plugin", || file.exists() && node.link("br-other").is_some());
    for data_dir in ["/var/lib/octavia-bridge", "/var/lib/octavia-bridge/other"] {
        let conf = |bridge: &str| conf::octavia_with(json!({"bridge": bridge, "dataDir": data_dir}));
        for bridge in ["enp7s0.24", "enp7s0"] {
            let pod = node.pod("worker");
            let before = node.snapshot(&[&pod]);
            let outcome = pod.add(&conf(bridge)).run();
            outcome.error(7).says(&[bridge, "is in the node's policy", "policy.yaml"]);
            assert!(outcome.took < PATIENCE / 2, "{bridge}: {:?}", outcome.took);
            node.snapshot(&[&pod]).assert_same_as(&before);
        }
        let status = conf::with(conf("octbr"), json!({"cniVersion": "1.1.0"}));
        let waits = "policy.yaml) names, does not exist; the policy waits for enp7s0, which does not exist";
        let refusal = node.status(&status).run().error(50);
        refusal.says(&["octbr", waits]);
        assert!(!refusal.msg.contains("other.yaml"), "{}", refusal.msg);
    }
    // The policy does not own a link that it wants absent.
    node.pod("worker").add(&conf::octavia_with(json!({"bridge": "br-free"}))).run().attached();
}

#[test]
fn a_pod_waits_for_a_bridge_of_a_file_that_the_running_agent_refuses_and_is_told_why() {
    let [node, _switch] = node_with_uplink();
    fs::create_dir_all(node.data_dir()).expect("make the agent's folder");
    let agent = Agent::beside_plugin(&node);
    let _keeper = agent.keep(POLICY);
    until(START, "the policy", || node.link("octbr").is_some());
    agent.file(&format!("{POLICY}- {{name: br-new, type: linux-bridge, mtuu: 1500}}\n"));
    let conf = |more: Value| conf::with(conf::octavia_with(json!({"bridge": "br-new"})), more);
    let told = node.data_dir().join("agent/bridges.json");
    until(START, "the plugin is told", || fs::read_to_string(&told).is_ok_and(|told| told.contains("mtuu")));
    let says = ["br-new", "does not exist", "policy.yaml", "is not in force", "mtuu"];
    node.status(&conf(json!({"cniVersion": "1.1.0"}))).run().error(50).says(&says);
    let pod = node.pod("worker");
    let before = node.snapshot(&[&pod]);
    pod.add(&conf(json!({}))).run().error(11).says(&says);
    node.snapshot(&[&pod]).assert_same_as(&before);
}
