//! The way of a frame from a bridge to the wire: ports that forward, MTUs that do not shrink, a cable that is in.

use octavia_bridge_netlink::{Link, LinkKind, PortState};

use super::Finding;
use crate::node::desired::{Desired, Kind, State};

const CHECK: &str = "path";

/// One finding for each uplink of each bridge that is there; the plan reports what is missing.
pub(super) fn paths(desired: &Desired, links: &[Link]) -> Vec<Finding> {
    let bridges = desired
        .interfaces
        .iter()
        .filter(|entry| entry.state == State::Up && matches!(entry.kind, Some(Kind::Bridge { .. })));
    let named = |name: &str| links.iter().find(|link| link.is_called(name));
    let mut findings = Vec::new();
    for entry in bridges {
        let Some(bridge) = named(&entry.name) else { continue };
        if entry.ports().is_empty() {
            findings.push(Finding::ok(CHECK, format!("{} has no uplink, as the policy says", entry.name)));
        }
        for uplink in entry.ports().iter().filter_map(|name| named(name)) {
            findings.push(path(bridge, uplink, links));
        }
    }
    findings
}

fn path(bridge: &Link, uplink: &Link, links: &[Link]) -> Finding {
    let mut way = vec![bridge, uplink];
    while let Some(link) =
        way.last().and_then(|link| base(link)).and_then(|index| links.iter().find(|link| link.index == index))
    {
        way.push(link);
    }
    let words: Vec<String> = way.iter().map(|link| format!("{} ({} bytes)", link.name, link.mtu)).collect();
    let words = words.join(" over ");
    if let Some(down) = way.iter().find(|link| !link.up) {
        return Finding::fail(
            CHECK,
            format!("{} is down: {words}", down.name),
            format!("ip link set {} up", down.name),
        );
    }
    if let Some(dead) = way.iter().skip(1).rev().find(|link| !link.carrier) {
        let remedy = "look at the cable, the switch's port, and `ethtool`";
        return Finding::fail(CHECK, format!("{} has no carrier: {words}", dead.name), remedy);
    }
    if let Some(port) = &uplink.port
        && port.state != PortState::Forwarding
    {
        let text = format!("{} is {:?} in {}, not forwarding", uplink.name, port.state, bridge.name);
        return Finding::fail(CHECK, text, "switch the spanning tree protocol off, or wait for it");
    }
    if let Some(pair) = way.windows(2).find(|pair| pair[0].mtu > pair[1].mtu) {
        let text = format!("{words}: {} drops frames longer than {} bytes", pair[1].name, pair[1].mtu);
        return Finding::warn(
            CHECK,
            text,
            format!("raise the MTU of {}, or lower that of {}", pair[1].name, bridge.name),
        );
    }
    Finding::ok(CHECK, words)
}

/// What a VLAN stands on, in the same namespace. A VLAN cannot stand on itself, so this comes to an end.
fn base(link: &Link) -> Option<u32> {
    let here = matches!(link.kind, LinkKind::Vlan { .. }) && link.parent_namespace.is_none();
    link.parent.filter(|_| here)
}

#[cfg(test)]
mod tests {
    use octavia_bridge_netlink::BridgeOptions;

    use super::*;
    use crate::commands::doctor::Level;
    use crate::node::desired::{Choice, Text, read};

    fn link(index: u32, name: &str, mtu: u32, parent: Option<u32>) -> Link {
        Link { index, name: name.into(), mtu, up: true, carrier: true, parent, ..Link::default() }
    }

    fn octavia() -> [Link; 3] {
        let bridge = LinkKind::Bridge(BridgeOptions::default());
        [
            link(2, "enp6s0", 1500, None),
            Link {
                kind: LinkKind::Vlan { id: 24, protocol: 0x8100 },
                master: Some(4),
                ..link(3, "enp6s0.24", 1500, Some(2))
            },
            Link { kind: bridge, ..link(4, "octbr", 1500, None) },
        ]
    }

    #[track_caller]
    fn found(links: &[Link], level: Level, part: &str) {
        let yaml = include_str!("../../../tests/fixtures/octavia.yaml").to_owned();
        let desired = read(&[Text { origin: "-".into(), yaml }], &Choice::default()).unwrap();
        let findings = paths(&desired, links);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].level == level && findings[0].text.contains(part), "{findings:?}");
    }

    #[test]
    fn each_hindrance_on_the_way_is_named() {
        found(
            &octavia(),
            Level::Ok,
            "octbr (1500 bytes) over enp6s0.24 (1500 bytes) over enp6s0 (1500 bytes)",
        );
        let changed = |change: fn(&mut [Link; 3])| {
            let mut links = octavia();
            change(&mut links);
            links
        };
        let unplugged = changed(|links| links[..2].iter_mut().for_each(|link| link.carrier = false));
        found(&unplugged, Level::Fail, "enp6s0 has no carrier");
        found(&changed(|links| links[1].up = false), Level::Fail, "enp6s0.24 is down: ");
        found(&changed(|links| links[1].mtu = 1400), Level::Warn, "enp6s0.24 drops frames longer than 1400");
        found(&changed(|links| links[0].mtu = 1400), Level::Warn, "enp6s0 drops frames longer than 1400");
        // A bridge without any port that is up has no carrier of its own, which says nothing about the uplink.
        found(&changed(|links| links[2].carrier = false), Level::Ok, "octbr");
    }
}
