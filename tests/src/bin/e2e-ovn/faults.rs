//! Faults, and how long a listening pod hears nothing of its amphora. A pod of the reference plugin listens beside it.

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use octavia_bridge_tests::agent::POLICY;
use octavia_bridge_tests::changes::until;
use octavia_bridge_tests::table::line;

use crate::addresses::AMPHORA;
use crate::heartbeats::{Ears, Heart};
use crate::pods::{Attached, HEALTH_MANAGER, Template, index_of, reference};
use crate::topology::{Cloud, Worker};

/// The reference plugin's pod, outside all pools.
const REFERENCE: &str = "172.23.0.200";
/// How long what comes back at all may take; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a pod of the reference plugin is waited for.
const WATCHED: Duration = Duration::from_secs(4);
/// How long all goes on when all is well, so that a later silence shows.
const AFTER: Duration = Duration::from_millis(500);
/// Until a daemon that was killed is started again, by what supervises it.
const RESTART: Duration = Duration::from_secs(1);

/// The cloud with its listeners: a health manager on the gateway's node and one on the other, each at its addresses of both families
/// and at a predictable one, and a pod of the reference plugin on the gateway's node.
struct Scene<'a> {
    cloud: &'a mut Cloud,
    reference: Option<Attached>,
    ours: Ears,
    theirs: Ears,
    other: Ears,
    /// The gateway's Open vSwitch pod, while it is not there.
    gone: Option<Template>,
    is_met: bool,
}

/// Makes the faults one after another, and prints the longest silence of each. Returns whether all targets were met.
///
/// # Panics
/// If our pods hear nothing any more.
pub(crate) fn all(cloud: &mut Cloud) -> bool {
    let (node, name) = (cloud.workers[0].node.clone(), "reference".to_owned());
    let pod = Template { node, name, conf: reference(REFERENCE), aliases: Vec::new() }.start(&cloud.programs);
    let [near, far] = cloud.pods_of(HEALTH_MANAGER);
    // The predictable address is not announced when the pod is made anew.
    let own = |pod: &Attached| [&pod.addresses[..], &[pod.known_as(0)]].concat();
    let [ours, other] = [near, far].map(|manager| Ears::new(&manager.pod, &own(manager)));
    let theirs = Ears::new(&pod.pod, &pod.addresses);
    let addresses = [&ours, &other, &theirs].into_iter().flat_map(Ears::addresses).collect();
    let _heart = Heart::start(&cloud.amphora, addresses);
    let mut scene = Scene { cloud, reference: Some(pod), ours, theirs, other, gone: None, is_met: true };
    line("");
    let heads = ["gateway's node", "other node", "reference", "target"];
    print("longest silence, heartbeats every 20 ms", heads);
    scene.measure("listening pod made anew with its address", 300, |scene| scene.remake_pods(0));
    scene.measure("octbr deleted, with all pods' ports", 500, |scene| {
        scene.gateway().node.ip("link del octbr");
    });
    scene.measure("uplink released from octbr", 500, |scene| {
        scene.gateway().node.ip("link set enp6s0 nomaster");
    });
    scene.measure("uplink set down", 500, |scene| {
        scene.gateway().node.ip("link set enp6s0 down");
    });
    scene.measure("cable of the gateway's node out for 2 s", 2500, |scene| {
        scene.cloud.switch.ip("link set node1 down");
        thread::sleep(Duration::from_secs(2));
        scene.cloud.switch.ip("link set node1 up");
    });
    scene.measure("agent killed, started 1 s later", 200, |scene| {
        scene.end_agent(Signal::SIGKILL);
        scene.start_agent();
    });
    scene.measure("agent ended as for an upgrade, started 1 s later", 200, |scene| {
        scene.end_agent(Signal::SIGTERM);
        scene.start_agent();
    });
    scene.measure("agent dead, uplink released, agent started 1 s later", 2000, |scene| {
        scene.end_agent(Signal::SIGKILL);
        scene.gateway().node.ip("link set enp6s0 nomaster");
        scene.start_agent();
    });
    scene.measure("gateway's Open vSwitch pod made anew at once", 10_000, |scene| {
        scene.end_gateway();
        scene.start_gateway();
    });
    scene.measure("gateway's Open vSwitch pod deleted: failover", 5000, |scene| {
        scene.end_gateway();
        until(PATIENCE, "the other gateway has the router", || {
            scene.cloud.central.gateway() == scene.cloud.workers[1].chassis.name
        });
    });
    scene.measure("that pod back, until it is the gateway again", 10_000, |scene| {
        scene.start_gateway();
        scene.wait_for_gateway();
    });
    // Last, since the pod stays there.
    scene.measure("listening pod moved to the other node", 300, |scene| scene.remake_pods(1));
    scene.is_met
}

