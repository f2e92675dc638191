//! Mistakes of the keys beside `ipam`, which the operator does not read.

use serde_json::Value;

use super::mistakes::{Findings, Known};
use crate::document::{FieldError, Object, looks_like};

/// Plugins that attach pods to a bridge.
const BRIDGES: [&str; 2] = ["octavia-bridge", "bridge"];
/// Plugins whose interface in the Open vSwitch pod takes only frames for its own MAC address.
const NOT_BRIDGEABLE: [&str; 3] = ["macvlan", "ipvlan", "host-device"];

/// Keys beside `ipam`.
pub(super) fn check(root: &mut Object<'_>, known: &Known<'_>, found: &mut Findings) {
    let is_bridge = kind(root, found);
    for (key, why) in [
        ("portIsolation", "isolates pods from the router in the Open vSwitch pod of their node"),
        ("macspoofchk", "drops the router's frames, whose MAC address is not the Open vSwitch pod's"),
    ] {
        match root.bool(key) {
            Ok(Some(true)) => {
                found.error(FieldError::json(key, &Value::Bool(true), format!("{why}; remove it")));
            }
            Ok(_) => {}
            Err(error) => found.error(error),
        }
    }
    if let Some(value) = root.value("vlan").filter(|value| value.as_i64() != Some(0)) {
        let remedy = "tags frames that the policy's VLAN interface tags again; remove it";
        found.error(FieldError::json("vlan", value, remedy));
    }
    if !is_bridge {
        return;
    }
    let Some(bridge) = text(root, "bridge", found) else { return };
    if bridge.is_empty() {
        let remedy = "is missing, so pods get the bridge cni0 of their node only; write the policy's bridge, like octbr";
        found.error(FieldError::missing("bridge", remedy));
    } else if let Some(bridges) = &known.surroundings.bridges
        && !bridges.contains(bridge)
    {
        let names = match bridges.len() {
            0 => "none".to_owned(),
            _ => bridges.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
        };
        let remedy = format!(
            "is not a bridge of any policy, so no uplink joins the nodes unless each node's own files make it; write one of theirs \
             ({names}), or add a policy"
        );
        found.warning(FieldError::text("bridge", bridge, remedy));
    }
}

/// The text at `key`, empty if absent; `None` for another value, which is a mistake.
fn text<'a>(object: &mut Object<'a>, key: &str, found: &mut Findings) -> Option<&'a str> {
    match object.string(key) {
        Ok(text) => Some(text.unwrap_or_default()),
        Err(error) => {
            found.error(error);
            None
        }
    }
}

/// `type`; returns whether it is a bridge plugin's, perhaps misspelt.
fn kind(root: &mut Object<'_>, found: &mut Findings) -> bool {
    let Some(kind) = text(root, "type", found) else { return true };
    if BRIDGES.contains(&kind) {
        return true;
    }
    if kind.is_empty() {
        found.error(FieldError::missing("type", "is missing; write octavia-bridge"));
        return true;
    }
    if NOT_BRIDGEABLE.contains(&kind) {
        let remedy = "does not carry the router's frames into the Open vSwitch pod: ARP resolves and nothing else answers; write \
                      octavia-bridge";
        found.error(FieldError::text("type", kind, remedy));
    } else if let Some(meant) = BRIDGES.iter().find(|bridge| looks_like(kind, bridge)) {
        found.error(FieldError::text("type", kind, format!("is not a plugin; write {meant}")));
        return true;
    } else {
        let remedy = "is not known to carry the router's frames, whose MAC address is not the Open vSwitch pod's; write octavia-bridge";
        found.warning(FieldError::text("type", kind, remedy));
    }
    false
}
