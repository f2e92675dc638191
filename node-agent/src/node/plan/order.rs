//! In which order interfaces are brought about: what one stands on or belongs to comes before it.

use std::collections::{BTreeMap, BTreeSet};

use super::Planner;
use crate::node::desired::{Interface, Kind, State};

impl Planner<'_> {
    /// All interfaces to be up or down: base before VLAN, bridge and VRF before their ports. Ports that
    /// have no entry of their own get one that says nothing but that they shall be up.
    pub(super) fn in_order(&self) -> Vec<Interface> {
        let mut done = BTreeSet::new();
        let mut order = Vec::new();
        for interface in &self.desired.interfaces {
            self.visit(&interface.name, &mut done, &mut order);
            for port in interface.ports().iter().filter(|_| interface.state == State::Up) {
                self.visit(port, &mut done, &mut order);
            }
        }
        order
    }

    /// Cycles were refused when the document was read, and so was what stands on too many: this goes as deep as a VLAN
    /// has bases, and from the last one on as high as it has controllers.
    fn visit(&self, name: &str, done: &mut BTreeSet<String>, order: &mut Vec<Interface>) {
        if !done.insert(name.to_owned()) {
            return;
        }
        let entry = self.declared.get(name).copied();
        if let Some(Kind::Vlan { base: Some(base), .. }) = entry.and_then(|entry| entry.kind.as_ref())
            && self.declared.contains_key(base.as_str())
        {
            self.visit(base, done, order);
        }
        if let Some(controller) = self.controllers.get(name) {
            self.visit(controller, done, order);
        }
        order.push(entry.cloned().unwrap_or_else(|| Interface {
            name: name.to_owned(),
            kind: None,
            state: State::Up,
            description: None,
            mtu: None,
            mac: None,
            ipv4: None,
            ipv6: None,
            options: BTreeMap::default(),
            port_options: BTreeMap::default(),
            port_vlans: BTreeMap::default(),
        }));
    }

    /// The link that has to appear before this one can be made; `None` if it is there or can be made. Asked for each
    /// link once: two ports of a bridge may stand on the same links, and each of those on two of the next. The answer
    /// stays, since a plan makes what can be made and nothing else.
    pub(super) fn awaited(&self, name: &str) -> Option<String> {
        if self.model.links.contains_key(name) {
            return None;
        }
        let known = self.awaited.borrow().get(name).cloned();
        known.unwrap_or_else(|| {
            let awaited = self.find_awaited(name);
            self.awaited.borrow_mut().insert(name.to_owned(), awaited.clone());
            awaited
        })
    }

    fn find_awaited(&self, name: &str) -> Option<String> {
        let entry = self.declared.get(name).filter(|entry| entry.state == State::Up);
        match entry.and_then(|entry| entry.kind.as_ref()) {
            Some(Kind::Vlan { base: Some(base), .. }) => self.awaited(base),
            Some(Kind::Vlan { base: None, .. }) => None,
            // A bridge is not made without its uplink: pods would be attached to it and talk to nobody.
            Some(Kind::Bridge { ports, .. } | Kind::Vrf { ports, .. }) => {
                ports.iter().flatten().find_map(|port| self.awaited(port))
            }
            // A bond carries as soon as one of its ports is there: that one fails is what it is for.
            Some(Kind::Bond { ports, .. }) => {
                let awaited: Vec<_> = ports.iter().flatten().map(|port| self.awaited(port)).collect();
                if awaited.iter().all(Option::is_some) { awaited.into_iter().flatten().next() } else { None }
            }
            _ => Some(name.to_owned()),
        }
    }
}
