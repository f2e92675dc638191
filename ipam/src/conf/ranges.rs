//! `range`, `range_start`, `range_end`, `exclude` and `ipRanges`.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::address::{self, without_leading_zeros};
use crate::document::{FieldError, Object};
use crate::range::{Oddity, Range, RangeError};

use super::parse_ip;

/// Keys of a range that must not be overlooked.
pub(super) const KEYS: [&str; 3] = ["range_start", "range_end", "exclude"];

/// Addresses that no interface on a network can have, or none can be reached by.
const IMPOSSIBLE: [(&str, &str); 4] = [
    ("0.0.0.0/8", "addresses of \"this network\""),
    ("127.0.0.0/8", "loopback addresses"),
    ("224.0.0.0/4", "multicast addresses"),
    ("ff00::/8", "multicast addresses"),
];

/// All ranges: the top level's first, then `ipRanges` in order.
pub(super) fn parse(ipam: &mut Object<'_>, warnings: &mut Vec<FieldError>) -> Result<Vec<Range>, FieldError> {
    // Only the top level's bounds may have leading zeros; within ipRanges Go's strict parser reads them.
    let mut ranges: Vec<Range> = range(ipam, true, warnings)?.into_iter().collect();
    for element in ipam.list("ipRanges")? {
        let mut object = element.object()?;
        match range(&mut object, false, warnings)? {
            Some(range) => ranges.push(range),
            None => {
                let remedy = "is missing; write a subnet like 172.23.0.0/24";
                return Err(FieldError::missing(object.path_of("range"), remedy));
            }
        }
        object.near_miss(&KEYS)?;
        warnings.extend(unknown(&object));
    }
    Ok(ranges)
}

/// Warnings for keys of `object` that nobody knows.
pub(super) fn unknown(object: &Object<'_>) -> Vec<FieldError> {
    let warning = |path| FieldError::missing(path, "unknown key in ipam; ignored");
    object.unknown().into_iter().map(warning).collect()
}

fn range(
    object: &mut Object<'_>,
    lenient: bool,
    warnings: &mut Vec<FieldError>,
) -> Result<Option<Range>, FieldError> {
    let start = bound(object, "range_start", lenient)?;
    let end = bound(object, "range_end", lenient)?;
    let exclude = exclusions(object)?;
    let Some(text) = object.string("range")?.filter(|text| !text.is_empty()) else {
        let idle = [
            ("range_start", start.is_some()),
            ("range_end", end.is_some()),
            ("exclude", !exclude.is_empty()),
        ];
        for (key, _) in idle.iter().filter(|(_, given)| *given) {
            let remedy = "has no effect without a range beside it; add the range or remove it";
            warnings.push(FieldError::missing(object.path_of(key), remedy));
        }
        return Ok(None);
    };
    let path = object.path_of("range");
    let (subnet, bounds) = subnet(&path, text)?;
    let (start, end) = match bounds {
        None => (start, end),
        Some((first, last)) => {
            for (key, given) in [("range_start", start), ("range_end", end)] {
                if let Some(given) = given {
                    let remedy = format!("has no effect because {path} names both bounds; remove it");
                    warnings.push(FieldError::text(object.path_of(key), &given.to_string(), remedy));
                }
            }
            (Some(first), Some(last))
        }
    };
    let (built, oddities) = Range::new(subnet, start, end, exclude)
        .map_err(|error| refused(object, text, bounds.is_some(), error))?;
    warnings.extend(oddities.into_iter().map(|oddity| odd(object, &built, bounds.is_some(), oddity)));
    check_possible(&path, text, &built)?;
    check_not_all_excluded(object, &built)?;
    Ok(Some(built))
}

fn check_possible(path: &str, text: &str, range: &Range) -> Result<(), FieldError> {
    for (net, what) in IMPOSSIBLE {
        let reserved: Option<IpNet> = net.parse().ok();
        if reserved.is_some_and(|net| net.contains(&range.first()) || net.contains(&range.last())) {
            let remedy = format!("has {what} ({net}), which no pod can use; choose another range");
            return Err(FieldError::text(path, text, remedy));
        }
    }
    Ok(())
}

fn check_not_all_excluded(object: &Object<'_>, range: &Range) -> Result<(), FieldError> {
    let mut first_left = range.span().first;
    for excluded in range.excluded() {
        if excluded.first > first_left {
            break;
        }
        first_left = excluded.last.saturating_add(1);
    }
    if range.span().contains(first_left) {
        return Ok(());
    }
    let remedy = format!(
        "leaves no address of {}-{}; exclude less, or choose another range",
        range.first(),
        range.last()
    );
    Err(FieldError::missing(object.path_of("exclude"), remedy))
}

