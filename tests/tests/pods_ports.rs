//! Pods' ports that have lost their bridge: the agent puts back recorded ports without a bridge, and reports all others.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use octavia_bridge_tests::agent::{Keeper, POLICY};
use octavia_bridge_tests::changes::until;
use octavia_bridge_tests::traffic::{Echo, expect_answer, ping};
use octavia_bridge_tests::{Agent, Attached, Lab, Node, Pod, conf};
use serde_json::{Value, json};

/// What the agent does takes milliseconds; the machine may be busy.
const SOON: Duration = Duration::from_secs(10);
/// Long enough that what has not happened by then was not about to.
const LATER: Duration = Duration::from_millis(500);

/// A node with an agent that keeps `octbr`, and the other end of its cable.
struct Scene {
    agent: Agent,
    keeper: Keeper,
    switch: Node,
    node: Node,
}

/// A pod with what its ADD answered.
type Attachment = (Pod, Attached);

impl Scene {
    fn new() -> Self {
        Self::with("")
    }

    fn with(words: &str) -> Self {
        let lab = Lab::new();
        let (node, switch) = (lab.node("node1"), lab.node("switch"));
        lab.trunk(&node, &switch);
        node.ip("link set lo up");
        fs::create_dir_all(node.data_dir()).expect("make the agent's folder");
        let agent = Agent::beside_plugin(&node);
        let keeper = agent.keep_with(POLICY, words);
        until(SOON, "octbr has its uplink", || {
            node.link("enp6s0").is_some_and(|link| link.master() == Some("octbr"))
        });
        Self { agent, keeper, switch, node }
    }

    fn attach(&self, name: &str) -> Attachment {
        let pod = self.node.pod(name);
        let attached = pod.add(&checked()).run().attached();
        (pod, attached)
    }

    fn is_in(&self, pod: &Attachment, bridge: &str) -> bool {
        let link = self.node.expect_link(pod.1.host_link());
        link.master() == Some(bridge) && link.is_up()
    }

    /// What the agent says of what is missing.
    fn ready(&self) -> String {
        self.agent.run("health ready", "").stdout
    }

    #[track_caller]
    fn says(&self, level: &str, part: &str) {
        let ready = || {
            self.ready()
                .lines()
                .any(|line| line.starts_with(&format!("{level:<5} ports")) && line.contains(part))
        };
        until(SOON, &format!("a line \"{level} ports … {part}\""), ready);
    }

    #[track_caller]
    fn doctor_says(&self, level: &str, part: &str) {
        let said = self.agent.run("doctor", "").stdout;
        let found =
            said.lines().any(|line| line.starts_with(&format!("{level:<5} ports")) && line.contains(part));
        assert!(found, "no line \"{level} ports … {part}\" in\n{said}");
    }

    #[track_caller]
    fn doctor_says_not(&self, part: &str) {
        let said = self.agent.run("doctor", "").stdout;
        assert!(!said.lines().any(|line| line[6..].starts_with("ports") && line.contains(part)), "{said}");
    }

    fn metric(&self, name: &str) -> String {
        let page = self.node.run(|| {
            let address = SocketAddr::from(([127, 0, 0, 1], 29808));
            let mut stream = TcpStream::connect(address).expect("connect to the agent");
            let request = "GET /metrics HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).expect("ask");
            let mut page = String::new();
            stream.read_to_string(&mut page).expect("read the answer");
            page
        });
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("octavia_bridge_{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {page}")).to_owned()
    }
}

/// Octavia's network in a version that has CHECK.
fn checked() -> Value {
    conf::octavia_with(json!({"cniVersion": "1.0.0"}))
}

/// The same on another bridge.
fn checked_on(bridge: &str) -> Value {
    conf::octavia_with(json!({"cniVersion": "1.0.0", "bridge": bridge}))
}

#[test]
fn a_bridge_that_is_deleted_comes_back_with_its_pods() {
    let scene = Scene::new();
    scene.switch.ip("addr add 172.23.0.150/24 dev enp6s0");
    let pods: Vec<Attachment> = (0..3).map(|_| scene.attach("worker")).collect();
    scene.doctor_says("ok", "3 of pods, each up in its bridge");
    let (router, first): (IpAddr, IpAddr) = ([172, 23, 0, 150].into(), pods[0].1.ip());
    let _echoes = [Echo::start(&scene.switch, router), Echo::start(&pods[0].0, first)];
    expect_answer(&pods[1].0, first, SOON);
    for _ in 0..2 {
        scene.node.ip("link del octbr");
        for pod in &pods[1..] {
            expect_answer(&pod.0, router, SOON);
            expect_answer(&pod.0, first, SOON);
        }
    }
    for pod in &pods {
        assert!(scene.is_in(pod, "octbr"));
        assert_eq!(
            scene.node.expect_link(pod.1.host_link()).port("guard"),
            true,
            "a BPDU still closes the port"
        );
        pod.0.check(&checked(), &pod.1.result).run().silent_success();
    }
    assert_eq!(
        (scene.metric("pod_ports_put_back_total"), scene.metric("pod_ports_out_of_bridge")),
        ("6".into(), "0".into())
    );
    assert!(!scene.ready().contains(" ports "), "{}", scene.ready());
}

