//! A node that boots with everything in the wrong order: pods first, then the agent, then the NIC, the API server last.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use octavia_bridge_cluster_tests::{Cluster, Ledger, Proxy};
use octavia_bridge_tests::agent::POLICY;
use octavia_bridge_tests::{Agent, Lab, conf};
use serde_json::json;

const PODS: usize = 20;
/// Longer than anything takes, on however busy a machine.
const DEADLINE: Duration = Duration::from_secs(120);

#[test]
fn pods_that_come_first_say_what_they_wait_for_and_all_end_well() {
    let admin = Cluster::shared().namespace("boot");
    Cluster::shared().node("boot");
    let proxy = Proxy::start(&admin);
    let lab = Lab::new();
    let [node, switch] = [lab.node("node1"), lab.node("switch")];
    let agent = Agent::beside_plugin(&node);
    std::fs::create_dir_all(node.data_dir()).expect("create the state folder");
    let (kubeconfig, socket) = (agent.path("kubeconfig"), agent.path("agent.sock"));
    proxy.listen_in(node.path()).write_kubeconfig(&kubeconfig);
    proxy.down();
    let conf = conf::without(conf::octavia(), "/ipam/datastore");
    let conf = conf::with(conf, json!({"agentSocket": socket}));
    let pods: Vec<_> = (0..PODS).map(|_| node.pod("worker")).collect();
    let said = Mutex::new(BTreeSet::new());
    // Each pod's runtime tries until it is attached; what it was told meanwhile is kept.
    let attach = |pod: &octavia_bridge_tests::Pod| {
        let id = pod.container_id();
        let args = format!("K8S_POD_NAMESPACE=openstack;K8S_POD_NAME={id};K8S_POD_UID=uid-of-{id}");
        let started = Instant::now();
        loop {
            let outcome = pod.add(&conf).args(&format!("IgnoreUnknown=1;{args}")).run();
            if outcome.status.success() {
                return outcome.attached().address().to_owned();
            }
            let error = outcome.error(11);
            said.lock()
                .expect("no test panics holding it")
                .insert(format!("{} {}", error.msg, error.details));
            assert!(started.elapsed() < DEADLINE, "{outcome:#?}");
            thread::sleep(Duration::from_millis(500));
        }
    };
    let told = |words: &[&str]| {
        let started = Instant::now();
        let all = |text: &String| words.iter().all(|word| text.contains(word));
        while !said.lock().expect("no test panics holding it").iter().any(all) {
            assert!(started.elapsed() < DEADLINE, "nobody said {words:?}: {said:?}");
            thread::sleep(Duration::from_millis(50));
        }
    };
    let (addresses, mut keeper) = thread::scope(|scope| {
        let attach = &attach;
        let waiting: Vec<_> = pods.iter().map(|pod| scope.spawn(move || attach(pod))).collect();
        let socket = socket.display().to_string();
        told(&[&socket, "cannot connect"]);
        assert!(node.link("octbr").is_none(), "an ADD that failed leaves nothing");
        let words = format!(
            "--cluster --node-name boot --kubeconfig {} --pool-namespace {} --socket {socket} --health-bind none \
             --reclaim-grace 86400",
            kubeconfig.display(),
            admin.namespace()
        );
        let keeper = agent.keep_with(POLICY, &words);
        let started = Instant::now();
        while !keeper.log().contains("octbr: enp6s0 does not exist") {
            assert!(started.elapsed() < DEADLINE, "{}", keeper.log());
            thread::sleep(Duration::from_millis(50));
        }
        lab.trunk(&node, &switch);
        told(&["cannot reach the address pools"]);
        proxy.up();
        let addresses: BTreeSet<String> = waiting.into_iter().map(|pod| pod.join().expect("a pod")).collect();
        (addresses, keeper)
    });
    assert_eq!(addresses.len(), PODS, "no address twice");
    assert_eq!(node.expect_link("enp6s0").master(), Some("octbr"));
    assert_eq!(node.expect_link("octbr").alias(), "octavia-bridge", "the agent's, not a plugin's");
    let ledger = Ledger::read(&admin);
    ledger.assert_consistent();
    assert_eq!(ledger.reservations.len(), PODS);
    assert_eq!(keeper.stop(), Some(0));
}
