//! Firewalls that drop what goes from one port of a bridge to another.
//!
//! Such frames are the bridge's own affair, unless a table of nftables' family `bridge` sees them, or `br_netfilter` passes
//! them through the tables of IPv4 and IPv6, as kube-proxy wants it. `iptables` makes such tables, or has legacy ones.

mod legacy;
mod walk;

use std::cell::LazyCell;
use std::collections::BTreeSet;

use octavia_bridge_ipam::causes::chain;
use octavia_bridge_netlink::{BridgeOptions, FilterFamily, FilterTable, Link, LinkKind, forward_filters};

use super::Finding;
use super::host::{FILTERS, is_on};
use walk::{Dropped, Way, dropped};

/// For each bridge, the tables that drop frames between its ports, or one finding that none does.
pub(super) async fn look(bridges: &BTreeSet<String>, links: &[Link]) -> Vec<Finding> {
    let tables = match forward_filters().await {
        Ok(tables) => tables,
        Err(error) => {
            return vec![Finding::warn(FILTERS, chain(&error), "see `nft list ruleset` on the host")];
        }
    };
    let by_legacy = [false, true].map(|ipv6| (ipv6, LazyCell::new(move || legacy::rules(ipv6))));
    let mut findings = Vec::new();
    for bridge in links.iter().filter(|link| bridges.contains(&link.name)) {
        let LinkKind::Bridge(options) = &bridge.kind else { continue };
        let called = Called::now(options);
        let mut found = judge(&tables, bridge, links, called);
        for (ipv6, rules) in &by_legacy {
            let applies = if *ipv6 { called.ipv6 } else { called.ipv4 };
            if applies && let Some(rules) = &**rules {
                found.extend(legacy::look(&Way { bridge, ports: None, ipv6: *ipv6 }, rules));
            }
        }
        if found.is_empty() {
            let text = format!("no firewall drops all frames between ports of {}", bridge.name);
            found.push(Finding::ok(FILTERS, text));
        }
        findings.append(&mut found);
    }
    findings
}

/// Whether frames of the bridge pass the tables of IPv4 and IPv6.
#[derive(Clone, Copy, Debug)]
struct Called {
    ipv4: bool,
    ipv6: bool,
}

impl Called {
    fn now(options: &BridgeOptions) -> Self {
        Self {
            ipv4: options.nf_call_iptables == Some(true) || is_on("bridge/bridge-nf-call-iptables"),
            ipv6: options.nf_call_ip6tables == Some(true) || is_on("bridge/bridge-nf-call-ip6tables"),
        }
    }
}

fn judge(tables: &[FilterTable], bridge: &Link, links: &[Link], called: Called) -> Vec<Finding> {
    let mut ports = Vec::new();
    for link in links {
        if link.master == Some(bridge.index) {
            ports.push(link);
        }
    }
    let mut findings = Vec::new();
    for table in tables {
        let mut ways = Vec::new();
        if table.family == FilterFamily::Bridge {
            ways.push(Way { bridge, ports: Some(&ports), ipv6: false });
        } else {
            if called.ipv4 && table.family != FilterFamily::Ip6 {
                ways.push(Way { bridge, ports: None, ipv6: false });
            }
            if called.ipv6 && table.family != FilterFamily::Ip {
                ways.push(Way { bridge, ports: None, ipv6: true });
            }
        }
        findings.extend(ways.iter().find_map(|way| Some(in_table(table, way, &dropped(table, way)?))));
    }
    findings
}

fn in_table(table: &FilterTable, way: &Way<'_>, dropped: &Dropped) -> Finding {
    let (family, name, bridge) = (table.family.word(), &table.name, &way.bridge.name);
    let matched = match table.family {
        FilterFamily::Bridge => format!("meta ibrname {bridge}"),
        _ => format!("iifname {bridge} oifname {bridge}"),
    };
    let remedy = format!("nft insert rule {family} {name} {} {matched} accept", dropped.chain);
    finding(&format!("the nftables table {family} {name}"), way, dropped, remedy)
}

fn finding(table: &str, way: &Way<'_>, dropped: &Dropped, remedy: String) -> Finding {
    let Dropped { chain, by, excepted } = dropped;
    let (what, bridge) = (what(way), &way.bridge.name);
    let but = if *excepted { ", but for some that its rules accept" } else { "" };
    let text = format!("chain {chain} of {table} drops {what} between ports of {bridge} ({by}){but}");
    // Networks of IPv4 alone work without IPv6.
    match way.ipv6 || *excepted {
        true => Finding::warn(FILTERS, text, remedy),
        false => Finding::fail(FILTERS, text, remedy),
    }
}

/// What is dropped, with the setting that passes it to the table.
fn what(way: &Way<'_>) -> &'static str {
    match (way.ports, way.ipv6) {
        (Some(_), _) => "frames",
        (None, false) => "IPv4 packets (bridge-nf-call-iptables)",
        (None, true) => "IPv6 packets (bridge-nf-call-ip6tables)",
    }
}