#[test]
fn a_port_that_is_released_or_set_down_is_put_back_and_its_pod_ends_as_ever() {
    let scene = Scene::new();
    let pods = [scene.attach("worker"), scene.attach("housekeeping")];
    let first = pods[0].1.ip();
    let echo = Echo::start(&pods[0].0, first);
    for fault in ["nomaster", "down"] {
        scene.node.ip(&format!("link set {} {fault}", pods[0].1.host_link()));
        until(SOON, fault, || scene.is_in(&pods[0], "octbr"));
        expect_answer(&pods[1].0, first, SOON);
    }
    // Without an agent they stay away, and one that starts finds them.
    let Scene { mut keeper, agent, node, switch } = scene;
    keeper.stop();
    node.ip(&format!("link set {} nomaster", pods[0].1.host_link()));
    assert!(ping(&pods[1].0, first, LATER).is_none());
    let keeper = agent.keep(POLICY);
    let scene = Scene { agent, keeper, switch, node };
    until(SOON, "put back at the start", || scene.is_in(&pods[0], "octbr"));
    drop(echo);
    let before = scene.node.links().len();
    pods[0].0.del(&conf::octavia()).run().success();
    assert_eq!(scene.node.links().len(), before - 1);
    scene.doctor_says("ok", "1 of pods");
}

#[test]
fn a_port_of_another_bridge_is_left_and_told() {
    let scene = Scene::new();
    let pod = scene.attach("worker");
    scene.node.ip("link add quarantine type bridge");
    scene.node.ip("link set quarantine up");
    scene.node.ip(&format!("link set {} master quarantine", pod.1.host_link()));
    scene.says("note", "is a port of quarantine instead of octbr");
    thread::sleep(LATER);
    assert!(scene.is_in(&pod, "quarantine"));
    scene.doctor_says("warn", "is a port of quarantine instead of octbr");
    assert_eq!(scene.metric("pod_ports_out_of_bridge"), "1");
    // That bridge goes, and the port is free.
    scene.node.ip("link del quarantine");
    until(SOON, "put back", || scene.is_in(&pod, "octbr"));
    until(SOON, "told", || scene.metric("pod_ports_out_of_bridge") == "0");
    scene.node.ip(&format!("link set {} type bridge_slave isolated on", pod.1.host_link()));
    scene.doctor_says("warn", "is an isolated port of octbr");
}

#[test]
fn a_bridge_of_no_policy_is_only_told() {
    let scene = Scene::new();
    let pod = scene.node.pod("worker");
    let attached = pod.add(&conf::octavia_with(json!({"bridge": "other"}))).run().attached();
    scene.node.ip(&format!("link set {} nomaster", attached.host_link()));
    scene.says("note", "is not a port of other; no policy keeps other");
    thread::sleep(LATER);
    assert_eq!(scene.node.expect_link(attached.host_link()).master(), None);
    scene.doctor_says("fail", "is not a port of other");
}

#[test]
fn what_no_free_and_complete_record_names_is_left() {
    let scene = Scene::new();
    let pods: Vec<Attachment> = (0..5).map(|_| scene.attach("worker")).collect();
    let record = |pod: &Attachment| {
        scene.node.run_dir().join("attachments").join(format!("{}@net1.jsonl", pod.0.container_id()))
    };
    let text = |pod: &Attachment| fs::read_to_string(record(pod)).expect("read the record");
    // The agent has not read any of them yet: nothing was amiss.
    let half = text(&pods[0]).lines().next().expect("the intent").to_owned() + "\n";
    fs::write(record(&pods[0]), half).expect("tear the record");
    fs::write(record(&pods[1]), text(&pods[1]).replace("\"hostLink\":", "\"hostLink\":1"))
        .expect("forge the record");
    scene.node.ip(&format!("link set {} alias stranger", pods[2].1.host_link()));
    let lock = File::open(record(&pods[3])).expect("open the record");
    lock.lock().expect("lock it as ADD and DEL do");
    let mut links: Vec<&str> = pods.iter().map(|pod| pod.1.host_link()).collect();
    // Its name is not the one that the plugin derives for this attachment. Locked meanwhile, or the agent sets it up again.
    let held = File::open(record(&pods[4])).expect("open the record");
    held.lock().expect("lock it as ADD and DEL do");
    scene.node.ip(&format!("link set {} down", links[4]));
    scene.node.ip(&format!("link set {} name renamed", links[4]));
    links[4] = "renamed";
    drop(held);
    for link in &links {
        scene.node.ip(&format!("link set {link} nomaster"));
    }
    thread::sleep(LATER);
    for (link, pod) in links.iter().zip(&pods) {
        assert_eq!(scene.node.expect_link(link).master(), None, "{}", text(pod));
    }
    lock.unlock().expect("unlock");
    until(SOON, "its lock is free", || scene.is_in(&pods[3], "octbr"));
    scene.node.ip(&format!("link set renamed name {}", pods[4].1.host_link()));
    until(SOON, "it has its name again", || scene.is_in(&pods[4], "octbr"));
}

