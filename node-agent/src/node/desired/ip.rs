//! The blocks `ipv4` and `ipv6`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::Ip;
use super::field::Fields;
use super::problem::Findings;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Reads one block; `None` if the interface has none.
pub(crate) fn read(interface: &mut Fields<'_>, family: Family) -> Option<Ip> {
    let (key, bits) = if family == Family::V4 { ("ipv4", 32) } else { ("ipv6", 128) };
    let mut block = interface.object(key)?;
    let enabled = block.boolean("enabled");
    if block.boolean("dhcp") == Some(true) {
        block.unsupported("dhcp", "true: not supported, only static addresses are");
    }
    let autoconf = if family == Family::V6 { block.boolean("autoconf") } else { None };
    let addresses = block.list("address").map(|items| {
        let findings = block.findings();
        items.into_iter().filter_map(|(path, item)| address(path, item, family, bits, findings)).collect()
    });
    if enabled == Some(false) && addresses.as_ref().is_some_and(|list: &Vec<_>| !list.is_empty()) {
        block.invalid("address", format!("{key} is not enabled, so it can have no address"));
    }
    block.finish();
    Some(Ip { enabled, addresses, autoconf })
}

fn address(path: String, value: Value, family: Family, bits: i64, findings: &Findings) -> Option<IpNet> {
    let mut entry = Fields::new(path, value, findings)?;
    let ip = entry.parsed::<IpAddr>("ip", "IP address");
    if ip.is_some_and(|ip| ip.is_ipv4() != (family == Family::V4)) {
        entry.invalid("ip", "an address of the other family");
    }
    let length = entry.number_as::<u8>("prefix-length", 0, bits);
    if length.is_none() {
        entry.invalid("prefix-length", "missing or wrong");
    }
    entry.finish();
    IpNet::new(ip?, length?).ok()
}
