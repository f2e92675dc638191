//! The node's default routes. A plan that would take the last one of a family is refused before any step, unless the policy
//! asks for that: a gateway that still answers as a neighbour says nothing about a route that is gone.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::guard::{is_default, is_it};
use super::{Planner, routes};
use crate::node::desired::State;
use crate::node::observed::{Address, DefaultRoute, Hop, Ipv6, Kind, MAIN_TABLE, Route};

impl Planner<'_> {
    /// A conflict for each family that would be without a default route.
    pub(super) fn keep_defaults(&mut self) {
        // Perhaps of a default route that the policy lists.
        if !self.conflicts.is_empty() {
            return;
        }
        for is_v4 in [true, false] {
            let before = self.before;
            let mut had = before.defaults.iter().filter(|default| default.is_v4 == is_v4);
            if self.has_default(is_v4) {
                continue;
            }
            if let Some(lost) = had.find(|default| !self.is_told_to_go(default)) {
                self.conflict(self.loss_of(lost));
            }
        }
    }

    /// Whether there is one after the steps.
    fn has_default(&self, is_v4: bool) -> bool {
        let mut routes = self.model.routes.iter().filter(|route| is_default(route, is_v4));
        let mut others = self.before.defaults.iter().filter(|default| default.is_v4 == is_v4);
        routes.next().is_some() || others.any(|default| self.stays(default))
    }

    /// Whether a default route that no step is about, such as one out of a router advertisement, stays or comes again.
    fn stays(&self, default: &DefaultRoute) -> bool {
        if self.seen(default).is_some() {
            return false;
        }
        let Some(link) = self.model.links.get(&default.link) else { return false };
        if self.is_emptied(&default.link) {
            let bridge = link.master.as_ref().and_then(|master| self.model.links.get(master));
            let learns = |ipv6: Ipv6| !ipv6.disabled && ipv6.hears_routers();
            return !default.is_v4 && bridge.and_then(|bridge| bridge.ipv6).is_some_and(learns);
        }
        let before = self.before.links.get(&default.link);
        let had_ipv4 = before.is_some_and(|link| link.addresses.iter().any(Address::is_v4));
        let is_on = match default.is_v4 {
            true => !had_ipv4 || link.addresses.iter().any(Address::is_v4),
            false => link.ipv6.is_some_and(|ipv6| !ipv6.disabled),
        };
        link.up && is_on
    }

    /// It among the routes that steps may be about.
    fn seen(&self, default: &DefaultRoute) -> Option<&Route> {
        self.before.routes.iter().find(|route| is_it(route, default))
    }

    /// Whether it is listed as absent. Of a routing daemon's that says nothing: no step removes it.
    fn is_absent(&self, default: &DefaultRoute) -> bool {
        let entries = &self.desired.routes;
        match self.seen(default) {
            Some(route) => routes::is_absent(entries, route),
            None => {
                let route = as_route(default);
                entries.iter().any(|entry| entry.absent && routes::matches(entry, &route))
            }
        }
    }

    /// Whether the policy says that the route, its link or the link's addresses of this family are to go.
    fn is_told_to_go(&self, default: &DefaultRoute) -> bool {
        if self.is_absent(default) {
            return true;
        }
        // A VRF's routes are in its table.
        if self.before.table_of(&default.link) != self.model.table_of(&default.link) {
            return true;
        }
        let entry = self.declared.get(default.link.as_str());
        let ip = entry.and_then(|entry| if default.is_v4 { &entry.ipv4 } else { &entry.ipv6 }.as_ref());
        // Of a port that says no more than that its bridge has them.
        if !self.is_emptied(&default.link) && ip.is_some_and(|ip| ip.enabled == Some(false)) {
            return true;
        }
        let mut link = Some(default.link.as_str());
        let mut left = self.before.links.len();
        while let Some(name) = link.filter(|_| left > 0) {
            left -= 1;
            let entry = self.declared.get(name);
            if entry.is_some_and(|entry| matches!(entry.state, State::Down | State::Absent)) {
                return true;
            }
            link = match self.before.links.get(name).map(|link| &link.kind) {
                Some(Kind::Vlan { base, .. }) => Some(base.as_str()),
                _ => None,
            };
        }
        false
    }

    fn loss_of(&self, default: &DefaultRoute) -> String {
        let DefaultRoute { is_v4, link, gateway, .. } = default;
        let master = self.model.links.get(link).and_then(|link| link.master.as_deref());
        let master = master.filter(|_| self.is_emptied(link));
        let why = match master {
            Some(master) => format!("{link}: as a port of {master} it carries no routes"),
            None => format!("{link}: after the change it does not carry its default route"),
        };
        let family = if *is_v4 { "IPv4" } else { "IPv6" };
        let via = gateway.map(|gateway| format!(", via {gateway}")).unwrap_or_default();
        let to = as_route(default).destination;
        let by = master.map(|master| format!(" by {master}")).unwrap_or_default();
        let or = match self.seen(default).filter(|route| !route.is_configured()) {
            Some(Route { protocol, .. }) => {
                format!(
                    "; state: absent does not remove the present route, which belongs to a routing daemon (protocol {protocol})"
                )
            }
            None => ", or that route with state: absent".to_owned(),
        };
        format!(
            "{why}, and the node would lose its last {family} default route{via}; list a route to {to}{by} in the policy{or}"
        )
    }
}

fn as_route(default: &DefaultRoute) -> Route {
    let destination = match default.is_v4 {
        true => IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
        false => IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
    };
    let hop = Hop { link: default.link.clone(), gateway: default.gateway, weight: 1, onlink: false };
    Route {
        destination,
        table: MAIN_TABLE,
        metric: default.metric,
        protocol: 0,
        source: None,
        mtu: None,
        detail: None,
        hops: vec![hop],
    }
}
