//! The present state in nmstate's words, such that planning it changes nothing.

use ipnet::IpNet;
use octavia_bridge_netlink::{BondOption, BondOptions};
use serde_json::{Map, Value, json};

use super::desired::{follows_its_port, options, port_vlan};
use super::marker;
use super::observed::{Kind, Link, MAIN_TABLE, Observed, Route};

/// A bare desired state. Links of sorts that a policy cannot describe here are left out, and so are the
/// pods' veths, with the routes to them: they are the business of CNI plugins, and a node has hundreds.
pub(crate) fn state(observed: &Observed) -> Value {
    let interfaces: Vec<Value> =
        observed.links.iter().filter_map(|(name, link)| interface(observed, name, link)).collect();
    let mut routes = Vec::new();
    for route in observed.routes.iter().filter(|route| can_be_described(observed, route)) {
        routes.extend(entries(route));
    }
    json!({ "interfaces": interfaces, "routes": { "config": routes } })
}

fn interface(observed: &Observed, name: &str, link: &Link) -> Option<Value> {
    if matches!(link.kind, Kind::Other(_)) || is_pods(observed, name, link) {
        return None;
    }
    // A policy cannot say this of the loopback.
    if link.kind == Kind::Loopback && !link.up {
        return None;
    }
    let mut entry = Map::new();
    let mut put = |key: &str, value: Value| drop(entry.insert(key.to_owned(), value));
    put("name", json!(name));
    if let Some(text) = marker::description(link.alias.as_deref()) {
        put("description", json!(text));
    }
    put("type", json!(link.kind.word()));
    put("state", json!(if link.up { "up" } else { "down" }));
    put("mtu", json!(link.mtu));
    let has_own_mac = match &link.kind {
        Kind::Loopback => false,
        Kind::Bond { options } => !follows_its_port(options),
        _ => true,
    };
    if let Some(mac) = link.mac.as_ref().filter(|_| has_own_mac) {
        put("mac-address", json!(mac));
    }
    match &link.kind {
        // A VLAN whose base is in another namespace cannot be described.
        Kind::Vlan { base, .. } if base.is_empty() => return None,
        Kind::Vlan { base, id } => {
            let mut vlan =
                Map::from_iter([("base-iface".to_owned(), json!(base)), ("id".to_owned(), json!(id))]);
            options::OF_VLAN.show(&link.options, &mut vlan);
            options::show_registration(&link.options, &mut vlan);
            put("vlan", Value::Object(vlan));
        }
        Kind::Bridge { stp } => {
            let ports: Vec<Value> =
                declared_ports(observed, name).map(|port| port_of(observed, port)).collect();
            let mut tree = Map::from_iter([("enabled".to_owned(), json!(stp))]);
            if *stp {
                options::OF_STP.show(&link.options, &mut tree);
            }
            let mut stated = Map::from_iter([("stp".to_owned(), Value::Object(tree))]);
            options::OF_BRIDGE.show(&link.options, &mut stated);
            put("bridge", json!({ "options": stated, "port": ports }));
        }
        Kind::Vrf { table } => {
            let ports: Vec<&str> = declared_ports(observed, name).collect();
            put("vrf", json!({ "port": ports, "route-table-id": table }));
        }
        Kind::Bond { options } => {
            let ports: Vec<&str> = declared_ports(observed, name).collect();
            put("link-aggregation", aggregation(options, &ports));
        }
        Kind::Ethernet | Kind::Loopback | Kind::Other(_) => {}
    }
    // What a port of a bridge or bond may have of addresses does not work, and no policy may ask for it.
    let master = link.master.as_ref().and_then(|master| observed.links.get(master));
    if master.is_some_and(|master| master.kind.takes_frames()) {
        return Some(Value::Object(entry));
    }
    let mut put = |key: &str, value: Value| drop(entry.insert(key.to_owned(), value));
    let mut addresses: Vec<&IpNet> =
        link.addresses.iter().filter(|one| one.stays()).map(|one| &one.net).collect();
    addresses.sort();
    let of_family =
        |v4: bool| addresses.iter().copied().filter(move |net| net.addr().is_ipv4() == v4).map(address);
    let ipv4: Vec<Value> = of_family(true).collect();
    put(
        "ipv4",
        if ipv4.is_empty() {
            json!({ "enabled": false })
        } else {
            json!({ "enabled": true, "address": ipv4 })
        },
    );
    if let Some(settings) = link.ipv6 {
        let addresses: Vec<Value> = of_family(false).collect();
        let block = if settings.disabled {
            json!({ "enabled": false })
        } else {
            let mut block = json!({ "enabled": true, "address": addresses });
            // Neither is true of 1 where the node forwards packets: it is not 0, and routers are not heard.
            if settings.accept_ra == settings.hears_routers() {
                block["autoconf"] = json!(settings.accept_ra);
            }
            block
        };
        put("ipv6", block);
    }
    Some(Value::Object(entry))
}

