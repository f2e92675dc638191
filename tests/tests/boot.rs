//! After a reboot kubelet starts all pods at once, and the bridge's NIC may be the last to come.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use octavia_bridge_tests::agent::POLICY;
use octavia_bridge_tests::{Agent, Lab, Pod, conf};
use serde_json::json;

const PODS: usize = 100;
/// For a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

#[test]
fn a_hundred_pods_that_come_before_agent_and_nic_are_attached_when_these_are_there() {
    let lab = Lab::new();
    let [node, switch] = [lab.node("node1"), lab.node("switch")];
    lab.trunk(&node, &switch);
    let agent = Agent::beside_plugin(&node);
    std::fs::create_dir_all(node.data_dir()).expect("create the state folder");
    agent.ok("apply", POLICY);
    // What a reboot leaves: the files.
    node.ip("link del octbr");
    node.ip("link del enp6s0");
    let conf =
        conf::octavia_with(json!({"ipam": {"range_start": "172.23.0.10", "range_end": "172.23.0.140"}}));
    let pods: Vec<Pod> = (0..PODS).map(|_| node.pod("worker")).collect();
    let attach = |pod: &Pod| {
        let started = Instant::now();
        loop {
            let outcome = pod.add(&conf).run();
            if outcome.status.success() {
                return outcome.attached().address().to_owned();
            }
            // The runtime tries again; the pod's event says this.
            outcome.error(11).says(&["octbr", "does not exist", "octavia-bridge-agent"]);
            assert!(started.elapsed() < DEADLINE, "{outcome:#?}");
        }
    };
    let (addresses, mut keeper) = thread::scope(|scope| {
        let attach = &attach;
        let waiting: Vec<_> = pods.iter().map(|pod| scope.spawn(move || attach(pod))).collect();
        let keeper = agent.keep(POLICY);
        let started = Instant::now();
        while !keeper.log().contains("octbr: enp6s0 does not exist") {
            assert!(started.elapsed() < DEADLINE, "{}", keeper.log());
            thread::sleep(Duration::from_millis(20));
        }
        assert!(node.link("octbr").is_none(), "no bridge without its uplink");
        lab.trunk(&node, &switch);
        let addresses: BTreeSet<String> = waiting.into_iter().map(|pod| pod.join().expect("a pod")).collect();
        (addresses, keeper)
    });
    assert_eq!(addresses.len(), PODS, "no address twice");
    assert_eq!(node.allocations("172.23.0.0-24").len(), PODS);
    assert_eq!(node.expect_link("enp6s0").master(), Some("octbr"));
    assert_eq!(node.expect_link("octbr").alias(), "octavia-bridge", "the agent's, not a plugin's");
    assert_eq!(keeper.stop(), Some(0));
}
