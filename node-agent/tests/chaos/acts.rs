//! What others do.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::chance::Chance;
use crate::world::World;

/// The agent's own files, below the state directory.
const FILES: [&str; 5] = ["desired.json", "bridges.json", "links.json", "cut-off.json", "journal.jsonl"];

/// Does one thing by chance, and says what.
pub(crate) fn act(world: &mut World<'_>, chance: &mut Chance) -> String {
    match chance.below(12) {
        0..=5 => command(world, chance),
        6 => pods_port(world, chance),
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
        9 => damage(world, chance),
        10 => {
            let fill = world.node.path("state/fill");
            if fill.exists() {
                drop(fs::remove_file(fill));
                return "the disk has room again".into();
            }
            // As much of it as fits is written.
            drop(fs::write(fill, vec![b'x'; 1 << 20]));
            "the disk is full".into()
        }
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
    let bridge = *chance.of(&["octbr", "octbr", "ospbr"]);
    let nic = *chance.of(&world.wiring.nics());
    let words = match chance.below(18) {
        0 => format!("link set {bridge} down"),
        1 => format!("link del {bridge}"),
        2 => format!("link set {nic} nomaster"),
        3 => format!("link set {nic} down"),
        4 => format!("link set {bridge} mtu 1300"),
        5 => format!("link set {nic} mtu 1300"),
        6 => format!("link set {bridge} alias sw1"),
        7 => format!("addr flush dev {bridge}"),
        8 => format!("addr add 10.77.0.1/24 dev {bridge}"),
        9 => format!("link set {bridge} type bridge stp_state 1"),
        10 => format!("link set {nic} master foreign"),
        11 => format!("link add {bridge} type bridge"),
        12 => format!("link set {bridge} address 02:00:00:00:00:{:02x}", chance.below(256)),
        13 => "route del 172.31.0.0/16".into(),
        14 => format!("link set {bridge} alias octavia-bridge"),
        // Not the one of the node that no policy names.
        15 if world.wiring.way_out => "route del default".into(),
        16 if world.wiring.tagged => "link del enp6s0.24".into(),
        _ => format!("link add {bridge} type veth peer name {bridge}-peer"),
    };
    world.try_ip(&words);
    format!("ip {words}")
}

fn pods_port(world: &World<'_>, chance: &mut Chance) -> String {
    let pod = chance.of(&world.pods);
    let what = chance.of(&["nomaster", "down", "master foreign", "nomaster down"]);
    world.try_ip(&format!("link set {pod} {what}"));
    format!("ip link set {pod} {what}")
}

/// A file of the agent's as a crash, another release or a person may leave it.
fn damage(world: &World<'_>, chance: &mut Chance) -> String {
    let name = chance.of(&FILES);
    let path = world.node.path("state/agent").join(name);
    let Ok(text) = fs::read(&path) else { return format!("no {name} to damage") };
    let (how, new) = match chance.below(4) {
        0 => ("empty", Vec::new()),
        1 => ("cut", text[..text.len() / 2].to_vec()),
        2 => ("nonsense", b"\xff\xfe{".to_vec()),
        _ => {
            drop(fs::remove_file(&path));
            return format!("{name} is removed");
        }
    };
    // On a full disk less of it is there.
    drop(fs::write(&path, new));
    format!("{name} is {how}")
}
