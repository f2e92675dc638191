//! What holds for every plan, tried on many nodes and policies.

use ipnet::IpNet;
use octavia_bridge_netlink::LinkOption;
use proptest::prelude::*;

use super::*;
use crate::node::desired::{Interface, Ip};
use crate::node::observed::{Hop, Route};

const NICS: [&str; 2] = ["enp1s0", "enp2s0"];
const VLANS: [&str; 3] = ["v1", "v2", "v3"];
const BRIDGES: [&str; 2] = ["br1", "br2"];

fn address() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (1..4u8).prop_map(|n| format!("10.0.0.{n}/24").parse().unwrap()),
        (1..4u8).prop_map(|n| format!("fd00::{n}/64").parse().unwrap()),
    ]
}

/// A link of any state; IPv6 addresses only where the kernel would keep them.
fn seen(kind: Seen) -> impl Strategy<Value = Link> {
    let state = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        prop::sample::select(vec![1400, 1500, 9000]),
    );
    (state, prop::collection::btree_set(address(), 0..3)).prop_map(
        move |((up, is_ours, disabled, accept_ra, forwards, mtu), addresses)| {
            let keeps = |net: &IpNet| net.addr().is_ipv4() || (up && !disabled);
            Link {
                kind: kind.clone(),
                up,
                alias: ours().filter(|_| is_ours && kind != Seen::Ethernet).map(Into::into),
                ipv6: Some(Ipv6 { disabled, accept_ra, forwards, always: false }),
                addresses: addresses.into_iter().filter(keeps).map(Address::plain).collect(),
                ..nic(mtu)
            }
        },
    )
}

prop_compose! {
    /// Two NICs, perhaps VLANs on them and bridges, with pods in those, and a route.
    fn observed()(
        nics in [seen(Seen::Ethernet), seen(Seen::Ethernet)],
        vlans in [seen(Seen::Ethernet), seen(Seen::Ethernet), seen(Seen::Ethernet)],
        bridges in [seen(Seen::Bridge { stp: true }), seen(Seen::Bridge { stp: false })],
        present in prop::collection::vec(any::<bool>(), 8),
        bases in prop::collection::vec((0..2usize, 1..4u16, prop::option::of(0..2usize), any::<bool>()), 3),
    ) -> Observed {
        let mut node = node(&[]);
        for (n, link) in nics.into_iter().enumerate().filter(|(n, _)| present[*n] || *n == 0) {
            node.links.insert(NICS[n].into(), link);
        }
        for (n, link) in bridges.into_iter().enumerate().filter(|(n, _)| present[2 + n]) {
            let options = [(LinkOption::MacAgeingTime, 30_000)].into();
            node.links.insert(BRIDGES[n].into(), Link { options, ..link });
            if present[6 + n] {
                node.links.insert(format!("veth{n}"), veth(BRIDGES[n]));
            }
        }
        for (n, mut link) in vlans.into_iter().enumerate().filter(|(n, _)| present[4 + n]) {
            let (base, id, master, is_ours) = bases[n];
            let Some(beneath) = node.links.get(NICS[base]) else { continue };
            let taken = node.vlans_on(NICS[base]).any(|other| matches!(node.links[other].kind, Seen::Vlan { id: i, .. } if i == id));
            if taken {
                continue;
            }
            link.mtu = link.mtu.min(beneath.mtu);
            // The kernel sets it down along with its base.
            link.up &= beneath.up;
            let up = link.up;
            link.addresses.retain(|one| one.is_v4() || up);
            link.kind = Seen::Vlan { base: NICS[base].into(), id };
            link.alias = ours().filter(|_| is_ours).map(Into::into);
            link.master = master.map(|n| BRIDGES[n].to_owned()).filter(|name| node.links.contains_key(name));
            if link.master.is_some() {
                link.options = model::OF_NEW_PORT.into();
            }
            node.links.insert(VLANS[n].into(), link);
        }
        let up: Vec<String> = node.links.iter().filter(|(_, link)| link.up).map(|(name, _)| name.clone()).collect();
        node.routes = up.iter().take(2).map(|link| Route {
            destination: "10.7.0.0/16".parse().unwrap(),
            table: 254,
            metric: 0,
            protocol: 4,
            source: None,
            mtu: None,
            hops: vec![Hop { link: link.clone(), gateway: None, weight: 1, onlink: false }],
            detail: None,
        }).collect();
        node
    }
}

