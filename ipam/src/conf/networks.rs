//! `addresses`, `gateway` and `network_name`: what surrounds the ranges.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::address::{is_host_of, is_link_local, same_family};
use crate::document::{FieldError, Object};
use crate::name::{self, PoolName};
use crate::range::Range;

use super::{Datastore, StaticAddress, parse_cidr, parse_ip};

/// Longest pool name a file can be called after: 255 bytes less `.json`, and `.` and `.tmp` while written.
const MAX_FILE_POOL_NAME: usize = 240;

/// Whether `gateway` can be reached directly from a host of `subnet`.
pub(super) fn is_neighbour(subnet: &IpNet, gateway: IpAddr) -> bool {
    if !same_family(subnet, gateway) {
        return false;
    }
    // The first address of an IPv6 subnet is its routers' anycast address, RFC 4291 section 2.6.1.
    let anycast = gateway.is_ipv6() && gateway == subnet.network();
    is_link_local(gateway) || is_host_of(subnet, gateway) || anycast
}

pub(super) fn addresses(
    ipam: &mut Object<'_>,
    warnings: &mut Vec<FieldError>,
) -> Result<Vec<StaticAddress>, FieldError> {
    let mut addresses = Vec::new();
    for element in ipam.list("addresses")? {
        let mut object = element.object()?;
        let path = object.path_of("address");
        let Some(text) = object.string("address")? else {
            return Err(FieldError::missing(path, "is missing; write one like 172.23.0.40/24"));
        };
        let address = parse_cidr(&path, text)?;
        if address.prefix_len() == 0 {
            let remedy = "makes a whole address family its subnet; write a longer prefix";
            return Err(FieldError::text(path, text, remedy));
        }
        if !is_host_of(&address, address.addr()) {
            let remedy = format!("is the first or last address of {}; assign one between", address.trunc());
            return Err(FieldError::text(path, text, remedy));
        }
        let path = object.path_of("gateway");
        let gateway = match object.string("gateway")?.filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => {
                let gateway = parse_ip(&path, text)?;
                if !is_neighbour(&address, gateway) {
                    let remedy = format!("is not a host of {}; write a gateway inside it", address.trunc());
                    return Err(FieldError::text(path, text, remedy));
                }
                Some(gateway)
            }
        };
        warnings.extend(super::ranges::unknown(&object));
        addresses.push(StaticAddress { address, gateway });
    }
    Ok(addresses)
}

pub(super) fn gateway(ipam: &mut Object<'_>, ranges: &[Range]) -> Result<Option<IpAddr>, FieldError> {
    let Some(text) = ipam.string("gateway")?.filter(|text| !text.is_empty()) else { return Ok(None) };
    let path = ipam.path_of("gateway");
    let gateway = parse_ip(&path, text)?;
    if ranges.iter().any(|range| is_neighbour(&range.subnet(), gateway)) {
        return Ok(Some(gateway));
    }
    let remedy = if ranges.is_empty() {
        "has no effect without a range; write it as addresses[].gateway".to_owned()
    } else {
        format!("is not a host of {}; write a gateway inside", list(ranges))
    };
    Err(FieldError::text(path, text, remedy))
}

pub(super) fn network_name(ipam: &mut Object<'_>) -> Result<Option<String>, FieldError> {
    let Some(text) = ipam.string("network_name")?.filter(|text| !text.is_empty()) else { return Ok(None) };
    if name::is_object_name(text) {
        return Ok(Some(text.to_owned()));
    }
    let remedy = "cannot begin an object's name; use lower-case letters, digits, '-' and '.', at most 253";
    Err(FieldError::text(ipam.path_of("network_name"), text, remedy))
}

/// Every pool must have a name that an object, and where the store says so a file, can bear.
pub(super) fn check_names(
    ipam: &mut Object<'_>,
    network_name: Option<&str>,
    ranges: &[Range],
    addresses: &[StaticAddress],
    datastore: Datastore,
) -> Result<(), FieldError> {
    let statics = addresses.iter().map(|fixed| fixed.address.trunc());
    for subnet in ranges.iter().map(Range::subnet).chain(statics) {
        let named = PoolName::new(network_name, &subnet);
        let too_long =
            |name: &PoolName| datastore == Datastore::File && name.as_str().len() > MAX_FILE_POOL_NAME;
        match (named, network_name) {
            (Ok(name), Some(network)) if too_long(&name) => {
                let remedy = "is too long for the name of a pool's file; use at most 180 letters";
                return Err(FieldError::text(ipam.path_of("network_name"), network, remedy));
            }
            (Ok(_), _) => {}
            (Err(_), Some(network)) => {
                let most = name::MAX_LEN;
                let remedy =
                    format!("is too long for the name of a pool, which ends at {most}; use a shorter one");
                return Err(FieldError::text(ipam.path_of("network_name"), network, remedy));
            }
            (Err(_), None) => {
                let remedy = "begins with \"::\", which no pool can be named after; set network_name";
                return Err(FieldError::text(ipam.path_of("range"), &subnet.to_string(), remedy));
            }
        }
    }
    Ok(())
}

/// The subnets of `ranges` for a message.
pub(super) fn list(ranges: &[Range]) -> String {
    let subnets: Vec<String> = ranges.iter().map(|range| range.subnet().to_string()).collect();
    subnets.join(", ")
}
