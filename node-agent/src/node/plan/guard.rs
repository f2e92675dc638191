//! Whether a plan could cut the node off from the rest of the world.

use std::collections::BTreeSet;
use std::net::IpAddr;

use octavia_bridge_netlink::LinkOption;

use super::{NewLink, Planned, Step};
use crate::node::observed::{DefaultRoute, Kind, Link, MAIN_TABLE, Observed, Route, Setting};

/// What a plan could cut off.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Danger {
    /// The first step that could, in words.
    pub(crate) step: String,
    /// Default routes that it, or a later one, could cut.
    pub(crate) defaults: Vec<DefaultRoute>,
}

/// By which links packets leave to an address.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Way {
    pub(crate) to: IpAddr,
    pub(crate) links: BTreeSet<String>,
}

/// What the steps could cut off of the node's own default routes, of each family the best; `None` if nothing, as with a
/// new VLAN and a bridge over it, a first default route, and one that is worse than another.
pub(crate) fn danger(observed: &Observed, steps: &[Planned]) -> Option<Danger> {
    let mut best = Vec::new();
    for default in best_defaults(observed) {
        let carriers = carriers(observed, BTreeSet::from([default.link.clone()]));
        best.push((default, carriers));
    }
    let mut danger: Option<Danger> = None;
    for step in steps.iter().map(|planned| &planned.apply) {
        for (default, carriers) in &best {
            let is_cut = match step {
                Step::AddRoute(route) => overtakes(route, default),
                Step::RemoveRoute(route) => is_it(route, default),
                other => touches(other, carriers),
            };
            if !is_cut {
                continue;
            }
            let danger =
                danger.get_or_insert_with(|| Danger { step: step.to_string(), defaults: Vec::new() });
            if !danger.defaults.contains(default) {
                danger.defaults.push(default.clone());
            }
        }
    }
    danger
}

/// The first step that could cut the way to one address, in words.
pub(crate) fn cuts(observed: &Observed, steps: &[Planned], way: &Way) -> Option<String> {
    let carriers = carriers(observed, way.links.clone());
    let cuts = |step: &&Step| match step {
        Step::AddRoute(route) | Step::RemoveRoute(route) => {
            let is_default = route.destination.prefix_len() == 0;
            route.table == MAIN_TABLE && !is_default && route.destination.contains(&way.to)
        }
        // The subnet's route comes with it, and the address itself is the node's own from then on.
        Step::AddAddress { link, address, .. } => {
            address.addr() == way.to || (address.contains(&way.to) && !way.links.contains(link))
        }
        other => touches(other, &carriers),
    };
    steps.iter().map(|planned| &planned.apply).find(cuts).map(ToString::to_string)
}

/// Whether a step touches a link that has to do with the node's own addresses or routes: only then it is worth to ask by
/// which way an address is reached.
pub(crate) fn may_cut(observed: &Observed, steps: &[Planned]) -> bool {
    let mut carrying: BTreeSet<String> = observed.default_links();
    for (name, link) in &observed.links {
        if link.addresses.iter().any(|one| !one.net.addr().is_loopback())
            || observed.routes.iter().any(|route| route.uses(name))
        {
            carrying.insert(name.clone());
        }
    }
    let carriers = carriers(observed, carrying);
    steps.iter().map(|planned| &planned.apply).any(|step| match step {
        Step::AddRoute(route) | Step::RemoveRoute(route) => route.table == MAIN_TABLE,
        Step::AddAddress { .. } => !carriers.is_empty(),
        other => touches(other, &carriers),
    })
}

/// Whether a step does to one of these links what could keep it from passing packets.
fn touches(step: &Step, links: &BTreeSet<String>) -> bool {
    let touched = match step {
        Step::SetUp { link, up: false }
        | Step::SetMtu { link, .. }
        | Step::SetMac { link, .. }
        | Step::SetMaster { link, .. }
        | Step::SetBond { link, .. }
        // Frames of VLANs that a port lacks are dropped.
        | Step::SetPortVlans { link, .. }
        | Step::SetOption { link, option: LinkOption::VlanFiltering, .. }
        | Step::SetIpv6 { link, setting: Setting::Disabled, on: true }
        | Step::RemoveAddress { link, .. } => link,
        Step::Delete(new) => &new.name,
        _ => return false,
    };
    links.contains(touched)
}

