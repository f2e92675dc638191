//! IP addresses of links.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use nix::errno::Errno;
use nix::libc;
use rtnetlink::packet_core::{
    DecodeError, ErrorContext, NlaBuffer, NlasIterator, parse_string, parse_u8, parse_u32,
};
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeader, AddressMessage, AddressScope, CacheInfo,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::channel::Request;
use crate::name::validate_index;
use crate::netlink::CREATE_NEW;
use crate::{Error, Netlink, Result};

/// Length of `struct ifaddrmsg`.
const ADDRESS_HEADER: usize = 8;
/// Lifetime that means "for ever" (`INFINITY_LIFE_TIME`).
const FOR_EVER: u32 = u32::MAX;
/// Attributes that libc does not name on every target (`linux/if_addr.h`).
const IFA_RT_PRIORITY: u16 = 9;
const IFA_PROTO: u16 = 11;
/// Flags that a program sets; the kernel reports the others.
const STATED: AddressFlags = AddressFlags::Nodad
    .union(AddressFlags::Homeaddress)
    .union(AddressFlags::Managetempaddr)
    .union(AddressFlags::Noprefixroute)
    .union(AddressFlags::Mcautojoin);

/// An address as the kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are the kernel's independent flags")]
pub struct Address {
    /// Index of the link.
    pub link: u32,
    /// The address with the length of its subnet's prefix; host bits are kept.
    pub address: IpNet,
    /// The other end's address on a point-to-point link.
    pub peer: Option<IpAddr>,
    /// Broadcast address of IPv4.
    pub broadcast: Option<Ipv4Addr>,
    /// Label of IPv4, usually the link's name.
    pub label: Option<String>,
    /// Scope: 0 universe, 253 link, 254 host.
    pub scope: u8,
    /// Duplicate address detection (IPv6) is not finished: the address cannot be used yet.
    pub tentative: bool,
    /// Duplicate address detection found another owner: the address is never used.
    pub dad_failed: bool,
    /// Duplicate address detection is not done.
    pub nodad: bool,
    /// The kernel created no route to the subnet.
    pub noprefixroute: bool,
    /// Not preferred for new connections.
    pub deprecated: bool,
    /// Seconds until the kernel removes the address; `None` if it stays. Addresses of router advertisements
    /// and DHCP have a limit.
    pub valid_seconds: Option<u32>,
    /// Seconds until the address is not preferred any more; `None` if it always is.
    pub preferred_seconds: Option<u32>,
    /// Metric of the route to the subnet; `None` for the kernel's default.
    pub metric: Option<u32>,
    /// Origin of the address (`IFAPROT_*`, since Linux 5.18); 0 if it is not known.
    pub protocol: u8,
    /// All of the kernel's flags (`IFA_F_*`), also those that have a field here.
    pub flags: u32,
}

/// An address to add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewAddress {
    /// The address with the length of its subnet's prefix. IPv4 gets the subnet's broadcast address,
    /// except in a /31 (RFC 3021) or /32, which have none.
    pub address: IpNet,
    /// Skip duplicate address detection, so that the address is usable at once instead of after one to two
    /// seconds. No effect for IPv4.
    pub nodad: bool,
    /// Create no route to the subnet.
    pub noprefixroute: bool,
}

impl Netlink {
    /// Reads the addresses of one link; none if there is no such link.
    ///
    /// # Errors
    /// Every [`Error`] a request can end in.
    pub async fn addresses(&self, link: u32) -> Result<Vec<Address>> {
        let attempt = || format!("list addresses of link {link}");
        validate_index(link, attempt)?;
        let mut message = AddressMessage::default();
        message.header.index = link;
        match self.dump_addresses(message, attempt).await {
            Err(Error::Refused { errno, .. }) if errno == Errno::ENODEV as i32 => Ok(Vec::new()),
            other => other,
        }
    }

    /// Reads the addresses of all links.
    ///
    /// # Errors
    /// Every [`Error`] a request can end in.
    pub async fn all_addresses(&self) -> Result<Vec<Address>> {
        self.dump_addresses(AddressMessage::default(), || "list addresses".into()).await
    }

