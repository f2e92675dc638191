//! What is wanted, split into what depends on each other: a conflict about one link is none of the others'.
//!
//! A bridge and its ports, a VLAN and its base, a VRF, its ports and the routes of its table, a route and its interface
//! belong together, and so do links that belong together now, of which one may have to go for the other. A policy that was
//! not in force before is one group, too: it comes into force as a whole or not at all. Each group is planned and fails by
//! itself. As long as nothing fails, all are one plan, which takes one reading.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::policies::Part;
use crate::node::desired::{Desired, Interface, Kind, Route};
use crate::node::observed::{self, Observed};

/// Part of what is wanted, independent of the rest.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) desired: Desired,
    /// Of its interfaces, the links' own ones as well, and of its routes as the plan calls them.
    pub(super) names: BTreeSet<String>,
}

/// Which names are in one group, as a forest: each knows another one that is, until one is its own.
#[derive(Debug, Default)]
struct Forest<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Forest<'a> {
    fn root(&mut self, name: &'a str) -> &'a str {
        let mut root = name;
        while let Some(next) = self.0.get(root).copied().filter(|next| *next != root) {
            root = next;
        }
        // So that a long way is gone once.
        self.0.insert(name, root);
        root
    }

    fn join(&mut self, one: &'a str, other: &'a str) {
        let (one, other) = (self.root(one), self.root(other));
        self.0.insert(one, other);
    }
}

/// Splits `desired`, but nothing that is `together`. `observed` has all links that it names.
pub(super) fn split(desired: &Desired, observed: &Observed, together: &[&Part]) -> Vec<Group> {
    let mut forest = Forest::default();
    let mut tables: BTreeMap<u32, &str> = BTreeMap::new();
    for entry in &desired.interfaces {
        for other in beside(entry) {
            forest.join(&entry.name, other);
        }
        if let Some(Kind::Vrf { table: Some(table), .. }) = &entry.kind {
            tables.insert(*table, &entry.name);
        }
    }
    let mut named: BTreeSet<&str> = desired.interfaces.iter().map(|entry| entry.name.as_str()).collect();
    named.extend(desired.interfaces.iter().flat_map(beside));
    for name in &named {
        // Under both names it is one link.
        let own = observed.alternatives.get(*name).map_or(*name, String::as_str);
        forest.join(name, own);
        let Some(link) = observed.links.get(own) else { continue };
        if let Some(master) = link.master.as_deref().filter(|master| named.contains(master)) {
            forest.join(name, master);
        }
        if let observed::Kind::Vlan { base, .. } = &link.kind {
            forest.join(name, base);
        }
    }
    // Routes to one place are one matter, and an entry that states no destination may be about any of them.
    let places: Vec<String> = desired.routes.iter().map(place).collect();
    let any = desired.routes.iter().any(|route| route.destination.is_none() || route.interface.is_none());
    for (route, place) in desired.routes.iter().zip(&places) {
        forest.join(place, if any { "route" } else { place });
        if let Some(link) = &route.interface {
            forest.join(place, link);
        }
        // Whether a link may lose the node's default route depends on it.
        if route.destination.is_none_or(|destination| destination.prefix_len() == 0) {
            for default in &observed.defaults {
                forest.join(place, &default.link);
            }
        }
        if let Some(vrf) = route.table.and_then(|table| tables.get(&table)) {
            forest.join(place, vrf);
        }
    }
    for part in together {
        let entries = desired.interfaces.iter().map(|entry| entry.name.as_str());
        let names = entries.chain(places.iter().map(String::as_str)).filter(|name| part.asks_for(name));
        let names: Vec<&str> = names.collect();
        for pair in names.windows(2) {
            forest.join(pair[0], pair[1]);
        }
    }
    let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
    for entry in &desired.interfaces {
        let group = groups.entry(forest.root(&entry.name)).or_default();
        group.names.insert(entry.name.clone());
        group.names.extend(beside(entry).map(ToOwned::to_owned));
        group.desired.interfaces.push(entry.clone());
    }
    for (route, place) in desired.routes.iter().zip(&places) {
        let group = groups.entry(forest.root(place)).or_default();
        group.names.extend(route.interface.clone());
        group.names.insert(place.clone());
        group.desired.routes.push(route.clone());
    }
    for group in groups.values_mut() {
        // Steps have links' own names, and so has what is remembered of them.
        let own: Vec<String> =
            group.names.iter().filter_map(|name| observed.alternatives.get(name).cloned()).collect();
        group.names.extend(own);
        group.desired.own_ports.clone_from(&desired.own_ports);
    }
    groups.into_values().collect()
}

/// Names of other links in an entry.
fn beside(entry: &Interface) -> impl Iterator<Item = &str> {
    let base = match &entry.kind {
        Some(Kind::Vlan { base, .. }) => base.as_deref(),
        _ => None,
    };
    entry.ports().iter().map(String::as_str).chain(base)
}

