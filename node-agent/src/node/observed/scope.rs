//! Reading no more than a plan looks at: a node has thousands of pods' links, and an uplink and a bridge among them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use nl::{Family, LinkKind, Netlink, RouteFilter};
use octavia_bridge_netlink as nl;

use super::read::{assemble, default_links, port_vlans, read_with};
use super::{MAIN_TABLE, Observed};

/// From so many links on, reading them one by one costs more than reading all.
const FEW: usize = 48;

/// What a plan looks at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    /// Links. What they stand on and belong to comes with them, and the loopback.
    pub(crate) names: BTreeSet<String>,
    /// Links whose ports matter, since the link may have to go.
    pub(crate) ports_of: BTreeSet<String>,
    /// Routing tables of which every route matters, `None` for every table, and whether those of IPv4; of others the routes by
    /// the links here. Empty, and no route does.
    pub(crate) tables: BTreeSet<(Option<u32>, bool)>,
    /// The VLANs of ports matter, also of bridges that do not filter them yet.
    pub(crate) vlans: bool,
    /// Links whose addresses matter.
    pub(crate) addresses_of: BTreeSet<String>,
    /// All that steps could have to do with: addresses, routes, ports and VLANs of the links here, whatever the above
    /// says, and the links of the node's default routes with what carries those.
    pub(crate) whole: bool,
}

/// Links by index, as they come.
struct Found<'a> {
    netlink: &'a Netlink,
    links: BTreeMap<u32, nl::Link>,
}

/// Reads what is in `scope`; more, where that is less work.
///
/// # Errors
/// Those of reading.
pub(crate) async fn read_scope(netlink: &Netlink, scope: &Scope) -> nl::Result<Observed> {
    let few = scope.names.len() <= FEW;
    match if few { some(netlink, scope).await? } else { None } {
        Some(observed) => Ok(observed),
        None => read_with(netlink, scope.vlans).await,
    }
}

/// `None` if it turns out that there are many.
async fn some(netlink: &Netlink, scope: &Scope) -> nl::Result<Option<Observed>> {
    let mut found = Found { netlink, links: BTreeMap::new() };
    for name in &scope.names {
        // Also by an alternative one.
        found.links.extend(netlink.link(name).await?.map(|link| (link.index, link)));
    }
    // A bond has no ports but those that its policy lists.
    let is_bond = |link: &&nl::Link| matches!(link.kind, LinkKind::Bond(_));
    let bonds: Vec<u32> = found.links.values().filter(is_bond).map(|link| link.index).collect();
    for bond in bonds {
        found.add(netlink.ports(bond).await?);
    }
    // Those that go with an address here, by whatever link they leave.
    let mut sourced: Vec<nl::Route> = Vec::new();
    if scope.whole {
        // 8021q makes this folder in every namespace when it is loaded; without it there are no VLANs.
        if Path::new("/proc/thread-self/net/vlan").exists() {
            found.add(netlink.vlans().await?);
        }
        let main = RouteFilter { table: Some(MAIN_TABLE), ..RouteFilter::default() };
        let routes = netlink.routes(&main).await?;
        sourced = routes.iter().filter(|route| route.source.is_some()).cloned().collect();
        for index in default_links(&routes).collect::<BTreeSet<_>>() {
            found.uplink(index).await?;
        }
        for name in &scope.ports_of {
            let master = found.links.values().find(|link| link.is_called(name)).map(|link| link.index);
            if let Some(master) = master {
                found.add(netlink.ports(master).await?);
            }
        }
    }
    found.complete().await?;
    if found.links.len() > FEW {
        return Ok(None);
    }

    let mut addresses = Vec::new();
    let mut routes = Vec::new();
    for (index, link) in &found.links {
        if scope.whole || scope.addresses_of.iter().any(|name| link.is_called(name)) {
            addresses.extend(netlink.addresses(*index).await?);
        }
        if !scope.whole && scope.tables.is_empty() {
            continue;
        }
        let mut by_link =
            netlink.routes(&RouteFilter { link: Some(*index), ..RouteFilter::default() }).await?;
        // A route by several links is among those of each.
        by_link.retain(|route| found.first_link(route) == Some(*index));
        routes.append(&mut by_link);
    }
    sourced.retain(|route| {
        let is_here = |one: &nl::Address| route.source == Some(one.address.addr());
        found.first_link(route).is_none() && addresses.iter().any(is_here)
    });
    for (table, v4) in &scope.tables {
        if table.is_some() && scope.tables.contains(&(None, *v4)) {
            continue;
        }
        let family = Some(if *v4 { Family::V4 } else { Family::V6 });
        let mut others = netlink.routes(&RouteFilter { family, table: *table, link: None }).await?;
        others.retain(|route| found.first_link(route).is_none() && !sourced.contains(route));
        routes.append(&mut others);
    }
    routes.append(&mut sourced);
    // One of a route's links may be none of those here.
    let mut index: HashMap<u32, String> =
        found.links.values().map(|link| (link.index, link.name.clone())).collect();
    for hop in routes.iter().flat_map(|route| &route.next_hops) {
        if hop.link != 0
            && !index.contains_key(&hop.link)
            && let Some(link) = netlink.link(hop.link).await?
        {
            index.insert(link.index, link.name);
        }
    }
    // Which every namespace has, to tell whether the kernel has IPv6.
    if !found.links.values().any(|link| link.loopback) {
        found.add(netlink.link("lo").await?.into_iter().collect());
    }
    let links: Vec<nl::Link> = found.links.into_values().collect();
    let vlans = port_vlans(netlink, &links, scope.vlans).await?;
    Ok(Some(assemble(links, &addresses, &routes, &index, &vlans)))
}

