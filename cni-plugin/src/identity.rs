//! Names, MACs and the alias of an attachment's links, derived from what they belong to.
//!
//! What concerns the host's end alone is in [`host_end`], which the node's agent uses as well. A pod that comes back with
//! the same address comes back with the same MAC.

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

use octavia_bridge_ipam::host_end;
use octavia_bridge_netlink::{Link, MacAddress};

pub(crate) use octavia_bridge_ipam::host_end::{alias, name as host_link};

/// The host end's MAC.
pub(crate) fn host_mac(container_id: &str, ifname: &str) -> MacAddress {
    MacAddress(host_end::mac(container_id, ifname))
}

/// The pod's MAC for an address: `0a:58` and the four bytes of an IPv4 address, as OVN-Kubernetes forms them;
/// `0e` and 40 bits of hash for IPv6.
///
/// Peers keep the address's old neighbour entry for up to a minute, and old Neutron's OVN keeps it for ever;
/// with the same MAC every time the old entry is right (containernetworking/plugins#756, #858).
pub(crate) fn mac_for_address(address: IpAddr) -> MacAddress {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            MacAddress([0x0a, 0x58, a, b, c, d])
        }
        IpAddr::V6(v6) => hashed_mac(host_end::hash(&[&v6.octets()])),
    }
}

/// The pod's MAC when it has no address: stable for the container and interface.
pub(crate) fn mac_for_attachment(container_id: &str, ifname: &str) -> MacAddress {
    hashed_mac(host_end::hash_of(container_id, ifname))
}

/// A random locally administered unicast MAC. The standard library's hash keys are the operating system's
/// randomness, drawn anew for each state: no random number crate is needed for six bytes.
pub(crate) fn random_mac() -> MacAddress {
    let random = std::hash::RandomState::new().build_hasher().finish();
    let [a, b, c, d, e, f, ..] = random.to_be_bytes();
    MacAddress([(a & 0xfc) | 0x02, b, c, d, e, f])
}

/// Whether a link that bears the name [`host_link`] is the attachment's own.
pub(crate) fn is_host_link(link: &Link, container_id: &str, ifname: &str) -> bool {
    host_end::is_of(link.alias.as_deref(), link.mac.map(|mac| mac.0), container_id, ifname)
}

fn hashed_mac(hash: u64) -> MacAddress {
    let [_, _, _, a, b, c, d, e] = hash.to_be_bytes();
    MacAddress([0x0e, a, b, c, d, e])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_derivation_never_changes() {
        assert_eq!(mac_for_address("172.23.0.30".parse().unwrap()).to_string(), "0a:58:ac:17:00:1e");
    }

    #[test]
    fn macs_are_unicast_and_local() {
        for mac in [
            host_mac("c", "net1"),
            mac_for_attachment("c", "net1"),
            mac_for_address("fd00::1".parse().unwrap()),
            mac_for_address("172.23.0.30".parse().unwrap()),
            random_mac(),
        ] {
            assert!(!mac.is_multicast() && !mac.is_zero(), "{mac}");
            assert_eq!(mac.0[0] & 2, 2, "{mac}");
        }
        assert_ne!(random_mac(), random_mac());
    }
}
