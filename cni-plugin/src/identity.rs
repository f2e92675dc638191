//! Names, MACs and the alias of an attachment's links, derived from what they belong to.
//!
//! Derived, not random: DEL finds the host end of a pair without having been told its name, a pod that comes back
//! with the same address comes back with the same MAC, and a person reading `ip link` sees whose link it is.

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

use octavia_bridge_netlink::{Link, MacAddress};

/// The host end of an attachment's veth pair: `veth` and 11 hexadecimal digits, the 15 bytes a name may have.
/// The prefix stays `veth` because NetworkManager leaves links of that name alone.
pub(crate) fn host_link(container_id: &str, ifname: &str) -> String {
    format!("veth{:011x}", attachment_hash(container_id, ifname) & 0xfff_ffff_ffff)
}

/// The host end's MAC, derived as well but from a hash of its own, and part of the message that makes the link: from
/// the first moment it tells this attachment's link from any other that bears its name.
///
/// It starts with `fe:ff`, higher than any MAC a port is likely to have: a bridge whose MAC nobody pinned takes the
/// lowest of its ports', and must not take this one (containernetworking/cni#285).
pub(crate) fn host_mac(container_id: &str, ifname: &str) -> MacAddress {
    let hash = fnv1a(&[b"host/", container_id.as_bytes(), b"/", ifname.as_bytes()]);
    let [_, _, _, _, a, b, c, d] = hash.to_be_bytes();
    MacAddress([0xfe, 0xff, a, b, c, d])
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
        IpAddr::V6(v6) => hashed_mac(fnv1a(&[&v6.octets()])),
    }
}

/// The pod's MAC when it has no address: stable for the container and interface.
pub(crate) fn mac_for_attachment(container_id: &str, ifname: &str) -> MacAddress {
    hashed_mac(attachment_hash(container_id, ifname))
}

/// A random locally administered unicast MAC. The standard library's hash keys are the operating system's
/// randomness, drawn anew for each state: no random number crate is needed for six bytes.
pub(crate) fn random_mac() -> MacAddress {
    let random = std::hash::RandomState::new().build_hasher().finish();
    let [a, b, c, d, e, f, ..] = random.to_be_bytes();
    MacAddress([(a & 0xfc) | 0x02, b, c, d, e, f])
}

/// Whether a link that bears the name [`host_link`] is the attachment's own. Its alias says whose it is; a link that
/// was not given one yet, because its maker was killed, has the MAC.
pub(crate) fn is_host_link(link: &Link, container_id: &str, ifname: &str) -> bool {
    match link.alias.as_deref() {
        Some(alias) if alias.starts_with(ALIAS_PREFIX) => bears_alias(alias, container_id, ifname),
        _ => link.mac == Some(host_mac(container_id, ifname)),
    }
}

/// What `ip link` shows behind `alias`, for people. The kernel takes no alias while it makes a link, only after.
///
/// It keeps at most 255 bytes; container id and interface name come first, so that only the pod's name is cut.
pub(crate) fn alias(container_id: &str, ifname: &str, pod: Option<&str>) -> String {
    let mut alias = alias_mark(container_id, ifname);
    if let Some(pod) = pod {
        alias.push_str(" of ");
        alias.push_str(pod);
        while alias.len() > LONGEST_ALIAS {
            alias.pop();
        }
    }
    alias
}

/// In bytes: the kernel's `IFALIASZ` less the terminating NUL.
const LONGEST_ALIAS: usize = 255;

/// How every alias of this plugin starts.
const ALIAS_PREFIX: &str = "octavia-bridge ";

fn bears_alias(alias: &str, container_id: &str, ifname: &str) -> bool {
    alias
        .strip_prefix(alias_mark(container_id, ifname).as_str())
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

fn alias_mark(container_id: &str, ifname: &str) -> String {
    format!("{ALIAS_PREFIX}{ifname} {container_id}")
}

fn attachment_hash(container_id: &str, ifname: &str) -> u64 {
    // A container id cannot contain '/', so the pair is unambiguous.
    fnv1a(&[container_id.as_bytes(), b"/", ifname.as_bytes()])
}

fn hashed_mac(hash: u64) -> MacAddress {
    let [_, _, _, a, b, c, d, e] = hash.to_be_bytes();
    MacAddress([0x0e, a, b, c, d, e])
}

/// FNV-1a, 64 bits, with a final mix so that the low bits depend on all input. It need not resist an attacker,
/// only stay the same for ever: DEL of a later version must find the links of an earlier one.
fn fnv1a(parts: &[&[u8]]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in parts.iter().copied().flatten() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        let names: std::collections::BTreeSet<_> =
            (0..10_000).map(|n| host_link(&format!("cid{n}"), "net1")).collect();
        assert_eq!(names.len(), 10_000);
        assert!(names.iter().all(|name| name.len() == 15));
        assert_ne!(host_link("a", "net1"), host_link("a", "net2"));
    }

    #[test]
    fn the_derivation_never_changes() {
        // Links made by an older version must be found by a newer one.
        assert_eq!(host_link("cid1", "net1"), "veth1bd1457ed04");
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

    #[test]
    fn an_alias_marks_one_attachment_only() {
        let long = "\u{1f419}".repeat(100);
        let text = alias("cid1", "net1", Some(&long));
        assert!(text.len() <= 255);
        assert!(bears_alias(&text, "cid1", "net1"));
        assert!(bears_alias(&alias("cid1", "net1", None), "cid1", "net1"));
        assert!(!bears_alias(&text, "cid", "net1"));
        assert!(!bears_alias(&text, "cid1", "net2"));
    }

    #[test]
    fn the_alias_tells_whose_a_link_is_and_the_mac_where_there_is_none() {
        let mac = Some(host_mac("cid1", "net1"));
        let link = |alias: Option<&str>| Link { mac, alias: alias.map(str::to_owned), ..Link::default() };
        assert!(is_host_link(&link(None), "cid1", "net1"));
        assert!(is_host_link(&link(Some("uplink of rack 4")), "cid1", "net1"));
        assert!(!is_host_link(&link(Some(&alias("cid2", "net1", None))), "cid1", "net1"));
        let other_mac = Link { mac: Some(random_mac()), ..link(Some(&alias("cid1", "net1", None))) };
        assert!(is_host_link(&other_mac, "cid1", "net1"));
        assert!(!is_host_link(&Link { mac: Some(random_mac()), ..link(None) }, "cid1", "net1"));
    }
}
