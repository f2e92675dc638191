//! The bridges of a policy that is not in force, as far as they can be told: the plugin waits for them, too, since one that
//! it makes for a pod would have no uplink.
//!
//! A refused policy may be wrong in any way, so nothing is demanded of it here, and what does not look like a bridge is
//! passed over.

use std::collections::BTreeMap;

use octavia_bridge_netlink::validate_link_name;
use serde_json::Value;

use crate::node::desired::{self, Text};

/// Most bridges and most ports of one that are told.
const MOST: usize = 256;

/// Each bridge that the policy wants to be up, with its ports.
pub(super) fn bridges(text: &Text) -> BTreeMap<String, Vec<String>> {
    // A policy's text is JSON, see `Candidate::new`.
    let document: Value = serde_json::from_str(&text.yaml).unwrap_or_default();
    let mut bridges = BTreeMap::new();
    for entry in list(&document["spec"]["desiredState"]["interfaces"]) {
        let is_up = matches!(entry["state"].as_str(), None | Some("up"));
        if entry["type"] != "linux-bridge" || !is_up || bridges.len() == MOST {
            continue;
        }
        let mut ports = Vec::new();
        // nmstate accepts both spellings.
        for key in ["port", "ports"] {
            let listed = list(&entry["bridge"][key]).iter().filter_map(name);
            ports.extend(listed.take(MOST - ports.len()));
        }
        bridges.extend(name(entry).map(|name| (name, ports)));
    }
    bridges
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn name(entry: &Value) -> Option<String> {
    desired::name(entry["name"].clone()).ok().filter(|name| validate_link_name(name).is_ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_else_is_wrong_bridges_are_found() {
        let found = |interfaces: Value| {
            let yaml = json!({"spec": {"desiredState": {"interfaces": interfaces}}}).to_string();
            bridges(&Text { origin: "policy octavia".into(), yaml })
        };
        let wanted = BTreeMap::from([("octbr".to_owned(), vec!["enp6s0.24".to_owned()])]);
        let octbr = json!({"name": "octbr", "type": "linux-bridge", "mtu": {}, "bridge": {"port": [{"name": "enp6s0.24"}, 7, {}]}});
        let bond = json!({"name": "bond0", "type": "bond"});
        let gone = json!({"name": "old", "type": "linux-bridge", "state": "absent"});
        let captured = json!({"name": "{{ capture.nic }} bridge", "type": "linux-bridge"});
        assert_eq!(found(json!([octbr, bond, gone, captured, 1, null])), wanted);
        let numbers =
            json!([{"name": 12, "type": "linux-bridge", "bridge": {"ports": [{"name": 7}, {"name": 1.5}]}}]);
        assert_eq!(found(numbers), BTreeMap::from([("12".to_owned(), vec!["7".to_owned()])]));
        assert!(found(json!({"name": "octbr"})).is_empty());
        assert!(bridges(&Text { origin: String::new(), yaml: "{".into() }).is_empty());
    }
}
