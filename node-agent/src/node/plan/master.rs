//! Which bridge, bond or VRF a link is a port of.
//!
//! Ports are added and never taken for missing: a port that the policy does not list is a pod's, and
//! detaching it would cut that pod off.

use super::{Planner, Step};
use crate::node::desired::{Interface, Kind};

impl Planner<'_> {
    pub(super) fn master(&mut self, wanted: &Interface) {
        let name = wanted.name.as_str();
        let Some(link) = self.model.links.get(name) else { return };
        let (now, ours) = (link.master.clone(), link.is_ours());
        let controller = self.controllers.get(name).map(|controller| (*controller).to_owned());
        match (controller, now) {
            (Some(controller), now) if now.as_ref() == Some(&controller) => {}
            (Some(controller), now) => {
                // A bridge that cannot be made yet has its own entry among what is missing.
                if !self.model.links.contains_key(&controller) {
                    return;
                }
                if let Some(now) = now.filter(|now| !ours && !self.declared.contains_key(now.as_str())) {
                    return self.conflict(format!(
                        "{name} is to be a port of {controller} and is one of {now}, of which the policy does not speak"
                    ));
                }
                if self.takes_frames(&controller) {
                    self.empty(name);
                }
                // The kernel takes no port that is up, and sets it up itself.
                if self.is_bond(&controller) && self.model.links.get(name).is_some_and(|link| link.up) {
                    self.lowered.extend(self.model.up_above(name));
                    self.step(Step::SetUp { link: name.to_owned(), up: false });
                }
                self.step(Step::SetMaster { link: name.to_owned(), master: Some(controller.clone()) });
                self.primary(&controller);
            }
            // A link we made that its bridge's list has named once and does no more.
            (None, Some(now)) if ours && self.declared.contains_key(name) && self.lists_ports(&now) => {
                self.step(Step::SetMaster { link: name.to_owned(), master: None });
            }
            (None, _) => {}
        }
    }

    fn lists_ports(&self, master: &str) -> bool {
        let kind = self.declared.get(master).and_then(|entry| entry.kind.as_ref());
        matches!(kind, Some(Kind::Bridge { ports: Some(_), .. } | Kind::Vrf { ports: Some(_), .. }))
            || self.is_bond(master)
    }
}
