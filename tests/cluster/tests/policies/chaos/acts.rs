//! What others do to the node, to the agent and to the objects of the API.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::chance::Chance;
use super::world::{STATES, World};
use super::{faults, others};
use crate::scene::ENACTMENTS;

/// The agent's own files, below the state directory. Without the first one a new process knows only what the API tells.
const FILES: [&str; 5] = ["desired.json", "bridges.json", "links.json", "cut-off.json", "journal.jsonl"];

/// Does one thing by chance, and says what. While the API `is_away` for the agent, nothing that it has to do with the agent.
pub(super) fn act(world: &mut World<'_>, chance: &mut Chance, is_away: bool) -> String {
    match chance.below(if is_away { 13 } else { 20 }) {
        0..=3 => command(world, chance),
        4 => {
            let words = others::pods_port(&world.pods, chance);
            world.try_ip(&words);
            format!("ip {words}")
        }
        5 | 6 => {
            world.node.kill();
            thread::sleep(Duration::from_millis(chance.below(20)));
            // What nobody hears of.
            let said = match chance.below(3) {
                0 => "nothing".into(),
                1 => command(world, chance),
                _ => world.policies.change(world.scene, chance),
            };
            world.node.start();
            format!("kill the agent, {said}, start it")
        }
        7 => {
            world.node.signal("STOP");
            let mut said = vec![command(world, chance), command(world, chance)];
            if chance.one_in(2) {
                said.push(world.policies.change(world.scene, chance));
            }
            world.node.signal("CONT");
            format!("at once: {}", said.join(", "))
        }
        8 if world.looks_often() => {
            let files = if is_away { &FILES[1..] } else { &FILES[..] };
            world.policies.may_be_forgotten();
            others::damage(&world.node.file("state/agent"), files, chance)
        }
        8 | 9 => others::fill_or_free(&world.node.file("state")),
        10..=12 => world.policies.change(world.scene, chance),
        13..=15 => faults::trouble(world, chance),
        16 => {
            let name = chance.of(&super::policies::NAMES);
            let mut path = format!("{ENACTMENTS}/{}.{}", world.node.name, world.scene.called(name));
            if chance.one_in(3) {
                path = format!("{STATES}/{}", world.node.name);
                world.state_is_deleted = true;
            }
            let status = world.scene.admin.call("DELETE", &path, None).status;
            format!("delete {path}: {status}")
        }
        17 => register_anew(world, chance),
        18 => {
            // No policy selects it for a moment.
            world.node.set_label(&world.scene.label(), &Value::Null);
            let said = command(world, chance);
            thread::sleep(Duration::from_millis(chance.below(200)));
            world.node.set_label(&world.scene.label(), &json!(""));
            world.policies.may_be_forgotten();
            format!("the node's label goes, {said}, and it comes back")
        }
        _ => {
            let name = chance.of(&super::policies::NAMES);
            let retry = json!({"metadata": {"annotations": {"octavia-bridge.io/retry": chance.below(9).to_string()}}});
            let status = world.scene.admin.call("PATCH", &world.scene.path(name), Some(&retry)).status;
            format!("ask for another try of {name}: {status}")
        }
    }
}

fn command(world: &World<'_>, chance: &mut Chance) -> String {
    let words = others::command(chance, &others::NICS);
    world.try_ip(&words);
    format!("ip {words}")
}

/// The node is deleted, and kubelet registers it anew. What it owned is collected in between, or later.
fn register_anew(world: &mut World<'_>, chance: &mut Chance) -> String {
    let path = format!("/api/v1/nodes/{}", world.node.name);
    world.scene.admin.delete(&path);
    let is_prompt = chance.one_in(2);
    if is_prompt {
        world.collect();
    }
    thread::sleep(Duration::from_millis(chance.below(200)));
    world.scene.register(&world.node.name);
    world.state_is_deleted = false;
    format!(
        "the node is registered anew, what it owned is collected {}",
        if is_prompt { "before" } else { "later" }
    )
}
