//! What bonds do by themselves (drivers/net/bonding).

use octavia_bridge_netlink::BondOptions;

use super::super::Step;
use crate::node::desired::follows_its_port;
use crate::node::observed::{Kind, Observed};

/// Milliseconds that a mode that cannot watch links by ARP sets (`BOND_DEFAULT_MIIMON`).
const MIIMON: &str = "100";

/// Whether bonds of this mode watch their links by MII only (`bond_mode_uses_arp`).
fn is_without_arp(mode: &str) -> bool {
    matches!(mode, "802.3ad" | "balance-tlb" | "balance-alb")
}

fn is_off(options: &BondOptions, name: &str) -> bool {
    options.get(name).is_none_or(|value| value == "0")
}

/// What the kernel resets with an option, as steps that can be done before it.
pub(in crate::node::plan) fn reset_by(
    link: &str,
    options: &BondOptions,
    option: &str,
    value: &str,
) -> Vec<Step> {
    let mut reset: Vec<(&str, &str)> = Vec::new();
    // Kept as multiples of it.
    let delays: [(&str, &str); 2] = [("updelay", "0"), ("downdelay", "0")];
    match option {
        "mode" => {
            reset.push(("arp_validate", "none"));
            if is_without_arp(value) {
                reset.push(("arp_interval", "0"));
            }
        }
        "miimon" => {
            reset.extend(delays);
            if value != "0" {
                reset.extend([("arp_validate", "none"), ("arp_interval", "0")]);
            }
        }
        "arp_interval" if value != "0" => {
            reset.extend(delays);
            reset.push(("miimon", "0"));
        }
        _ => {}
    }
    let mut steps = Vec::new();
    for (name, value) in reset {
        if options.get(name).is_some_and(|now| now != value) {
            steps.push(set(link, name, value));
        }
    }
    steps
}

pub(in crate::node::plan) fn set(link: &str, option: &str, value: &str) -> Step {
    Step::SetBond { link: link.to_owned(), option: option.to_owned(), value: value.to_owned() }
}

/// What taking back another mode takes besides: the values that the mode has set.
pub(in crate::node::plan) fn after_mode(link: &str, before: &BondOptions, mode: &str) -> Vec<Step> {
    let mut then = Vec::new();
    if is_without_arp(mode) && is_off(before, "miimon") {
        then.push(set(link, "miimon", "0"));
    }
    let is = |name: &str, value: &str| before.get(name).is_some_and(|now| now == value);
    if mode == "balance-alb" && is("mode", "balance-tlb") && is("tlb_dynamic_lb", "false") {
        then.push(set(link, "tlb_dynamic_lb", "false"));
    }
    then
}

impl Observed {
    pub(in crate::node::plan) fn bond_options(&self, name: &str) -> Option<&BondOptions> {
        match &self.links.get(name)?.kind {
            Kind::Bond { options } => Some(options),
            _ => None,
        }
    }

    pub(super) fn set_bond(&mut self, name: &str, option: &str, value: &str) {
        let Some(Kind::Bond { options }) = self.links.get_mut(name).map(|link| &mut link.kind) else {
            return;
        };
        options.insert(option.to_owned(), value.to_owned());
        if option == "mode" {
            if is_without_arp(value) && is_off(options, "miimon") {
                options.insert("miimon".into(), MIIMON.into());
            }
            if value == "balance-alb" {
                options.insert("tlb_dynamic_lb".into(), "true".into());
            }
        }
    }

    /// The address of a bond is its ports', and VLANs on it follow as long as they have it from there.
    pub(super) fn set_mac(&mut self, name: &str, mac: Option<&str>) {
        let follows = self.bond_options(name).is_some_and(|options| !follows_its_port(options));
        let mac = mac.map(ToOwned::to_owned);
        let Some(link) = self.links.get_mut(name) else { return };
        let old = std::mem::replace(&mut link.mac, mac.clone());
        let mut with: Vec<String> = Vec::new();
        if matches!(link.kind, Kind::Bond { .. }) {
            let above = self.vlans_on(name).filter(|vlan| self.links[*vlan].mac == old);
            with.extend(above.map(ToOwned::to_owned));
            with.extend(self.ports(name).filter(|_| follows).map(ToOwned::to_owned));
        }
        for other in with {
            if let Some(link) = self.links.get_mut(&other) {
                link.mac.clone_from(&mac);
            }
        }
    }

    /// A port of a bond comes up, and has the bond's MTU and address.
    pub(super) fn enslave(&mut self, name: &str, bond: &str) {
        let Some(options) = self.bond_options(bond) else { return };
        let follows = follows_its_port(options);
        let is_first = self.ports(bond).all(|port| port == name);
        let Some(own) = self.links.get(name).map(|link| link.mac.clone()) else { return };
        let (mac, mtu) = (self.links[bond].mac.clone(), self.links[bond].mtu);
        if is_first && (follows || mac.is_none()) {
            self.set_mac(bond, own.as_deref());
        } else if let Some(link) = self.links.get_mut(name).filter(|_| !follows) {
            link.mac = mac;
        }
        self.set_mtu(name, mtu);
        self.set_up(name, true);
    }

    /// What leaves a bond goes down and gets back its own address; the last one leaves the bond with an address by chance.
    pub(super) fn release(&mut self, name: &str, bond: &str) {
        self.set_up(name, false);
        let follows = self.bond_options(bond).is_some_and(follows_its_port);
        if let Some(link) = self.links.get_mut(name).filter(|_| !follows) {
            link.mac = None;
        }
        if self.ports(bond).all(|port| port == name) {
            self.set_mac(bond, None);
        }
    }
}
