//! The sections that only one sort of link has: `vlan`, `bridge`, `vrf`, `ethernet`.

use std::collections::BTreeMap;

use octavia_bridge_netlink::{LinkOption, LinkOptions, VlanRange};
use serde_json::Value;

use super::Kind;
use super::alternative::wrong_name;
use super::field::{Fields, name};
use super::options::{OF_BRIDGE, OF_PORT, OF_STP, OF_VLAN, read_registration};
use super::port_vlan;
use super::problem::Findings;

/// Bits of `group-forward-mask` that the kernel refuses (`BR_GROUPFWD_RESTRICTED`): STP, PAUSE and LACP frames belong to
/// one link.
const NEVER_FORWARDED: u64 = 7;
/// Least `hash-max` beside `multicast-snooping: true`. With more groups than that, the kernel switches snooping off
/// (`br_multicast_new_group`), and keeping it on would switch it back and forth for ever. Each IPv6 address is a group.
const FEWEST_GROUPS: u64 = 512;

/// What a section says.
pub(super) struct Read {
    pub(super) kind: Kind,
    pub(super) options: LinkOptions,
    pub(super) port_options: BTreeMap<String, LinkOptions>,
    pub(super) port_vlans: BTreeMap<String, Vec<VlanRange>>,
}

impl From<Kind> for Read {
    fn from(kind: Kind) -> Self {
        Self { kind, options: LinkOptions::new(), port_options: BTreeMap::new(), port_vlans: BTreeMap::new() }
    }
}

pub(super) fn read_vlan(mut vlan: Fields<'_>, needs_id: bool) -> Read {
    let base = link_name(&mut vlan, "base-iface");
    if vlan.take_if_absent("id") && needs_id {
        vlan.invalid("id", "missing; write a VLAN id, 1 to 4094");
    }
    // 0 and 4095 are reserved by IEEE 802.1Q.
    let id = vlan.number_as("id", 1, 4094);
    vlan.only_word("protocol", "802.1q", "write 802.1q, or leave the key out");
    let mut options = OF_VLAN.read(&mut vlan);
    read_registration(&mut vlan, &mut options);
    for key in ["ingress-qos-map", "egress-qos-map"] {
        vlan.only_empty(key, "leave it out; `ip link set VLAN type vlan` sets such a map");
    }
    vlan.finish();
    Read { options, ..Kind::Vlan { base, id }.into() }
}

pub(super) fn read_bridge(mut bridge: Fields<'_>) -> Read {
    let mut stp = None;
    let mut options = LinkOptions::new();
    if let Some(mut section) = bridge.object("options") {
        if let Some(mut section) = section.object("stp") {
            stp = section.boolean("enabled");
            let stated = OF_STP.read(&mut section);
            // Which then do nothing, and nmstate discards them.
            if stp != Some(false) {
                options.extend(stated);
            }
            section.finish();
        }
        read_options(&mut section, &mut options);
        section.finish();
    }
    // Ports that the policy does not list always stay here: they are pods'.
    bridge.boolean("allow-extra-ports");
    // nmstate accepts both spellings.
    let key = if bridge.take_if_absent("port") { "ports" } else { "port" };
    let (mut port_options, mut port_vlans) = (BTreeMap::new(), BTreeMap::new());
    let ports = bridge.list(key).map(|items| {
        let findings = bridge.findings();
        let mut names = Vec::new();
        for (path, item) in items {
            if let Some((name, options, vlans)) = bridge_port(path, item, findings) {
                if let Some(vlans) = vlans {
                    port_vlans.insert(name.clone(), vlans);
                }
                if !options.is_empty() {
                    port_options.insert(name.clone(), options);
                }
                names.push(name);
            }
        }
        names
    });
    bridge.finish();
    if !port_vlans.is_empty() {
        options.insert(LinkOption::VlanFiltering, 1);
    }
    Read { kind: Kind::Bridge { ports, stp }, options, port_options, port_vlans }
}

