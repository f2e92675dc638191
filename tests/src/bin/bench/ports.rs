//! Pods' ports: how soon all of them are back in a bridge that was deleted.

use std::fs;
use std::thread;
use std::time::Duration;

use octavia_bridge_tests::agent::POLICY;
use octavia_bridge_tests::changes::{span, until};
use octavia_bridge_tests::statistics::quantile;
use octavia_bridge_tests::table::{Row, Unit};
use octavia_bridge_tests::{Agent, Changes, Lab, conf};

use crate::keeper::CALM;
use crate::peers::batch_in;

const PORTS: usize = 100;
const ROUNDS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(20);

/// From the kernel's message that the bridge is gone to its last about a port, with the plugin's records; against `ip -batch`
/// that does the same to a new bridge and its ports. How long the kernel takes to release the ports is not ours.
pub(crate) fn figures(lab: &Lab) -> Vec<Row> {
    let (node, switch) = (lab.node("ports"), lab.node("ports-switch"));
    lab.trunk(&node, &switch);
    node.ip("link set lo up");
    fs::create_dir_all(node.data_dir()).expect("create the agent's folder");
    let keeper = Agent::beside_plugin(&node).keep(POLICY);
    let in_force = || node.link("enp6s0").is_some_and(|link| link.is_up() && link.master() == Some("octbr"));
    until(PATIENCE, "the policy is in force", in_force);
    let mut pods = Vec::new();
    for number in 0..PORTS {
        let pod = node.pod(&format!("pod{number}"));
        let attached = pod.add(&conf::layer2()).run().attached();
        pods.push((pod, attached));
    }
    let are_back = || {
        let links = node.links();
        links.iter().filter(|link| link.master() == Some("octbr") && link.is_up()).count() == PORTS + 1
    };
    let mut changes = Changes::of(&node);
    let mut ours = Vec::new();
    for _ in 0..ROUNDS {
        thread::sleep(CALM);
        changes.take();
        node.ip("link del octbr");
        until(PATIENCE, "all ports are back", are_back);
        ours.push(after_deletion(&changes.take()));
    }
    drop(keeper);
    let mut batch = String::from("link add octbr type bridge\nlink set octbr up\n");
    for name in pods.iter().map(|(_, attached)| attached.host_link()).chain(["enp6s0"]) {
        let words = format!(
            "link set {name} down\nlink set {name} master octbr\nlink set {name} type bridge_slave guard on\nlink set {name} up\n"
        );
        batch.push_str(&words);
    }
    let mut peers = Vec::new();
    for _ in 0..ROUNDS {
        node.ip("link del octbr");
        changes.take();
        batch_in(&node, &batch);
        until(PATIENCE, "all ports are back", are_back);
        peers.push(span(&changes.take()).as_secs_f64() * 1000.0);
    }
    let name = format!("{PORTS} pods' ports back in a deleted bridge");
    let medians = [&mut ours, &mut peers].map(|values| quantile(values, 0.5));
    let longest = [&mut ours, &mut peers].map(|values| quantile(values, 1.0));
    vec![
        Row::new(format!("{name}, median"), Unit::Milliseconds, medians[0], medians[1]).most(100.0),
        Row::new("the same, longest", Unit::Milliseconds, longest[0], longest[1]).most(100.0),
    ]
}

/// Milliseconds.
fn after_deletion(lines: &[String]) -> f64 {
    let is_last = |line: &String| line.contains("Deleted") && line.contains(" octbr:");
    let deleted = lines.iter().position(is_last).expect("the bridge was deleted");
    span(&lines[deleted..]).as_secs_f64() * 1000.0
}
