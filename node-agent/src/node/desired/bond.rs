//! The section `link-aggregation` of a bond.

use octavia_bridge_netlink::{BondOption, BondOptions};
use serde_json::Value;

use super::Kind;
use super::field::Fields;
use super::section::port_names;

/// Milliseconds between two looks at the links if the policy says nothing of it. With the kernel's 0 a bond notices no
/// failure; NetworkManager has the same.
const MIIMON: &str = "100";

pub(super) fn read(mut bond: Fields<'_>) -> Kind {
    let mut options = BondOptions::new();
    take(&mut bond, "mode", "mode", &mut options);
    let ports = port_names(&mut bond);
    if let Some(mut section) = bond.object("options") {
        for option in BondOption::all().iter().filter(|option| option.name != "mode") {
            take(&mut section, option.name, option.name, &mut options);
        }
        // One counter of the kernel's by two names.
        take(&mut section, "num_unsol_na", "num_grat_arp", &mut options);
        for key in ["balance_slb", "balance-slb"] {
            section.only_false(key, "leave it out");
        }
        section.only_true("lacp_active", "leave it out");
        section.only_empty("ns_ip6_target", "leave it out; arp_ip_target or miimon watches the links");
        check(&section, &options, ports.as_deref());
        section.finish();
    }
    if bond.take("ports-config").is_some() {
        bond.unsupported("ports-config", "not supported; list the ports under port");
    }
    bond.finish();
    Kind::Bond { options, ports }
}

fn take(fields: &mut Fields<'_>, key: &str, name: &str, options: &mut BondOptions) {
    let Some(option) = BondOption::named(name) else { return };
    let text = match fields.take(key) {
        None => return,
        Some(Value::String(text)) => text,
        // nmstate's other name for it.
        Some(value) => value.to_string(),
    };
    let text = if name == "mode" && text == "lacp" { "802.3ad".to_owned() } else { text };
    match option.parse(&text) {
        Err(why) => fields.invalid(key, why),
        Ok(value) => {
            let other = options.insert(name.to_owned(), value.clone());
            if let Some(other) = other.filter(|other| *other != value) {
                fields
                    .invalid(key, format!("{value} contradicts {name}, which is {other}; write one of them"));
            }
        }
    }
}

/// What the kernel would refuse, or change to another value.
fn check(section: &Fields<'_>, options: &BondOptions, ports: Option<&[String]>) {
    let number = |name: &str| options.get(name).and_then(|text| text.parse::<u32>().ok()).unwrap_or_default();
    if let Some(mode) = options.get("mode") {
        for (name, value) in options {
            let Some(option) = BondOption::named(name) else { continue };
            if !option.is_of(mode) && value != option.default {
                section.invalid(name, format!("a bond of mode {mode} has no such option; leave it out"));
            }
        }
    }
    if number("arp_interval") > 0 && number("miimon") > 0 {
        section
            .invalid("arp_interval", "a bond watches its links by ARP or by miimon; leave one of them out");
    }
    if number("arp_interval") > 0 && options.get("arp_ip_target").is_none_or(String::is_empty) {
        section.invalid("arp_ip_target", "missing; ARP needs an address to ask for");
    }
    let miimon = number_of(&effective(options), "miimon");
    for name in ["updelay", "downdelay"] {
        let delay = number(name);
        if delay > 0 && (miimon == 0 || delay % miimon != 0) {
            section.invalid(name, format!("{delay} is not a multiple of miimon, which is {miimon}"));
        }
    }
    if let (Some(primary), Some(ports)) = (options.get("primary"), ports)
        && !primary.is_empty()
        && !ports.contains(primary)
    {
        section.invalid("primary", format!("{primary} is not one of the bond's ports"));
    }
}

fn number_of(options: &BondOptions, name: &str) -> u32 {
    options.get(name).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// All options that a bond of ours has: those of the policy, and the kernel's defaults. Options that its mode has not are
/// left out.
pub(crate) fn effective(stated: &BondOptions) -> BondOptions {
    let mut all = stated.clone();
    let mode = stated.get("mode").cloned().unwrap_or_default();
    let by_arp = number_of(stated, "arp_interval") > 0;
    for option in BondOption::all().iter().filter(|option| option.name != "mode") {
        if !mode.is_empty() && !option.is_of(&mode) {
            all.remove(option.name);
            continue;
        }
        let default = if option.name == "miimon" && !by_arp { MIIMON } else { option.default };
        all.entry(option.name.to_owned()).or_insert_with(|| default.to_owned());
    }
    all
}

/// Whether the bond's hardware address is always that of its active port.
pub(crate) fn follows_its_port(options: &BondOptions) -> bool {
    let is = |name: &str, value: &str| options.get(name).is_some_and(|now| now == value);
    is("mode", "active-backup") && is("fail_over_mac", "active")
}
