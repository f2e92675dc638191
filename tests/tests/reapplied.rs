//! The agent applies what is in force already, with pods attached and talking: nothing is written, no packet is lost.

use std::fs;
use std::time::Duration;

use octavia_bridge_tests::traffic::{Echo, expect_answer};
use octavia_bridge_tests::{Agent, Attached, Changes, Lab, Pod, Stream, conf};

/// A bridge over `enp6s0`, as the Octavia policy has it over a VLAN, which not every kernel has.
const POLICY: &str = "
interfaces:
- name: octbr
  description: Configuring bridge octbr
  type: linux-bridge
  state: up
  mtu: 1500
  bridge: {options: {stp: {enabled: false}}, port: [{name: enp6s0, vlan: {}}]}
";
/// How often, and how often under strace, which is slow.
const ROUNDS: usize = 1000;
const TRACED: usize = 5;
const PATIENCE: Duration = Duration::from_secs(10);

/// Two nodes joined by a cable, two pods on the first and one on the other.
fn scene(lab: &Lab) -> ([Agent; 2], [(Pod, Attached); 3]) {
    let first = lab.node("node1");
    let second = lab.node_on_disk_of("node2", &first);
    lab.trunk(&first, &second);
    let agents = [Agent::on(&first, "node1"), Agent::on(&second, "node2")];
    for agent in &agents {
        agent.ok("apply", POLICY);
    }
    let pods = [&first, &first, &second].map(|node| {
        let pod = node.pod("pod");
        let attached = pod.add(&conf::octavia()).run().attached();
        (pod, attached)
    });
    for (pod, attached) in &pods {
        let _echo = Echo::start(pod, attached.ip());
        for (other, _) in pods.iter().filter(|(other, _)| other.container_id() != pod.container_id()) {
            expect_answer(other, attached.ip(), PATIENCE);
        }
    }
    (agents, pods)
}

#[test]
fn a_thousand_times_it_writes_nothing_and_costs_no_packet() {
    let lab = Lab::new();
    let ([node, _other], pods) = scene(&lab);
    let before = node.snapshot(&[&pods[0].0, &pods[1].0]);
    let kept =
        || fs::metadata(node.path("agent/desired.json")).and_then(|file| file.modified()).expect("kept");
    let written = kept();
    let mut changes = Changes::of(&node);
    // On the node, across the trunk, and each both ways.
    let streams = [(0, 1), (1, 0), (0, 2), (2, 0)].map(|(from, to)| {
        let (target, attached) = &pods[to];
        Stream::start(&pods[from].0, target, attached.ip())
    });
    for round in 0..ROUNDS {
        assert_eq!(node.ok("apply", POLICY), "nothing to do\n", "round {round}");
    }
    for count in streams.map(Stream::end) {
        assert!(count.sent > 500, "the streams were too short to prove anything: {count:?}");
        assert!(count.lost.is_empty(), "{count:?}");
    }
    let told = changes.take();
    assert!(told.is_empty(), "{told:#?}");
    node.snapshot(&[&pods[0].0, &pods[1].0]).assert_same_as(&before);
    assert_eq!(kept(), written, "the kept state was written again");
}

#[test]
fn it_asks_the_kernel_questions_only() {
    let lab = Lab::new();
    let ([node, _other], _pods) = scene(&lab);
    let log = node.path("requests");
    let strace = ["strace", "-f", "-qq", "-e", "trace=sendto,sendmsg", "-o", log.to_str().expect("UTF-8")];
    for _ in 0..TRACED {
        let answer = node.run_under(&strace, "apply", POLICY);
        assert_eq!(
            (answer.status, answer.stdout.as_str()),
            (Some(0), "nothing to do\n"),
            "{}",
            answer.stderr
        );
        let requests = fs::read_to_string(&log).expect("read what strace saw");
        let of_kind = |kind: &str| requests.matches(&format!("nlmsg_type={kind}")).count();
        assert!(of_kind("RTM_GET") > 0, "strace saw no request: {requests}");
        // A request of a kind that strace does not know by name would not begin with RTM_GET either.
        assert_eq!(of_kind("RTM_GET"), of_kind(""), "{requests}");
    }
    // The same count does see what an apply with something to do writes.
    node.ip("link set octbr mtu 1400");
    assert_eq!(node.run_under(&strace, "apply", POLICY).status, Some(0));
    let requests = fs::read_to_string(&log).expect("read what strace saw");
    assert!(requests.contains("nlmsg_type=RTM_NEWLINK"), "{requests}");
}
