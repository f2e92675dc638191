//! What other programs do to a node with the links of these policies, and what of theirs has to stay.

use std::fs;
use std::path::Path;

use super::chance::Chance;

pub(crate) const NICS: [&str; 3] = ["enp6s0", "enp7s0", "enp8s0"];
pub(crate) const BRIDGES: [&str; 2] = ["octbr", "ospbr"];
/// Of others, the last one with the node's default route.
pub(crate) const OWN: [&str; 3] = ["foreign", "theirs", "up0"];

/// The further NICs, the node's own way out, and another program's bridge: words for `ip`.
pub(crate) const SURROUNDINGS: [&str; 13] = [
    "link add enp7s0 type veth peer name wire7",
    "link add enp8s0 type veth peer name wire8",
    "link add up0 type veth peer name router0",
    "link set up0 up",
    "link set router0 up",
    "addr add 10.0.0.5/24 dev up0",
    "route add default via 10.0.0.1",
    "link add foreign type bridge",
    "link set foreign up alias another-program",
    "addr add 10.8.0.1/24 dev foreign",
    "route add 10.9.0.0/16 via 10.8.0.2 dev foreign",
    "link add theirs type veth peer name theirs-peer",
    "link set theirs master foreign up",
];

/// Everything of others that these links have, which stays as it is. `ip` returns what the program prints.
pub(crate) fn belongings(links: &[&str], ip: impl Fn(&str) -> String) -> String {
    let mut text = String::new();
    for link in links {
        let line = ip(&format!("-o link show dev {link}"));
        // Carrier comes and goes with others' ports.
        let words = line.split_whitespace().skip(4).collect::<Vec<_>>().join(" ");
        text.push_str(&words.replace("state UP", "").replace("state DOWN", ""));
        text.push_str(&ip(&format!("-4 -o addr show dev {link}")));
    }
    for link in links {
        text.push_str(&ip(&format!("-4 route show dev {link}")).replace(" linkdown", ""));
    }
    text
}

/// Words for `ip` that change a policy's link: a bridge, or one of the `nics`.
pub(crate) fn command(chance: &mut Chance, nics: &[&str]) -> String {
    let bridge = *chance.of(&["octbr", "octbr", "ospbr"]);
    let nic = *chance.of(nics);
    match chance.below(16) {
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
        _ => format!("link add {bridge} type veth peer name {bridge}-peer"),
    }
}

/// Words for `ip` that change a pod's port.
pub(crate) fn pods_port(pods: &[String], chance: &mut Chance) -> String {
    let pod = chance.of(pods);
    let what = chance.of(&["nomaster", "down", "master foreign", "nomaster down"]);
    format!("link set {pod} {what}")
}

/// Leaves one of the `files` in a directory as a crash, another release or a person may leave it.
pub(crate) fn damage(directory: &Path, files: &[&str], chance: &mut Chance) -> String {
    let name = *chance.of(files);
    let path = directory.join(name);
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

/// Fills the disk of a directory, or makes room there again.
pub(crate) fn fill_or_free(directory: &Path) -> String {
    let fill = directory.join("fill");
    if fill.exists() {
        drop(fs::remove_file(fill));
        return "the disk has room again".into();
    }
    // As much of it as fits is written.
    drop(fs::write(fill, vec![b'x'; 1 << 20]));
    "the disk is full".into()
}
