//! Routes, as requests to the kernel.

use ipnet::IpNet;
use nl::{Netlink, NextHop, RouteFilter};
use octavia_bridge_ipam::causes::chain;
use octavia_bridge_netlink as nl;

use super::{Error, index};
use crate::node::marker::WAY_PROTOCOL;
use crate::node::observed::Route;

pub(super) async fn add(netlink: &Netlink, route: &Route) -> Result<(), Error> {
    add_wire(netlink, &wire(netlink, route).await?).await
}

pub(super) async fn remove(netlink: &Netlink, route: &Route) -> Result<bool, Error> {
    let wire = wire(netlink, route).await?;
    if netlink.delete_route(&wire).await? {
        return Ok(true);
    }
    if wire.next_hops.len() < 2 {
        return Ok(false);
    }
    // For IPv4 the kernel compares next hops in their order (`fib_nh_match`), which is not ours.
    let filter = RouteFilter { family: Some(wire.family()), table: wire.table, link: None };
    for seen in netlink.routes(&filter).await? {
        if is_reordered(&seen, &wire) {
            let wire = nl::Route { next_hops: seen.next_hops, ..wire };
            return Ok(netlink.delete_route(&wire).await?);
        }
    }
    Ok(false)
}

/// Whether it is this route but for the order of its next hops.
fn is_reordered(seen: &nl::Route, route: &nl::Route) -> bool {
    let place = |one: &nl::Route| (one.destination, one.priority.unwrap_or_default(), one.protocol, one.tos);
    place(seen) == place(route)
        && seen.next_hops.len() == route.next_hops.len()
        && seen.next_hops.iter().all(|hop| route.next_hops.contains(hop))
}

/// Adds a route that was there before. The kernel asks only when a route is added whether its gateways are reached: the address
/// or the route by which they were may have gone since, and the route stayed (`fib_check_nh`, `ip6_route_check_nh`). So there
/// is such a way for the moment.
pub(super) async fn give_back(netlink: &Netlink, route: &Route) -> Result<(), Error> {
    let wire = wire(netlink, route).await?;
    let ways = ways(&wire);
    // A process that was killed here has left them.
    end(netlink, &ways).await;
    let refused = match add_wire(netlink, &wire).await {
        Err(Error::Netlink(error)) if error.is_unreachable() => error,
        other => return other,
    };
    let mut made = Vec::new();
    for way in ways {
        // One that is there already, of another next hop, stays.
        if netlink.add_route(&way).await.is_ok() {
            made.push(way);
        }
    }
    let again = match made.is_empty() {
        true => Err(refused.into()),
        false => add_wire(netlink, &wire).await,
    };
    end(netlink, &made).await;
    again
}

/// Direct routes to the gateways.
fn ways(route: &nl::Route) -> Vec<nl::Route> {
    let mut ways = Vec::new();
    for hop in route.next_hops.iter().filter(|hop| !hop.onlink) {
        let Some(gateway) = hop.gateway else { continue };
        let to_link = NextHop { gateway: None, weight: 0, ..*hop };
        ways.push(nl::Route {
            destination: IpNet::from(gateway),
            table: route.table,
            protocol: Some(WAY_PROTOCOL),
            next_hops: vec![to_link],
            ..nl::Route::default()
        });
    }
    ways
}

async fn end(netlink: &Netlink, ways: &[nl::Route]) {
    for way in ways {
        if let Err(error) = netlink.delete_route(way).await {
            tracing::warn!("{}", chain(&error));
        }
    }
}

/// By its nexthop object, if it has one that is there, else by next hops of its own.
async fn add_wire(netlink: &Netlink, route: &nl::Route) -> Result<(), Error> {
    match netlink.add_route(route).await {
        Err(nl::Error::Refused { .. }) if route.object.is_some() => {
            Ok(netlink.add_route(&nl::Route { object: None, ..route.clone() }).await?)
        }
        other => Ok(other?),
    }
}

async fn wire(netlink: &Netlink, route: &Route) -> Result<nl::Route, Error> {
    let alone = route.hops.len() == 1;
    let mut next_hops = Vec::new();
    for hop in &route.hops {
        let link = index(netlink, &hop.link).await?;
        let weight = if alone { 0 } else { hop.weight };
        next_hops.push(NextHop { gateway: hop.gateway, link, weight, onlink: hop.onlink });
    }
    let mut wire = nl::Route {
        destination: route.destination,
        table: Some(route.table),
        priority: Some(route.metric).filter(|metric| *metric != 0),
        protocol: Some(route.protocol),
        source: route.source,
        mtu: route.mtu,
        next_hops,
        ..nl::Route::default()
    };
    if let Some(detail) = &route.detail {
        detail.put(&mut wire);
    }
    Ok(wire)
}