/// The mode of a bond, its options without those that only other modes have, and its ports.
fn aggregation(options: &BondOptions, ports: &[&str]) -> Value {
    let mode = options.get("mode").map_or("", String::as_str);
    let mut values = Map::new();
    for (name, text) in options.iter().filter(|(name, _)| *name != "mode") {
        if BondOption::named(name).is_some_and(|option| option.is_of(mode)) && !text.is_empty() {
            let number = text.parse::<u64>().map(Value::from);
            let value = number.or_else(|_| text.parse::<bool>().map(Value::from));
            values.insert(name.clone(), value.unwrap_or_else(|_| json!(text)));
        }
    }
    json!({ "mode": mode, "options": values, "port": ports })
}

/// Whether a policy can say all that the route is, and it does not lead to a pod.
fn can_be_described(observed: &Observed, route: &Route) -> bool {
    let to_pod = |name: &String| observed.links.get(name).is_some_and(|link| is_pods(observed, name, link));
    route.hops.iter().all(|hop| !hop.onlink && !to_pod(&hop.link))
        && route.source.is_none()
        && route.mtu.is_none()
        && route.detail.is_none()
}

/// The node's end of a pod's veth pair, which no policy describes: no VLAN on it, no address. The plugin's are ports of a bridge, by
/// a name that begins with `veth`. Those of other CNI plugins have any name, and are ports of nothing or of an Open vSwitch.
fn is_pods(observed: &Observed, name: &str, link: &Link) -> bool {
    let master = link.master.as_ref().and_then(|master| observed.links.get(master));
    let leads_away = match master.map(|master| &master.kind) {
        None | Some(Kind::Other(_)) => link.leads_away,
        Some(_) => false,
    };
    link.kind == Kind::Ethernet
        && link.addresses.is_empty()
        && (leads_away || link.master.is_some() && name.starts_with("veth"))
        && observed.vlans_on(name).next().is_none()
}

fn port_of(observed: &Observed, name: &str) -> Value {
    let mut port = Map::from_iter([("name".to_owned(), json!(name))]);
    let link = &observed.links[name];
    options::OF_PORT.show(&link.options, &mut port);
    if observed.filters_port(name)
        && let Some(section) = port_vlan::show(&link.vlans)
    {
        port.insert("vlan".to_owned(), section);
    }
    Value::Object(port)
}

fn declared_ports<'a>(observed: &'a Observed, master: &'a str) -> impl Iterator<Item = &'a str> {
    observed.ports(master).filter(|port| {
        let link = &observed.links[*port];
        !matches!(link.kind, Kind::Other(_)) && !is_pods(observed, port, link)
    })
}

fn address(net: &IpNet) -> Value {
    json!({ "ip": net.addr(), "prefix-length": net.prefix_len() })
}

/// One entry for each next hop, as nmstate writes them.
fn entries(route: &Route) -> Vec<Value> {
    let several = route.hops.len() > 1;
    let mut entries = Vec::new();
    for hop in &route.hops {
        let mut entry = Map::new();
        entry.insert("destination".into(), json!(route.destination));
        entry.insert("next-hop-interface".into(), json!(hop.link));
        if let Some(gateway) = hop.gateway {
            entry.insert("next-hop-address".into(), json!(gateway));
        }
        entry.insert("metric".into(), json!(route.metric));
        if route.table != MAIN_TABLE {
            entry.insert("table-id".into(), json!(route.table));
        }
        if several {
            entry.insert("weight".into(), json!(hop.weight));
        }
        entries.push(Value::Object(entry));
    }
    entries
}