/// The steps that bring the links of the node's default routes back, in order, and that cut off nothing: a port that another
/// program has taken out of its bridge, links that are down, a bridge whose ports listen because of STP.
pub(crate) fn restoring(observed: &Observed, steps: &[Planned]) -> Vec<Planned> {
    let best = best_defaults(observed).into_iter().map(|default| default.link).collect();
    let mut ways = carriers(observed, best);
    let mut back = BTreeSet::new();
    for step in steps.iter().rev().map(|planned| &planned.apply) {
        match step {
            Step::SetMaster { link, master: Some(master) }
                if ways.contains(master)
                    && observed.links.get(master).is_some_and(Link::is_bridge)
                    && is_free(observed, link) =>
            {
                back.insert(link.clone());
            }
            Step::Create(NewLink { name, kind: Kind::Vlan { base, .. }, .. }) if back.contains(name) => {
                if observed.links.contains_key(base) {
                    ways.insert(base.clone());
                } else {
                    back.remove(name);
                }
            }
            Step::Create(NewLink { name, .. }) => {
                back.remove(name);
            }
            _ => {}
        }
    }
    let is_restoring = |step: &Step| match step {
        Step::SetUp { link, up: true } | Step::SetStp { link, on: false } if ways.contains(link) => true,
        step => step.link().is_some_and(|link| back.contains(link)),
    };
    steps.iter().filter(|planned| is_restoring(&planned.apply)).cloned().collect()
}

/// Whether nothing uses the link as far as is known: it has no master, no address, no route, and no VLAN on it. One that does
/// not exist is free.
fn is_free(observed: &Observed, name: &str) -> bool {
    let is_used = |link: &Link| {
        link.master.is_some() || !link.addresses.is_empty() || observed.vlans_on(name).next().is_some()
    };
    !observed.links.get(name).is_some_and(is_used) && !observed.routes.iter().any(|route| route.uses(name))
}

/// Of each family those with the lowest metric.
fn best_defaults(observed: &Observed) -> Vec<DefaultRoute> {
    let mut best: Vec<DefaultRoute> = Vec::new();
    for default in &observed.defaults {
        let is_beaten = |other: &DefaultRoute| other.is_v4 == default.is_v4 && other.metric < default.metric;
        if !observed.defaults.iter().any(is_beaten) && !best.contains(default) {
            best.push(default.clone());
        }
    }
    best
}

pub(super) fn is_default(route: &Route, is_v4: bool) -> bool {
    let family = route.destination.addr().is_ipv4();
    route.destination.prefix_len() == 0 && route.table == MAIN_TABLE && family == is_v4
}

/// Packets take a new route from then on if its metric is not higher, or it is for a large part of all addresses: 0.0.0.0/1
/// and 128.0.0.0/1 together are a default route, and so is `2000::/3`.
fn overtakes(route: &Route, default: &DefaultRoute) -> bool {
    let is_v4 = route.destination.addr().is_ipv4();
    let is_most = (1..=3).contains(&route.destination.prefix_len())
        && route.table == MAIN_TABLE
        && is_v4 == default.is_v4;
    is_most || (is_default(route, default.is_v4) && route.metric <= default.metric)
}

/// Whether it is this one among the routes that steps may be about.
pub(super) fn is_it(route: &Route, default: &DefaultRoute) -> bool {
    is_default(route, default.is_v4) && route.metric == default.metric && route.uses(&default.link)
}

/// The gateways of the route that takes the place of this one by these steps, each with its link; `None` if this one's is among
/// them, or one of its next hops has none.
pub(crate) fn successors(default: &DefaultRoute, steps: &[Planned]) -> Option<Vec<(IpAddr, String)>> {
    let mut is_removed = false;
    let mut best: Option<&Route> = None;
    for step in steps.iter().map(|planned| &planned.apply) {
        match step {
            Step::RemoveRoute(route) => is_removed |= is_it(route, default),
            Step::AddRoute(route)
                if is_default(route, default.is_v4)
                    && best.is_none_or(|best| route.metric <= best.metric) =>
            {
                best = Some(route);
            }
            _ => {}
        }
    }
    let route = best.filter(|route| is_removed || overtakes(route, default))?;
    let mut gateways = Vec::new();
    for hop in &route.hops {
        let gateway = hop.gateway.filter(|gateway| Some(*gateway) != default.gateway)?;
        gateways.push((gateway, hop.link.clone()));
    }
    Some(gateways)
}

/// The links, and everything those stand on.
fn carriers(observed: &Observed, links: BTreeSet<String>) -> BTreeSet<String> {
    let mut carriers = BTreeSet::new();
    let mut open: Vec<String> = links.into_iter().collect();
    while let Some(name) = open.pop() {
        if !carriers.insert(name.clone()) {
            continue;
        }
        if let Some(Kind::Vlan { base, .. }) = observed.links.get(&name).map(|link| &link.kind) {
            open.push(base.clone());
        }
        open.extend(observed.ports(&name).map(ToOwned::to_owned));
    }
    carriers
}
