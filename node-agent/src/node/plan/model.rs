//! What a step does to the kernel, side effects included: the planner's foresight.

pub(super) mod bond;

use octavia_bridge_netlink::{LinkOption, VlanRange};

use super::losses::SMALLEST_IPV6_MTU;
use super::{NewLink, Step};
use crate::node::observed::{Address, Ipv6, Kind, Link, Observed, Setting};

/// MTU of a new bridge, and of a VLAN whose base is not known, in bytes.
const ETHERNET_MTU: u32 = 1500;
/// MTU of a new VRF (drivers/net/vrf.c).
const VRF_MTU: u32 = 65_575;

/// Options of a new port; the cost depends on the speed of the link.
pub(super) const OF_NEW_PORT: [(LinkOption, u64); 2] =
    [(LinkOption::PortPriority, 32), (LinkOption::PortHairpin, 0)];

/// VLAN of a new port (`default_pvid`).
pub(super) const DEFAULT_VLAN: VlanRange = VlanRange { first: 1, last: 1, pvid: true, untagged: true };

impl Observed {
    /// Brings the model forward by one step, before which all was taken away that the kernel takes along
    /// ([`Observed::taken_along`]).
    pub(crate) fn advance(&mut self, step: &Step) {
        match step {
            Step::Create(new) => self.create(new),
            Step::Delete(new) => self.delete(&new.name),
            Step::SetUp { link, up } => self.set_up(link, *up),
            Step::SetMtu { link, mtu } => self.set_mtu(link, *mtu),
            Step::SetMac { link, mac } => self.set_mac(link, Some(mac)),
            Step::SetBond { link, option, value } => self.set_bond(link, option, value),
            Step::SetMaster { link, master } => self.set_master(link, master.as_deref()),
            Step::AddRoute(route) => self.routes.push(route.clone()),
            Step::RemoveRoute(route) => {
                if let Some(place) = self.routes.iter().position(|other| other == route) {
                    self.routes.remove(place);
                }
            }
            other => {
                if let Some(link) = other.link().and_then(|name| self.links.get_mut(name)) {
                    change(link, other);
                }
            }
        }
    }

    fn create(&mut self, new: &NewLink) {
        let mtu = new.mtu.unwrap_or_else(|| match &new.kind {
            Kind::Vlan { base, .. } => self.links.get(base).map_or(ETHERNET_MTU, |base| base.mtu),
            Kind::Vrf { .. } => VRF_MTU,
            _ => ETHERNET_MTU,
        });
        let link = Link {
            kind: new.kind.clone(),
            mtu,
            // A VLAN has its base's address unless it is given one.
            mac: new.mac.clone().or_else(|| match &new.kind {
                Kind::Vlan { base, .. } => self.links.get(base).and_then(|base| base.mac.clone()),
                _ => None,
            }),
            alias: new.alias.clone(),
            ipv6: new.ipv6,
            options: new.options.clone(),
            ..Link::default()
        };
        self.links.insert(new.name.clone(), link);
    }

    /// Ports are released, VLANs on it vanish with it, and routes by it too.
    fn delete(&mut self, name: &str) {
        self.links.remove(name);
        self.routes.retain(|route| !route.uses(name));
        for link in self.links.values_mut().filter(|link| link.master.as_deref() == Some(name)) {
            link.master = None;
            link.options = link.options_of(false);
            link.vlans.clear();
        }
        let above: Vec<String> = self.vlans_on(name).map(ToOwned::to_owned).collect();
        for vlan in above {
            self.delete(&vlan);
        }
    }

    /// VLANs follow what they stand on (`vlan_device_event` in net/8021q/vlan.c), in both directions.
    fn set_up(&mut self, name: &str, up: bool) {
        let Some(link) = self.links.get_mut(name).filter(|link| link.up != up) else { return };
        link.up = up;
        let above: Vec<String> = self.vlans_on(name).map(ToOwned::to_owned).collect();
        for vlan in above {
            self.set_up(&vlan, up);
        }
    }

    /// A link that comes to a VRF or leaves one goes down and up again, and what stands on it follows.
    fn set_master(&mut self, name: &str, master: Option<&str>) {
        let cycled = self.cycles(name, master);
        if cycled {
            self.set_up(name, false);
            self.set_up(name, true);
        }
        let old = self.links.get(name).and_then(|link| link.master.clone());
        if old.as_deref() == master {
            return;
        }
        if let Some(old) = old.filter(|old| self.bond_options(old).is_some()) {
            self.release(name, &old);
        }
        let is_port = master.and_then(|master| self.links.get(master)).is_some_and(Link::is_bridge);
        let filters = master.and_then(|master| self.links.get(master)).is_some_and(Link::filters);
        if let Some(link) = self.links.get_mut(name) {
            link.master = master.map(ToOwned::to_owned);
            link.options = link.options_of(false);
            link.vlans = if filters { vec![DEFAULT_VLAN] } else { Vec::new() };
            if is_port {
                link.options.extend(OF_NEW_PORT);
            }
        }
        if let Some(master) = master {
            self.enslave(name, master);
        }
    }

    /// A VLAN's MTU never exceeds its base's (`vlan_device_event` in net/8021q/vlan.c).
    fn set_mtu(&mut self, name: &str, mtu: u32) {
        let has_ipv6 = self.links.get("lo").is_some_and(|lo| lo.ipv6.is_some());
        let Some(link) = self.links.get_mut(name) else { return };
        link.mtu = mtu;
        if mtu < SMALLEST_IPV6_MTU {
            link.ipv6 = None;
        } else if link.ipv6.is_none() && has_ipv6 {
            link.ipv6 = Some(Ipv6::OF_NEW_LINK);
        }
        let above: Vec<String> = self.vlans_on(name).map(ToOwned::to_owned).collect();
        for vlan in above {
            if self.links[&vlan].mtu > mtu {
                self.set_mtu(&vlan, mtu);
            }
        }
        if self.bond_options(name).is_some() {
            for port in self.ports(name).map(ToOwned::to_owned).collect::<Vec<_>>() {
                self.set_mtu(&port, mtu);
            }
        }
    }
}

fn change(link: &mut Link, step: &Step) {
    match step {
        Step::SetAlias { alias, .. } => link.alias = Some(alias.clone()).filter(|alias| !alias.is_empty()),
        Step::SetStp { on, .. } => link.kind = Kind::Bridge { stp: *on },
        Step::SetOption { option, value, .. } => {
            link.options.insert(*option, *value);
        }
        Step::SetPortVlans { vlans, .. } => link.vlans.clone_from(vlans),
        Step::SetIpv6 { setting, on, .. } => {
            if let Some(ipv6) = &mut link.ipv6 {
                ipv6.set(*setting, *on);
            }
            if *setting == Setting::Disabled && *on {
                link.addresses.retain(Address::is_v4);
                link.link_locals.clear();
            }
        }
        Step::AddAddress { address, detail, .. } => {
            let address = Address { net: *address, detail: detail.clone() };
            let is_link_local = address.is_link_local();
            if is_link_local { &mut link.link_locals } else { &mut link.addresses }.push(address);
        }
        Step::RemoveAddress { address, .. } => {
            link.addresses.retain(|other| other.net != *address);
            link.link_locals.retain(|other| other.net != *address);
        }
        _ => {}
    }
}