fn ip() -> impl Strategy<Value = Option<Ip>> {
    let addresses = prop::option::of(prop::collection::vec((1..4u8).prop_map(|n| n), 0..2));
    prop::option::of((any::<bool>(), addresses).prop_map(|(enabled, addresses)| {
        let nets = addresses
            .map(|list| list.into_iter().map(|n| format!("10.0.0.{n}/24").parse().unwrap()).collect());
        Ip { enabled: Some(enabled), addresses: nets.filter(|_| enabled), autoconf: None }
    }))
}

prop_compose! {
    fn wanted(name: &'static str, kind: Kind)(
        state in prop::sample::select(vec![State::Up, State::Up, State::Up, State::Down, State::Absent]),
        mtu in prop::option::of(prop::sample::select(vec![1400, 1500, 9000])),
        ipv4 in ip(),
        ipv6 in prop::option::of(any::<bool>()),
        described in any::<bool>(),
        ageing in prop::option::of(prop::sample::select(vec![1000, 30_000])),
    ) -> Interface {
        let ageing = ageing.filter(|_| matches!(kind, Kind::Bridge { .. }));
        let options = ageing.map(|value| (LinkOption::MacAgeingTime, value)).into_iter().collect();
        let ipv6 = ipv6.map(|enabled| Ip { enabled: Some(enabled), addresses: None, autoconf: None });
        let description = described.then(|| "text".to_owned());
        Interface { name: name.into(), kind: Some(kind.clone()), state, description, mtu, mac: None, ipv4, ipv6, options, port_options: BTreeMap::default(), port_vlans: BTreeMap::default() }
    }
}

fn interface(n: usize) -> BoxedStrategy<Interface> {
    if n < 2 {
        return wanted(NICS[n], Kind::Ethernet).boxed();
    }
    if n < 5 {
        let kind = (0..2usize, 1..4u16).prop_map(|(base, id)| (NICS[base].to_owned(), id));
        return kind
            .prop_flat_map(move |(base, id)| {
                wanted(VLANS[n - 2], Kind::Vlan { base: Some(base), id: Some(id) })
            })
            .boxed();
    }
    // The ports of the two bridges come from different sets, so that none is in both.
    let ports: Vec<&str> = if n == 5 { vec!["v1", "v2"] } else { vec!["v3", "enp2s0"] };
    (prop::option::of(prop::sample::subsequence(ports, 0..=2)), prop::option::of(any::<bool>()))
        .prop_flat_map(move |(ports, stp)| {
            let ports = ports.map(|list| list.into_iter().map(ToOwned::to_owned).collect());
            wanted(BRIDGES[n - 5], Kind::Bridge { ports, stp })
        })
        .boxed()
}