impl Scene<'_> {
    /// Prints the longest silence around a fault.
    fn measure(&mut self, name: &str, target: u64, fault: impl FnOnce(&mut Self)) {
        self.put_reference_back();
        if self.gone.is_none() {
            self.wait_for_gateway();
        }
        let start = Instant::now();
        until(PATIENCE, "all listeners hear the amphora before the fault", || {
            [&self.ours, &self.theirs, &self.other].iter().all(|ears| ears.hear(start))
        });
        let began = Instant::now();
        fault(self);
        let ended = Instant::now();
        let wait = |limit: Duration, all: &[&Ears]| {
            while ended.elapsed() < limit && !all.iter().all(|ears| ears.hear(ended)) {
                thread::sleep(Duration::from_millis(5));
            }
            all.iter().all(|ears| ears.hear(ended))
        };
        let is_back = wait(PATIENCE, &[&self.ours, &self.other]);
        let is_theirs_back = wait(WATCHED, &[&self.theirs]);
        thread::sleep(AFTER);
        let now = Instant::now();
        let [ours, theirs, other] =
            [&self.ours, &self.theirs, &self.other].map(|ears| ears.silence(began, now));
        let target = Duration::from_millis(target);
        let is_met = ours.max(other) <= target;
        let theirs = if is_theirs_back { seconds(theirs) } else { format!("never in {}", seconds(theirs)) };
        let verdict = format!("<= {} {}", seconds(target), if is_met { "met" } else { "missed" });
        print(name, [&seconds(ours), &seconds(other), &theirs, &verdict]);
        assert!(is_back, "not heard of any more within {PATIENCE:?}: {name}");
        self.is_met &= is_met;
    }

    fn gateway(&mut self) -> &mut Worker {
        &mut self.cloud.workers[0]
    }

    /// Ends the health manager, makes it anew on a node, and then the same with the reference plugin's pod.
    fn remake_pods(&mut self, worker: usize) {
        let node = self.cloud.workers[worker].node.clone();
        let programs = &self.cloud.programs;
        let remake = |old: Attached, ears: &mut Ears| {
            ears.close();
            let addresses = old.addresses.clone();
            let mut template = old.end();
            template.keep(&addresses, &node);
            let new = template.start(programs);
            assert_eq!(new.addresses, addresses, "another address");
            ears.open(&new.pod);
            new
        };
        let pods = &mut self.cloud.workers[0].pods;
        let index = index_of(HEALTH_MANAGER);
        let new = remake(pods.remove(index), &mut self.ours);
        pods.insert(index, new);
        self.reference = self.reference.take().map(|old| remake(old, &mut self.theirs));
    }

    /// What an administrator would do for the reference plugin's pod: its port back into the bridge, and a word from the pod, by
    /// which the router learns its MAC address.
    fn put_reference_back(&self) {
        let Some(reference) = &self.reference else { return };
        reference.pod.node().ip(&format!("link set {} master octbr", reference.host_link));
        let socket = reference.pod.run(|| UdpSocket::bind((REFERENCE, 0))).expect("open a socket");
        let _sent = socket.send_to(b"here I am", (AMPHORA, 9));
    }

    /// Ends the agent of the gateway's node by a signal. Only one that was asked to end has an exit status.
    fn end_agent(&mut self, signal: Signal) {
        let ended = self.gateway().keeper.end(signal);
        assert_eq!(ended, (signal == Signal::SIGTERM).then_some(0), "the agent's end by {signal}");
    }

    /// Starts it after [`RESTART`]. The old process is gone, so the answer is the new one's: its policy is in force.
    fn start_agent(&mut self) {
        thread::sleep(RESTART);
        let worker = self.gateway();
        worker.keeper = worker.agent.keep(POLICY);
        until(PATIENCE, "the new agent is ready", || worker.agent.run("health ready", "").status == Some(0));
    }

    /// Open vSwitch of the gateway's node, its pod, and the pod's cables.
    fn end_gateway(&mut self) {
        let worker = &mut self.cloud.workers[0];
        worker.chassis.stop();
        let template = worker.pods.remove(0).end();
        worker.chassis.wait_until_unplugged(&self.cloud.switch);
        self.gone = Some(template);
    }

    /// Waits until the router's outer port is on the first node.
    fn wait_for_gateway(&self) {
        let first = &self.cloud.workers[0].chassis.name;
        until(PATIENCE, "the first node's chassis is the gateway", || self.cloud.central.gateway() == *first);
    }

    fn start_gateway(&mut self) {
        let template = self.gone.take().expect("the gateway's pod was ended");
        let worker = &mut self.cloud.workers[0];
        worker.pods.insert(0, template.start(&self.cloud.programs));
        worker.chassis.start(&worker.pods[0].pod, &self.cloud.switch);
    }
}

fn print(name: &str, cells: [&str; 4]) {
    let [ours, other, theirs, target] = cells;
    line(&format!("{name:52}  {ours:>14}  {other:>10}  {theirs:>15}  {target}"));
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
