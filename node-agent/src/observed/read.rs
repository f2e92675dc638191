//! Reading a namespace through netlink.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use nl::{LinkKind, Netlink, RouteFilter, RouteKind};
use octavia_bridge_netlink as nl;

use super::{Hop, Kind, Link, Observed, Route, ipv6};

/// Protocol of routes the kernel makes with an address (`RTPROT_KERNEL`); they come and go with it.
const KERNEL: u8 = 2;
/// Protocol of routes out of router advertisements (`RTPROT_RA`).
const ROUTER_ADVERTISEMENT: u8 = 9;
/// The main routing table (`RT_TABLE_MAIN`).
pub(crate) const MAIN_TABLE: u32 = 254;
/// The table of the host's own addresses (`RT_TABLE_LOCAL`).
const LOCAL_TABLE: u32 = 255;

/// Reads the links, addresses and routes of `netlink`'s namespace, and the IPv6 settings of the links
/// named, or of all: they are files, two to be read for each link, and a node has hundreds of veths.
///
/// # Errors
/// Those of reading.
pub(crate) async fn read(netlink: &Netlink, names: Option<&BTreeSet<String>>) -> nl::Result<Observed> {
    let links = netlink.links().await?;
    let addresses = netlink.all_addresses().await?;
    let routes = netlink.routes(&RouteFilter::default()).await?;

    let index: HashMap<u32, String> = links.iter().map(|link| (link.index, link.name.clone())).collect();
    let named = |index_: u32| index.get(&index_).cloned();
    let mut by_name = BTreeMap::new();
    for link in links {
        let wanted = names.is_none_or(|names| names.contains(&link.name));
        let own = addresses.iter().filter(|address| address.link == link.index && stays(address));
        let mut own: Vec<_> = own.map(|address| address.address).collect();
        own.sort();
        let seen = Link {
            up: link.up,
            mtu: link.mtu,
            max_mtu: link.max_mtu,
            mac: link.mac.map(|mac| mac.to_string()),
            master: link.master.and_then(named),
            addresses: own,
            ipv6: if wanted { ipv6::read(&link.name) } else { None },
            kind: kind(&link, named),
            alias: link.alias,
        };
        by_name.insert(link.name, seen);
    }
    let default = |route: &&nl::Route| route.destination.prefix_len() == 0 && route.table == Some(MAIN_TABLE);
    let hops = routes.iter().filter(default).flat_map(|route| &route.next_hops);
    let default_links = hops.filter_map(|hop| named(hop.link)).collect();
    let routes = routes.iter().filter_map(|route| configured(route, named)).collect();
    Ok(Observed { links: by_name, routes, default_links })
}

/// Link-local IPv6 addresses are the kernel's, and those with a lifetime a router's or a DHCP client's.
fn stays(address: &nl::Address) -> bool {
    let link_local = matches!(address.address, ipnet::IpNet::V6(net) if net.addr().is_unicast_link_local());
    address.valid_seconds.is_none() && !link_local
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
    })
}
