//! Routes: those listed have to be there, those listed as absent must not be, others are not touched.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry::{Occupied, Vacant};
use std::net::IpAddr;

use super::{Planner, Step};
use crate::node::desired;
use crate::node::marker;
use crate::node::observed::{Hop, Route};

impl Planner<'_> {
    pub(super) fn routes(&mut self) {
        let desired = self.desired;
        let wanted = wanted(&desired.routes);
        let to_go = |route: &&Route| is_to_go(&desired.routes, &wanted, route);
        for route in self.model.routes.iter().filter(to_go).cloned().collect::<Vec<_>>() {
            self.step(Step::RemoveRoute(route));
        }
        for route in &wanted {
            self.ensure(route);
        }
    }

    /// Routes of routing daemons stay, also those that are listed as absent. One warning for each daemon: it may have thousands.
    pub(super) fn note_daemons(&mut self) {
        let mut staying: BTreeMap<u8, Vec<&Route>> = BTreeMap::new();
        for route in self.model.routes.iter().filter(|route| !route.is_configured()) {
            if self.desired.routes.iter().any(|entry| entry.absent && matches(entry, route)) {
                staying.entry(route.protocol).or_default().push(route);
            }
        }
        for (protocol, routes) in staying {
            let Some(first) = routes.first() else { continue };
            let others = match routes.len() - 1 {
                0 => String::new(),
                count => format!(" (and {count} more)"),
            };
            self.warnings.push(format!(
                "the route to {}{others} stays, though it is listed with state: absent: its protocol {protocol} is a routing daemon's, \
                 which would add it again",
                first.destination
            ));
        }
    }

    fn ensure(&mut self, route: &Route) {
        if self.model.routes.iter().any(|other| same(route, other)) {
            return;
        }
        let name = format!("route to {}", route.destination);
        for hop in &route.hops {
            match self.model.links.get(&hop.link) {
                None => return self.await_link(&name, &hop.link),
                Some(link) if !link.up => {
                    return self.conflict(format!("{name}: its interface {} is to be down", hop.link));
                }
                Some(link) => {
                    let master = link.master.clone().filter(|master| self.takes_frames(master));
                    if let Some(master) = master {
                        return self.conflict(format!(
                            "{name}: its interface {} is a port of {master} and carries no routes; name {master} instead",
                            hop.link
                        ));
                    }
                }
            }
        }
        self.step(Step::AddRoute(route.clone()));
    }
}

/// The routes that are wanted. Entries with a weight and the same destination are one route with several next hops. So are
/// those of IPv6 with a gateway: the kernel makes one of such routes (`rt6_qualify_for_ecmp`). It refuses one next hop twice.
fn wanted(entries: &[desired::Route]) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    // Where those with a weight are.
    let mut shared: BTreeMap<_, usize> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| !entry.absent) {
        let (Some(place), Some(link)) = (entry.place(), &entry.interface) else { continue };
        let hop = Hop {
            link: link.clone(),
            gateway: entry.gateway,
            weight: entry.weight.unwrap_or(1),
            onlink: false,
        };
        let is_v6 = matches!(entry.gateway, Some(IpAddr::V6(_))) && !place.0.addr().is_ipv4();
        if entry.weight.is_some() || is_v6 {
            match shared.entry(place) {
                Occupied(number) => {
                    add_hop(&mut routes[*number.get()].hops, hop);
                    continue;
                }
                Vacant(free) => free.insert(routes.len()),
            };
        }
        let (destination, table, metric) = place;
        routes.push(Route {
            destination,
            table,
            metric,
            protocol: marker::ROUTE_PROTOCOL,
            source: None,
            mtu: None,
            hops: vec![hop],
            detail: None,
        });
    }
    for route in &mut routes {
        route.hops.sort();
    }
    routes
}

/// Of one next hop that two entries spell differently, the larger weight counts: what no entry states is 1.
fn add_hop(hops: &mut Vec<Hop>, hop: Hop) {
    match hops.iter_mut().find(|other| other.link == hop.link && other.gateway == hop.gateway) {
        Some(other) => other.weight = other.weight.max(hop.weight),
        None => hops.push(hop),
    }
}

/// Whether a route is listed as absent, or ours and to be another one. Those of routing daemons are not meant.
pub(super) fn is_unwanted(entries: &[desired::Route], route: &Route) -> bool {
    is_listed(entries, &wanted(entries), route)
}

fn is_listed(entries: &[desired::Route], wanted: &[Route], route: &Route) -> bool {
    is_absent(entries, route) || (route.is_ours() && wanted.iter().any(|other| same_place(other, route)))
}

/// Whether a route is listed as absent, and not a routing daemon's.
pub(super) fn is_absent(entries: &[desired::Route], route: &Route) -> bool {
    route.is_configured() && entries.iter().any(|entry| entry.absent && matches(entry, route))
}

/// Whether a route has to be removed. One that is wanted as it is never has: `absent` without a gateway and a new gateway to
/// the same destination are how a policy of nmstate changes a route.
fn is_to_go(entries: &[desired::Route], wanted: &[Route], route: &Route) -> bool {
    is_listed(entries, wanted, route) && !wanted.iter().any(|other| same(other, route))
}

fn same_place(one: &Route, other: &Route) -> bool {
    (one.destination, one.table, one.metric) == (other.destination, other.table, other.metric)
}

/// Whether `now` does what `wanted` asks for, whoever made it. A single next hop's weight has no effect,
/// and the kernel does not keep it.
fn same(wanted: &Route, now: &Route) -> bool {
    let alone = wanted.hops.len() == 1;
    let hop = |one: &Hop, other: &Hop| {
        one.link == other.link && one.gateway == other.gateway && (alone || one.weight == other.weight)
    };
    same_place(wanted, now)
        && !now.is_selective()
        && wanted.hops.len() == now.hops.len()
        && wanted.hops.iter().all(|one| now.hops.iter().any(|other| hop(one, other)))
}

/// What an entry to be absent does not state matches anything, its table as well.
pub(super) fn matches(entry: &desired::Route, route: &Route) -> bool {
    let hop = |hop: &Hop| {
        entry.interface.as_ref().is_none_or(|link| *link == hop.link)
            && (entry.gateway.is_none() || entry.gateway == hop.gateway)
    };
    entry.destination.is_none_or(|destination| destination == route.destination)
        && entry.metric.is_none_or(|metric| metric == route.metric)
        && entry.table.is_none_or(|table| table == route.table)
        && route.hops.iter().any(hop)
}
