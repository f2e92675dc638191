//! IPv6 settings of a link, which the kernel reports with the link.

use nix::libc;
use rtnetlink::packet_core::{DecodeError, NlasIterator};

/// `IFLA_INET6_CONF` of `include/uapi/linux/if_link.h`: the link's settings as one array of 32 bits each.
const INET6_CONF: u16 = 2;
/// `DEVCONF_FORWARDING`, the place in that array.
const FORWARDING: usize = 0;
/// `DEVCONF_ACCEPT_RA` of `include/uapi/linux/ipv6.h`.
const ACCEPT_RA: usize = 3;
/// `DEVCONF_DISABLE_IPV6`.
const DISABLE_IPV6: usize = 26;

/// The same values as in `/proc/sys/net/ipv6/conf/<link>`, without reading two more files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkIpv6 {
    /// `disable_ipv6`: no IPv6 address at all, not even a link-local one.
    pub disabled: bool,
    /// `accept_ra` is not 0: routers on the link may give addresses and routes.
    pub accept_ra: bool,
    /// `accept_ra` is 2: also where the node forwards packets.
    pub accept_ra_always: bool,
    /// `forwarding`: with it the kernel takes 1 in `accept_ra` for 0.
    pub forwarding: bool,
}

impl LinkIpv6 {
    /// Reads the value of `IFLA_AF_SPEC`. `None` if the kernel has no IPv6, or none on this link, for example because its MTU is
    /// below 1280 bytes. Then the directory in /proc does not exist either.
    pub(crate) fn decode(families: &[u8]) -> Result<Option<Self>, DecodeError> {
        for family in NlasIterator::new(families) {
            let family = family?;
            if i32::from(family.kind()) != libc::AF_INET6 {
                continue;
            }
            for nla in NlasIterator::new(family.value()) {
                let nla = nla?;
                if nla.kind() == INET6_CONF {
                    return Ok(Self::of(nla.value()));
                }
            }
        }
        Ok(None)
    }

    fn of(settings: &[u8]) -> Option<Self> {
        let accept_ra = setting(settings, ACCEPT_RA)?;
        Some(Self {
            disabled: setting(settings, DISABLE_IPV6)? != 0,
            accept_ra: accept_ra != 0,
            accept_ra_always: accept_ra == 2,
            forwarding: setting(settings, FORWARDING)? != 0,
        })
    }
}

fn setting(settings: &[u8], place: usize) -> Option<u32> {
    let value = settings.chunks_exact(4).nth(place)?;
    Some(u32::from_ne_bytes(value.try_into().ok()?))
}