fn bound(object: &mut Object<'_>, key: &str, lenient: bool) -> Result<Option<IpAddr>, FieldError> {
    let Some(text) = object.string(key)?.filter(|text| !text.is_empty()) else { return Ok(None) };
    let path = object.path_of(key);
    if lenient && let Some(address) = address::parse(&without_leading_zeros(text)) {
        return Ok(Some(address));
    }
    // whereabouts drops a bound it cannot read and hands out the whole subnet.
    parse_ip(&path, text).map(Some)
}

fn exclusions(object: &mut Object<'_>) -> Result<Vec<IpNet>, FieldError> {
    let one = |element: &crate::document::Element<'_>| {
        let text = element.string()?;
        let single = address::parse(text).map(IpNet::from);
        single.or_else(|| address::parse_net(text)).map(|net| net.trunc()).ok_or_else(|| {
            element.wrong("is neither a subnet nor an address; write one like 172.23.0.0/28 or 172.23.0.150")
        })
    };
    object.list("exclude")?.iter().map(one).collect()
}

/// Both bounds of a range written as `start-end/length`.
type Bounds = Option<(IpAddr, IpAddr)>;

/// The subnet of `address/length` or `start-end/length`, the latter with its bounds.
fn subnet(path: &str, text: &str) -> Result<(IpNet, Bounds), FieldError> {
    let wrong = || {
        let remedy = "is not a range; write one like 172.23.0.0/24 or 172.23.0.30-172.23.0.70/24";
        FieldError::text(path, text, remedy)
    };
    let net = |text: &str| address::parse_net(&without_leading_zeros(text)).ok_or_else(wrong);
    let Some((start, end)) = text.split_once('-') else { return Ok((net(text)?.trunc(), None)) };
    let start = address::parse(&without_leading_zeros(start)).ok_or_else(wrong)?;
    let end = net(end)?;
    if !end.contains(&start) {
        let remedy = format!("starts outside its subnet {}; choose a start inside it", end.trunc());
        return Err(FieldError::text(path, text, remedy));
    }
    Ok((end.trunc(), Some((start, end.addr()))))
}

fn refused(object: &Object<'_>, text: &str, bounds_within: bool, error: RangeError) -> FieldError {
    match error {
        RangeError::TooSmall(subnet) => {
            let longest = subnet.max_prefix_len() - 2;
            let remedy = format!("leaves no usable host address; use a prefix length of at most {longest}");
            FieldError::text(object.path_of("range"), text, remedy)
        }
        RangeError::TooLarge(_) => {
            FieldError::text(object.path_of("range"), text, "is a whole address family; write a subnet of it")
        }
        RangeError::Reversed(start, end) if bounds_within => {
            let remedy = format!("runs backwards from {start} to {end}; exchange the two");
            FieldError::text(object.path_of("range"), text, remedy)
        }
        RangeError::Reversed(start, end) => {
            let remedy = format!("lies after range_end {end}; exchange the two");
            FieldError::text(object.path_of("range_start"), &start.to_string(), remedy)
        }
        RangeError::Family(bound, subnet) => {
            let remedy = format!("is not of the address family of {subnet}; write an address of that subnet");
            let start = object.path_of("range_start");
            // Either bound may be meant; the value tells which.
            FieldError::text(format!("{start} or range_end"), &bound.to_string(), remedy)
        }
    }
}

fn odd(object: &Object<'_>, range: &Range, bounds_within: bool, oddity: Oddity) -> FieldError {
    let field = |key| object.path_of(if bounds_within { "range" } else { key });
    let subnet = range.subnet();
    match oddity {
        Oddity::StartIgnored(start) => {
            let first = range.first();
            let remedy = format!("is not a usable host of {subnet}; the range starts at {first} instead");
            FieldError::text(field("range_start"), &start.to_string(), remedy)
        }
        Oddity::EndIgnored(end) => {
            let last = range.last();
            let remedy = format!("is not a usable host of {subnet}; the range ends at {last} instead");
            FieldError::text(field("range_end"), &end.to_string(), remedy)
        }
        Oddity::ExcludeOutside(index) => {
            let path = format!("{}[{index}]", object.path_of("exclude"));
            let excluded = range.exclude()[index].to_string();
            FieldError::text(
                path,
                &excluded,
                format!("has no effect because it lies outside {subnet}; remove it"),
            )
        }
    }
}
