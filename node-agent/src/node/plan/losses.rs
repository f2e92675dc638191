//! What the kernel takes along with a step, without a word and without giving it back.
//!
//! Each of these things gets a step of its own before, with its inverse: so it is shown, and it comes back when the step
//! is taken back. What others have put there, and the policy says nothing against, is added again after it.

use std::collections::BTreeSet;

use super::Step;
use super::model::bond::{reset_by, set};
use crate::node::observed::{Address, Kind, Link, Observed, Route, Setting};

/// Smallest MTU of a link that has IPv6, in bytes (`IPV6_MIN_MTU`).
pub(super) const SMALLEST_IPV6_MTU: u32 = 1280;

/// Of which families a link loses routes.
#[derive(Clone, Copy)]
pub(super) struct Families {
    v4: bool,
    v6: bool,
}

pub(super) const BOTH: Families = Families { v4: true, v6: true };
const V6: Families = Families { v4: false, v6: true };

impl Families {
    fn has(self, v4: bool) -> bool {
        if v4 { self.v4 } else { self.v6 }
    }
}

impl Step {
    /// Whether the kernel may take something along with it.
    pub(crate) fn may_take_along(&self) -> bool {
        matches!(
            self,
            Self::RemoveAddress { .. }
                | Self::SetUp { up: false, .. }
                | Self::SetIpv6 { setting: Setting::Disabled, on: true, .. }
                | Self::SetMaster { .. }
                | Self::SetBond { .. }
                | Self::Delete(_)
        ) || matches!(self, Self::SetMtu { mtu, .. } if *mtu < SMALLEST_IPV6_MTU)
    }
}

impl Observed {
    /// What the kernel would take along with `step`, as steps that can be done before it, in this order.
    pub(crate) fn taken_along(&self, step: &Step) -> Vec<Step> {
        match step {
            Step::RemoveAddress { link, address } => self.with_address(link, *address),
            Step::SetUp { link, up: false } if self.is_up(link) => self.with_down(link),
            Step::SetIpv6 { link, setting: Setting::Disabled, on: true } => {
                self.emptied(&BTreeSet::from([link.as_str()]), V6)
            }
            Step::SetMtu { link, mtu } => self.with_mtu(link, *mtu),
            Step::SetMaster { link, master } => self.with_master(link, master.as_deref()),
            Step::SetBond { link, option, value } => {
                let options = self.bond_options(link);
                options.map(|options| reset_by(link, options, option, value)).unwrap_or_default()
            }
            Step::Delete(new) => {
                // A route by several links goes with any of them.
                removed(self.routes.iter().filter(|route| route.uses(&new.name)).collect())
            }
            _ => Vec::new(),
        }
    }

    fn is_up(&self, link: &str) -> bool {
        self.links.get(link).is_some_and(|link| link.up)
    }

    /// `inet_del_ifa`, `fib_del_ifaddr` and `ipv6_del_addr`.
    fn with_address(&self, name: &str, net: ipnet::IpNet) -> Vec<Step> {
        let Some(link) = self.links.get(name) else { return Vec::new() };
        let Some(place) = link.addresses.iter().position(|other| other.net == net) else { return Vec::new() };
        let address = &link.addresses[place];
        let mut with: Vec<&Address> = Vec::new();
        // Unless they are promoted. That is asked of two settings, and not asked here: it does no harm to be careful.
        if !link.addresses[..place].iter().any(|other| other.shares_subnet(address)) {
            with.extend(link.addresses[place + 1..].iter().filter(|other| other.shares_subnet(address)));
        }
        let goes = |one: &Address| one == address || with.contains(&one);
        let last = address.is_v4() && link.addresses.iter().all(|one| !one.is_v4() || goes(one));
        let table = self.table_of(name);
        let by_this = |route: &Route| {
            let of_source = link.addresses.iter().any(|one| {
                goes(one)
                    && route.source == Some(one.net.addr())
                    && self.is_only_here(name, one)
                    // IPv4 looks at one table, IPv6 at one link.
                    && if one.is_v4() { route.table == table } else { route.uses(name) }
            });
            of_source || (last && route.destination.addr().is_ipv4() && route.uses_only(&[name].into()))
        };
        // The kernel looks for its own route to the subnet by all but whose it is (`addrconf_get_prefix_route`).
        let stands_for_subnet = |route: &Route| {
            !address.is_v4()
                && !address.has_no_route()
                && route.destination == address.net.trunc()
                && route.uses_only(&[name].into())
                && route.hops.iter().all(|hop| hop.gateway.is_none())
        };
        let mut steps =
            removed(self.routes.iter().filter(|route| by_this(route) || stands_for_subnet(route)).collect());
        // The last first, so that they come back in order.
        let secondary = |one: &&Address| Step::RemoveAddress { link: name.to_owned(), address: one.net };
        steps.extend(with.iter().rev().map(secondary));
        steps
    }