    async fn dump_addresses(
        &self,
        message: AddressMessage,
        attempt: impl Fn() -> String,
    ) -> Result<Vec<Address>> {
        let request = Request::dump(RouteNetlinkMessage::GetAddress(message));
        self.request(request, Address::from_message, attempt).await
    }

    /// Adds an address.
    ///
    /// # Errors
    /// [`Error::is_exists`] if the link has it already; every other [`Error`] of a request.
    pub async fn add_address(&self, link: u32, new: &NewAddress) -> Result<()> {
        let attempt = || format!("add address {} to link {link}", new.address);
        validate_index(link, attempt)?;
        let mut message = identified(link, new.address);
        message.header.scope =
            if new.address.addr().is_loopback() { AddressScope::Host } else { AddressScope::Universe };
        if let IpNet::V4(subnet) = new.address
            && subnet.prefix_len() < 31
        {
            message.attributes.push(AddressAttribute::Broadcast(subnet.broadcast()));
        }
        let mut flags = AddressFlags::empty();
        flags.set(AddressFlags::Nodad, new.nodad && matches!(new.address, IpNet::V6(_)));
        flags.set(AddressFlags::Noprefixroute, new.noprefixroute);
        if !flags.is_empty() {
            message.attributes.push(AddressAttribute::Flags(flags));
        }
        self.change(RouteNetlinkMessage::NewAddress(message), CREATE_NEW, attempt).await
    }

    /// Adds an address again as it was read, with every value that a program can set. The kernel decides again whether
    /// it is a secondary address, and whether duplicate address detection runs.
    ///
    /// # Errors
    /// [`Error::is_exists`] if the link has it already; every other [`Error`] of a request.
    pub async fn restore_address(&self, link: u32, address: &Address) -> Result<()> {
        let attempt = || format!("add address {} to link {link} again", address.address);
        validate_index(link, attempt)?;
        let message = address.message(link);
        self.change(RouteNetlinkMessage::NewAddress(message), CREATE_NEW, attempt).await
    }

