//! Checks across entries that need no kernel.

use super::merge::Merge;
use super::problem::Findings;
use super::{Interface, Ip, Kind, State};

/// Smallest MTU of a link with IPv6 (RFC 8200, section 5). The kernel takes IPv6 off a link with less.
const MIN_IPV6_MTU: u32 = 1280;

pub(crate) fn check(merge: &Merge, findings: &Findings) {
    for (source, interface) in &merge.interfaces {
        let invalid = |key: &str, text: String| findings.invalid(format!("{}.{key}", source.path), text);
        if matches!(interface.state, State::Absent | State::Ignore) {
            continue;
        }
        if interface.mtu.is_some_and(|mtu| mtu < MIN_IPV6_MTU) && wants_addresses(interface.ipv6.as_ref()) {
            invalid("mtu", format!("IPv6 needs at least {MIN_IPV6_MTU} bytes"));
        }
        for port in interface.ports() {
            check_port(merge, interface, port, &invalid);
        }
        if let Some(Kind::Vlan { base: Some(base), .. }) = &interface.kind {
            check_base(merge, interface, base, &invalid);
        }
        if cycle(merge, &interface.name) {
            invalid("name", format!("{} stands on itself by way of bases and ports", interface.name));
        }
    }
}

fn find<'a>(merge: &'a Merge, name: &str) -> Option<&'a Interface> {
    merge.interfaces.iter().map(|(_, interface)| interface).find(|interface| interface.name == name)
}

fn wants_addresses(ip: Option<&Ip>) -> bool {
    ip.is_some_and(|ip| {
        ip.enabled != Some(false) && ip.addresses.as_ref().is_some_and(|list| !list.is_empty())
    })
}

fn check_port(merge: &Merge, controller: &Interface, port: &str, invalid: &impl Fn(&str, String)) {
    let rival = merge.interfaces.iter().map(|(_, interface)| interface).find(|other| {
        other.name != controller.name
            && other.state == State::Up
            && other.ports().iter().any(|name| name == port)
    });
    // Each of the two says it; one of them is enough.
    if let Some(rival) = rival.filter(|rival| rival.name > controller.name) {
        invalid("port", format!("{port} is a port of {} as well", rival.name));
    }
    let Some(entry) = find(merge, port) else { return };
    if entry.state == State::Absent {
        invalid("port", format!("{port} is to be absent"));
    }
    let bridge = matches!(controller.kind, Some(Kind::Bridge { .. }));
    if bridge && matches!(entry.kind, Some(Kind::Bridge { .. } | Kind::Loopback | Kind::Vrf { .. })) {
        invalid("port", format!("{port} is of a type that cannot be a port of a bridge"));
    }
    if bridge && (wants_addresses(entry.ipv4.as_ref()) || wants_addresses(entry.ipv6.as_ref())) {
        // What arrives at the port goes to the bridge: the address would never answer.
        invalid("port", format!("{port} has addresses, which a port of a bridge cannot have"));
    }
}

fn check_base(merge: &Merge, vlan: &Interface, base: &str, invalid: &impl Fn(&str, String)) {
    let Some(entry) = find(merge, base) else { return };
    match entry.state {
        State::Absent => invalid("vlan.base-iface", format!("{base} is to be absent")),
        // The kernel cannot set a VLAN up whose parent is down (ENETDOWN).
        State::Down if vlan.state == State::Up => {
            invalid("vlan.base-iface", format!("{base} is to be down, so {} cannot be up", vlan.name));
        }
        _ => {}
    }
    if let (Some(mtu), Some(most)) = (vlan.mtu, entry.mtu)
        && mtu > most
    {
        invalid("mtu", format!("{mtu} exceeds the {most} bytes of its base interface {base}"));
    }
}

/// Whether what the interface stands on, bases and ports, leads back to it.
fn cycle(merge: &Merge, start: &str) -> bool {
    let beneath = |name: &str| -> Vec<String> {
        let Some(entry) = find(merge, name) else { return Vec::new() };
        let mut next = entry.ports().to_vec();
        if let Some(Kind::Vlan { base: Some(base), .. }) = &entry.kind {
            next.push(base.clone());
        }
        next
    };
    let mut seen: Vec<String> = Vec::new();
    let mut open = beneath(start);
    while let Some(name) = open.pop() {
        if name == start {
            return true;
        }
        if !seen.contains(&name) {
            open.extend(beneath(&name));
            seen.push(name);
        }
    }
    false
}