    fn is_only_here(&self, name: &str, address: &Address) -> bool {
        let has = |link: &Link| link.addresses.iter().any(|other| other.net.addr() == address.net.addr());
        // Another VRF's address is another one.
        let table = self.table_of(name);
        !self.links.iter().any(|(other, link)| other != name && has(link) && self.table_of(other) == table)
    }

    /// `fib_disable_ip`, `addrconf_ifdown` and `vlan_device_event`: VLANs go down with what they stand on.
    fn with_down(&self, name: &str) -> Vec<Step> {
        let affected = self.cycled(name);
        let mut steps = self.emptied(&affected, BOTH);
        let mut above: Vec<&str> = affected.into_iter().filter(|other| *other != name).collect();
        above.sort_by_key(|vlan| std::cmp::Reverse(self.height(vlan)));
        steps.extend(above.into_iter().map(|vlan| Step::SetUp { link: vlan.to_owned(), up: false }));
        steps
    }

    /// A link without its MTU has no IPv6 at all (`addrconf_notify`), and a VLAN's is never larger than its base's.
    fn with_mtu(&self, name: &str, mtu: u32) -> Vec<Step> {
        let mut steps = Vec::new();
        for vlan in self.vlans_on(name).filter(|vlan| self.links[*vlan].mtu > mtu) {
            steps.extend(self.with_mtu(vlan, mtu));
            steps.push(Step::SetMtu { link: vlan.to_owned(), mtu });
        }
        if mtu < SMALLEST_IPV6_MTU {
            steps.extend(self.emptied(&BTreeSet::from([name]), V6));
        }
        steps
    }

    /// A link that comes to a VRF or leaves one is set down and up again (`cycle_netdev`), and what is left of its routes
    /// goes as well (`fib_netdev_event`).
    fn with_master(&self, name: &str, master: Option<&str>) -> Vec<Step> {
        let Some(link) = self.links.get(name).filter(|link| link.master.as_deref() != master) else {
            return Vec::new();
        };
        if let Some(options) = link.master.as_ref().and_then(|old| self.bond_options(old)) {
            // The kernel sets it down (`__bond_release_one`).
            let mut steps = if link.up { self.with_down(name) } else { Vec::new() };
            if options.get("primary").is_some_and(|primary| primary == name) {
                steps.push(set(link.master.as_deref().unwrap_or_default(), "primary", ""));
            }
            return steps;
        }
        if !self.is_vrf(master) && !self.is_vrf(link.master.as_deref()) {
            return Vec::new();
        }
        let affected = if link.up { self.cycled(name) } else { BTreeSet::from([name]) };
        self.emptied(&affected, BOTH)
    }

    /// Whether a link goes down and up again to get this master.
    pub(super) fn cycles(&self, name: &str, master: Option<&str>) -> bool {
        self.links.get(name).is_some_and(|link| {
            let old = link.master.as_deref();
            link.up && old != master && (self.is_vrf(master) || self.is_vrf(old))
        })
    }

    /// Whether a link is up and goes down when it leaves its master, a bond.
    pub(super) fn closes(&self, name: &str) -> bool {
        self.links.get(name).is_some_and(|link| {
            link.up && link.master.as_ref().is_some_and(|master| self.bond_options(master).is_some())
        })
    }

    fn is_vrf(&self, master: Option<&str>) -> bool {
        let master = master.and_then(|master| self.links.get(master));
        master.is_some_and(|master| matches!(master.kind, Kind::Vrf { .. }))
    }