#[test]
fn a_port_that_is_released_again_and_again_is_told_and_holds_up_no_other() {
    let scene = Scene::new();
    let pods = [scene.attach("worker"), scene.attach("housekeeping")];
    let deadline = Instant::now() + SOON;
    while !scene.ready().contains("another program undoes it time and again") {
        assert!(Instant::now() < deadline, "{}", scene.ready());
        if scene.is_in(&pods[0], "octbr") {
            scene.node.ip(&format!("link set {} nomaster", pods[0].1.host_link()));
        }
        thread::sleep(Duration::from_millis(5));
    }
    scene.node.ip(&format!("link set {} nomaster", pods[1].1.host_link()));
    let told = Instant::now();
    until(SOON, "the other one", || scene.is_in(&pods[1], "octbr"));
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
    until(SOON, "that one when the pause is over", || scene.is_in(&pods[0], "octbr"));
}

#[test]
fn a_node_whose_administrator_says_so_keeps_them_away() {
    let scene = Scene::with("--leave-pod-ports");
    let pod = scene.attach("worker");
    scene.node.ip(&format!("link set {} nomaster", pod.1.host_link()));
    scene.says("note", "--leave-pod-ports leaves it");
    thread::sleep(LATER);
    assert_eq!(scene.node.expect_link(pod.1.host_link()).master(), None);
    assert_eq!(scene.metric("pod_ports_out_of_bridge"), "1");
}

/// The time is printed and not asserted: it also depends on the machine.
#[test]
fn a_hundred_ports_come_back_together() {
    let scene = Scene::new();
    let pods: Vec<Attachment> = (0..100)
        .map(|_| {
            let pod = scene.node.pod("worker");
            let conf = conf::octavia_with(json!({"ipam": {"range_end": "172.23.0.149"}}));
            let attached = pod.add(&conf).run().attached();
            (pod, attached)
        })
        .collect();
    scene.node.ip("link del octbr");
    until(SOON, "all of them", || scene.node.ports("octbr").len() == pods.len() + 1);
    for pod in &pods {
        until(SOON, "up", || scene.is_in(pod, "octbr"));
    }
    until(SOON, "told", || scene.keeper.log().contains("100 ports of pods put back"));
    let log = scene.keeper.log();
    println!("{}", log.lines().find(|line| line.contains("ports of pods put back")).unwrap_or_default());
}

#[test]
fn a_bridge_without_an_uplink_is_told_unless_the_node_routes_by_it() {
    let scene = Scene::new();
    let _pod = scene.attach("worker");
    let misspelt = checked_on("octbt");
    let lost = scene.node.pod("lost");
    lost.add(&misspelt).run().attached();
    scene.doctor_says("fail", "octbt has no uplink, so its pods (1) reach only each other");
    scene.node.ip("addr add 10.9.0.1/24 dev octbt");
    scene.doctor_says_not("octbt");
    scene.node.ip("addr del 10.9.0.1/24 dev octbt");
    scene.node.ip("link add cable type veth peer name far");
    scene.node.ip("link set cable master octbt");
    scene.doctor_says_not("octbt");
    scene.node.ip("link del cable");
    scene.node.ip("link add above link octbt type macvlan");
    scene.doctor_says_not("octbt");
    scene.node.ip("link del above");
    scene.doctor_says("fail", "octbt has no uplink");
    lost.del(&misspelt).run().success();
    scene.doctor_says_not("no uplink");
}

#[test]
fn a_port_that_is_deleted_is_missed_while_its_pod_lives() {
    let scene = Scene::new();
    let pods = [scene.attach("worker"), scene.attach("housekeeping")];
    scene.doctor_says("ok", "2 of pods");
    let port = pods[0].1.host_link();
    scene.node.ip(&format!("link del {port}"));
    scene.doctor_says("fail", &format!("{port} (net1 of "));
    scene.doctor_says("fail", "in octbr does not exist, and the pod's network namespace still exists");
    pods[0].0.del(&checked()).run().success();
    scene.doctor_says("ok", "1 of pods");
}
