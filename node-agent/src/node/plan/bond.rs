//! Bonds: their options, in the order that the kernel demands, and their ports.
//!
//! Some options change only while the bond is down, some only while it has no ports. Both come back in the same plan.

use octavia_bridge_netlink::{BondOption, BondOptions};

use super::{Planner, Step};
use crate::node::desired::{self, Interface, effective, follows_its_port};
use crate::node::observed::Kind;

impl<'a> Planner<'a> {
    /// Brings a bond that is there to the options and ports that are wanted. Another one's bond keeps what the policy does
    /// not speak of.
    pub(super) fn bond(&mut self, wanted: &Interface) {
        let Some(desired::Kind::Bond { options: stated, ports }) = &wanted.kind else { return };
        let name = wanted.name.as_str();
        let Some(link) = self.model.links.get(name).cloned() else { return };
        let Kind::Bond { options: now } = link.kind.clone() else { return };
        let ours = link.is_ours();
        let mut options = stated.clone();
        if ours {
            if let Some(mode) = now.get("mode") {
                options.entry("mode".into()).or_insert_with(|| mode.clone());
            }
            options = effective(&options);
            if let Some(listed) = ports {
                self.release_others(name, listed);
            }
        }
        let differing: Vec<&BondOption> =
            BondOption::all().iter().filter(|option| differs(option, &options, &now)).collect();
        if let Some(option) = differing.iter().find(|option| option.without_ports && !ours) {
            return self.conflict(format!(
                "{name} is there with {} {}, and this program did not make it, so it will not take its ports off to change \
                 that",
                option.name, now[option.name]
            ));
        }
        let mut ports: Vec<String> = Vec::new();
        if differing.iter().any(|option| option.without_ports) {
            ports.extend(self.model.ports(name).map(ToOwned::to_owned));
            for port in &ports {
                self.step(Step::SetMaster { link: port.clone(), master: None });
            }
        }
        if differing.iter().any(|option| option.while_down) && link.up {
            self.lowered.extend(self.model.up_above(name));
            self.step(Step::SetUp { link: name.to_owned(), up: false });
        }
        // What one changes may change others.
        for option in BondOption::all().iter().filter(|option| option.name != "primary") {
            self.option(name, option, &options);
        }
        // A bond that loses its last port gets an address by chance.
        if let Some(mac) = link.mac.filter(|_| !ports.is_empty() && !follows_its_port(&options)) {
            self.step(Step::SetMac { link: name.to_owned(), mac });
        }
        for port in ports {
            self.step(Step::SetMaster { link: port, master: Some(name.to_owned()) });
        }
        self.primary(name);
    }

    fn option(&mut self, name: &str, option: &BondOption, wanted: &BondOptions) {
        let Some(Kind::Bond { options: now }) = self.model.links.get(name).map(|link| &link.kind) else {
            return;
        };
        if !differs(option, wanted, now) {
            return;
        }
        if !now.contains_key(option.name) && is_same_mode(name, &self.before.links, wanted) {
            let key = option.name;
            return self.conflict(format!("{name}: this kernel has no option {key} of bonds; leave it out"));
        }
        let value = wanted[option.name].clone();
        self.step(Step::SetBond { link: name.to_owned(), option: option.name.to_owned(), value });
    }

    /// Sets the primary port, if it is one by now: the kernel reports no other.
    pub(super) fn primary(&mut self, bond: &str) {
        let entry = self.declared.get(bond).copied();
        let Some(desired::Kind::Bond { options: stated, .. }) = entry.and_then(|entry| entry.kind.as_ref())
        else {
            return;
        };
        let Some(link) = self.model.links.get(bond) else { return };
        let Kind::Bond { options: now } = &link.kind else { return };
        let mode = stated.get("mode").or_else(|| now.get("mode"));
        let option = BondOption::named("primary").filter(|one| mode.is_some_and(|mode| one.is_of(mode)));
        let wanted = stated.get("primary").cloned().or(link.is_ours().then(String::new));
        let (Some(_), Some(value)) = (option, wanted) else { return };
        let is_port = |port: &String| {
            self.model.links.get(port).is_some_and(|link| link.master.as_deref() == Some(bond))
        };
        if now.get("primary") != Some(&value) && (value.is_empty() || is_port(&value)) {
            self.step(Step::SetBond { link: bond.to_owned(), option: "primary".into(), value });
        }
    }

    /// Ports of a bond of ours that its list names no more. No pod is a port of a bond.
    fn release_others(&mut self, bond: &str, listed: &[String]) {
        let ports: Vec<String> = self.model.ports(bond).map(ToOwned::to_owned).collect();
        for port in ports.iter().filter(|port| !listed.contains(port)) {
            self.release(port);
        }
    }

    /// Detaches a port. One of a bond, which the kernel sets down with that, comes up again.
    pub(super) fn release(&mut self, port: &str) {
        let was_up = self.model.links.get(port).is_some_and(|link| link.up);
        self.step(Step::SetMaster { link: port.to_owned(), master: None });
        if was_up && self.model.links.get(port).is_some_and(|link| !link.up) {
            self.step(Step::SetUp { link: port.to_owned(), up: true });
        }
    }

    /// The bond of the policy that a link is to be a port of.
    pub(super) fn bond_of(&self, port: &str) -> Option<&'a str> {
        let controller = self.controllers.get(port).copied()?;
        let kind = self.declared.get(controller)?.kind.as_ref();
        kind.filter(|kind| matches!(kind, desired::Kind::Bond { .. })).map(|_| controller)
    }

    /// The MTU that the ports of a bond state, which is the bond's.
    pub(super) fn mtu_of_ports(&self, wanted: &Interface) -> Option<u32> {
        let is_bond = matches!(wanted.kind, Some(desired::Kind::Bond { .. }));
        let mut ports = wanted.ports().iter().filter(|_| is_bond);
        ports.find_map(|port| self.declared.get(port.as_str())?.mtu)
    }
}

fn differs(option: &BondOption, wanted: &BondOptions, now: &BondOptions) -> bool {
    let Some(value) = wanted.get(option.name).filter(|_| option.name != "primary") else { return false };
    match now.get(option.name) {
        Some(now) => now != value,
        // An older kernel, or another mode.
        None => value != option.default,
    }
}

/// Whether a bond has had this mode before, so that all that it has can be seen.
fn is_same_mode(
    name: &str,
    before: &std::collections::BTreeMap<String, crate::node::observed::Link>,
    wanted: &BondOptions,
) -> bool {
    match before.get(name).map(|link| &link.kind) {
        Some(Kind::Bond { options }) => {
            wanted.get("mode").is_none_or(|mode| options.get("mode") == Some(mode))
        }
        _ => false,
    }
}
