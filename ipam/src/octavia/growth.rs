//! Addresses that others have had since before the range grew.
//!
//! When `range_end` changes, the operator moves both pools, but ports of Neutron's and predictable addresses stay as they are: the
//! operator's `ConfigMap` wins over the pool. Pods then get addresses that the metadata port or a health manager has.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::operator::{POOL_LEN, Part, pool_behind};
use super::review::Surroundings;
use crate::address::{Span, bits, from_bits, merge, same_family};
use crate::range::Range;

/// The subnets that the range has to exclude and does not, sorted.
pub(super) fn exclude(pods: &Range, surroundings: &Surroundings) -> Vec<IpNet> {
    let subnet = pods.subnet();
    let mut in_use = Vec::new();
    let predictable: Vec<IpAddr> = surroundings
        .predictable_in_use
        .iter()
        .copied()
        .filter(|address| same_family(&subnet, *address))
        .collect();
    for address in &predictable {
        in_use.push(Span { first: bits(*address), last: bits(*address) });
    }
    let former_end = surroundings.former_range_end.or_else(|| derived_end(pods, &predictable));
    let neutron = pool_behind(Some(subnet), former_end);
    in_use.extend(neutron.map(span));
    if predictable.is_empty() {
        in_use.extend(pool_behind(Some(subnet), neutron.map(|pool| pool.last)).map(span));
    }
    let excluded = pods.excluded();
    let mut missing = Vec::new();
    for span in merge(in_use, pods.span()) {
        missing.extend(without(span, &excluded));
    }
    let mut nets = Vec::new();
    for span in missing {
        match (from_bits(span.first, &subnet), from_bits(span.last, &subnet)) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                nets.extend(Ipv4Subnets::new(first, last, 0).map(IpNet::V4));
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                nets.extend(Ipv6Subnets::new(first, last, 0).map(IpNet::V6));
            }
            _ => {}
        }
    }
    IpNet::aggregate(&nets)
}

/// `range_end` before the range grew: the operator assigned the lowest predictable address first, and Neutron's pool is before it.
/// `None` if the range did not grow, as far as these addresses tell. The range need not reach them to reach Neutron's pool.
fn derived_end(pods: &Range, predictable: &[IpAddr]) -> Option<IpAddr> {
    let lowest = predictable.iter().min()?;
    let end = bits(*lowest).checked_sub(POOL_LEN + 1)?;
    (end < bits(pods.last())).then(|| from_bits(end, &pods.subnet()))
}

fn span(part: Part) -> Span {
    Span { first: bits(part.first), last: bits(part.last) }
}

/// The parts of `span` outside `excluded`, which is sorted and disjoint.
fn without(span: Span, excluded: &[Span]) -> Vec<Span> {
    let mut left = Vec::new();
    let mut first = span.first;
    for hole in excluded {
        if hole.last < first || hole.first > span.last {
            continue;
        }
        if hole.first > first {
            left.push(Span { first, last: hole.first - 1 });
        }
        match hole.last.checked_add(1) {
            Some(next) => first = next,
            None => return left,
        }
    }
    if first <= span.last {
        left.push(Span { first, last: span.last });
    }
    left
}