impl Found<'_> {
    fn add(&mut self, links: Vec<nl::Link>) {
        self.links.extend(links.into_iter().map(|link| (link.index, link)));
    }

    /// The first of the links here that a route uses.
    fn first_link(&self, route: &nl::Route) -> Option<u32> {
        route.next_hops.iter().map(|hop| hop.link).filter(|link| self.links.contains_key(link)).min()
    }

    /// Adds what the links here stand on and belong to, and what those do.
    async fn complete(&mut self) -> nl::Result<()> {
        let mut open: Vec<u32> = self.links.keys().copied().collect();
        while let Some(index) = open.pop() {
            let beneath = self.links.get(&index).map(|link| [link.master, base(link)]).unwrap_or_default();
            for next in beneath.into_iter().flatten() {
                if !self.links.contains_key(&next)
                    && let Some(link) = self.netlink.link(next).await?
                {
                    self.links.insert(next, link);
                    open.push(next);
                }
            }
        }
        Ok(())
    }

    /// Adds a link that carries a default route, what it stands on, and its ports with theirs.
    async fn uplink(&mut self, index: u32) -> nl::Result<()> {
        let mut open = vec![index];
        let mut seen = BTreeSet::new();
        while let Some(index) = open.pop() {
            if !seen.insert(index) {
                continue;
            }
            let Some(link) = self.netlink.link(index).await? else { continue };
            open.extend(base(&link));
            // Hardware and VLANs have no ports, and asking costs a look at every link.
            if !matches!(link.kind, LinkKind::None | LinkKind::Veth | LinkKind::Vlan { .. }) {
                let ports = self.netlink.ports(index).await?;
                open.extend(ports.iter().map(|port| port.index));
            }
            self.links.insert(index, link);
        }
        Ok(())
    }
}

/// What a VLAN stands on, in the same namespace.
fn base(link: &nl::Link) -> Option<u32> {
    let here = matches!(link.kind, LinkKind::Vlan { .. }) && link.parent_namespace.is_none();
    link.parent.filter(|_| here)
}

#[cfg(test)]
mod tests;
