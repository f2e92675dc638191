//! Mistakes of `ipam.routes`, of which the operator reads the first alone.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::mistakes::{Findings, Known};
use super::operator::Part;
use crate::address::{is_host_of, overlap};
use crate::document::{FieldError, Object};

/// Least addresses of the amphorae's pool: the router's port, the metadata port, one amphora and the next during its failover.
const LEAST_AMPHORAE: u32 = 4;

/// The first route, and what stands behind it.
pub(super) fn check(root: &mut Object<'_>, known: &Known<'_>, found: &mut Findings) {
    let Ok(Some(mut ipam)) = root.object("ipam") else { return };
    let path = ipam.path_of("routes");
    let Ok(routes) = ipam.list("routes") else { return };
    let Some(first) = routes.first() else {
        let remedy = "has no route to the amphorae's network; write [{\"dst\": \"172.24.0.0/16\", \"gw\": an address of range}]";
        found.error(FieldError::missing(path, remedy));
        return;
    };
    // For the operator, null is a route without anything.
    let nothing = Value::Object(Map::new());
    let value = if first.value().is_null() { &nothing } else { first.value() };
    let Ok(mut first) = Object::at(first.path().to_owned(), value) else { return };
    let mut later: Vec<Later> = Vec::new();
    for element in &routes[1..] {
        let Ok(mut route) = element.object() else { continue };
        let path = element.path().to_owned();
        let dst = route.string("dst").ok().flatten().and_then(|text| text.parse().ok());
        let gw = route.string("gw").ok().flatten().and_then(|text| text.parse().ok());
        later.push(Later { path, dst, gw });
    }
    let better = later.iter().find(|route| route.could_be_the_tenants(known));
    let instead = match better {
        Some(better) => format!("; move {} to the first place, if it leads to the amphorae", better.path),
        None => String::new(),
    };
    destination(&mut first, known, &instead, found);
    next_hop(&mut first, known, &instead, found);
    let tenant = known.reading.tenant;
    let rival = later.iter().find(|route| {
        route.could_be_the_tenants(known) && tenant.is_some_and(|tenant| route.is_of_family(&tenant))
    });
    if let Some(rival) = rival
        && let Some(tenant) = tenant
        && !found.has_below(first.path())
    {
        let remedy = format!(
            "is the second route; octavia-operator takes the first one's {tenant} for the amphorae's network: exchange them if this is \
             the amphorae's"
        );
        let dst = rival.dst.map(|dst| dst.to_string()).unwrap_or_default();
        found.warning(FieldError::text(format!("{}.dst", rival.path), &dst, remedy));
    }
}

/// A route that the operator does not read.
struct Later {
    path: String,
    dst: Option<IpNet>,
    gw: Option<IpAddr>,
}

impl Later {
    fn is_of_family(&self, net: &IpNet) -> bool {
        self.dst.is_some_and(|dst| dst.addr().is_ipv4() == net.addr().is_ipv4())
    }

    /// Whether the operator could make the amphorae's network and the router of it.
    fn could_be_the_tenants(&self, known: &Known<'_>) -> bool {
        let (Some(dst), Some(gw), Some(provider)) = (self.dst, self.gw, known.reading.provider) else {
            return false;
        };
        is_host_of(&provider, gw) && !overlap(&provider, &dst) && dst.prefix_len() != 0
    }
}

fn destination(route: &mut Object<'_>, known: &Known<'_>, instead: &str, found: &mut Findings) {
    let path = route.path_of("dst");
    let Some(tenant) = known.reading.tenant else {
        let remedy = format!("is missing; write the amphorae's network, like 172.24.0.0/16{instead}");
        found.error(FieldError::missing(path, remedy));
        return;
    };
    let shown = tenant.to_string();
    if tenant.prefix_len() == 0 {
        let remedy = format!(
            "is a default route, which octavia-operator takes for the amphorae's network; write that network{instead}"
        );
        found.error(FieldError::text(path, &shown, remedy));
        return;
    }
    if let Some(provider) = known.reading.provider.filter(|provider| overlap(provider, &tenant)) {
        let provider = provider.trunc();
        let remedy = format!(
            "overlaps range {provider}; the amphorae's network has to be another one than the pods'{instead}"
        );
        found.error(FieldError::text(path, &shown, remedy));
        return;
    }
    if !known.reading.amphorae.is_some_and(|pool| has_room(&tenant, &pool)) {
        let most = if tenant.addr().is_ipv4() { 28 } else { 124 };
        let remedy = format!("is too small for amphorae; use a prefix length of at most {most}{instead}");
        found.error(FieldError::text(path, &shown, remedy));
    } else if tenant.addr() != tenant.network() {
        let remedy =
            format!("has host bits, which octavia-operator passes to Neutron; write {}", tenant.trunc());
        found.warning(FieldError::text(path, &shown, remedy));
    }
}

fn has_room(tenant: &IpNet, pool: &Part) -> bool {
    let least = super::operator::step(pool.first, u128::from(LEAST_AMPHORAE - 1));
    tenant.contains(&pool.first) && least.is_some_and(|least| pool.contains(least))
}

fn next_hop(route: &mut Object<'_>, known: &Known<'_>, instead: &str, found: &mut Findings) {
    let path = route.path_of("gw");
    let reading = known.reading;
    let Some(router) = reading.router else {
        let remedy = format!(
            "is missing; write the address of range that octavia-link-router gets, outside all pools{instead}"
        );
        found.error(FieldError::missing(path, remedy));
        return;
    };
    let shown = router.to_string();
    let mut wrong = |remedy: String| found.error(FieldError::text(path.clone(), &shown, remedy));
    let Some(provider) = reading.provider else { return };
    if !is_host_of(&provider, router) {
        return wrong(format!(
            "is not a host of range {}; write one, outside all pools{instead}",
            provider.trunc()
        ));
    }
    for (pool, owner) in [
        (reading.neutron, "Neutron's allocation pool"),
        (reading.predictable, "the predictable addresses of health managers and rsyslog"),
    ] {
        if let Some(pool) = pool.filter(|pool| pool.contains(router)) {
            return wrong(format!(
                "is in {owner}, {pool}; write an address outside all pools{}",
                free(known)
            ));
        }
    }
    if let Some(pods) = known.pods.filter(|pods| pods.offers(router)) {
        let remedy = format!(
            "is in the pods' range {}-{}; the plugin does not assign it, but whereabouts does: write an address outside all pools{}",
            pods.first(),
            pods.last(),
            free(known)
        );
        found.warning(FieldError::text(path, &shown, remedy));
    }
}

/// The first address behind all pools, as advice.
fn free(known: &Known<'_>) -> String {
    let reading = known.reading;
    let behind = reading.predictable.and_then(|pool| super::operator::step(pool.last, 1));
    match (reading.provider, behind) {
        (Some(provider), Some(address)) if is_host_of(&provider, address) => format!(", like {address}"),
        _ => String::new(),
    }
}