    /// The link and the VLANs that go down with it.
    fn cycled<'a>(&'a self, name: &'a str) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut open = vec![name];
        while let Some(next) = open.pop() {
            if found.insert(next) {
                open.extend(self.vlans_on(next).filter(|vlan| self.is_up(vlan)));
            }
        }
        found
    }

    /// VLANs that are up, on a link and on those on it.
    pub(super) fn up_above(&self, name: &str) -> Vec<String> {
        let above = self.cycled(name).into_iter().filter(|other| *other != name);
        above.map(ToOwned::to_owned).collect()
    }

    /// VLANs on a link that are down.
    pub(super) fn down_above<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.vlans_on(name).filter(|vlan| !self.is_up(vlan))
    }

    /// How many VLANs a link stands on.
    fn height(&self, name: &str) -> usize {
        let mut height = 0;
        let mut now = name;
        while let Some(Link { kind: Kind::Vlan { base, .. }, .. }) = self.links.get(now) {
            (height, now) = (height + 1, base);
            if height > self.links.len() {
                break;
            }
        }
        height
    }

    /// Routes by nothing but these links, and their IPv6 addresses.
    pub(super) fn emptied(&self, links: &BTreeSet<&str>, families: Families) -> Vec<Step> {
        let goes =
            |route: &&Route| families.has(route.destination.addr().is_ipv4()) && route.uses_only(links);
        let mut steps = removed(self.routes.iter().filter(goes).collect());
        for name in links.iter().filter(|_| families.v6) {
            let Some(link) = self.links.get(*name) else { continue };
            let addresses = link.addresses.iter().chain(&link.link_locals);
            for address in addresses.rev().filter(|address| !address.is_v4()) {
                steps.push(Step::RemoveAddress { link: (*name).to_owned(), address: address.net });
            }
        }
        steps
    }
}

/// Those by a gateway first: what comes back in reverse finds the way to its gateway there.
pub(super) fn removed(mut routes: Vec<&Route>) -> Vec<Step> {
    routes.sort_by_key(|route| route.hops.iter().all(|hop| hop.gateway.is_none()));
    routes.into_iter().cloned().map(Step::RemoveRoute).collect()
}

/// Whether a route could be added to `observed`, as far as can be foretold; why not, if it could not.
pub(super) fn obstacle(observed: &Observed, route: &Route) -> Option<String> {
    let v4 = route.destination.addr().is_ipv4();
    for hop in &route.hops {
        let name = &hop.link;
        let Some(link) = observed.links.get(name) else { return Some(format!("{name} is gone")) };
        if !link.up {
            return Some(format!("{name} is down"));
        }
        let enabled = if v4 {
            link.addresses.iter().any(Address::is_v4) || hop.onlink || hop.gateway.is_none()
        } else {
            link.ipv6.is_some_and(|ipv6| !ipv6.disabled)
        };
        if !enabled {
            return Some(format!("{name} has no {}", if v4 { "IPv4 address" } else { "IPv6" }));
        }
        let Some(gateway) = hop.gateway.filter(|_| !hop.onlink) else { continue };
        if matches!(gateway, std::net::IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            continue;
        }
        let by_address = link.addresses.iter().any(|one| !one.has_no_route() && one.net.contains(&gateway));
        let direct = |other: &Route| {
            other.uses(name)
                && other.destination.contains(&gateway)
                && other.hops.iter().all(|hop| hop.gateway.is_none())
        };
        if !by_address && !observed.routes.iter().any(direct) {
            return Some(format!("no address of {name} reaches {gateway}"));
        }
    }
    let source = route.source?;
    let has = |link: &Link| link.addresses.iter().any(|one| one.net.addr() == source);
    (!observed.links.values().any(has)).then(|| format!("its source address {source} is gone"))
}

/// The table of a route, if its link came to a VRF or left one: routes follow the addresses that they stand on.
pub(super) fn table(before: &Observed, after: &Observed, route: &Route) -> u32 {
    let Some(hop) = route.hops.first() else { return route.table };
    let (old, new) = (before.table_of(&hop.link), after.table_of(&hop.link));
    if old != new && route.table == old { new } else { route.table }
}
