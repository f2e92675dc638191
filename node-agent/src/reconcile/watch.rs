//! Which of the kernel's events concern the links that are kept, and pods' ports in them. Pods start and end all day, each
//! with a dozen of events.

use std::collections::{BTreeMap, BTreeSet};

use octavia_bridge_ipam::host_end;
use octavia_bridge_netlink::{Event, Link, Netlink, Result};

/// The links that are kept, by name, and the indices they have.
#[derive(Debug, Default)]
pub(super) struct Watch {
    names: BTreeSet<String>,
    /// Events about ports, addresses and routes tell only the index.
    indices: BTreeMap<u32, String>,
    /// Pods' ports of bridges that are kept.
    ports: BTreeSet<u32>,
}

impl Watch {
    /// Watches these from now on. To be called after the subscription, so that no link comes between.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) async fn set(&mut self, netlink: &Netlink, names: BTreeSet<String>) -> Result<()> {
        self.indices.clear();
        for name in &names {
            if let Some(link) = netlink.link(name).await? {
                // Its own, if it was found by another one.
                self.indices.insert(link.index, link.name);
            }
        }
        self.names = names;
        Ok(())
    }

    /// These are the pods' ports.
    pub(super) fn ports(&mut self, ports: BTreeSet<u32>) {
        self.ports = ports;
    }

    /// Whether a port of a pod may have to be put back, or told of. A new one never is: it is in its bridge before it has
    /// the alias that says whose it is.
    fn strays(&mut self, link: &Link) -> bool {
        if !host_end::is_name(&link.name) || link.alias.as_deref().and_then(host_end::owner).is_none() {
            return false;
        }
        match link.master {
            Some(master) if self.indices.contains_key(&master) => {
                self.ports.insert(link.index);
                !link.up
            }
            // Of a bridge that nobody keeps, or given away.
            Some(_) => self.ports.remove(&link.index),
            None => true,
        }
    }

    /// Whether the event is about one of them, or may be.
    pub(super) fn concerns(&mut self, event: &Event) -> bool {
        match event {
            Event::Link(link)
                if self.names.contains(&link.name)
                    || link.alternative_names.iter().any(|name| self.names.contains(name)) =>
            {
                self.indices.insert(link.index, link.name.clone());
                true
            }
            // One that has just been renamed is missing under its name.
            Event::Link(link) => self.indices.remove(&link.index).is_some() || self.strays(link),
            Event::LinkGone { index, name } => {
                self.ports.remove(index);
                self.indices.remove(index).is_some() || self.names.contains(name)
            }
            Event::Port { index } => self.indices.contains_key(index),
            Event::Address(address) | Event::AddressGone(address) => self.indices.contains_key(&address.link),
            Event::Route(route) | Event::RouteGone(route) => {
                route.next_hops.iter().any(|hop| self.indices.contains_key(&hop.link))
            }
            Event::Overrun => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use octavia_bridge_netlink::{Link, NextHop, Route};

    use super::*;

    fn link(index: u32, name: &str) -> Event {
        Event::Link(Link { index, name: name.into(), ..Link::default() })
    }

    fn route(link: u32) -> Event {
        let hop = NextHop { link, ..NextHop::default() };
        Event::RouteGone(Route { next_hops: vec![hop], ..Route::default() })
    }

    fn port(master: Option<u32>, up: bool) -> Event {
        let alias = Some(host_end::alias("cid1", "net1", None));
        let name = host_end::name("cid1", "net1");
        Event::Link(Link { index: 7, name, alias, master, up, ..Link::default() })
    }

    #[test]
    fn a_port_concerns_us_when_it_leaves_its_bridge() {
        let mut watch = Watch { names: BTreeSet::from(["octbr".into()]), ..Watch::default() };
        assert!(watch.concerns(&link(3, "octbr")));
        assert!(!watch.concerns(&port(Some(3), true)), "as it is attached");
        assert!(watch.concerns(&port(Some(3), false)));
        assert!(watch.concerns(&port(None, true)));
        assert!(watch.concerns(&port(Some(9), true)), "given away");
        assert!(!watch.concerns(&port(Some(9), true)), "told once");
        assert!(!watch.concerns(&Event::LinkGone { index: 7, name: "veth1bd1457ed04".into() }));
    }

    #[test]
    fn pods_events_do_not_concern_us_and_everything_about_our_links_does() {
        let mut watch = Watch { names: BTreeSet::from(["octbr".into()]), ..Watch::default() };
        let of_pods = [link(7, "veth1"), Event::Port { index: 7 }, route(7)];
        for event in &of_pods {
            assert!(!watch.concerns(event), "{event:?}");
        }
        // Before it exists nothing can be known by its index.
        assert!(!watch.concerns(&Event::Port { index: 3 }));
        for event in [link(3, "octbr"), Event::Port { index: 3 }, route(3), Event::Overrun] {
            assert!(watch.concerns(&event), "{event:?}");
        }
        assert!(watch.concerns(&link(3, "renamed")));
        assert!(!watch.concerns(&Event::Port { index: 3 }));
        assert!(watch.concerns(&Event::LinkGone { index: 9, name: "octbr".into() }));
    }
}
