//! One entry of `interfaces`.

use octavia_bridge_netlink::{MacAddress, validate_link_name};
use serde_json::Value;

use super::alternative::wrong_name;
use super::field::Fields;
use super::problem::Findings;
use super::section::{self, Read};
use super::{Interface, Kind, State, bond, common, follows_its_port, ip};
use crate::node::marker;

/// The known values of `type`.
const SORTS: [&str; 7] = ["ethernet", "veth", "loopback", "vlan", "linux-bridge", "bond", "vrf"];
/// Smallest MTU an IPv4 link may have (`ETH_MIN_MTU`).
const MIN_MTU: i64 = 68;

/// `None` for an entry that is not understood, and for one to be ignored that cannot be a link of the kernel's.
pub(crate) fn read(path: String, value: Value, findings: &Findings) -> Option<Interface> {
    if value["state"] != "ignore" {
        return read_entry(path, value, findings);
    }
    // It asks for nothing, so nothing of it can be wrong. It still tells what stands on what.
    let unheard = Findings::default();
    let entry = read_entry(path, value, &unheard)?;
    validate_link_name(&entry.name).is_ok().then_some(entry)
}

fn read_entry(path: String, value: Value, findings: &Findings) -> Option<Interface> {
    let mut fields = Fields::new(path, value, findings)?;
    fields.needs("name");
    let name = fields.name("name").unwrap_or_default();
    let state = state(&mut fields);
    let stated = fields.text("type").filter(|sort| sort != "unknown");
    if let Some(other) = stated.as_deref().filter(|sort| !SORTS.contains(sort)) {
        // It has keys of its own, and need not be a link of the kernel's: other rules hold for its name.
        fields.unsupported("type", format!("{other}: not supported"));
        return None;
    }
    if !name.is_empty()
        && let Some(why) = wrong_name(&name)
    {
        fields.invalid("name", why);
    }
    let sort = kind(&mut fields, stated.as_deref(), &name, state);
    let (kind, options, port_options, port_vlans) = match sort {
        Some(Read { kind, options, port_options, port_vlans }) => {
            (Some(kind), options, port_options, port_vlans)
        }
        None => Default::default(),
    };
    common::read(&mut fields);
    let description = fields.text("description").filter(|text| !text.is_empty());
    if let Some(text) = description.as_ref().filter(|text| text.len() > marker::MAX_DESCRIPTION) {
        let most = marker::MAX_DESCRIPTION;
        fields.invalid(
            "description",
            format!("{} bytes, at most {most} fit into the link's alias", text.len()),
        );
    }
    let max_mtu = max_mtu(kind.as_ref());
    // Such as nmstate shows it.
    let is_loopback = name == "lo";
    let interface = Interface {
        kind,
        state,
        description,
        mtu: fields.number_as("mtu", MIN_MTU, max_mtu),
        mac: fields
            .parsed("mac-address", "MAC address")
            .filter(|mac: &MacAddress| !mac.is_zero() || !is_loopback),
        ipv4: ip::read(&mut fields, ip::Family::V4),
        ipv6: ip::read(&mut fields, ip::Family::V6),
        options,
        port_options,
        port_vlans,
        name,
    };
    // Programs of the node, kubelet among them, reach each other by it.
    if interface.name == "lo" && matches!(state, State::Down | State::Absent) {
        fields.invalid("state", "lo is always up; leave this out");
    }
    if interface.mac.is_some_and(|mac| mac.is_multicast() || mac.is_zero()) {
        fields.invalid("mac-address", "a link cannot have a multicast address or the zero address");
    }
    if interface.mac.is_some()
        && let Some(Kind::Bond { options, .. }) = &interface.kind
        && follows_its_port(options)
    {
        let text = "with fail_over_mac active a bond has its active port's address; leave it out";
        fields.invalid("mac-address", text);
    }
    fields.finish();
    Some(interface)
}

/// Largest MTU that the kernel gives to a link of this sort: `ETH_MAX_MTU`, and for a VRF `IP6_MAX_MTU`. `lo` has one byte more
/// than the former; what an existing link is shows later.
fn max_mtu(kind: Option<&Kind>) -> i64 {
    match kind {
        Some(Kind::Ethernet | Kind::Vlan { .. } | Kind::Bridge { .. } | Kind::Bond { .. }) => 65_535,
        Some(Kind::Loopback) => 65_536,
        Some(Kind::Vrf { .. }) | None => 65_575,
    }
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
fn kind(fields: &mut Fields<'_>, stated: Option<&str>, name: &str, state: State) -> Option<Read> {
    let vlan = fields.take("vlan");
    let bridge = fields.take("bridge");
    let vrf = fields.take("vrf");
    let bond = fields.take("link-aggregation");
    let ethernet = fields.take("ethernet");
    let implied = match (&vlan, &bridge, &vrf, &bond) {
        (None, None, None, None) if ethernet.is_some() => Some("ethernet"),
        (Some(_), None, None, None) => Some("vlan"),
        (None, Some(_), None, None) => Some("linux-bridge"),
        (None, None, Some(_), None) => Some("vrf"),
        (None, None, None, Some(_)) => Some("bond"),
        _ if name == "lo" => Some("loopback"),
        _ => None,
    };
    let sort = stated.or(implied);
    for (section, value, owners) in [
        ("vlan", &vlan, &["vlan"][..]),
        ("bridge", &bridge, &["linux-bridge"]),
        ("vrf", &vrf, &["vrf"]),
        ("link-aggregation", &bond, &["bond"]),
        ("ethernet", &ethernet, &["ethernet", "veth"]),
    ] {
        if value.is_some() && !sort.is_some_and(|sort| owners.contains(&sort)) {
            let sort = sort.unwrap_or("unknown");
            fields.invalid(section, format!("an interface of type {sort} has no such section"));
        }
    }
    Some(match sort? {
        "ethernet" | "veth" => {
            section::read_ethernet(section(fields, "ethernet", ethernet)?);
            Kind::Ethernet.into()
        }
        "loopback" => Kind::Loopback.into(),
        "vlan" => {
            // Without the section, the link that exists may tell its id. nmstate refuses a section without one.
            let needs_id = vlan.is_some() && matches!(state, State::Up | State::Down);
            section::read_vlan(section(fields, "vlan", vlan)?, needs_id)
        }
        "linux-bridge" => section::read_bridge(section(fields, "bridge", bridge)?),
        "bond" => bond::read(section(fields, "link-aggregation", bond)?).into(),
        // The last of the known ones.
        _ => section::read_vrf(section(fields, "vrf", vrf)?).into(),
    })
}

fn section<'a>(fields: &Fields<'a>, key: &str, value: Option<Value>) -> Option<Fields<'a>> {
    Fields::new(fields.path(key), value.unwrap_or_default(), fields.findings())
}
