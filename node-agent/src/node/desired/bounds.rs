//! Checks across entries that need no kernel.

use std::collections::{BTreeMap, BTreeSet};

use super::merge::Merge;
use super::problem::Findings;
use super::stack::Stack;
use super::{Interface, Ip, Kind, State};

/// Smallest MTU of a link with IPv6 (RFC 8200, section 5). The kernel takes IPv6 off a link with less.
const MIN_IPV6_MTU: u32 = 1280;

/// Most links that a node's policies may name together, and most routes. A plan of so many takes milliseconds.
pub(super) const MOST: usize = 1024;
/// Most links above each other, the lowest counted: the kernel's `MAX_NEST_DEV` (include/linux/netdevice.h), by which the
/// planner's recursion is bounded as well.
const HIGHEST: usize = 8;

/// What the checks look things up in.
struct Index<'a> {
    entries: BTreeMap<&'a str, &'a Interface>,
    /// Bridges and VRFs that are to be up, by each of their ports.
    controllers: BTreeMap<&'a str, Vec<&'a str>>,
    /// VLANs that are to be there, by base interface and id: the first of each.
    vlans: BTreeMap<(&'a str, u16), &'a str>,
    stack: Stack<'a>,
}

impl<'a> Index<'a> {
    /// The entry of this name, unless it asks for nothing.
    fn asked_for(&self, name: &str) -> Option<&'a Interface> {
        self.entries.get(name).copied().filter(|entry| entry.state != State::Ignore)
    }
}

pub(crate) fn check(merge: &Merge, findings: &Findings) {
    if !few_enough(merge, findings) {
        return;
    }
    let interfaces = || merge.interfaces.iter().map(|(_, interface)| interface);
    let mut index = Index {
        entries: interfaces().map(|interface| (interface.name.as_str(), interface)).collect(),
        controllers: BTreeMap::new(),
        vlans: BTreeMap::new(),
        stack: Stack::of(interfaces()),
    };
    for interface in interfaces().filter(|interface| interface.state == State::Up) {
        for port in interface.ports() {
            index.controllers.entry(port).or_default().push(&interface.name);
        }
    }
    for interface in interfaces().filter(|one| matches!(one.state, State::Up | State::Down)) {
        if let Some(Kind::Vlan { base: Some(base), id: Some(id) }) = &interface.kind {
            index.vlans.entry((base, *id)).or_insert(&interface.name);
        }
    }
    for (source, interface) in &merge.interfaces {
        let invalid = |key: &str, text: String| findings.invalid(format!("{}.{key}", source.path), text);
        // Whatever is to become of it: what stands on it is planned by way of it.
        let name = &interface.name;
        if index.stack.is_circular(name) {
            invalid("name", format!("{name} stands on itself by way of bases and ports"));
        }
        // Those that stand on this one would only say so again.
        if index.stack.height(name) == Some(HIGHEST + 1) {
            let most = format!("the kernel stacks at most {HIGHEST} links, and {name} is one more");
            invalid("name", format!("{name} stands on {HIGHEST} links by way of bases and ports: {most}"));
        }
        if matches!(interface.state, State::Absent | State::Ignore) {
            continue;
        }
        if interface.mtu.is_some_and(|mtu| mtu < MIN_IPV6_MTU) && wants_addresses(interface.ipv6.as_ref()) {
            invalid("mtu", format!("IPv6 needs at least {MIN_IPV6_MTU} bytes"));
        }
        for port in interface.ports() {
            check_port(&index, interface, port, &invalid);
        }
        if let Some(Kind::Vlan { base: Some(base), id }) = &interface.kind {
            check_base(&index, interface, base, &invalid);
            let first = id.and_then(|id| index.vlans.get(&(base.as_str(), id)));
            if let Some(first) = first.filter(|first| **first != interface.name) {
                invalid("vlan.id", format!("{base} already has a VLAN with this id: {first}"));
            }
        }
    }
    check_next_hops(merge, findings);
}

/// Before anything else is looked at: whether there are so few entries that looking takes no time.
fn few_enough(merge: &Merge, findings: &Findings) -> bool {
    let mut names = BTreeSet::new();
    for (source, interface) in &merge.interfaces {
        names.insert(interface.name.as_str());
        names.extend(interface.ports().iter().map(String::as_str));
        if names.len() > MOST {
            findings.invalid(
                &source.path,
                format!(
                    "with it more than {MOST} links are named, which is the most that a node can have here"
                ),
            );
            return false;
        }
    }
    match merge.routes.get(MOST) {
        Some((source, _)) => {
            findings.invalid(&source.path, format!("a node can have at most {MOST} routes here"));
            false
        }
        None => true,
    }
}

/// Entries with a weight and the same destination are next hops of one route, and the kernel makes one of IPv6 routes
/// also without.
fn check_next_hops(merge: &Merge, findings: &Findings) {
    const MOST: usize = octavia_bridge_netlink::Route::MAX_NEXT_HOPS;
    let mut hops: BTreeMap<_, usize> = BTreeMap::new();
    for (source, route) in merge.routes.iter().filter(|(_, route)| !route.absent) {
        let Some(place) = route.place() else { continue };
        if route.weight.is_none() && place.0.addr().is_ipv4() {
            continue;
        }
        let count = hops.entry(place).or_default();
        *count += 1;
        if *count == MOST + 1 {
            let text = format!("one next hop to {} too many: a route has at most {MOST}", place.0);
            findings.invalid(&source.path, text);
        }
    }
}

fn wants_addresses(ip: Option<&Ip>) -> bool {
    ip.is_some_and(|ip| {
        ip.enabled != Some(false) && ip.addresses.as_ref().is_some_and(|list| !list.is_empty())
    })
}

fn check_port(index: &Index<'_>, controller: &Interface, port: &str, invalid: &impl Fn(&str, String)) {
    let rivals = index.controllers.get(port);
    let rival = rivals.into_iter().flatten().find(|name| **name != controller.name);
    // Each of the two says it; one of them is enough.
    if let Some(rival) = rival.filter(|rival| **rival > controller.name.as_str()) {
        invalid("port", format!("{port} is a port of {rival} as well"));
    }
    if port == "lo" {
        invalid("port", "lo cannot be a port".to_owned());
    }
    let Some(entry) = index.asked_for(port) else { return };
    if entry.state == State::Absent {
        invalid("port", format!("{port} is to be absent"));
    }
    let Some(sort) = controller.takes_frames() else { return };
    let cannot_be = match entry.kind {
        Some(Kind::Bridge { .. } | Kind::Loopback | Kind::Vrf { .. }) => true,
        Some(Kind::Bond { .. }) => sort == "bond",
        _ => false,
    };
    if cannot_be {
        invalid("port", format!("{port} is of a type that cannot be a port of a {sort}"));
    }
    // What arrives at the port goes to the bridge or bond: an address would never answer.
    if wants_addresses(entry.ipv4.as_ref()) || wants_addresses(entry.ipv6.as_ref()) {
        invalid("port", format!("{port} has addresses, which a port of a {sort} cannot have"));
    }
}

fn check_base(index: &Index<'_>, vlan: &Interface, base: &str, invalid: &impl Fn(&str, String)) {
    if base == "lo" {
        invalid("vlan.base-iface", "lo carries no VLANs".to_owned());
    }
    let Some(entry) = index.asked_for(base) else { return };
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
