//! The part against the whole, on a namespace with pods.

use std::panic::resume_unwind;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};

use super::super::read::read;
use super::*;

fn ip(words: &str) {
    let output = Command::new("ip").args(words.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_part_says_of_its_links_what_the_whole_says() {
    let inside = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace: run as root, or under unshare");
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(compare());
    };
    thread::spawn(inside).join().unwrap_or_else(|panic| resume_unwind(panic));
}

async fn compare() {
    for words in [
        "link set lo up",
        "link add octbr type bridge",
        "link add enp6s0 type veth peer name wire",
        "link set enp6s0 master octbr up",
        "link add eth0 type veth peer name cable",
        "link add br0 type bridge",
        "link set eth0 master br0 up",
        "link set br0 up",
        "link set wire up",
        "link set cable up",
        "addr add 10.1.0.1/24 dev br0",
        "addr add 10.2.0.1/24 dev octbr",
        "link set octbr up",
        "addr add 10.3.0.1/24 dev cable",
        "route add default via 10.1.0.9",
        "route add 10.7.0.0/16 nexthop via 10.1.0.8 nexthop via 10.2.0.8 nexthop via 10.3.0.8",
        "route add 10.8.0.0/16 via 10.2.0.8 table 10",
        "route add 10.9.0.0/16 via 10.3.0.8 table 11",
        "route add 10.9.0.0/16 via 10.3.0.8 table 12",
    ] {
        ip(words);
    }
    for pod in 0..FEW {
        ip(&format!("link add veth{pod} type veth peer name pod{pod}"));
        ip(&format!("link set veth{pod} master octbr up"));
    }
    let netlink = Netlink::open().await.unwrap();
    let mut whole = read(&netlink).await.unwrap();
    let names: BTreeSet<String> = ["octbr", "enp6s0", "missing"].map(Into::into).into();
    let tables = BTreeSet::from([(Some(11), true)]);
    let scope = Scope { names, tables, whole: true, ..Scope::default() };
    let part = read_scope(&netlink, &scope).await.unwrap();

    let links: Vec<&str> = part.links.keys().map(String::as_str).collect();
    assert_eq!(links, ["br0", "enp6s0", "eth0", "lo", "octbr"]);
    for (name, link) in &part.links {
        let known = &whole.links[name];
        // Nobody has named the loopback; it is here for what it says of the kernel.
        if name == "lo" {
            assert_eq!(link.ipv6, known.ipv6);
        } else {
            assert_eq!(link, known, "{name}");
        }
    }
    assert_eq!(part.default_links(), BTreeSet::from(["br0".to_owned()]));
    whole.routes.retain(|route| route.table == 11 || links.iter().any(|link| route.uses(link)));
    let sorted = |observed: &Observed| {
        let mut lines: Vec<String> = observed.routes.iter().map(|route| format!("{route:?}")).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&part), sorted(&whole));
    assert_eq!(part.routes.len(), 4);

    // Told to look at the ports, it finds so many that it reads everything.
    let ports_of = BTreeSet::from(["octbr".to_owned()]);
    let all = read_scope(&netlink, &Scope { ports_of, ..scope }).await.unwrap();
    assert_eq!(all.ports("octbr").count(), FEW + 1);
}
