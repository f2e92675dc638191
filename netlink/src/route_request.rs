//! Reading, adding and deleting routes.

use std::net::IpAddr;

use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_core::{DefaultNla, NLM_F_CREATE};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RouteProtocol, RouteScope, RouteVia,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::channel::Request;
use crate::name::validate_index;
use crate::{Error, Family, Netlink, NextHop, Result, Route, RouteFilter, RouteKind};

/// Largest weight of a next hop: the wire counts from 0 in one byte.
const MAX_WEIGHT: u16 = 256;

impl Route {
    /// Most next hops of a route to add. A message has room for about 4000, but a route with 500 does not fit into the datagrams
    /// with which programs list routes: `ip route show` then shows none of the node's routes.
    pub const MAX_NEXT_HOPS: usize = 128;
}

impl Netlink {
    /// Reads routes; for both families it sends two requests. Without a table in the filter, the result
    /// includes the kernel's own routes in the local table (255).
    ///
    /// # Errors
    /// Every [`Error`] a request can end in. A table or link that does not exist has no routes.
    pub async fn routes(&self, filter: &RouteFilter) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [Family::V4, Family::V6] {
            if filter.family.is_none_or(|wanted| wanted == family) {
                routes.extend(self.dump_routes(family, filter).await?);
            }
        }
        Ok(routes)
    }

    async fn dump_routes(&self, family: Family, filter: &RouteFilter) -> Result<Vec<Route>> {
        let attempt = || format!("list {family:?} routes");
        let mut message = RouteMessage::default();
        message.header.address_family = wire_family(family);
        message.attributes.extend(filter.table.map(RouteAttribute::Table));
        if let Some(link) = filter.link {
            validate_index(link, attempt)?;
            message.attributes.push(RouteAttribute::Oif(link));
        }
        let request = Request::dump(RouteNetlinkMessage::GetRoute(message));
        match self.request(request, Route::from_message, attempt).await {
            Err(Error::Refused { errno, .. })
                if errno == Errno::ENOENT as i32 || errno == Errno::ENODEV as i32 =>
            {
                Ok(Vec::new())
            }
            other => other,
        }
    }

    /// The route by which a packet of this host to `address` would leave; `None` if there is none. Its kind is
    /// [`RouteKind::Local`] for an address of this host.
    ///
    /// # Errors
    /// Every [`Error`] a request can end in.
    pub async fn route_to(&self, address: IpAddr) -> Result<Option<Route>> {
        let attempt = || format!("look up the route to {address}");
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        let mut message = RouteMessage::default();
        message.header.address_family = wire_family(family);
        message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
        message.attributes.push(RouteAttribute::Destination(address.into()));
        let request = Request::get(RouteNetlinkMessage::GetRoute(message));
        match self.request(request, Route::from_message, attempt).await {
            // IPv6 answers with a route that drops where IPv4 answers with an error.
            Ok(routes) => Ok(routes.into_iter().next().filter(leads_on)),
            Err(Error::Refused { errno, .. })
                if [Errno::ENETUNREACH, Errno::EHOSTUNREACH, Errno::EACCES, Errno::EINVAL]
                    .contains(&Errno::from_raw(errno)) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Adds a route in front of those to the same destination with the same metric, as
    /// `ip route prepend` does: neither replaces one nor minds another one, but a route that is the
    /// same in everything is refused. In IPv6 the kernel makes one route with several next hops of
    /// it.
    ///
    /// The link must be up and, unless `onlink`, have an address that reaches the gateway.
    ///
    /// # Errors
    /// [`Error::is_exists`] if there is the very same route; every other [`Error`] of a request.
    pub async fn add_route(&self, route: &Route) -> Result<()> {
        let attempt = || format!("add route {}", described(route));
        let (hops, most) = (route.next_hops.len(), Route::MAX_NEXT_HOPS);
        if hops > most {
            let reason = format!("{hops} next hops, and a route has at most {most}");
            return Err(Error::Invalid { attempt: attempt(), reason });
        }
        let mut message = message(route, attempt)?;
        let scope = route.scope.map_or_else(|| default_scope(route), RouteScope::from);
        message.header.scope = scope;
        message.header.protocol = route.protocol.map_or(RouteProtocol::Static, RouteProtocol::from);
        self.change(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE, attempt).await
    }

    /// Deletes the first route that agrees with every stated value. Returns whether there was one.
    ///
    /// # Errors
    /// Every [`Error`] a request can end in.
    pub async fn delete_route(&self, route: &Route) -> Result<bool> {
        let attempt = || format!("delete route {}", described(route));
        let mut message = message(route, attempt)?;
        // These values mean "any".
        message.header.scope = route.scope.map_or(RouteScope::NoWhere, RouteScope::from);
        message.header.protocol = route.protocol.map_or(RouteProtocol::Unspec, RouteProtocol::from);
        match self.change(RouteNetlinkMessage::DelRoute(message), 0, attempt).await {
            Ok(()) => Ok(true),
            Err(Error::Refused { errno, .. }) if errno == Errno::ESRCH as i32 => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Everything but scope and protocol, whose defaults differ between adding and deleting.
pub(crate) fn message(route: &Route, attempt: impl Fn() -> String) -> Result<RouteMessage> {
    let destination = route.destination.trunc();
    let mut message = RouteMessage::default();
    message.header.address_family = wire_family(route.family());
    message.header.destination_prefix_length = destination.prefix_len();
    message.header.kind = u8::from(route.kind).into();
    message.attributes.push(RouteAttribute::Destination(destination.addr().into()));
    let table = route.table.unwrap_or(RouteHeader::RT_TABLE_MAIN.into());
    // The header has one byte for the table; larger numbers go into an attribute.
    match u8::try_from(table) {
        Ok(small) => message.header.table = small,
        Err(_) => message.attributes.push(RouteAttribute::Table(table)),
    }
    message.attributes.extend(route.priority.map(RouteAttribute::Priority));
    message.attributes.extend(route.source.map(|ip| RouteAttribute::PrefSource(ip.into())));
    message.header.tos = route.tos;
    if let Some(from) = route.from {
        message.header.source_prefix_length = from.prefix_len();
        message.attributes.push(RouteAttribute::Source(from.trunc().addr().into()));
    }
    for other in &route.others {
        message.attributes.push(RouteAttribute::Other(DefaultNla::new(other.kind, other.value.clone())));
    }
    let mut metrics: Vec<RouteMetric> = Vec::new();
    metrics.extend(route.mtu.map(RouteMetric::Mtu));
    metrics.extend(route.advmss.map(RouteMetric::Advmss));
    for metric in &route.metrics {
        metrics.push(RouteMetric::Other(DefaultNla::new(metric.kind, metric.value.clone())));
    }
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    if let Some(object) = route.object {
        message.attributes.push(RouteAttribute::NhId(object));
        return Ok(message);
    }
    match route.next_hops.as_slice() {
        [] => {}
        [hop] => {
            if hop.onlink {
                message.header.flags |= RouteFlags::Onlink;
            }
            if hop.link != 0 {
                message.attributes.push(RouteAttribute::Oif(hop.link));
            }
            message.attributes.extend(gateway(route, hop, &attempt)?);
        }
        several => {
            let hops: Result<_> = several.iter().map(|hop| next_hop(route, hop, &attempt)).collect();
            message.attributes.push(RouteAttribute::MultiPath(hops?));
        }
    }
    Ok(message)
}

fn next_hop(route: &Route, hop: &NextHop, attempt: impl Fn() -> String) -> Result<RouteNextHop> {
    if hop.weight > MAX_WEIGHT {
        let reason = format!("a next hop's weight is at most {MAX_WEIGHT}, not {}", hop.weight);
        return Err(Error::Invalid { attempt: attempt(), reason });
    }
    let mut wire = RouteNextHop::default();
    wire.interface_index = hop.link;
    wire.hops = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
    wire.flags.set(RouteNextHopFlags::Onlink, hop.onlink);
    wire.attributes.extend(gateway(route, hop, attempt)?);
    Ok(wire)
}

fn gateway(route: &Route, hop: &NextHop, attempt: impl Fn() -> String) -> Result<Option<RouteAttribute>> {
    Ok(match (route.destination, hop.gateway) {
        (_, None) => None,
        (IpNet::V4(_), Some(gateway @ IpAddr::V4(_))) | (IpNet::V6(_), Some(gateway @ IpAddr::V6(_))) => {
            Some(RouteAttribute::Gateway(RouteAddress::from(gateway)))
        }
        (IpNet::V4(_), Some(IpAddr::V6(gateway))) => Some(RouteAttribute::Via(RouteVia::Inet6(gateway))),
        (IpNet::V6(_), Some(IpAddr::V4(gateway))) => {
            let reason = format!("IPv6 cannot be routed through the IPv4 gateway {gateway}");
            return Err(Error::Invalid { attempt: attempt(), reason });
        }
    })
}

/// As iproute2 does: a directly connected IPv4 destination is of link scope. The kernel refuses a
/// gateway whose own route is not of a narrower scope.
fn default_scope(route: &Route) -> RouteScope {
    let direct = route.next_hops.iter().all(|hop| hop.gateway.is_none());
    if route.family() == Family::V4 && direct && !route.next_hops.is_empty() {
        RouteScope::Link
    } else {
        RouteScope::Universe
    }
}

/// Whether a packet leaves by it, or is for this host.
fn leads_on(route: &Route) -> bool {
    matches!(route.kind, RouteKind::Unicast | RouteKind::Local | RouteKind::Broadcast)
}

fn wire_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

/// `172.24.0.0/16 via 172.23.0.150 on link 3`, for errors.
fn described(route: &Route) -> String {
    const SHOWN: usize = 8;
    let mut text = route.destination.trunc().to_string();
    for hop in route.next_hops.iter().take(SHOWN) {
        if let Some(gateway) = hop.gateway {
            text += &format!(" via {gateway}");
        }
        if hop.link != 0 {
            text += &format!(" on link {}", hop.link);
        }
    }
    if let Some(more @ 1..) = route.next_hops.len().checked_sub(SHOWN) {
        text += &format!(" and {more} more");
    }
    if let Some(table) = route.table {
        text += &format!(" in table {table}");
    }
    text
}
