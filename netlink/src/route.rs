//! Routes, and how the kernel reports them.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::libc;
use rtnetlink::packet_core::{DecodeError, ErrorContext, NlasIterator, parse_u32};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteHeader, RouteNextHopFlags, RouteVia};

use crate::address::ip;

/// Length of `struct rtmsg`.
const ROUTE_HEADER: usize = 12;
/// Length of `struct rtnexthop`: u16 length, u8 flags, u8 hops, i32 link.
const NEXT_HOP_HEADER: usize = 8;
/// Attributes that libc does not name on every target (linux/rtnetlink.h).
const RTA_VIA: u16 = 18;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;
const RTA_FLOW: u16 = 11;
const RTA_PREF: u16 = 20;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
const RTA_TTL_PROPAGATE: u16 = 26;
const RTA_NH_ID: u16 = 30;
/// An encapsulation by a BPF program, of which the kernel tells the name and takes the descriptor (`linux/lwtunnel.h`).
const LWTUNNEL_ENCAP_BPF: u16 = 6;
/// Where `struct rta_cacheinfo` has the lifetime, in hundredths of a second; 0 for a route that stays.
const LIFETIME: std::ops::Range<usize> = 8..12;

/// A route, to be added, deleted, or as the kernel reports it.
///
/// For a route to add or delete, a value of `None` is not in the message, and the kernel decides. A route
/// that was read always has `table`, `scope` and `protocol`, and the others if the kernel has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Destination; host bits are cleared before it is sent. The default route is `0.0.0.0/0` or `::/0`.
    pub destination: IpNet,
    /// Routing table; the main one (254) if `None`.
    pub table: Option<u32>,
    /// Metric, lower wins. For IPv6 `None` means 1024.
    pub priority: Option<u32>,
    /// Scope: 0 universe, 253 link, 254 host. If `None`, link for IPv4 routes without a gateway and
    /// universe for others. IPv6 has no scopes.
    pub scope: Option<u8>,
    /// Path MTU in bytes.
    pub mtu: Option<u32>,
    /// TCP segment size to advertise, in bytes.
    pub advmss: Option<u32>,
    /// Metrics of connections by the route that have no field of their own, such as `initcwnd` (`RTAX_*`).
    pub metrics: Vec<RouteAttribute>,
    /// IPv4: type of service of the packets that take the route; 0 for all.
    pub tos: u8,
    /// IPv6: sources of the packets that take the route; all if `None`.
    pub from: Option<IpNet>,
    /// Further attributes of a route with one next hop that can be added again as they were read: router preference,
    /// realms, and an encapsulation (`RTA_*`).
    pub others: Vec<RouteAttribute>,
    /// The nexthop object that has the next hops. It is sent in place of those.
    pub object: Option<u32>,
    /// What else the route has, in words: it cannot be added again with this. Not sent.
    pub unkept: Vec<String>,
    /// Origin of the route; if `None`, 4 (`static`).
    pub protocol: Option<u8>,
    /// Source address the kernel prefers.
    pub source: Option<IpAddr>,
    /// What the route does with a packet.
    pub kind: RouteKind,
    /// Next hops: none for routes that drop, several to share the load.
    pub next_hops: Vec<NextHop>,
}

/// One value as the kernel states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteAttribute {
    /// The kernel's number for it.
    pub kind: u16,
    /// Its bytes, in the machine's order.
    pub value: Vec<u8>,
}

/// What a route does with a packet (`RTN_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteKind {
    /// Passes it on.
    #[default]
    Unicast,
    /// Delivers it here.
    Local,
    /// Delivers it here and sends it as broadcast.
    Broadcast,
    /// Drops it silently.
    Blackhole,
    /// Drops it and answers that the host is unreachable.
    Unreachable,
    /// Drops it and answers that communication is prohibited.
    Prohibit,
    /// Another type, by the kernel's number.
    Other(u8),
}

