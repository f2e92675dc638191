//! `routes`: where they lead, and whether their next hops can be reached.

use std::fmt::Display;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::address::{is_link_local, same_family};
use crate::document::{FieldError, Object};

use super::networks::is_neighbour;
use super::{parse_cidr, parse_ip};

/// The kernel silently lowers what is above (`ip_metrics_convert` in net/ipv4/metrics.c, for both families),
/// and then the result would report what the pod does not have.
const MOST_MTU: u32 = 65_520;
/// As [`MOST_MTU`].
const MOST_ADVMSS: u32 = 65_495;

/// A route for the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination, masked: the kernel refuses host bits.
    pub dst: IpNet,
    /// Next hop. `None` leaves it to the plugin: the family's gateway if there is one, else on-link.
    pub gw: Option<IpAddr>,
    /// Path MTU in bytes, at most 65520; 0 is absent.
    pub mtu: Option<u32>,
    /// Maximum segment size to advertise, in bytes, at most 65495; 0 is absent.
    pub advmss: Option<u32>,
    /// Metric, lower wins; 0 is absent.
    pub priority: Option<u32>,
    /// Routing table; 0 is the kernel's default (main).
    pub table: Option<u32>,
    /// Scope as in `rtnetlink(7)`: 0 universe, 253 link, 254 host.
    pub scope: Option<u8>,
}

pub(super) fn parse(
    ipam: &mut Object<'_>,
    subnets: &[IpNet],
    gateway: Option<IpAddr>,
    warnings: &mut Vec<FieldError>,
) -> Result<Vec<Route>, FieldError> {
    let mut routes: Vec<Route> = Vec::new();
    for element in ipam.list("routes")? {
        let mut object = element.object()?;
        let route = route(&mut object)?;
        if let Some(gw) = route.gw {
            reachable(&object, &route, gw, subnets, &routes, gateway)?;
        }
        warnings.extend(super::ranges::unknown(&object));
        routes.push(route);
    }
    Ok(routes)
}

fn route(object: &mut Object<'_>) -> Result<Route, FieldError> {
    let path = object.path_of("dst");
    let Some(text) = object.string("dst")? else {
        return Err(FieldError::missing(path, "is missing; write one like 172.24.0.0/16, or 0.0.0.0/0"));
    };
    let dst = parse_cidr(&path, text)?.trunc();
    let gw = match object.string("gw")?.filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => Some(parse_ip(&object.path_of("gw"), text)?),
    };
    Ok(Route {
        dst,
        gw,
        mtu: number(object, "mtu", MOST_MTU)?.filter(|n| *n != 0),
        advmss: number(object, "advmss", MOST_ADVMSS)?.filter(|n| *n != 0),
        priority: number(object, "priority", u32::MAX)?.filter(|n| *n != 0),
        table: number(object, "table", u32::MAX)?,
        scope: number(object, "scope", u8::MAX)?,
    })
}

/// A whole number from 0 to `most`.
fn number<T>(object: &mut Object<'_>, key: &str, most: T) -> Result<Option<T>, FieldError>
where
    T: TryFrom<i64> + PartialOrd + Copy + Display,
{
    let Some(number) = object.int(key)? else { return Ok(None) };
    match T::try_from(number) {
        Ok(fits) if fits <= most => Ok(Some(fits)),
        _ => {
            let remedy = format!("is out of bounds; write 0 to {most}");
            Err(FieldError::json(object.path_of(key), &number.into(), remedy))
        }
    }
}

/// A next hop that is no neighbour would fail in the kernel with "network is unreachable", after links
/// were made; here it fails before.
fn reachable(
    object: &Object<'_>,
    route: &Route,
    gw: IpAddr,
    subnets: &[IpNet],
    earlier: &[Route],
    gateway: Option<IpAddr>,
) -> Result<(), FieldError> {
    let wrong = |remedy: String| Err(FieldError::text(object.path_of("gw"), &gw.to_string(), remedy));
    if !same_family(&route.dst, gw) {
        return wrong(format!("is not of the address family of {}; write one that is", route.dst));
    }
    // Every interface with IPv6 has a link-local network, whatever else it has.
    if is_link_local(gw) || subnets.iter().any(|subnet| is_neighbour(subnet, gw)) {
        return Ok(());
    }
    // A route without any next hop is on-link and makes its destination neighbours; with a gateway of the
    // family it would go through that instead.
    let on_link = |earlier: &Route| {
        let through = gateway.is_some_and(|gateway| same_family(&earlier.dst, gateway));
        earlier.gw.is_none() && !through && earlier.dst.contains(&gw)
    };
    if earlier.iter().any(on_link) {
        return Ok(());
    }
    let subnets: Vec<String> = subnets.iter().map(|subnet| subnet.trunc().to_string()).collect();
    wrong(format!(
        "is not a neighbour; write a host of {}, or a route to it without gw before",
        subnets.join(", ")
    ))
}
