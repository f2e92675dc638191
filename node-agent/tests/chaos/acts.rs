//! What others do.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::chance::Chance;
use crate::others;
use crate::world::World;

/// The agent's own files, below the state directory.
const FILES: [&str; 5] = ["desired.json", "bridges.json", "links.json", "cut-off.json", "journal.jsonl"];

/// Does one thing by chance, and says what.
pub(crate) fn act(world: &mut World<'_>, chance: &mut Chance) -> String {
    match chance.below(12) {
        0..=5 => command(world, chance),
        6 => {
            let words = others::pods_port(&world.pods, chance);
            world.try_ip(&words);
            format!("ip {words}")
        }
        7 => {
            world.kill();
            thread::sleep(Duration::from_millis(chance.below(20)));
            // What nobody hears of.
            let said = if chance.one_in(2) { command(world, chance) } else { "nothing".into() };
            world.start();
            format!("kill the agent, {said}, start it")
        }
        8 => {
            world.signal(Signal::SIGSTOP);
            let said = [command(world, chance), command(world, chance)].join(", ");
            world.signal(Signal::SIGCONT);
            format!("at once: {said}")
        }
        9 => others::damage(&world.node.path("state/agent"), &FILES, chance),
        10 => others::fill_or_free(&world.node.path("state")),
        _ => {
            world.new_policy(chance);
            // A process that has just begun does not listen to it yet, and ends. It finds the file's change by itself.
            if world.node.run("health live", "").status == 0 {
                world.signal(Signal::SIGHUP);
            }
            "another policy".into()
        }
    }
}

fn command(world: &World<'_>, chance: &mut Chance) -> String {
    let words = match chance.below(9) {
        0 if world.wiring.way_out => "route del default".into(),
        1 if world.wiring.tagged => "link del enp6s0.24".into(),
        _ => others::command(chance, &world.wiring.nics()),
    };
    world.try_ip(&words);
    format!("ip {words}")
}
