//! The host's end of an attachment's veth pair: its name, MAC and alias, all derived from what it belongs to.
//!
//! Derived, not random: the plugin's DEL finds the link without having been told its name, the node's agent finds the
//! record of a link that it sees, and a person who reads `ip link` sees whose link it is. Plugin and agent share this,
//! and versions of both: the derivation never changes.

/// `veth` and 11 hexadecimal digits, the 15 bytes a name may have. The prefix stays `veth` because NetworkManager leaves
/// links of that name alone.
pub fn name(container_id: &str, ifname: &str) -> String {
    format!("veth{:011x}", hash_of(container_id, ifname) & 0xfff_ffff_ffff)
}

/// Whether a link of this name can be one.
pub fn is_name(name: &str) -> bool {
    let digits = name.strip_prefix("veth").filter(|digits| digits.len() == 11);
    digits.is_some_and(|digits| digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

/// Derived from a hash of its own, and part of the message that makes the link: from the first moment it tells this
/// attachment's link from any other that bears its name.
///
/// It starts with `fe:ff`, higher than any MAC a port is likely to have: a bridge whose MAC nobody pinned takes the
/// lowest of its ports', and must not take this one (containernetworking/cni#285).
pub fn mac(container_id: &str, ifname: &str) -> [u8; 6] {
    let hash = hash(&[b"host/", container_id.as_bytes(), b"/", ifname.as_bytes()]);
    let [_, _, _, _, a, b, c, d] = hash.to_be_bytes();
    [0xfe, 0xff, a, b, c, d]
}

/// What `ip link` shows behind `alias`, for people. The kernel takes no alias while it makes a link, only after.
///
/// It keeps at most 255 bytes; container id and interface name come first, so that only the pod's name is cut.
pub fn alias(container_id: &str, ifname: &str, pod: Option<&str>) -> String {
    let mut alias = mark(container_id, ifname);
    if let Some(pod) = pod {
        alias.push_str(" of ");
        alias.push_str(pod);
        while alias.len() > LONGEST_ALIAS {
            alias.pop();
        }
    }
    alias
}

/// Whether a link with this alias and MAC, which bears the attachment's [`name`], is the attachment's. The alias says
/// whose it is; a link that was not given one yet, because its maker was killed, has the MAC.
pub fn is_of(alias: Option<&str>, mac: Option<[u8; 6]>, container_id: &str, ifname: &str) -> bool {
    match alias {
        Some(alias) if alias.starts_with(PREFIX) => bears_alias(alias, container_id, ifname),
        _ => mac == Some(self::mac(container_id, ifname)),
    }
}

/// Whose link it is by its alias: container id and interface name, which nobody has checked yet.
pub fn owner(alias: &str) -> Option<(&str, &str)> {
    let mut words = alias.strip_prefix(PREFIX)?.split(' ');
    let ifname = words.next().filter(|word| !word.is_empty())?;
    let container_id = words.next().filter(|word| !word.is_empty())?;
    Some((container_id, ifname))
}

/// In bytes: the kernel's `IFALIASZ` less the terminating NUL.
const LONGEST_ALIAS: usize = 255;

/// How every alias of the plugin starts.
const PREFIX: &str = "octavia-bridge ";

fn bears_alias(alias: &str, container_id: &str, ifname: &str) -> bool {
    alias
        .strip_prefix(mark(container_id, ifname).as_str())
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

fn mark(container_id: &str, ifname: &str) -> String {
    format!("{PREFIX}{ifname} {container_id}")
}

/// The hash of an attachment.
pub fn hash_of(container_id: &str, ifname: &str) -> u64 {
    // A container id cannot contain '/', so the pair is unambiguous.
    hash(&[container_id.as_bytes(), b"/", ifname.as_bytes()])
}

/// FNV-1a, 64 bits, with a final mix so that the low bits depend on all input. It need not resist an attacker,
/// only stay the same for ever: DEL of a later version must find the links of an earlier one.
pub fn hash(parts: &[&[u8]]) -> u64 {
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
            (0..10_000).map(|n| name(&format!("cid{n}"), "net1")).collect();
        assert_eq!(names.len(), 10_000);
        assert!(names.iter().all(|name| name.len() == 15 && is_name(name)));
        assert_ne!(name("a", "net1"), name("a", "net2"));
        for other in ["veth0", "veth1bd1457ed0g", "veth1bd1457ed045", "octbr", "vxth1bd1457ed04"] {
            assert!(!is_name(other), "{other}");
        }
    }

    #[test]
    fn the_derivation_never_changes() {
        // Links made by an older version must be found by a newer one.
        assert_eq!(name("cid1", "net1"), "veth1bd1457ed04");
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
        assert_eq!(owner(&text), Some(("cid1", "net1")));
        assert_eq!(owner(&alias("cid1", "net1", None)), Some(("cid1", "net1")));
        // The agent's mark on its own links, and what others write.
        for alias in
            ["octavia-bridge", "octavia-bridge: for a pod", "octavia-bridge ", "octavia-bridge net1", ""]
        {
            assert_eq!(owner(alias), None, "{alias:?}");
        }
    }

    #[test]
    fn the_alias_tells_whose_a_link_is_and_the_mac_where_there_is_none() {
        let own = Some(mac("cid1", "net1"));
        let other = Some([2, 0, 0, 0, 0, 1]);
        assert!(is_of(None, own, "cid1", "net1"));
        assert!(is_of(Some("uplink of rack 4"), own, "cid1", "net1"));
        assert!(!is_of(Some(&alias("cid2", "net1", None)), own, "cid1", "net1"));
        assert!(is_of(Some(&alias("cid1", "net1", None)), other, "cid1", "net1"));
        assert!(!is_of(None, other, "cid1", "net1"));
    }
}
