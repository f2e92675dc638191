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
    let dhcp = block.boolean("dhcp") == Some(true);
    if dhcp {
        block.unsupported("dhcp", "true: not supported, only static addresses are");
    }
    let autoconf = if family == Family::V6 { block.boolean("autoconf") } else { None };
    if family == Family::V4 {
        block.only_false("autoconf", "leave it out; IPv4 has no router advertisements");
    }
    // What DHCP asks for and gives, and what routers give: nothing where there is neither.
    let is_static = !dhcp && autoconf != Some(true);
    read_automatic(&mut block, is_static || dhcp);
    let is_off = enabled == Some(false);
    let forwarding = block.boolean("forwarding");
    if let Some(on) = forwarding.filter(|_| !is_off) {
        let remedy = "leave it out; `sysctl` sets it, and Kubernetes needs it on";
        block.unsupported("forwarding", format!("{on}: not supported; {remedy}"));
    }
    block.only_true("allow-extra-address", "leave it out; `ip address` shows what others have added");
    block.only_word("prefix-route-metric", "-1", "leave it out");
    if family == Family::V6 {
        block.only_word("addr-gen-mode", "eui64", "leave it out, or write eui64");
        block.only_word("token", "::", "leave it out; `ip token` sets it");
    }
    let addresses = block.list("address").map(|items| {
        let findings = block.findings();
        items.into_iter().filter_map(|(path, item)| address(path, item, family, bits, findings)).collect()
    });
    if is_off && addresses.as_ref().is_some_and(|list: &Vec<_>| !list.is_empty()) {
        block.invalid("address", format!("{key} is not enabled, so it can have no address"));
    }
    block.finish();
    Some(Ip { enabled, addresses, autoconf })
}

/// `ignored`: whether nothing is automatic, so that these ask for nothing.
fn read_automatic(block: &mut Fields<'_>, ignored: bool) {
    for key in ["dhcp-client-id", "dhcp-duid", "dhcp-send-hostname", "dhcp-custom-hostname", "auto-dns"] {
        block.take(key);
    }
    let keys = ["auto-gateway", "auto-routes", "auto-route-table-id", "auto-route-metric"];
    if ignored {
        for key in keys {
            block.take(key);
        }
        return;
    }
    let remedy = "leave it out; the kernel takes the addresses and routes of router advertisements together";
    block.only_true("auto-gateway", remedy);
    block.only_true("auto-routes", remedy);
    block.only_word("auto-route-table-id", "0", remedy);
    block.only_word("auto-route-metric", "-1", remedy);
}

/// What nmstate shows of an address, by all its names. One that does not last is another's, and not wished for.
const LIFETIMES: [&str; 6] =
    ["valid-life-time", "valid-left", "valid-lft", "preferred-life-time", "preferred-left", "preferred-lft"];

fn address(path: String, value: Value, family: Family, bits: i64, findings: &Findings) -> Option<IpNet> {
    let mut entry = Fields::new(path, value, findings)?;
    entry.needs("ip");
    entry.needs("prefix-length");
    let ip = entry.parsed::<IpAddr>("ip", "IP address");
    if ip.is_some_and(|ip| ip.is_ipv4() != (family == Family::V4)) {
        entry.invalid("ip", "an address of the other family");
    }
    if let Some(ip) = ip.filter(|ip| ip.is_multicast() || ip.is_unspecified()) {
        entry.invalid("ip", format!("{ip} is not the address of one host"));
    }
    let length = entry.number_as::<u8>("prefix-length", 0, bits);
    let mut lasts = true;
    for key in LIFETIMES {
        lasts &= entry.text(key).is_none_or(|time| time == "forever");
    }
    for key in ["protocol", "mptcp-flags"] {
        entry.take(key);
    }
    entry.finish();
    IpNet::new(ip?, length?).ok().filter(|_| lasts)
}