    /// Removes an address. Returns whether it was there.
    ///
    /// # Errors
    /// Every [`Error`] a request can end in.
    pub async fn delete_address(&self, link: u32, address: IpNet) -> Result<bool> {
        let attempt = || format!("delete address {address} of link {link}");
        validate_index(link, attempt)?;
        let message = identified(link, address);
        match self.change(RouteNetlinkMessage::DelAddress(message), 0, attempt).await {
            Ok(()) => Ok(true),
            // The link is gone, and its addresses with it.
            Err(Error::Refused { errno, .. })
                if errno == Errno::EADDRNOTAVAIL as i32 || errno == Errno::ENODEV as i32 =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

fn family(address: IpNet) -> AddressFamily {
    match address {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    }
}

/// The values that identify an address.
fn identified(link: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = link;
    message.header.prefix_len = address.prefix_len();
    message.header.family = family(address);
    // IPv4 takes its own address from LOCAL and the peer's from ADDRESS. In IPv6 LOCAL together with
    // ADDRESS would make a pair of peers.
    if address.addr().is_ipv4() {
        message.attributes.push(AddressAttribute::Local(address.addr()));
    }
    message.attributes.push(AddressAttribute::Address(address.addr()));
    message
}

impl Address {
    pub(crate) fn from_message(kind: u16, payload: &[u8]) -> std::result::Result<Option<Self>, DecodeError> {
        if kind == libc::RTM_NEWADDR { Self::decode(payload).map(Some) } else { Ok(None) }
    }

    pub(crate) fn decode(payload: &[u8]) -> std::result::Result<Self, DecodeError> {
        let header = AddressHeader::parse(payload)?;
        let mut flags = u32::from(header.flags.bits());
        let (mut local, mut address) = (None, None);
        let (mut broadcast, mut label, mut lifetime) = (None, None, None);
        let (mut metric, mut protocol) = (None, 0);
        for nla in NlasIterator::new(&payload[ADDRESS_HEADER..]) {
            let nla = nla?;
            let context = || format!("attribute {} of an address of link {}", nla.kind(), header.index);
            match nla.kind() {
                libc::IFA_LOCAL => local = Some(ip(&nla).with_context(context)?),
                libc::IFA_ADDRESS => address = Some(ip(&nla).with_context(context)?),
                libc::IFA_BROADCAST => {
                    if let IpAddr::V4(ip) = ip(&nla).with_context(context)? {
                        broadcast = Some(ip);
                    }
                }
                libc::IFA_LABEL => label = Some(parse_string(nla.value()).with_context(context)?),
                // The header has room for the first eight flags only.
                libc::IFA_FLAGS => flags = parse_u32(nla.value()).with_context(context)?,
                libc::IFA_CACHEINFO => {
                    lifetime = Some(CacheInfo::parse(nla.value()).with_context(context)?);
                }
                IFA_RT_PRIORITY => {
                    metric =
                        Some(parse_u32(nla.value()).with_context(context)?).filter(|metric| *metric != 0);
                }
                IFA_PROTO => protocol = parse_u8(nla.value()).with_context(context)?,
                _ => {}
            }
        }
        let own = local.or(address).ok_or("an address message without an address")?;
        let has = |flag: AddressFlags| flags & flag.bits() != 0;
        let limited = |seconds: u32| Some(seconds).filter(|&seconds| seconds != FOR_EVER);
        Ok(Self {
            link: header.index,
            address: IpNet::new(own, header.prefix_len)
                .map_err(|_| DecodeError::from(format!("{own} with prefix length {}", header.prefix_len)))?,
            peer: address.filter(|&other| other != own),
            broadcast,
            label,
            scope: header.scope.into(),
            tentative: has(AddressFlags::Tentative),
            dad_failed: has(AddressFlags::Dadfailed),
            nodad: has(AddressFlags::Nodad),
            noprefixroute: has(AddressFlags::Noprefixroute),
            deprecated: has(AddressFlags::Deprecated),
            valid_seconds: lifetime.and_then(|lifetime| limited(lifetime.ifa_valid)),
            preferred_seconds: lifetime.and_then(|lifetime| limited(lifetime.ifa_preferred)),
            metric,
            protocol,
            flags,
        })
    }

    /// The message that adds it to a link as it is.
    fn message(&self, link: u32) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.index = link;
        message.header.prefix_len = self.address.prefix_len();
        message.header.family = family(self.address);
        message.header.scope = self.scope.into();
        let own = self.address.addr();
        let attributes = &mut message.attributes;
        // As in `identified`, except for a pair of peers, which in IPv6 is LOCAL together with ADDRESS.
        if own.is_ipv4() || self.peer.is_some() {
            attributes.push(AddressAttribute::Local(own));
        }
        attributes.push(AddressAttribute::Address(self.peer.unwrap_or(own)));
        attributes.extend(self.broadcast.map(AddressAttribute::Broadcast));
        attributes.extend(self.label.clone().map(AddressAttribute::Label));
        let stated = AddressFlags::from_bits_retain(self.flags) & STATED;
        if !stated.is_empty() {
            attributes.push(AddressAttribute::Flags(stated));
        }
        if self.valid_seconds.is_some() || self.preferred_seconds.is_some() {
            let mut lifetime = CacheInfo::default();
            lifetime.ifa_valid = self.valid_seconds.unwrap_or(FOR_EVER);
            lifetime.ifa_preferred = self.preferred_seconds.unwrap_or(FOR_EVER);
            attributes.push(AddressAttribute::CacheInfo(lifetime));
        }
        attributes.extend(self.metric.map(AddressAttribute::RoutePriority));
        if self.protocol != 0 {
            attributes.push(AddressAttribute::Protocol(self.protocol.into()));
        }
        message
    }
}

/// An address of either family, told apart by its length.
pub(crate) fn ip(nla: &NlaBuffer<&[u8]>) -> std::result::Result<IpAddr, DecodeError> {
    let value = nla.value();
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        Ok(octets.into())
    } else if let Ok(octets) = <[u8; 16]>::try_from(value) {
        Ok(octets.into())
    } else {
        Err(format!("{} bytes are not an IP address", value.len()).into())
    }
}
