//! Giving back what steps had to take away, where nobody asked for it to be gone.

use super::{Planner, Step, losses, routes};
use crate::node::observed::Address;

impl Planner<'_> {
    /// Addresses, in their order. What a policy lists is there again already.
    pub(super) fn restore_addresses(&mut self) {
        for step in self.displaced.clone() {
            let Step::AddAddress { link: name, address, detail } = step else { continue };
            let address = Address { net: address, detail };
            let Some(link) = self.model.links.get(&name) else { continue };
            let no_ipv6 = !address.is_v4() && link.ipv6.is_none_or(|ipv6| ipv6.disabled);
            let entry = self.declared.get(name.as_str());
            let ip = entry.and_then(|entry| if address.is_v4() { &entry.ipv4 } else { &entry.ipv6 }.as_ref());
            let unwanted = match ip {
                Some(ip) if ip.enabled == Some(false) => true,
                // On a link of ours the list is the whole, and silence means no IPv6.
                Some(ip) => {
                    link.is_ours() && ip.addresses.is_some() && address.stays() && !address.is_link_local()
                }
                None => link.is_ours() && no_ipv6,
            };
            // A port has none.
            if self.is_emptied(&name) {
                continue;
            }
            // One that is down loses them again.
            let is_lost = no_ipv6 || (!address.is_v4() && !link.up);
            if self.has(&name, address.net) || unwanted {
                continue;
            }
            if is_lost {
                self.warnings.push(format!("{} goes with the IPv6 of {name}", address.net));
                continue;
            }
            self.step(Step::add(&name, address));
        }
    }

    /// Routes, those on the link itself before those by a gateway.
    pub(super) fn restore_routes(&mut self) {
        let displaced = std::mem::take(&mut self.displaced);
        for step in displaced.into_iter().rev() {
            let Step::AddRoute(mut route) = step else { continue };
            let was = Step::AddRoute(route.clone());
            let by_a_port = route.hops.iter().all(|hop| self.is_emptied(&hop.link));
            let unwanted = by_a_port || routes::is_unwanted(&self.desired.routes, &route);
            route.table = losses::table(self.before, &self.model, &route);
            let listed = &self.desired.routes;
            if unwanted || self.model.routes.contains(&route) || routes::is_unwanted(listed, &route) {
                continue;
            }
            match losses::obstacle(&self.model, &route) {
                None => self.step(Step::AddRoute(route)),
                Some(why) => {
                    let text = was.to_string();
                    let route = text.strip_prefix("add ").unwrap_or(&text);
                    self.warnings.push(format!("{route} goes with what it stands on: {why}"));
                }
            }
        }
    }
}
