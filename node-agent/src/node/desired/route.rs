//! One entry of `routes.config`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::Route;
use super::alternative::wrong_name;
use super::field::Fields;
use super::problem::Findings;
use crate::node::observed::MAIN_TABLE;

/// `None` also for an entry whose state is `ignore`.
pub(crate) fn read(path: String, value: Value, findings: &Findings) -> Option<Route> {
    let mut entry = Fields::new(path, value, findings)?;
    let state = entry.text("state");
    match state.as_deref() {
        None | Some("up" | "absent") => {}
        Some("ignore") => return None,
        Some(other) => entry.invalid("state", format!("{other:?} is neither absent nor ignore")),
    }
    let absent = state.as_deref() == Some("absent");
    if !absent {
        entry.needs("destination");
        entry.needs("next-hop-interface");
    }
    let destination = entry.parsed::<IpNet>("destination", "network such as 172.24.0.0/16");
    let gateway = entry.parsed::<IpAddr>("next-hop-address", "IP address");
    // nmstate writes it for none.
    let gateway = gateway.filter(|gateway| !gateway.is_unspecified());
    if let Some(gateway) = gateway.filter(IpAddr::is_multicast) {
        entry.invalid("next-hop-address", format!("{gateway} is a multicast address, which no router has"));
    }
    let interface = entry.name("next-hop-interface");
    if let Some(why) = interface.as_deref().and_then(wrong_name) {
        entry.invalid("next-hop-interface", why);
    }
    // -1 stands for "the kernel's choice", table 0 for the main one.
    let metric = entry.number("metric", -1, u32::MAX.into()).and_then(|metric| u32::try_from(metric).ok());
    let table = entry.number_as::<u32>("table-id", 0, u32::MAX.into());
    // Of one to be absent, no table is every table.
    let table = if absent && table == Some(0) { Some(MAIN_TABLE) } else { table.filter(|table| *table != 0) };
    let weight = entry.number_as("weight", 1, 256);
    if let (Some(to), Some(via)) = (destination, gateway)
        && to.addr().is_ipv4() != via.is_ipv4()
    {
        entry.invalid("next-hop-address", format!("{via} and {to} are of different families"));
    }
    entry.finish();
    Some(Route {
        absent,
        destination: destination.map(|net| net.trunc()),
        gateway,
        interface,
        metric,
        table,
        weight,
    })
}
