//! Addresses that others have had since before the range grew.
//!
//! When `range_end` changes, the operator moves both pools, but ports of Neutron's and predictable addresses stay as they are: the
//! operator's `ConfigMap` wins over the pool. Pods then get addresses that the metadata port or a health manager has.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::operator::{POOL_LEN, Part, pool_behind};
use super::review::Surroundings;
use crate::address::{Span, bits, from_bits, merge};
use crate::range::Range;

/// What a range that grew does not exclude.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// Subnets of addresses that are certainly others'. Sorted.
    pub(super) exclude: Vec<IpNet>,
    /// `range_end` was between these bounds, if Neutron may have more addresses.
    pub(super) doubt: Option<Part>,
}

pub(super) fn growth(pods: &Range, surroundings: &Surroundings) -> Growth {
    let subnet = pods.subnet();
    let mut in_use = Vec::new();
    let predictable: Vec<IpAddr> =
        surroundings.predictable_in_use.iter().copied().filter(|address| subnet.contains(address)).collect();
    for address in &predictable {
        in_use.push(Span { first: bits(*address), last: bits(*address) });
    }
    let mut unexplained = predictable.clone();
    if let Some(end) = surroundings.former_range_end {
        let neutron = pool_behind(Some(subnet), Some(end));
        in_use.extend(neutron.map(span));
        if let Some(pool) = pool_behind(Some(subnet), neutron.map(|pool| pool.last)) {
            if predictable.is_empty() {
                in_use.push(span(pool));
            }
            // Addresses of the given end's pool, and of the present one, do not contradict it.
            unexplained.retain(|address| !(pool.first..=pool.last).contains(address));
        }
    }
    let mut doubtful = None;
    if let Some(ends) = former_ends(pods, &unexplained) {
        // Neutron's pool behind the highest end and the one behind the lowest have these in common, and so with all between.
        let common = Span { first: ends.last + 1, last: ends.first + POOL_LEN };
        if common.first <= common.last {
            in_use.push(common);
        }
        doubtful = Some(ends);
    }
    let excluded = pods.excluded();
    let in_use = merge(in_use, pods.span());
    let doubt = doubtful.filter(|ends| {
        let known = merge([&in_use[..], &excluded[..]].concat(), pods.span());
        let possible = Span { first: ends.first + 1, last: ends.last + POOL_LEN };
        merge(vec![possible], pods.span()).iter().any(|span| !without(*span, &known).is_empty())
    });
    let mut missing = Vec::new();
    for span in in_use {
        missing.extend(without(span, &excluded));
    }
    Growth {
        exclude: nets(&missing, &subnet),
        doubt: doubt
            .map(|ends| Part { first: from_bits(ends.first, &subnet), last: from_bits(ends.last, &subnet) }),
    }
}

/// The fewest subnets of these spans.
fn nets(spans: &[Span], subnet: &IpNet) -> Vec<IpNet> {
    let mut nets = Vec::new();
    for span in spans {
        match (from_bits(span.first, subnet), from_bits(span.last, subnet)) {
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

/// Between which bounds `range_end` was before the range grew. Addresses before the present predictable pool are of a former one;
/// which of that pool's, is not known, since nodes come and go. `None` if no address is of a former pool. The range need not reach
/// these addresses to reach Neutron's pool.
fn former_ends(pods: &Range, predictable: &[IpAddr]) -> Option<Span> {
    let present = bits(pods.last()) + POOL_LEN + 1;
    let former: Vec<u128> =
        predictable.iter().map(|address| bits(*address)).filter(|number| *number < present).collect();
    let lowest_end = former.iter().max()?.saturating_sub(2 * POOL_LEN).max(bits(pods.subnet().network()));
    let highest_end = former.iter().min()?.checked_sub(POOL_LEN + 1)?;
    if lowest_end <= highest_end {
        return Some(Span { first: lowest_end, last: highest_end });
    }
    // They are of several pools: the range grew more than once.
    Some(Span { first: bits(pods.subnet().network()), last: bits(pods.last()) })
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
