//! The bridges of a text that is not in force, as far as they can be told: the plugin waits for them, too, since one that
//! it makes for a pod would have no uplink.
//!
//! A refused text may be wrong in any way, so nothing is demanded of it here, and what does not look like a bridge is
//! passed over.

use std::collections::BTreeMap;

use octavia_bridge_netlink::validate_link_name;
use serde_json::Value;

use super::field::Fields;
use super::problem::Findings;
use super::{Choice, Text, documents, name as link_name};

/// Most bridges and most ports of one that are told.
const MOST: usize = 256;

/// Each bridge that the text wants to be up on a node of this choice, with its ports.
pub(crate) fn bridges(text: &Text, choice: &Choice) -> BTreeMap<String, Vec<String>> {
    // A policy of the cluster is JSON.
    let documents = match serde_json::from_str(&text.yaml) {
        Ok(document) => vec![document],
        Err(_) => documents(&text.yaml).unwrap_or_default(),
    };
    let mut bridges = BTreeMap::new();
    for document in &documents {
        let items = list(&document["items"]);
        for state in items.iter().chain([document]).filter_map(|document| state(document, choice)) {
            add(&mut bridges, state);
        }
    }
    bridges
}

/// The state of a document; `None` for a policy of other nodes.
fn state<'a>(document: &'a Value, choice: &Choice) -> Option<&'a Value> {
    let spec = &document["spec"];
    if let Some(selector) = spec.get("nodeSelector").filter(|selector| !selector.is_null()) {
        let findings = Findings::default();
        let fields = Fields::new(String::new(), Value::Null, &findings)?;
        if choice.rejects(Some(selector.clone()), &fields).is_some() {
            return None;
        }
    }
    let places = [&spec["desiredState"], &document["desiredState"]];
    Some(places.into_iter().find(|state| state.is_object()).unwrap_or(document))
}

fn add(bridges: &mut BTreeMap<String, Vec<String>>, state: &Value) {
    for entry in list(&state["interfaces"]) {
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
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn name(entry: &Value) -> Option<String> {
    link_name(entry["name"].clone()).ok().filter(|name| validate_link_name(name).is_ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_else_is_wrong_bridges_are_found() {
        let found = |interfaces: Value| {
            let yaml = json!({"spec": {"desiredState": {"interfaces": interfaces}}}).to_string();
            bridges(&Text { origin: "policy octavia".into(), yaml }, &Choice::default())
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
        assert!(of("{").is_empty());
    }

    fn of(yaml: &str) -> String {
        let choice = Choice { labels: vec!["role=worker".parse().unwrap()], ..Choice::default() };
        let text = Text { origin: "octavia.yaml".into(), yaml: yaml.into() };
        bridges(&text, &choice).into_keys().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_form_of_a_file_is_read_and_policies_of_other_nodes_are_not() {
        let state =
            |name: &str| format!("{{interfaces: [{{name: {name}, type: linux-bridge}}], unknown: 1}}");
        let policy = |name: &str, role: &str| {
            format!("{{spec: {{nodeSelector: {{role: {role}}}, desiredState: {}}}}}", state(name))
        };
        assert_eq!(of(&state("br-a")), "br-a");
        assert_eq!(of(&format!("desiredState: {}\n---\n{}", state("br-a"), state("br-b"))), "br-a br-b");
        assert_eq!(of(&format!("{}\n---\n{}", policy("br-a", "worker"), policy("br-b", "other"))), "br-a");
        assert_eq!(of(&format!("{{kind: List, items: [7, {}]}}", policy("br-a", "worker"))), "br-a");
    }
}
