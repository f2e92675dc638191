//! What works, or can be done, and is hardly meant.

use super::{Planner, Step};
use crate::node::desired::State;

impl Planner<'_> {
    /// Routes that the steps remove and that neither this plan nor its taking back can add again as they were.
    pub(super) fn note_unkept(&mut self) {
        for planned in &self.steps {
            let Step::RemoveRoute(route) = &planned.apply else { continue };
            if !route.unkept().is_empty() {
                let name = route.hops.first().map_or("a link", |hop| hop.link.as_str());
                let has = route.unkept().join(", ");
                self.warnings.push(format!(
                    "{name}: the route to {} is removed, and cannot be added again with {has}",
                    route.destination
                ));
            }
        }
    }

    /// Bridges that take longer frames than an uplink passes on: a pod takes its MTU from its bridge.
    pub(super) fn note_mtus(&mut self) {
        for entry in self.desired.interfaces.iter().filter(|entry| entry.state == State::Up) {
            let name = entry.name.as_str();
            let Some(bridge) = self.model.links.get(name) else { continue };
            for port in entry.ports() {
                let Some(uplink) = self.model.links.get(port) else { continue };
                let is_port = uplink.master.as_deref() == Some(name);
                if is_port && bridge.mtu > uplink.mtu {
                    self.warnings.push(format!(
                        "{name}: its MTU of {} exceeds the {} bytes of its port {port}, which drops what is longer",
                        bridge.mtu, uplink.mtu
                    ));
                }
            }
        }
    }
}
