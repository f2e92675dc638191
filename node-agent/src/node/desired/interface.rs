//! One entry of `interfaces`.

use octavia_bridge_netlink::validate_link_name;
use serde_json::Value;

use super::field::Fields;
use super::ip;
use super::problem::Findings;
use super::{Interface, Kind, State};
use crate::node::marker;

/// Largest MTU a policy may ask for: that of a VRF. `lo` has 65536.
const MAX_MTU: i64 = 65_575;
/// Smallest MTU an IPv4 link may have (`ETH_MIN_MTU`).
const MIN_MTU: i64 = 68;

pub(crate) fn read(path: String, value: Value, findings: &Findings) -> Option<Interface> {
    let mut fields = Fields::new(path, value, findings)?;
    let name = fields.text("name");
    match &name {
        None => fields.invalid("name", "missing"),
        Some(name) => {
            if let Err(error) = validate_link_name(name) {
                fields.invalid("name", error.to_string());
            }
        }
    }
    let name = name.unwrap_or_default();
    let state = state(&mut fields);
    let kind = kind(&mut fields, &name, state);
    let description = fields.text("description").filter(|text| !text.is_empty());
    if let Some(text) = description.as_ref().filter(|text| text.len() > marker::MAX_DESCRIPTION) {
        let most = marker::MAX_DESCRIPTION;
        fields.invalid(
            "description",
            format!("{} bytes, at most {most} fit into the link's alias", text.len()),
        );
    }
    let interface = Interface {
        kind,
        state,
        description,
        mtu: fields.number_as("mtu", MIN_MTU, MAX_MTU),
        mac: fields.parsed("mac-address", "MAC address"),
        ipv4: ip::read(&mut fields, ip::Family::V4),
        ipv6: ip::read(&mut fields, ip::Family::V6),
        name,
    };
    if interface.mac.is_some_and(|mac| mac.is_multicast() || mac.is_zero()) {
        fields.invalid("mac-address", "a link cannot have a multicast address or the zero address");
    }
    fields.finish();
    Some(interface)
}

fn state(fields: &mut Fields<'_>) -> State {
    match fields.text("state").as_deref() {
        None | Some("up") => State::Up,
        Some("down") => State::Down,
        Some("absent") => State::Absent,
        Some("ignore") => State::Ignore,
        Some(other) => {
            fields.invalid("state", format!("{other:?} is none of up, down, absent, ignore"));
            State::Ignore
        }
    }
}

/// The sort of link and its own section. Without `type` the section tells it, as people expect who
/// forget it; a section of another sort than `type` is left over and so refused by name.
fn kind(fields: &mut Fields<'_>, name: &str, state: State) -> Option<Kind> {
    let stated = fields.text("type");
    let vlan = fields.take("vlan");
    let bridge = fields.take("bridge");
    let vrf = fields.take("vrf");
    let implied = match (&vlan, &bridge, &vrf) {
        (Some(_), None, None) => Some("vlan"),
        (None, Some(_), None) => Some("linux-bridge"),
        (None, None, Some(_)) => Some("vrf"),
        _ if name == "lo" => Some("loopback"),
        _ => None,
    };
    let sort = stated.as_deref().filter(|sort| *sort != "unknown").or(implied);
    for (section, value, owner) in
        [("vlan", &vlan, "vlan"), ("bridge", &bridge, "linux-bridge"), ("vrf", &vrf, "vrf")]
    {
        if value.is_some() && sort != Some(owner) {
            let sort = sort.unwrap_or("unknown");
            fields.invalid(section, format!("an interface of type {sort} has no such section"));
        }
    }
    Some(match sort? {
        "ethernet" | "veth" => Kind::Ethernet,
        "loopback" => Kind::Loopback,
        "vlan" => {
            // Without the section, the link that exists may tell its id. nmstate refuses a section without one.
            let needs_id = vlan.is_some() && matches!(state, State::Up | State::Down);
            read_vlan(section(fields, "vlan", vlan)?, needs_id)
        }
        "linux-bridge" => read_bridge(section(fields, "bridge", bridge)?),
        "vrf" => read_vrf(section(fields, "vrf", vrf)?),
        other => {
            fields.unsupported("type", format!("{other}: not supported"));
            return None;
        }
    })
}

fn section<'a>(fields: &Fields<'a>, key: &str, value: Option<Value>) -> Option<Fields<'a>> {
    Fields::new(fields.path(key), value.unwrap_or_default(), fields.findings())
}

fn read_vlan(mut vlan: Fields<'_>, needs_id: bool) -> Kind {
    let base = link_name(&mut vlan, "base-iface");
    if vlan.take_if_absent("id") && needs_id {
        vlan.invalid("id", "missing; write a VLAN id, 1 to 4094");
    }
    // 0 and 4095 are reserved by IEEE 802.1Q.
    let id = vlan.number_as("id", 1, 4094);
    if let Some(protocol) = vlan.text("protocol").filter(|protocol| protocol != "802.1q") {
        vlan.unsupported("protocol", format!("{protocol}: not supported, only 802.1q is"));
    }
    vlan.finish();
    Kind::Vlan { base, id }
}

fn read_bridge(mut bridge: Fields<'_>) -> Kind {
    let mut stp = None;
    if let Some(mut options) = bridge.object("options") {
        if let Some(mut section) = options.object("stp") {
            stp = section.boolean("enabled");
            section.finish();
        }
        options.finish();
    }
    // nmstate accepts both spellings.
    let key = if bridge.take_if_absent("port") { "ports" } else { "port" };
    let ports = bridge.list(key).map(|items| {
        let findings = bridge.findings();
        items.into_iter().filter_map(|(path, item)| bridge_port(path, item, findings)).collect()
    });
    bridge.finish();
    Kind::Bridge { ports, stp }
}

fn bridge_port(path: String, value: Value, findings: &Findings) -> Option<String> {
    let mut port = Fields::new(path, value, findings)?;
    let name = link_name(&mut port, "name");
    if name.is_none() {
        port.invalid("name", "missing or wrong");
    }
    // `vlan: {}` says "no VLAN filtering", which is what a bridge made here has anyway.
    if let Some(vlan) = port.object("vlan") {
        vlan.finish();
    }
    port.finish();
    name
}

fn read_vrf(mut vrf: Fields<'_>) -> Kind {
    let table = vrf.number_as("route-table-id", 1, u32::MAX.into());
    let key = if vrf.take_if_absent("port") { "ports" } else { "port" };
    let ports = vrf.list(key).map(|items| {
        let findings = vrf.findings();
        let name = |(path, item): (String, Value)| match item.as_str().map(validate_link_name) {
            Some(Ok(())) => item.as_str().map(ToOwned::to_owned),
            Some(Err(error)) => {
                findings.invalid(path, error.to_string());
                None
            }
            None => {
                findings.invalid(path, "must be the name of an interface");
                None
            }
        };
        items.into_iter().filter_map(name).collect()
    });
    vrf.finish();
    Kind::Vrf { ports, table }
}

fn link_name(fields: &mut Fields<'_>, key: &str) -> Option<String> {
    let name = fields.text(key)?;
    if let Err(error) = validate_link_name(&name) {
        fields.invalid(key, error.to_string());
        return None;
    }
    Some(name)
}