/// As the plan calls the route.
pub(super) fn place(route: &Route) -> String {
    route.destination.map_or_else(|| "route".into(), |destination| format!("route to {destination}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::policies::Candidate;
    use crate::node::desired::{Choice, Text, read};
    use crate::node::observed::{DefaultRoute, Link};

    fn groups(yaml: &str, observed: &Observed) -> Vec<Vec<String>> {
        let text = Text { origin: "-".into(), yaml: yaml.into() };
        let desired = read(&[text], &Choice::default()).unwrap();
        let groups = split(&desired, observed, &[]);
        let interfaces: usize = groups.iter().map(|group| group.desired.interfaces.len()).sum();
        let routes: usize = groups.iter().map(|group| group.desired.routes.len()).sum();
        assert_eq!((interfaces, routes), (desired.interfaces.len(), desired.routes.len()));
        let mut names: Vec<Vec<String>> =
            groups.into_iter().map(|group| group.names.into_iter().collect()).collect();
        names.sort();
        names
    }

    const TWO: &str = "
interfaces:
- {name: octbr, type: linux-bridge, bridge: {port: [{name: eth0.24}]}}
- {name: eth0.24, type: vlan, vlan: {base-iface: eth0, id: 24}}
- {name: ospbr, type: linux-bridge, bridge: {port: [{name: eth1}]}}
- {name: eth1, type: ethernet}
";

    #[test]
    fn what_stands_on_or_belongs_to_each_other_is_one_group() {
        let split = groups(TWO, &Observed::default());
        assert_eq!(split, [vec!["eth0", "eth0.24", "octbr"], vec!["eth1", "ospbr"]]);
        // Two VLANs of one NIC share it.
        let third = "- {name: eth0.25, type: vlan, vlan: {base-iface: eth0, id: 25}}\n";
        let split = groups(&format!("{TWO}{third}"), &Observed::default());
        assert_eq!(split, [vec!["eth0", "eth0.24", "eth0.25", "octbr"], vec!["eth1", "ospbr"]]);
    }

    #[test]
    fn routes_go_with_their_interface_and_their_vrf() {
        let more = "
- {name: blue, type: vrf, vrf: {port: [], route-table-id: 100}}
routes:
  config:
  - {destination: 10.1.0.0/16, next-hop-interface: octbr}
  - {destination: 10.2.0.0/16, next-hop-interface: eth7, table-id: 100}
";
        let split = groups(&format!("{TWO}{more}"), &Observed::default());
        let wanted = [
            vec!["blue", "eth7", "route to 10.2.0.0/16"],
            vec!["eth0", "eth0.24", "octbr", "route to 10.1.0.0/16"],
            vec!["eth1", "ospbr"],
        ];
        assert_eq!(split, wanted);
        let any = "  - {next-hop-interface: ospbr, state: absent}\n";
        assert_eq!(groups(&format!("{TWO}{more}{any}"), &Observed::default()).len(), 1);
    }

    #[test]
    fn a_policy_that_was_not_in_force_comes_as_a_whole() {
        let text = Text { origin: "-".into(), yaml: TWO.into() };
        let desired = read(std::slice::from_ref(&text), &Choice::default()).unwrap();
        let part = Candidate::kept(text).part(&Choice::default());
        let groups = split(&desired, &Observed::default(), &[&part]);
        assert_eq!(groups.len(), 1);
        assert_eq!(groups[0].desired.interfaces.len(), 4);
    }

    #[test]
    fn a_port_that_moves_belongs_to_both_of_its_bridges() {
        let port = |master: &str| Link { master: Some(master.into()), ..Link::default() };
        let observed = Observed { links: [("eth1".to_owned(), port("octbr"))].into(), ..Observed::default() };
        let split = groups(&TWO.replace("- {name: eth1, type: ethernet}", ""), &observed);
        assert_eq!(split, [["eth0", "eth0.24", "eth1", "octbr", "ospbr"]]);
    }

    #[test]
    fn what_is_said_of_default_routes_goes_with_the_links_that_have_them() {
        let yaml = "{interfaces: [{name: octbr, type: linux-bridge, bridge: {port: [{name: eth0}]}},
              {name: ospbr, type: linux-bridge, bridge: {port: [{name: eth1}]}}],
            routes: {config: [{destination: 0.0.0.0/0, next-hop-interface: eth7}]}}";
        assert_eq!(groups(yaml, &Observed::default()).len(), 3);
        let default = DefaultRoute { is_v4: true, metric: 0, link: "eth0".into(), gateway: None };
        let observed = Observed { defaults: vec![default], ..Observed::default() };
        let wanted = [vec!["eth0", "eth7", "octbr", "route to 0.0.0.0/0"], vec!["eth1", "ospbr"]];
        assert_eq!(groups(yaml, &observed), wanted);
    }

    #[test]
    fn a_link_of_a_policy_s_name_has_its_own_one_too() {
        let yaml = "interfaces: [{name: octbr, type: linux-bridge, bridge: {port: [{name: ens3}]}}]";
        let observed = Observed {
            links: [("enp6s0".to_owned(), Link::default())].into(),
            alternatives: [("ens3".to_owned(), "enp6s0".to_owned())].into(),
            ..Observed::default()
        };
        assert_eq!(groups(yaml, &observed), [["enp6s0", "ens3", "octbr"]]);
    }

    #[test]
    fn a_bridge_to_be_absent_is_judged_with_the_ports_it_has_now() {
        let yaml =
            "interfaces: [{name: octbr, type: linux-bridge, state: absent}, {name: eth0, type: ethernet}]";
        assert_eq!(groups(yaml, &Observed::default()), [["eth0"], ["octbr"]]);
        let port = Link { master: Some("octbr".into()), ..Link::default() };
        let observed = Observed { links: [("eth0".to_owned(), port)].into(), ..Observed::default() };
        assert_eq!(groups(yaml, &observed), [["eth0", "octbr"]]);
    }
}
