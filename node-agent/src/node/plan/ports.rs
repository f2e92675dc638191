//! A link that becomes a port of a bridge or a bond, and what it had before.
//!
//! What arrives at a port goes to its master, so an address of the port answers nobody, and routes by it lead nowhere. As
//! with NetworkManager a port has no addresses and no IPv6. They are taken off in the plan that attaches the link, and only
//! there: what a DHCP client or a router gives to a port later is told and stays.

use std::collections::BTreeSet;

use super::losses::BOTH;
use super::{Planner, Step, routes};
use crate::node::desired::{Interface, Ip, State};
use crate::node::observed::{self, Address, Route, Setting};

impl Planner<'_> {
    /// Takes routes, addresses and IPv6 off a link that is about to become a port of a bridge or a bond.
    pub(super) fn empty(&mut self, name: &str) {
        self.emptied.insert(name.to_owned());
        for step in self.model.emptied(&BTreeSet::from([name]), BOTH) {
            self.step(step);
        }
        let Some(link) = self.model.links.get(name) else { return };
        let has_ipv6 = link.ipv6.is_some_and(|ipv6| !ipv6.disabled);
        // Secondaries before their primary.
        let addresses: Vec<_> = link.addresses.iter().rev().map(|one| one.net).collect();
        for address in addresses {
            self.step(Step::RemoveAddress { link: name.to_owned(), address });
        }
        if has_ipv6 {
            self.step(Step::SetIpv6 { link: name.to_owned(), setting: Setting::Disabled, on: true });
        }
    }

    pub(super) fn takes_frames(&self, name: &str) -> bool {
        self.model.links.get(name).is_some_and(|link| link.kind.takes_frames())
    }

    pub(super) fn is_bond(&self, name: &str) -> bool {
        matches!(self.model.links.get(name).map(|link| &link.kind), Some(observed::Kind::Bond { .. }))
    }

    /// Whether the link is, or will be, a port of a bridge or bond that this plan attached it to.
    pub(super) fn is_emptied(&self, name: &str) -> bool {
        self.emptied.contains(name)
    }

    /// What a new port loses, and what ports have that should have nothing.
    pub(super) fn note_ports(&mut self) {
        for name in self.emptied.clone() {
            self.note_lost(&name);
        }
        let desired = self.desired;
        for entry in desired.interfaces.iter().filter(|entry| entry.state == State::Up) {
            if entry.takes_frames().is_none() {
                continue;
            }
            for port in entry.ports() {
                self.note_addresses(entry, port);
                self.note_enabled(entry, port);
            }
        }
    }

    fn note_lost(&mut self, name: &str) {
        let Some(before) = self.before.links.get(name) else { return };
        let entry = self.declared.get(name).copied();
        let mut lost: Vec<String> = Vec::new();
        let had = before.addresses.iter().chain(&before.link_locals);
        for address in had.filter(|one| !self.has(name, one.net)) {
            if !is_off(entry, address) {
                lost.push(address.net.to_string());
            }
        }
        let master = self.model.links.get(name).and_then(|link| link.master.clone()).unwrap_or_default();
        if !lost.is_empty() {
            self.warnings.push(format!(
                "{name}: it becomes a port of {master}, which has no addresses, and loses {}",
                lost.join(", ")
            ));
        }
        let mut gone = Vec::new();
        for route in self.before.routes.iter().filter(|route| route.uses_only(&BTreeSet::from([name]))) {
            if !self.is_there(route) {
                let text = Step::AddRoute(route.clone()).to_string();
                gone.push(text.strip_prefix("add ").unwrap_or(&text).to_owned());
            }
        }
        if !gone.is_empty() {
            self.warnings.push(format!(
                "{name}: as a port of {master} it carries no routes, and no other one takes the place of {}",
                gone.join(", ")
            ));
        }
    }

    /// Whether the route will be there, or another one to the same destination, or is not wanted.
    fn is_there(&self, route: &Route) -> bool {
        let same = |other: &Route| (other.destination, other.table) == (route.destination, route.table);
        self.model.routes.iter().any(same) || routes::is_unwanted(&self.desired.routes, route)
    }

    /// What the policy says of the IPv6 of an interface. Of the port of a bridge or bond it has nothing to say but that there is none.
    pub(super) fn ipv6_of<'w>(&self, wanted: &'w Interface) -> Option<&'w Ip> {
        let controller = self.controllers.get(wanted.name.as_str());
        let entry = controller.and_then(|controller| self.declared.get(controller));
        let is_port = entry.is_some_and(|entry| entry.takes_frames().is_some());
        wanted.ipv6.as_ref().filter(|ip| !is_port || !is_enabled(Some(ip)))
    }

    fn note_enabled(&mut self, bridge: &Interface, port: &str) {
        let Some(entry) = self.declared.get(port) else { return };
        if is_enabled(entry.ipv4.as_ref()) || is_enabled(entry.ipv6.as_ref()) {
            self.warnings.push(format!(
                "{port}: the policy enables IPv4 or IPv6 on it, which a port of {} cannot have; this is ignored: write enabled: false",
                bridge.name
            ));
        }
    }

    fn note_addresses(&mut self, bridge: &Interface, port: &str) {
        let Some(link) = self.model.links.get(port) else { return };
        if link.master.as_deref() != Some(&bridge.name) || link.addresses.is_empty() {
            return;
        }
        let addresses: Vec<String> = link.addresses.iter().map(|one| one.net.to_string()).collect();
        self.warnings.push(format!(
            "{port}: it is a port of {} and has {}, which a port cannot use; the agent leaves them, since another program, such \
             as a DHCP client, would give them again: end that, and `ip address flush dev {port}`",
            bridge.name,
            addresses.join(", ")
        ));
    }
}

/// Said so, without addresses.
fn is_enabled(ip: Option<&Ip>) -> bool {
    ip.is_some_and(|ip| ip.enabled.or(ip.autoconf) == Some(true))
}

/// Whether the policy itself says that the link has no addresses of this family.
fn is_off(entry: Option<&Interface>, address: &Address) -> bool {
    let ip = entry.and_then(|entry| if address.is_v4() { entry.ipv4.as_ref() } else { entry.ipv6.as_ref() });
    ip.is_some_and(|ip: &Ip| ip.enabled == Some(false))
}
