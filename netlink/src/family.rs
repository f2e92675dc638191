//! Settings of one address family, inside a message about a link (`IFLA_AF_SPEC`).

use nix::libc;
use rtnetlink::packet_core::{DefaultNla, Emitable, Nla};
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};

/// The settings of IPv4, each an attribute with its number as type (`linux/if_link.h`).
const IFLA_INET_CONF: u16 = 1;
/// `linux/ip.h`.
const IPV4_DEVCONF_ARP_NOTIFY: u16 = 22;

/// Sets `arp_notify`. The message types support these settings only as the kernel reports them, in one block. A request has
/// a separate attribute for each (`inet_set_link_af` in net/ipv4/devinet.c).
pub(crate) fn arp_notify_attribute(on: bool) -> LinkAttribute {
    let setting = DefaultNla::new(IPV4_DEVCONF_ARP_NOTIFY, u32::from(on).to_ne_bytes().to_vec());
    let settings = DefaultNla::new(IFLA_INET_CONF, emitted(&setting));
    let family = u16::try_from(libc::AF_INET).unwrap_or_default();
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Other(DefaultNla::new(family, emitted(&settings)))])
}

/// Prevents the IPv6 link-local address that the kernel gives a link when it comes up.
pub(crate) fn no_link_local_attribute() -> LinkAttribute {
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
        In6AddrGenMode::None,
    )])])
}

fn emitted(nla: &impl Nla) -> Vec<u8> {
    let mut bytes = vec![0; nla.buffer_len()];
    nla.emit(&mut bytes);
    bytes
}
