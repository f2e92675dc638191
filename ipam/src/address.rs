//! Addresses as 128-bit numbers, and the spellings whereabouts accepts.
//!
//! Numbers of the two families share one type here; callers compare only what lies in one subnet, so a
//! number always comes with the subnet that gives it a family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// An address as a number; IPv4 takes the low 32 bits.
pub(crate) fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

/// The address with number `bits`, of the family of `subnet`.
pub(crate) fn from_bits(bits: u128, subnet: &IpNet) -> IpAddr {
    match subnet {
        // Numbers come from the subnet itself, so an IPv4 number has no high bits.
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from_bits((bits & u128::from(u32::MAX)) as u32)),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

/// An inclusive run of addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) first: u128,
    pub(crate) last: u128,
}

impl Span {
    /// All addresses of `net`, its network and broadcast address included.
    pub(crate) fn of(net: &IpNet) -> Self {
        Self { first: bits(net.network()), last: bits(net.broadcast()) }
    }

    pub(crate) fn contains(&self, number: u128) -> bool {
        self.first <= number && number <= self.last
    }

    /// How many addresses, saturating: all of IPv6 is one more than the type holds.
    pub(crate) fn len(&self) -> u128 {
        (self.last - self.first).saturating_add(1)
    }
}

/// Sorted, disjoint spans that cover the same addresses as `spans`, cut to `within`.
pub(crate) fn merge(mut spans: Vec<Span>, within: Span) -> Vec<Span> {
    spans.sort_unstable();
    let mut merged: Vec<Span> = Vec::new();
    for span in spans {
        let (first, last) = (span.first.max(within.first), span.last.min(within.last));
        if first > last {
            continue;
        }
        match merged.last_mut() {
            Some(before) if first <= before.last => before.last = before.last.max(last),
            _ => merged.push(Span { first, last }),
        }
    }
    merged
}

/// Whether both are IPv4 or both IPv6.
pub(crate) fn same_family(net: &IpNet, address: IpAddr) -> bool {
    net.addr().is_ipv4() == address.is_ipv4()
}

/// Whether the two subnets share an address.
pub(crate) fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// Whether `address` may be a host's in `subnet`: inside, and neither the network nor the broadcast
/// address. whereabouts skips both for IPv6 too. Subnets of one or two addresses have neither.
pub(crate) fn is_host_of(subnet: &IpNet, address: IpAddr) -> bool {
    let small = subnet.max_prefix_len() - subnet.prefix_len() < 2;
    subnet.contains(&address) && (small || (address != subnet.network() && address != subnet.broadcast()))
}

/// Whether `address` is IPv6 link-local, hence a neighbour on any link.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(a) if a.is_unicast_link_local())
}

/// An address as Go's strict parser takes it; IPv4 written as `::ffff:a.b.c.d` is IPv4.
pub(crate) fn parse(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|a| a.to_canonical())
}

/// `address/length` as Go's strict parser takes it, host bits kept; IPv4 written as `::ffff:a.b.c.d/120`
/// is IPv4 (`a.b.c.d/24`).
pub(crate) fn parse_net(text: &str) -> Option<IpNet> {
    let net: IpNet = text.parse().ok()?;
    let IpNet::V6(v6) = net else { return Some(net) };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (Some(v4), Some(length)) => Ipv4Net::new(v4, length).ok().map(IpNet::V4),
        _ => Ipv6Net::new(v6.addr(), v6.prefix_len()).ok().map(IpNet::V6),
    }
}

/// `text` without leading zeros in any of its numbers. whereabouts reads `range`, and the top level's
/// `range_start` and `range_end`, with a parser older than Go's ban on `00192.00168.1.5`.
pub(crate) fn without_leading_zeros(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for part in text.split_inclusive(['.', ':', '/']) {
        let digits = part.trim_end_matches(['.', ':', '/']);
        let tail = &part[digits.len()..];
        let kept = digits.trim_start_matches('0');
        out.push_str(if kept.is_empty() && !digits.is_empty() { "0" } else { kept });
        out.push_str(tail);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_zeros_go_and_zero_stays() {
        assert_eq!(without_leading_zeros("00192.00168.1.0/024"), "192.168.1.0/24");
        assert_eq!(without_leading_zeros("2001:0db8::0304:000:0000"), "2001:db8::304:0:0");
        assert_eq!(without_leading_zeros("::"), "::");
    }

    #[test]
    fn mapped_ipv4_is_ipv4() {
        assert_eq!(parse_net("::ffff:10.0.0.0/120"), parse_net("10.0.0.0/24"));
        assert_eq!(parse("::ffff:10.0.0.1"), parse("10.0.0.1"));
        assert_eq!(parse_net("::/0").map(|n| n.to_string()).as_deref(), Some("::/0"));
    }

    #[test]
    fn merge_sorts_joins_and_cuts() {
        let span = |first, last| Span { first, last };
        let merged = merge(vec![span(8, 12), span(0, 3), span(2, 5), span(30, 40)], span(1, 10));
        assert_eq!(merged, [span(1, 5), span(8, 10)]);
    }

    #[test]
    fn all_of_ipv6_saturates() {
        let all = Span::of(&"::/0".parse().unwrap());
        assert_eq!(all.len(), u128::MAX);
    }
}
