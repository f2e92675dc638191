//! Deleting links: only ours, only when told to, and never with something of others on them.

use super::create::described;
use super::{Planner, Step, losses};
use crate::node::desired::State;
use crate::node::observed::Kind;

impl Planner<'_> {
    pub(super) fn delete_absent(&mut self) {
        let absent = self.desired.interfaces.iter().filter(|entry| entry.state == State::Absent);
        for name in absent.map(|entry| entry.name.clone()).collect::<Vec<_>>() {
            self.make_absent(&name);
        }
    }

    fn make_absent(&mut self, name: &str) {
        // Gone already, perhaps as a VLAN on another one that is to be absent.
        let Some(link) = self.model.links.get(name) else { return };
        if matches!(link.kind, Kind::Ethernet | Kind::Loopback) && !link.is_ours() {
            let text =
                "is hardware, or not of our making, and stays as it is; absent deletes only links made here";
            return self.warnings.push(format!("{name} {text}"));
        }
        if !link.is_ours() {
            return self.conflict(format!(
                "{name} is to be absent, but this program did not make it; whatever made it has to remove it"
            ));
        }
        if self.free_to_delete(name) {
            let above: Vec<String> = self.model.vlans_on(name).map(ToOwned::to_owned).collect();
            for vlan in above {
                self.make_absent(&vlan);
            }
            if self.model.vlans_on(name).next().is_none() {
                self.delete(name);
            }
        }
    }

    /// Whether nothing of others would go or be cut off along with the link; a conflict for each that
    /// would.
    pub(super) fn free_to_delete(&mut self, name: &str) -> bool {
        let before = self.conflicts.len();
        let absent = |other: &str| self.declared.get(other).is_some_and(|entry| entry.state == State::Absent);
        let above: Vec<String> =
            self.model.vlans_on(name).filter(|vlan| !absent(vlan)).map(ToOwned::to_owned).collect();
        let known = |port: &str| {
            self.declared.contains_key(port)
                || self.controllers.contains_key(port)
                || self.desired.own_ports.contains(port)
                || self.model.links[port].is_ours()
        };
        let foreign: Vec<String> =
            self.model.ports(name).filter(|port| !known(port)).map(ToOwned::to_owned).collect();
        for vlan in above {
            self.conflict(format!("{name} cannot be deleted: the VLAN {vlan} stands on it"));
        }
        if !foreign.is_empty() {
            let ports = foreign.join(", ");
            self.conflict(format!(
                "{name} cannot be deleted: {ports} would be cut off; \
                 end the pods of these ports, or name the links in the policy"
            ));
        }
        self.conflicts.len() == before
    }

    /// Takes everything off the link and then the link, each by a step that can be undone.
    pub(super) fn delete(&mut self, name: &str) {
        self.drop_routes(name);
        let Some(link) = self.model.links.get(name).cloned() else { return };
        // Secondaries before their primary.
        for address in link.addresses.iter().chain(&link.link_locals).rev() {
            self.step(Step::RemoveAddress { link: name.to_owned(), address: address.net });
        }
        for port in self.model.ports(name).map(ToOwned::to_owned).collect::<Vec<_>>() {
            self.release(&port);
        }
        if link.master.is_some() {
            self.step(Step::SetMaster { link: name.to_owned(), master: None });
        }
        if link.up {
            self.step(Step::SetUp { link: name.to_owned(), up: false });
        }
        self.step(Step::Delete(described(name, &link)));
    }

    fn drop_routes(&mut self, name: &str) {
        for step in losses::removed(self.model.routes.iter().filter(|route| route.uses(name)).collect()) {
            self.step(step);
        }
    }
}