fn desired() -> impl Strategy<Value = Desired> {
    prop::sample::subsequence((0..7usize).collect::<Vec<_>>(), 0..=7)
        .prop_flat_map(|which| which.into_iter().map(interface).collect::<Vec<_>>())
        .prop_map(|interfaces| Desired { interfaces, ..Desired::default() })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_reaches_its_aim_can_be_undone_and_leaves_others_alone(
        observed in observed(),
        desired in desired(),
    ) {
        // Conflicts are frequent among policies made by chance; those say nothing.
        prop_assume!(well_formed(&desired));
        let Ok(plan) = checked(&desired, &observed) else { return Err(TestCaseError::reject("conflict")) };
        let done = after(&observed, &plan);
        // Whether there is something to do is told by a part of what is there.
        if let Ok(quick) = super::plan(&desired, &part(&observed, &desired)) && quick.steps.is_empty() {
            prop_assert_eq!(&quick, &plan);
        }
        prop_assert_eq!(super::plan(&desired, &part(&done, &desired)), super::plan(&desired, &done));
        let declared = scope(&desired).names;
        for (name, before) in &observed.links {
            let now = done.links.get(name);
            prop_assert!(now.is_some() || before.is_ours(), "{name} was deleted");
            // What this plan made a port of a bridge has no addresses and no IPv6 any more.
            let master = |links: &BTreeMap<String, Link>| links.get(name).and_then(|link| link.master.clone());
            if let Some(now) = now.filter(|_| master(&done.links).is_some() && master(&done.links) != master(&observed.links)) {
                prop_assert!(now.addresses.is_empty() && now.ipv6.is_none_or(|ipv6| ipv6.disabled), "{name}: {now:?}");
                prop_assert!(!done.routes.iter().any(|route| route.uses(name)), "{name}");
            }
            if name.starts_with("veth") {
                prop_assert_eq!(now, Some(before));
            }
            // A VLAN goes down with its base, and with it its IPv6 addresses.
            let fell = match &before.kind {
                Seen::Vlan { base, .. } => done.links.get(base).is_none_or(|base| !base.up),
                _ => false,
            };
            if !declared.contains(name) && !fell {
                // But for the MTU, which the kernel lowers with the base interface's, and for a base
                // interface set up for a VLAN on it, with the addresses it then may have.
                let now = now.unwrap();
                prop_assert!(now.up || !before.up, "{name} was set down");
                // A bridge that is deleted lets its ports go.
                let released = before.master.as_ref().is_some_and(|master| !done.links.contains_key(master));
                let master = if released { before.master.clone() } else { now.master.clone() };
                let options = if released { before.options.clone() } else { now.options.clone() };
                let kept = Link { mtu: before.mtu, up: before.up, master, options, ..now.clone() };
                prop_assert_eq!(&kept, before, "{}", name);
            }
            if matches!(before.kind, Seen::Bridge { .. }) && observed.ports(name).any(|port| port.starts_with("veth")) {
                prop_assert_eq!(&now.unwrap().mac, &before.mac);
            }
        }
    }
}

/// What is read first, before it is known that there is something to do: see [`Scope`].
fn part(observed: &Observed, desired: &Desired) -> Observed {
    let scope = scope(desired);
    let mut names: Vec<String> = scope.names.iter().cloned().collect();
    let mut part = Observed::default();
    while let Some(name) = names.pop() {
        let Some(link) = observed.links.get(&name).filter(|_| !part.links.contains_key(&name)) else {
            continue;
        };
        names.extend(link.master.clone());
        if let Seen::Vlan { base, .. } = &link.kind {
            names.push(base.clone());
        }
        let addresses = if scope.addresses_of.contains(&name) { link.addresses.clone() } else { Vec::new() };
        part.links.insert(name, Link { addresses, ..link.clone() });
    }
    assert!(scope.tables.is_empty(), "no policy here speaks of routes");
    part
}

/// What reading a document would have let through.
fn well_formed(desired: &Desired) -> bool {
    let find = |name: &str| desired.interfaces.iter().find(|other| other.name == name);
    desired.interfaces.iter().all(|entry| {
        let ports_fit = entry.ports().iter().all(|port| {
            find(port).is_none_or(|port| {
                let is_on = |ip: &Option<Ip>| ip.as_ref().is_some_and(|ip| ip.enabled == Some(true));
                port.state != State::Absent && !is_on(&port.ipv4) && !is_on(&port.ipv6)
            })
        });
        let base_fits = match &entry.kind {
            Some(Kind::Vlan { base: Some(base), .. }) if entry.state != State::Absent => find(base)
                .is_none_or(|base| {
                    base.state == State::Up && entry.mtu.zip(base.mtu).is_none_or(|(a, b)| a <= b)
                }),
            _ => true,
        };
        (entry.state == State::Absent || ports_fit) && base_fits
    })
}
