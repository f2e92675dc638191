//! One interface that is to be up, or down.

use octavia_bridge_netlink::{LinkOption, LinkOptions};

use super::create::{fits, word};
use super::{Missing, Planner, Step};
use crate::node::desired::{self, Interface, State};
use crate::node::marker;
use crate::node::observed::{Ipv6, Kind, Link, Setting};

impl Planner<'_> {
    pub(super) fn up(&mut self, wanted: &Interface) {
        let name = wanted.name.as_str();
        let Some(kept) = self.ensure_exists(wanted) else { return };
        self.bond(wanted);
        let Some(link) = self.model.links.get(name).cloned() else { return };
        let ours = link.is_ours();
        if let Some(text) = &wanted.description {
            let alias = marker::alias(Some(text));
            if ours && link.alias.as_deref() != Some(&alias) {
                self.step(Step::SetAlias { link: name.to_owned(), alias });
            } else if !ours && link.alias.as_deref() != Some(text) {
                // The alias is where the mark is, and the mark would let `remove` delete the link.
                self.undescribed.push(name.to_owned());
            }
        }
        // A bond's port has the bond's.
        if let Some(mac) = wanted.mac.map(|mac| mac.to_string())
            && self.bond_of(name).is_none()
            && link.mac.as_deref() != Some(&mac)
        {
            self.step(Step::SetMac { link: name.to_owned(), mac });
        }
        self.mtu(wanted, &link);
        self.stp(wanted, &link);
        self.options(name, &wanted.options);
        self.ipv6_settings(name, self.ipv6_of(wanted), ours);
        self.master(wanted);
        self.port_options(name);
        self.set_up(name);
        self.addresses(wanted);
        self.give_back(wanted, kept);
    }

    fn mtu(&mut self, wanted: &Interface, link: &Link) {
        let name = &wanted.name;
        let base = if let Kind::Vlan { base, .. } = &link.kind { self.model.links.get(base) } else { None };
        // Without a word about it a VLAN of ours has its base's, also after that shrank and grew again.
        let follows = base.filter(|_| link.is_ours()).map(|base| base.mtu);
        if let Some(bond) = self.bond_of(name) {
            return self.mtu_of_port(wanted, bond);
        }
        let Some(mtu) = wanted.mtu.or(follows).or(self.mtu_of_ports(wanted)) else { return };
        let mut mtu = mtu;
        // Its base may have shrunk since. All else of the VLAN, and of what depends on it, is kept meanwhile.
        if let (Kind::Vlan { base: awaits, .. }, Some(base)) =
            (&link.kind, base.filter(|base| mtu > base.mtu))
        {
            let (awaits, why) = (awaits.clone(), Some(too_large(name, mtu, base.mtu)));
            mtu = base.mtu;
            self.missing.push(Missing { of: name.clone(), awaits, why });
        }
        if mtu == link.mtu {
            return;
        }
        if link.max_mtu != 0 && mtu > link.max_mtu {
            return self
                .conflict(format!("{name}: an MTU of {mtu} exceeds the {} its driver takes", link.max_mtu));
        }
        // The kernel lowers VLANs along with their base. Done here, it can be undone.
        let above: Vec<String> = self.model.vlans_on(name).map(ToOwned::to_owned).collect();
        for vlan in above.into_iter().filter(|vlan| self.model.links[vlan].mtu > mtu).collect::<Vec<_>>() {
            self.step(Step::SetMtu { link: vlan, mtu });
        }
        self.step(Step::SetMtu { link: name.clone(), mtu });
    }

    /// The kernel gives a bond's MTU to each new port.
    fn mtu_of_port(&mut self, wanted: &Interface, bond: &str) {
        let name = &wanted.name;
        let (Some(most), Some(link)) = (self.model.links.get(bond), self.model.links.get(name)) else {
            return;
        };
        let (mtu, now, is_port) = (most.mtu, link.mtu, link.master.as_deref() == Some(bond));
        if let Some(stated) = wanted.mtu.filter(|stated| *stated != mtu) {
            let text = format!(
                "{name}: an MTU of {stated} is not the {mtu} of its bond {bond}, which its ports have"
            );
            return self.conflict(text);
        }
        if is_port && now != mtu {
            self.step(Step::SetMtu { link: name.clone(), mtu });
        }
    }

    fn stp(&mut self, wanted: &Interface, link: &Link) {
        let Some(desired::Kind::Bridge { stp, .. }) = &wanted.kind else { return };
        let wanted_on = stp.or(link.is_ours().then_some(false));
        if let (Some(on), Kind::Bridge { stp: now }) = (wanted_on, &link.kind)
            && on != *now
        {
            self.step(Step::SetStp { link: wanted.name.clone(), on });
        }
    }

    /// What the policy does not state stays as it is.
    fn options(&mut self, name: &str, wanted: &LinkOptions) {
        // Filtering VLANs comes last, see below.
        for (option, value) in wanted.iter().filter(|(option, _)| **option != LinkOption::VlanFiltering) {
            let now = self.model.links.get(name).and_then(|link| link.options.get(option)).copied();
            // A bridge's own value cannot be seen while the spanning tree overrides it, and whatever is written would not be reached.
            let reached = now.map_or(option.is_of_tree(), |now| option.is_same(now, *value));
            if reached {
                continue;
            }
            self.step(Step::SetOption { link: name.to_owned(), option: *option, value: *value });
        }
    }

    fn port_options(&mut self, name: &str) {
        let Some(bridge) = self.controllers.get(name).and_then(|name| self.declared.get(name)).copied()
        else {
            return;
        };
        let is_port =
            self.model.links.get(name).is_some_and(|link| link.master.as_ref() == Some(&bridge.name));
        if let Some(options) = bridge.port_options.get(name).filter(|_| is_port) {
            self.options(name, options);
        }
        let now = self.model.links.get(name).map(|link| &link.vlans);
        if let Some(vlans) = bridge.port_vlans.get(name).filter(|vlans| is_port && now != Some(*vlans)) {
            self.step(Step::SetPortVlans { link: name.to_owned(), vlans: vlans.clone() });
        }
    }

    /// Bridges begin to filter VLANs when their ports have all of theirs, so that no frame is lost.
    pub(super) fn filter_vlans(&mut self) {
        let desired = self.desired;
        for wanted in desired.interfaces.iter().filter(|wanted| wanted.state == State::Up) {
            let Some(value) = wanted.options.get(&LinkOption::VlanFiltering).copied() else { continue };
            let link = self.model.links.get(&wanted.name).filter(|link| link.is_bridge());
            if link.is_some_and(|link| link.options.get(&LinkOption::VlanFiltering) != Some(&value)) {
                let link = wanted.name.clone();
                self.step(Step::SetOption { link, option: LinkOption::VlanFiltering, value });
            }
        }
    }

    fn set_up(&mut self, name: &str) {
        let Some(link) = self.model.links.get(name).filter(|link| !link.up) else { return };
        if let Kind::Vlan { base, .. } = &link.kind {
            self.raise_base(&base.clone());
        }
        self.raise(name);
    }

    /// Sets a link down.
    pub(super) fn down(&mut self, wanted: &Interface) {
        let name = wanted.name.as_str();
        let Some(link) = self.model.links.get(name).cloned() else {
            return self.warnings.push(format!("{name} is to be down and does not exist: nothing is done"));
        };
        if !fits(wanted.kind.as_ref(), &link.kind) {
            let stated = wanted.kind.as_ref().map_or("unknown", word);
            return self.conflict(format!("{name} exists and is of type {}, not {stated}", link.kind.word()));
        }
        if !link.up {
            return;
        }
        self.step(Step::SetUp { link: name.to_owned(), up: false });
    }

    fn ipv6_settings(&mut self, name: &str, ip: Option<&desired::Ip>, ours: bool) {
        let Some(link) = self.model.links.get(name) else { return };
        let Some(now) = link.ipv6 else { return };
        let wanted = wanted_ipv6(ip, ours, now);
        // Routers first: a link that gets IPv6 asks them at once.
        if (now.accept_ra, now.always) != (wanted.accept_ra, wanted.always) {
            let (setting, on) = wanted.accepting();
            self.step(Step::SetIpv6 { link: name.to_owned(), setting, on });
        }
        if now.disabled != wanted.disabled {
            let (setting, on) = (Setting::Disabled, wanted.disabled);
            self.step(Step::SetIpv6 { link: name.to_owned(), setting, on });
        }
    }
}

pub(super) fn too_large(name: &str, mtu: u32, most: u32) -> String {
    format!("{name}: an MTU of {mtu} exceeds the {most} bytes of its base interface")
}

/// The IPv6 settings that are wanted. On a link of ours silence means "no IPv6": the amphorae's network
/// has no business giving addresses or routers to the node.
pub(super) fn wanted_ipv6(ip: Option<&desired::Ip>, ours: bool, now: Ipv6) -> Ipv6 {
    let Some(ip) = ip else {
        return if ours { Ipv6 { disabled: true, accept_ra: false, always: false, ..now } } else { now };
    };
    let addressed = ip.autoconf == Some(true) || ip.addresses.as_ref().is_some_and(|list| !list.is_empty());
    let enabled = ip.enabled.or(addressed.then_some(true));
    let (accept_ra, always) = match ip.autoconf {
        Some(true) => (true, now.always || now.forwards),
        Some(false) => (false, false),
        None if ours => (false, false),
        None => (now.accept_ra, now.always),
    };
    let disabled = enabled.map_or(if ours { true } else { now.disabled }, |enabled| !enabled);
    Ipv6 { disabled, accept_ra, always, ..now }
}