fn read_options(section: &mut Fields<'_>, options: &mut LinkOptions) {
    for key in ["gc-timer", "hello-timer"] {
        section.take(key);
    }
    // Two names of one option.
    let other = section.number_as::<u64>("group-fwd-mask", 0, u16::MAX.into());
    options.extend(OF_BRIDGE.read(section));
    if let Some(other) = other {
        let mask = *options.entry(LinkOption::GroupForwardMask).or_insert(other);
        if mask != other {
            section.invalid("group-fwd-mask", format!("{other}, and group-forward-mask says {mask}"));
        }
    }
    let mask = options.get(&LinkOption::GroupForwardMask).copied().unwrap_or_default();
    if mask & NEVER_FORWARDED != 0 {
        let text = format!("{mask} has the bits 1, 2 or 4, for frames that no bridge forwards");
        section.invalid("group-forward-mask", text);
    }
    let few = options.get(&LinkOption::HashMax).filter(|most| **most < FEWEST_GROUPS);
    if let Some(most) = few
        && options.get(&LinkOption::MulticastSnooping) == Some(&1)
    {
        let text = format!(
            "with more groups than {most} the kernel switches multicast-snooping off; write {FEWEST_GROUPS} or more, or leave \
             multicast-snooping out"
        );
        section.invalid("hash-max", text);
    }
    section.only_word("group-addr", "01:80:c2:00:00:00", "leave it out");
    section.only_word("vlan-protocol", "802.1q", "write 802.1q, or leave the key out");
    section.only_word("vlan-default-pvid", "1", "write 1, or leave the key out");
}

/// Its name, its options, and its VLANs if the bridge is to filter them.
type Port = (String, LinkOptions, Option<Vec<VlanRange>>);

fn bridge_port(path: String, value: Value, findings: &Findings) -> Option<Port> {
    let mut port = Fields::new(path, value, findings)?;
    port.needs("name");
    let name = link_name(&mut port, "name");
    let options = OF_PORT.read(&mut port);
    let vlans = port.object("vlan").and_then(port_vlan::read);
    port.finish();
    Some((name?, options, vlans))
}

pub(super) fn read_vrf(mut vrf: Fields<'_>) -> Kind {
    let table = vrf.number_as("route-table-id", 1, u32::MAX.into());
    let ports = port_names(&mut vrf);
    vrf.finish();
    Kind::Vrf { ports, table }
}

/// The list of ports of a section that states nothing of a port but its name. nmstate accepts both spellings of the key.
pub(super) fn port_names(section: &mut Fields<'_>) -> Option<Vec<String>> {
    let key = if section.take_if_absent("port") { "ports" } else { "port" };
    let items = section.list(key)?;
    let findings = section.findings();
    let mut names = Vec::new();
    for (path, item) in items {
        match name(item).and_then(checked) {
            Ok(name) => names.push(name),
            Err(why) => findings.invalid(path, why),
        }
    }
    Some(names)
}

/// Of hardware: only what it has without being told.
pub(super) fn read_ethernet(mut ethernet: Fields<'_>) {
    ethernet.only_true("auto-negotiation", "leave it out; `ethtool -s` switches it off");
    for key in ["speed", "duplex"] {
        if ethernet.take(key).is_some() {
            ethernet.unsupported(key, "not supported; leave it out; `ethtool -s` sets it");
        }
    }
    if let Some(mut functions) = ethernet.object("sr-iov") {
        let remedy = "leave it out; the SR-IOV operator, or sriov_numvfs in /sys, makes virtual functions";
        functions.take("max-vfs");
        functions.only_word("total-vfs", "0", remedy);
        functions.only_true("drivers-autoprobe", remedy);
        functions.only_empty("vfs", remedy);
        functions.finish();
    }
    ethernet.finish();
}

fn link_name(fields: &mut Fields<'_>, key: &str) -> Option<String> {
    let name = fields.name(key)?;
    checked(name).map_err(|why| fields.invalid(key, why)).ok()
}

fn checked(name: String) -> Result<String, String> {
    wrong_name(&name).map_or(Ok(name), Err)
}
