//! One range of addresses: a subnet, the part of it to hand out, and what to leave out.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::address::{Span, bits, from_bits, merge, overlap, same_family};
use crate::name::{NameError, PoolName};

#[cfg(test)]
mod tests;

/// A range to hand addresses out from.
///
/// Bounds are inclusive and lie inside the subnet without its first and last address; the last one of an
/// IPv6 subnet is skipped too, because whereabouts does so and both may serve one pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Range {
    subnet: IpNet,
    first: IpAddr,
    last: IpAddr,
    exclude: Vec<IpNet>,
}

/// Why bounds make no range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Fewer than two host bits: nothing is left without the network and the broadcast address.
    #[error("subnet {0} has no usable host address")]
    TooSmall(IpNet),
    /// Prefix length 0. The kernel takes such an address, but gives an IPv4 one no route to its subnet, and
    /// an IPv6 one a default route out of this interface.
    #[error("subnet {0} is a whole address family")]
    TooLarge(IpNet),
    /// The start lies after the end; whereabouts would widen the range to the end of the subnet.
    #[error("range start {0} lies after range end {1}")]
    Reversed(IpAddr, IpAddr),
    /// A bound is IPv4 and the subnet IPv6, or the reverse.
    #[error("bound {0} is not of the address family of {1}")]
    Family(IpAddr, IpNet),
}

/// Something in a range's definition that has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oddity {
    /// The start is no usable host of the subnet; the range starts at the first one instead.
    StartIgnored(IpAddr),
    /// The end is no usable host of the subnet; the range ends at the last one instead.
    EndIgnored(IpAddr),
    /// The exclusion with this index shares no address with the subnet.
    ExcludeOutside(usize),
}

/// A range between processes. Who reads one checks it again: what follows from wrong bounds is an address given twice.
#[derive(Serialize, Deserialize)]
struct Written {
    subnet: IpNet,
    first: IpAddr,
    last: IpAddr,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    exclude: Vec<IpNet>,
}

/// Why what another process wrote is no range.
#[derive(Debug, thiserror::Error)]
enum WrittenError {
    #[error(transparent)]
    Range(#[from] RangeError),
    #[error("range {0}-{1} does not lie within {2}")]
    Outside(IpAddr, IpAddr, IpNet),
}

impl TryFrom<Written> for Range {
    type Error = WrittenError;

    fn try_from(written: Written) -> Result<Self, WrittenError> {
        let Written { subnet, first, last, exclude } = written;
        let (range, _) = Self::new(subnet, Some(first), Some(last), exclude)?;
        if range.first == first && range.last == last {
            Ok(range)
        } else {
            Err(WrittenError::Outside(first, last, subnet))
        }
    }
}

impl From<Range> for Written {
    fn from(range: Range) -> Self {
        let Range { subnet, first, last, exclude } = range;
        Self { subnet, first, last, exclude }
    }
}

impl Range {
    /// A range of `subnet` (host bits are dropped) from `start` to `end`, both inclusive.
    ///
    /// A bound that is no usable host of the subnet is taken as whereabouts takes it: not at all. The
    /// returned oddities name such bounds, and exclusions outside the subnet.
    pub fn new(
        subnet: IpNet,
        start: Option<IpAddr>,
        end: Option<IpAddr>,
        exclude: Vec<IpNet>,
    ) -> Result<(Self, Vec<Oddity>), RangeError> {
        let subnet = subnet.trunc();
        if subnet.max_prefix_len() - subnet.prefix_len() < 2 {
            return Err(RangeError::TooSmall(subnet));
        }
        if subnet.prefix_len() == 0 {
            return Err(RangeError::TooLarge(subnet));
        }
        if let Some(bound) = [start, end].into_iter().flatten().find(|b| !same_family(&subnet, *b)) {
            return Err(RangeError::Family(bound, subnet));
        }
        let all = Span::of(&subnet);
        let usable = Span { first: all.first + 1, last: all.last - 1 };
        // A bound outside the subnet is ignored, and so cannot be the wrong way round.
        if let (Some(start), Some(end)) = (start, end)
            && usable.contains(bits(start))
            && usable.contains(bits(end))
            && start > end
        {
            return Err(RangeError::Reversed(start, end));
        }
        let mut oddities = Vec::new();
        let mut bound = |given: Option<IpAddr>, edge: u128, ignored: fn(IpAddr) -> Oddity| match given {
            Some(address) if usable.contains(bits(address)) => address,
            Some(address) => {
                oddities.push(ignored(address));
                from_bits(edge, &subnet)
            }
            None => from_bits(edge, &subnet),
        };
        let first = bound(start, usable.first, Oddity::StartIgnored);
        let last = bound(end, usable.last, Oddity::EndIgnored);
        let outside = |(_, net): &(usize, &IpNet)| !overlap(&subnet, net);
        oddities.extend(exclude.iter().enumerate().filter(outside).map(|(i, _)| Oddity::ExcludeOutside(i)));
        Ok((Self { subnet, first, last, exclude }, oddities))
    }

    /// The whole subnet, masked. Its prefix length is the one of every address handed out.
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// The lowest address that may be handed out.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The highest address that may be handed out.
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// What is left out, as configured: unsorted, possibly overlapping or of the other family.
    pub fn exclude(&self) -> &[IpNet] {
        &self.exclude
    }

    /// Whether `address` may be handed out as far as bounds and exclusions say.
    pub fn offers(&self, address: IpAddr) -> bool {
        same_family(&self.subnet, address)
            && self.span().contains(bits(address))
            && !self.exclude.iter().any(|net| net.contains(&address))
    }

    /// Name of the pool that keeps this range's addresses.
    pub fn pool_name(&self, network_name: Option<&str>) -> Result<PoolName, NameError> {
        PoolName::new(network_name, &self.subnet)
    }

    pub(crate) fn span(&self) -> Span {
        Span { first: bits(self.first), last: bits(self.last) }
    }

    /// The excluded addresses between the bounds, as sorted disjoint spans.
    pub(crate) fn excluded(&self) -> Vec<Span> {
        let same = |net: &&IpNet| same_family(&self.subnet, net.addr());
        merge(self.exclude.iter().filter(same).map(Span::of).collect(), self.span())
    }
}
