//! Reading a namespace through netlink.

use std::collections::{BTreeMap, HashMap};

use nl::{LinkKind, Netlink, RouteFilter, RouteKind};
use octavia_bridge_netlink as nl;

use super::{Address, DefaultRoute, Hop, Ipv6, Kind, Link, Observed, Route, RouteDetail};

/// Protocol of routes the kernel makes with an address (`RTPROT_KERNEL`); they come and go with it.
const KERNEL: u8 = 2;
/// Protocol of routes out of router advertisements (`RTPROT_RA`).
const ROUTER_ADVERTISEMENT: u8 = 9;
/// The main routing table (`RT_TABLE_MAIN`).
pub(crate) const MAIN_TABLE: u32 = 254;
/// The table of the host's own addresses (`RT_TABLE_LOCAL`).
const LOCAL_TABLE: u32 = 255;

pub(super) type PortVlans = BTreeMap<u32, Vec<nl::VlanRange>>;

/// Reads all links, addresses and routes of `netlink`'s namespace.
///
/// # Errors
/// Those of reading.
pub(crate) async fn read(netlink: &Netlink) -> nl::Result<Observed> {
    read_with(netlink, false).await
}

/// The same, with the VLANs of ports also if no bridge filters them.
///
/// # Errors
/// Those of reading.
pub(super) async fn read_with(netlink: &Netlink, vlans: bool) -> nl::Result<Observed> {
    let links = netlink.links().await?;
    let addresses = netlink.all_addresses().await?;
    let routes = netlink.routes(&RouteFilter::default()).await?;
    let index = links.iter().map(|link| (link.index, link.name.clone())).collect();
    let vlans = port_vlans(netlink, &links, vlans).await?;
    Ok(assemble(links, &addresses, &routes, &index, &vlans))
}

/// VLANs of bridge ports by index, if they are `wanted` or one of the links is a bridge that filters them: the kernel lists those
/// of all ports or none.
pub(super) async fn port_vlans(netlink: &Netlink, links: &[nl::Link], wanted: bool) -> nl::Result<PortVlans> {
    let filters = |link: &nl::Link| link.options.get(&nl::LinkOption::VlanFiltering) == Some(&1);
    match wanted || links.iter().any(filters) {
        true => netlink.all_port_vlans().await,
        false => Ok(PortVlans::new()),
    }
}

/// What was read, by name. `index` has the names of all links that the rest speaks of.
pub(super) fn assemble(
    links: Vec<nl::Link>,
    addresses: &[nl::Address],
    routes: &[nl::Route],
    index: &HashMap<u32, String>,
    vlans: &PortVlans,
) -> Observed {
    let named = |number: u32| index.get(&number).cloned();
    let mut by_name = BTreeMap::new();
    // In one pass, since a node has thousands of both.
    let tells_origin = addresses.iter().any(|address| address.protocol != 0);
    let mut of_link: HashMap<u32, Vec<&nl::Address>> = HashMap::new();
    for address in addresses {
        of_link.entry(address.link).or_default().push(address);
    }
    let mut alternatives = BTreeMap::new();
    for link in links {
        for other in &link.alternative_names {
            alternatives.insert(other.clone(), link.name.clone());
        }
        let own = of_link.remove(&link.index).unwrap_or_default();
        let own = own.into_iter().filter_map(|address| Address::of(address, &link.name, tells_origin));
        let (link_locals, own) = own.partition(Address::is_link_local);
        let seen = Link {
            up: link.up,
            mtu: link.mtu,
            max_mtu: link.max_mtu,
            mac: link.mac.map(|mac| mac.to_string()),
            master: link.master.and_then(named),
            leads_away: matches!(link.kind, LinkKind::Veth) && link.parent_namespace.is_some(),
            addresses: own,
            link_locals,
            ipv6: link.ipv6.map(Ipv6::of),
            kind: kind(&link, named),
            alias: link.alias,
            options: link.options,
            // A bridge has some of its own, for what leaves the node by it.
            vlans: vlans.get(&link.index).filter(|_| link.master.is_some()).cloned().unwrap_or_default(),
        };
        by_name.insert(link.name, seen);
    }
    let defaults = defaults(routes, named);
    let routes = routes.iter().filter_map(|route| configured(route, named)).collect();
    Observed { links: by_name, routes, defaults, alternatives }
}

/// Indices of the links by which default routes of the main table leave.
pub(super) fn default_links(routes: &[nl::Route]) -> impl Iterator<Item = u32> {
    routes.iter().filter(|route| is_default(route)).flat_map(|route| &route.next_hops).map(|hop| hop.link)
}

fn is_default(route: &nl::Route) -> bool {
    let is_for_all = route.tos == 0 && route.from.is_none();
    is_for_all
        && route.destination.prefix_len() == 0
        && route.table == Some(MAIN_TABLE)
        && route.kind == RouteKind::Unicast
}

fn defaults(routes: &[nl::Route], named: impl Fn(u32) -> Option<String>) -> Vec<DefaultRoute> {
    let mut found = Vec::new();
    for route in routes.iter().filter(|route| is_default(route)) {
        for hop in &route.next_hops {
            let Some(link) = named(hop.link) else { continue };
            found.push(DefaultRoute {
                is_v4: route.destination.addr().is_ipv4(),
                metric: route.priority.unwrap_or_default(),
                link,
                gateway: hop.gateway,
            });
        }
    }
    found
}

fn kind(link: &nl::Link, named: impl Fn(u32) -> Option<String>) -> Kind {
    match &link.kind {
        LinkKind::Bridge(options) => Kind::Bridge { stp: options.stp.unwrap_or(false) },
        LinkKind::Vlan { id, .. } => {
            let here = link.parent_namespace.is_none();
            let base = link.parent.filter(|_| here).and_then(named).unwrap_or_default();
            Kind::Vlan { base, id: *id }
        }
        LinkKind::Vrf { table } => Kind::Vrf { table: *table },
        LinkKind::Bond(options) => {
            let mut options = options.clone();
            if let Some(primary) = options.get_mut("primary") {
                *primary = primary.parse().ok().and_then(named).unwrap_or_default();
            }
            Kind::Bond { options }
        }
        LinkKind::Veth => Kind::Ethernet,
        LinkKind::Other(other) => Kind::Other(other.clone()),
        LinkKind::None if link.loopback => Kind::Loopback,
        LinkKind::None => Kind::Ethernet,
    }
}

fn configured(route: &nl::Route, named: impl Fn(u32) -> Option<String>) -> Option<Route> {
    let protocol = route.protocol.unwrap_or_default();
    let table = route.table.unwrap_or_default();
    if route.kind != RouteKind::Unicast
        || protocol == KERNEL
        || protocol == ROUTER_ADVERTISEMENT
        || table == LOCAL_TABLE
    {
        return None;
    }
    let hop = |hop: &nl::NextHop| {
        Some(Hop {
            link: named(hop.link)?,
            gateway: hop.gateway,
            weight: hop.weight.max(1),
            onlink: hop.onlink,
        })
    };
    let mut hops: Vec<_> = route.next_hops.iter().map(hop).collect::<Option<_>>()?;
    hops.sort();
    Some(Route {
        destination: route.destination,
        table,
        metric: route.priority.unwrap_or_default(),
        protocol,
        source: route.source,
        mtu: route.mtu,
        hops,
        detail: RouteDetail::of(route),
    })
}