impl From<u8> for RouteKind {
    fn from(value: u8) -> Self {
        match value {
            libc::RTN_UNICAST => Self::Unicast,
            libc::RTN_LOCAL => Self::Local,
            libc::RTN_BROADCAST => Self::Broadcast,
            libc::RTN_BLACKHOLE => Self::Blackhole,
            libc::RTN_UNREACHABLE => Self::Unreachable,
            libc::RTN_PROHIBIT => Self::Prohibit,
            other => Self::Other(other),
        }
    }
}

impl From<RouteKind> for u8 {
    fn from(kind: RouteKind) -> Self {
        match kind {
            RouteKind::Unicast => libc::RTN_UNICAST,
            RouteKind::Local => libc::RTN_LOCAL,
            RouteKind::Broadcast => libc::RTN_BROADCAST,
            RouteKind::Blackhole => libc::RTN_BLACKHOLE,
            RouteKind::Unreachable => libc::RTN_UNREACHABLE,
            RouteKind::Prohibit => libc::RTN_PROHIBIT,
            RouteKind::Other(other) => other,
        }
    }
}

/// A next hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextHop {
    /// Router; `None` if the destination is on the link itself.
    pub gateway: Option<IpAddr>,
    /// Index of the link; 0 to let the kernel find the link by the gateway.
    pub link: u32,
    /// Weight among several next hops, 1 to 256; 0 counts as 1.
    pub weight: u16,
    /// Treat the gateway as reachable on the link, even without an address of its subnet there.
    pub onlink: bool,
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Which routes to read; `None` for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteFilter {
    /// Address family.
    pub family: Option<Family>,
    /// Routing table: 254 main, 255 local.
    pub table: Option<u32>,
    /// Index of a link that one of the next hops uses.
    pub link: Option<u32>,
}

impl Route {
    /// Address family of the destination.
    #[must_use]
    pub fn family(&self) -> Family {
        match self.destination {
            IpNet::V4(_) => Family::V4,
            IpNet::V6(_) => Family::V6,
        }
    }

    pub(crate) fn from_message(kind: u16, payload: &[u8]) -> Result<Option<Self>, DecodeError> {
        if kind == libc::RTM_NEWROUTE { Self::decode(payload).map(Some) } else { Ok(None) }
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let header = RouteHeader::parse(payload)?;
        let length = header.destination_prefix_length;
        // The default route has no destination attribute.
        let unspecified = match header.address_family {
            AddressFamily::Inet => Ipv4Net::default().addr().into(),
            AddressFamily::Inet6 => Ipv6Net::default().addr().into(),
            other => return Err(format!("a route of address family {other:?}").into()),
        };
        let mut destination: IpAddr = unspecified;
        let flags = RouteNextHopFlags::from_bits_retain(header.flags.bits().to_le_bytes()[0]);
        let mut hop =
            NextHop { weight: 1, onlink: flags.contains(RouteNextHopFlags::Onlink), ..NextHop::default() };
        let mut route = Self {
            table: Some(header.table.into()),
            scope: Some(header.scope.into()),
            protocol: Some(header.protocol.into()),
            kind: RouteKind::from(u8::from(header.kind)),
            tos: header.tos,
            ..Self::default()
        };
        for nla in NlasIterator::new(&payload[ROUTE_HEADER..]) {
            let nla = nla?;
            let context = || format!("attribute {} of a route", nla.kind());
            let number = || parse_u32(nla.value()).with_context(context);
            match nla.kind() {
                libc::RTA_DST => destination = ip(&nla).with_context(context)?,
                libc::RTA_TABLE => route.table = Some(number()?),
                libc::RTA_PRIORITY => route.priority = Some(number()?),
                libc::RTA_PREFSRC => route.source = Some(ip(&nla).with_context(context)?),
                libc::RTA_OIF => hop.link = number()?,
                libc::RTA_GATEWAY => hop.gateway = Some(ip(&nla).with_context(context)?),
                RTA_VIA => hop.gateway = via(nla.value()).with_context(context)?,
                libc::RTA_METRICS => route.read_metrics(nla.value()).with_context(context)?,
                libc::RTA_MULTIPATH => {
                    route.next_hops = next_hops(nla.value(), &mut route.unkept).with_context(context)?;
                }
                libc::RTA_SRC => {
                    let source = ip(&nla).with_context(context)?;
                    route.from = IpNet::new(source, header.source_prefix_length).ok();
                }
                kind => route.read_other(kind, nla.value()),
            }
        }
        // A route that drops has no next hop; any other has at least a link.
        if hop.link != 0 || hop.gateway.is_some() {
            route.next_hops.push(hop);
        }
        route.destination = IpNet::new(destination, length)
            .map_err(|_| DecodeError::from(format!("{destination} with prefix length {length}")))?;
        Ok(route)
    }

