//! An address of a link, with what it takes to give it back as it was.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv6Net};
use octavia_bridge_netlink as nl;
use serde::{Deserialize, Serialize};

/// Shortest prefix of IPv4 that leaves no room for a broadcast address (RFC 3021).
const NO_BROADCAST: u8 = 31;
/// Scopes that the kernel and this program state (`RT_SCOPE_*`).
const UNIVERSE: u8 = 0;
const HOST: u8 = 254;
/// `IFA_F_TEMPORARY`: made by the kernel of a router's prefix, for privacy.
const TEMPORARY: u32 = 0x01;
/// Flags that a program states (`IFA_F_NODAD`, `HOMEADDRESS`, `MANAGETEMPADDR`, `NOPREFIXROUTE`, `MCAUTOJOIN`); the others
/// are the kernel's answer.
const STATED: u32 = 0x02 | 0x10 | 0x100 | 0x200 | 0x400;
/// `IFAPROT_KERNEL_RA`: made by the kernel of what a router advertised, and made again by the next advertisement.
const OF_A_ROUTER: u8 = 2;
/// `IFAPROT_KERNEL_LL`: a link-local one, made by the kernel when the link comes up.
const LINK_LOCAL: u8 = 3;

/// One address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The address with the length of its subnet's prefix.
    pub(crate) net: IpNet,
    /// What else there is to say of it; `None` if it is as this program adds one.
    pub(crate) detail: Option<Box<Detail>>,
}

/// Everything but the address itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Detail {
    peer: Option<IpAddr>,
    broadcast: Option<Ipv4Addr>,
    /// `None` for the link's name.
    label: Option<String>,
    scope: u8,
    flags: u32,
    metric: Option<u32>,
    protocol: u8,
    /// Seconds left.
    valid: Option<u32>,
    preferred: Option<u32>,
}

impl Address {
    /// One as this program adds it.
    pub(crate) fn plain(net: IpNet) -> Self {
        Self { net, detail: None }
    }

    /// `None` for those that the kernel makes and unmakes by itself: its link-local ones of IPv6 and those of a router.
    /// `tells_origin`: the kernel says of addresses where they are from.
    pub(super) fn of(seen: &nl::Address, link: &str, tells_origin: bool) -> Option<Self> {
        if let IpNet::V6(net) = seen.address {
            let is_kernels = net.addr().is_unicast_link_local() && is_generated(seen, net, tells_origin);
            if is_kernels || seen.flags & TEMPORARY != 0 || seen.protocol == OF_A_ROUTER {
                return None;
            }
        }
        let v4 = seen.address.addr().is_ipv4();
        let detail = Detail {
            peer: seen.peer,
            broadcast: seen.broadcast,
            label: seen.label.clone().filter(|label| label != link),
            // IPv6 has its scope by its value.
            scope: if v4 { seen.scope } else { UNIVERSE },
            flags: seen.flags & STATED,
            metric: seen.metric,
            protocol: seen.protocol,
            valid: seen.valid_seconds,
            preferred: seen.preferred_seconds,
        };
        let plain = Detail {
            peer: None,
            broadcast: broadcast(seen.address),
            label: None,
            scope: if v4 && seen.address.addr().is_loopback() { HOST } else { UNIVERSE },
            flags: 0,
            metric: None,
            // Whoever made it.
            protocol: seen.protocol,
            valid: None,
            preferred: None,
        };
        let detail = if detail == plain { None } else { Some(Box::new(detail)) };
        Some(Self { net: seen.address, detail })
    }

    /// It as a request to the kernel.
    pub(crate) fn wire(&self, link: &str) -> nl::Address {
        let plain = Detail {
            peer: None,
            broadcast: broadcast(self.net),
            label: None,
            scope: if self.net.addr().is_loopback() { HOST } else { UNIVERSE },
            flags: 0,
            metric: None,
            protocol: 0,
            valid: None,
            preferred: None,
        };
        let detail = self.detail.as_deref().unwrap_or(&plain);
        let label = detail.label.clone().or_else(|| self.net.addr().is_ipv4().then(|| link.to_owned()));
        nl::Address {
            link: 0,
            address: self.net,
            peer: detail.peer,
            broadcast: detail.broadcast,
            label,
            scope: detail.scope,
            tentative: false,
            dad_failed: false,
            nodad: false,
            noprefixroute: false,
            deprecated: false,
            valid_seconds: detail.valid,
            preferred_seconds: detail.preferred,
            metric: detail.metric,
            protocol: detail.protocol,
            flags: detail.flags,
        }
    }

    pub(crate) fn is_v4(&self) -> bool {
        self.net.addr().is_ipv4()
    }

    pub(crate) fn is_link_local(&self) -> bool {
        matches!(self.net, IpNet::V6(net) if net.addr().is_unicast_link_local())
    }

    /// It has no lifetime, as those of a DHCP client have.
    pub(crate) fn stays(&self) -> bool {
        self.detail.as_ref().is_none_or(|detail| detail.valid.is_none())
    }

    /// The kernel made no route to its subnet.
    pub(crate) fn has_no_route(&self) -> bool {
        const NOPREFIXROUTE: u32 = 0x200;
        self.detail.as_ref().is_some_and(|detail| detail.flags & NOPREFIXROUTE != 0)
    }

    /// In IPv4 the first address of a subnet is the primary one of those that follow.
    pub(crate) fn shares_subnet(&self, other: &Self) -> bool {
        self.is_v4() && self.net.trunc() == other.net.trunc()
    }

    /// What does not change by itself, to compare two readings by.
    pub(crate) fn timeless(&self) -> Self {
        let mut one = self.clone();
        if let Some(detail) = &mut one.detail {
            detail.valid = detail.valid.map(|_| 0);
            detail.preferred = detail.preferred.map(|_| 0);
        }
        one
    }
}

/// Whether the kernel made this link-local address. Where it does not tell (before Linux 5.18), one that people write is
/// short, and one of a MAC or by chance is not.
fn is_generated(seen: &nl::Address, net: Ipv6Net, tells_origin: bool) -> bool {
    if tells_origin || seen.protocol != 0 {
        return seen.protocol == LINK_LOCAL;
    }
    net.addr().segments()[4..6] != [0, 0]
}

fn broadcast(net: IpNet) -> Option<Ipv4Addr> {
    match net {
        IpNet::V4(net) if net.prefix_len() < NO_BROADCAST => Some(net.broadcast()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_addresses_of_others_are_told_from_the_kernels() {
        let is_kept = |net: &str, protocol: u8, tells_origin: bool| {
            let seen = nl::Address { protocol, ..Address::plain(net.parse().unwrap()).wire("eth0") };
            Address::of(&seen, "eth0", tells_origin).is_some()
        };
        let (short, of_a_mac) = ("fe80::1/64", "fe80::a8aa:ff:fe00:1/64");
        for tells_origin in [true, false] {
            assert!(
                !is_kept(short, LINK_LOCAL, tells_origin) && !is_kept(of_a_mac, LINK_LOCAL, tells_origin)
            );
            assert!(is_kept(short, 0, tells_origin) && is_kept("fd00::1/64", 0, tells_origin));
        }
        assert!(is_kept(of_a_mac, 0, true) && !is_kept(of_a_mac, 0, false));
    }
}
