//! Plugins as processes on two nodes, hundreds of them, while the nodes' agents are killed and started again.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use octavia_bridge_cluster_tests::{Cluster, Ledger, Proxy};
use octavia_bridge_tests::{Lab, Node as Host, Pod, conf};
use serde_json::{Value, json};

use crate::node::{Node, eventually};

const NODES: usize = 2;
/// On both nodes together.
const PODS: usize = 200;
/// Plugins at work at once.
const AT_ONCE: usize = 16;
/// An agent is killed whenever so many more are done.
const KILLED_EVERY: usize = 20;
/// How long one pod may take to get an address, with all that is in its way.
const PATIENCE: Duration = Duration::from_secs(120);

/// Room for all.
fn network(agent: &Node) -> Value {
    let ipam = json!({"range": "172.23.0.0/22", "range_start": "172.23.1.0", "range_end": "172.23.3.250"});
    let conf = conf::without(conf::octavia(), "/ipam/datastore");
    conf::with(conf, json!({"cniVersion": "1.0.0", "agentSocket": agent.socket(), "ipam": ipam}))
}

/// Works for all pods, [`AT_ONCE`] at a time, and tells after each.
fn at_once<T: Send>(pods: &[Pod], done: &AtomicUsize, work: impl Fn(usize, &Pod) -> T + Sync) -> Vec<T> {
    let (next, work) = (AtomicUsize::new(0), &work);
    thread::scope(|scope| {
        let worker = || {
            let mut results = Vec::new();
            while let Some((number, pod)) = {
                let number = next.fetch_add(1, Ordering::SeqCst);
                pods.get(number).map(|pod| (number, pod))
            } {
                results.push((number, work(number, pod)));
                done.fetch_add(1, Ordering::SeqCst);
            }
            results
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        let results = workers.into_iter().flat_map(|worker| worker.join().expect("a worker does not panic"));
        let mut results: Vec<(usize, T)> = results.collect();
        results.sort_by_key(|(number, _)| *number);
        results.into_iter().map(|(_, result)| result).collect()
    })
}

/// Kills and restarts one agent after the other until the work is done. How often.
fn meanwhile_kill<T: Send>(agents: &mut [Node], work: impl FnOnce(&AtomicUsize) -> T + Send) -> (T, usize) {
    let done = &AtomicUsize::new(0);
    thread::scope(|scope| {
        let work = scope.spawn(move || work(done));
        let mut kills = 0;
        while !work.is_finished() {
            if done.load(Ordering::SeqCst) >= KILLED_EVERY * (kills + 1) {
                let agent = &mut agents[kills % NODES];
                agent.kill();
                agent.restart();
                kills += 1;
            }
            thread::sleep(Duration::from_millis(5));
        }
        (work.join().expect("the work does not panic"), kills)
    })
}

/// As kubelet and multus do: a failed ADD is followed by a DEL, and by another ADD. How often it failed, and the address.
fn attach(pod: &Pod, conf: &Value) -> (usize, IpAddr) {
    let name = pod.container_id();
    let args =
        format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME={name};K8S_POD_UID=uid-of-{name}");
    let started = Instant::now();
    let mut failures = 0;
    loop {
        let outcome = pod.add(conf).args(&args).run();
        if outcome.status.success() {
            return (failures, outcome.attached().ip());
        }
        // "Try again later".
        outcome.error(11);
        pod.del(conf).args(&args).run().silent_success();
        failures += 1;
        assert!(started.elapsed() < PATIENCE, "{outcome:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn hundreds_of_plugins_lose_nothing_while_their_agents_are_killed() {
    let admin = Cluster::shared().namespace("plugins");
    let proxy = Proxy::start(&admin);
    let lab = Lab::new();
    let hosts: Vec<Host> = (1..=NODES).map(|number| lab.node(&format!("node-{number}"))).collect();
    let mut agents: Vec<Node> = hosts
        .iter()
        .enumerate()
        .map(|(number, host)| {
            host.bridge_with_uplink();
            Node::start_on(host, &proxy.listen_in(host.path()), &format!("node-{number}"))
        })
        .collect();
    let networks: Vec<Value> = agents.iter().map(network).collect();
    let links: Vec<Vec<String>> = hosts.iter().map(|host| host.link_names()).collect();
    let pods: Vec<Pod> =
        (0..PODS).map(|number| hosts[number % NODES].pod(&format!("worker-{number}"))).collect();

    let work =
        |done: &AtomicUsize| at_once(&pods, done, |number, pod| attach(pod, &networks[number % NODES]));
    let (attached, kills) = meanwhile_kill(&mut agents, work);
    let failures: usize = attached.iter().map(|(failures, _)| failures).sum();
    println!("{PODS} pods attached, agents killed {kills} times, {failures} ADDs failed");
    assert!(kills >= PODS / KILLED_EVERY / 2, "{kills}");
    let distinct: BTreeSet<IpAddr> = attached.iter().map(|(_, address)| *address).collect();
    assert_eq!(distinct.len(), PODS, "no address twice");
    // What failed ADDs have left is taken back by itself.
    let all_told = |agents: &[Node]| agents.iter().all(|agent| agent.tombstones().is_empty());
    eventually("nothing is left of failed ADDs", || {
        all_told(&agents) && Ledger::read(&admin).reservations.len() == PODS
    });
    let ledger = Ledger::read(&admin);
    ledger.assert_consistent();
    for (pod, (_, address)) in pods.iter().zip(&attached) {
        let holder = ledger.holder(*address).map(|holder| holder.id.as_str());
        assert_eq!(holder, Some(pod.container_id()), "{address}");
        assert_eq!(pod.expect_link("net1").addresses(), [format!("{address}/22")]);
    }

    let work = |done: &AtomicUsize| {
        at_once(&pods, done, |number, pod| pod.del(&networks[number % NODES]).run().silent_success());
    };
    let ((), kills) = meanwhile_kill(&mut agents, work);
    println!("{PODS} pods detached, agents killed {kills} times");
    eventually("nothing is left", || all_told(&agents) && Ledger::read(&admin).reservations.is_empty());
    Ledger::read(&admin).assert_consistent();
    for (host, before) in hosts.iter().zip(&links) {
        assert_eq!(host.link_names(), *before);
    }
}