    /// Attributes that are given back as they are, and those that cannot be.
    fn read_other(&mut self, kind: u16, value: &[u8]) {
        match kind {
            // Medium, which every route of IPv6 has.
            RTA_PREF if value == [0] => {}
            RTA_ENCAP_TYPE if value == LWTUNNEL_ENCAP_BPF.to_ne_bytes() => {
                self.unkept.push("its BPF program".to_owned());
            }
            RTA_FLOW | RTA_PREF | RTA_ENCAP_TYPE | RTA_ENCAP | RTA_TTL_PROPAGATE => {
                self.others.push(RouteAttribute { kind, value: value.to_vec() });
            }
            RTA_NH_ID => {
                self.object = value.try_into().map(u32::from_ne_bytes).ok().filter(|object| *object != 0);
            }
            libc::RTA_CACHEINFO if value.get(LIFETIME).is_some_and(|ticks| ticks != [0; 4]) => {
                self.unkept.push("its lifetime".to_owned());
            }
            _ => {}
        }
    }

    fn read_metrics(&mut self, metrics: &[u8]) -> Result<(), DecodeError> {
        for nla in NlasIterator::new(metrics) {
            let nla = nla?;
            match nla.kind() {
                RTAX_MTU => self.mtu = Some(parse_u32(nla.value())?),
                RTAX_ADVMSS => self.advmss = Some(parse_u32(nla.value())?),
                kind => self.metrics.push(RouteAttribute { kind, value: nla.value().to_vec() }),
            }
        }
        Ok(())
    }
}

/// A gateway of the other family (`struct rtvia`).
fn via(value: &[u8]) -> Result<Option<IpAddr>, DecodeError> {
    Ok(match RouteVia::parse(value)? {
        RouteVia::Inet(ip) => Some(ip.into()),
        RouteVia::Inet6(ip) => Some(ip.into()),
        _ => None,
    })
}

/// Reads `RTA_MULTIPATH`: each next hop is a `struct rtnexthop` with attributes behind it.
fn next_hops(mut value: &[u8], unkept: &mut Vec<String>) -> Result<Vec<NextHop>, DecodeError> {
    let mut hops = Vec::new();
    while let Some(([l0, l1, flags, weight, i0, i1, i2, i3], _)) = value.split_first_chunk() {
        let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
        let attributes =
            value.get(NEXT_HOP_HEADER..length).ok_or_else(|| format!("a next hop of {length} bytes"))?;
        let mut hop = NextHop {
            gateway: None,
            link: u32::from_ne_bytes([*i0, *i1, *i2, *i3]),
            // The wire counts from 0.
            weight: u16::from(*weight) + 1,
            onlink: RouteNextHopFlags::from_bits_retain(*flags).contains(RouteNextHopFlags::Onlink),
        };
        for nla in NlasIterator::new(attributes) {
            let nla = nla?;
            match nla.kind() {
                libc::RTA_GATEWAY => hop.gateway = Some(ip(&nla)?),
                RTA_VIA => hop.gateway = via(nla.value())?,
                RTA_FLOW => unkept.push("the realm of a next hop".to_owned()),
                RTA_ENCAP => unkept.push("the encapsulation of a next hop".to_owned()),
                _ => {}
            }
        }
        hops.push(hop);
        value = value.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(hops)
}
