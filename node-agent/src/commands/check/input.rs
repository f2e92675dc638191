//! The objects that a check looks at, from whatever source.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use octavia_bridge_ipam::octavia::{Definition, is_of_octavia};
use serde_json::Value;

/// The operator's `ConfigMap` of predictable addresses.
pub(super) const PREDICTABLE: &str = "octavia-hmport-map";

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Objects {
    definitions: Vec<Subject>,
    /// Whether they are all that the cluster has, and not chosen by the user.
    pub(super) is_of_cluster: bool,
    /// Bridges of policies; `None` without a policy.
    pub(super) bridges: Option<BTreeSet<String>>,
    /// How many nodes the cluster has.
    pub(super) nodes: Option<u128>,
    /// By namespace.
    in_use: BTreeMap<String, Vec<IpAddr>>,
}

/// A network definition of the API.
#[derive(Debug)]
pub(super) struct Subject {
    /// Empty if the object does not say.
    pub(super) namespace: String,
    label: Option<String>,
    pub(super) definition: Definition,
}

impl Subject {
    /// As people call it.
    pub(super) fn title(&self) -> String {
        let name = &self.definition.name;
        match (self.namespace.as_str(), name.as_str()) {
            (_, "") => "network configuration".to_owned(),
            ("", name) => name.to_owned(),
            (namespace, name) => format!("{namespace}/{name}"),
        }
    }
}

impl Objects {
    /// Takes an object, a list of them, a CNI configuration, or a desired state. Other objects are passed over.
    pub(super) fn add(&mut self, object: &Value) {
        let kind = object["kind"].as_str().unwrap_or_default();
        if let (true, Some(items)) = (kind.ends_with("List"), object["items"].as_array()) {
            for item in items {
                self.add(item);
            }
            return;
        }
        match kind {
            "NetworkAttachmentDefinition" => self.add_definition(object),
            "NodeNetworkConfigurationPolicy" => self.add_state(&object["spec"]["desiredState"]),
            "ConfigMap" if object["metadata"]["name"] == PREDICTABLE => self.add_predictable(object),
            "" if object["interfaces"].is_array() => self.add_state(object),
            "" if object["desiredState"].is_object() => self.add_state(&object["desiredState"]),
            // A CNI configuration without an object around it.
            "" if !object["type"].is_null() || !object["plugins"].is_null() => {
                let definition = Definition { config: object.to_string(), ..Definition::default() };
                self.definitions.push(Subject { namespace: String::new(), label: None, definition });
            }
            _ => {}
        }
    }

    fn add_definition(&mut self, object: &Value) {
        let metadata = &object["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut owners = Vec::new();
        for owner in metadata["ownerReferences"].as_array().into_iter().flatten() {
            owners.push(text(&owner["kind"]));
        }
        let definition =
            Definition { name: text(&metadata["name"]), owners, config: text(&object["spec"]["config"]) };
        let label = metadata["labels"]["osp/net"].as_str().map(ToOwned::to_owned);
        self.definitions.push(Subject { namespace: text(&metadata["namespace"]), label, definition });
    }

    fn add_state(&mut self, state: &Value) {
        let bridges = self.bridges.get_or_insert_default();
        for interface in state["interfaces"].as_array().into_iter().flatten() {
            if interface["type"] == "linux-bridge" && interface["state"] != "absent" {
                bridges.extend(interface["name"].as_str().map(ToOwned::to_owned));
            }
        }
    }

    fn add_predictable(&mut self, map: &Value) {
        let namespace = map["metadata"]["namespace"].as_str().unwrap_or_default();
        let in_use = self.in_use.entry(namespace.to_owned()).or_default();
        for (key, value) in map["data"].as_object().into_iter().flatten() {
            if key.starts_with("hm_") || key.starts_with("rsyslog_") {
                in_use.extend(value.as_str().and_then(|text| text.parse::<IpAddr>().ok()));
            }
        }
    }

    /// Predictable addresses in use in a namespace. Objects of files need not say their namespace. A `ConfigMap` without a
    /// namespace counts for every definition. A definition without a namespace gets the only `ConfigMap`; `None` if there are
    /// several.
    pub(super) fn predictable_in_use(&self, namespace: &str) -> Option<Vec<IpAddr>> {
        if namespace.is_empty() && self.in_use.len() > 1 {
            return None;
        }
        let mut in_use = Vec::new();
        for (place, addresses) in &self.in_use {
            if place == namespace || place.is_empty() || namespace.is_empty() {
                in_use.extend(addresses);
            }
        }
        Some(in_use)
    }

    /// Why `place` has no definition to check.
    pub(super) fn nothing(&self, place: &str) -> String {
        match self.definitions.len() {
            0 => format!("no NetworkAttachmentDefinition in {place}"),
            number => format!(
                "none for Octavia among the NetworkAttachmentDefinitions in {place} ({number}): none is called octavia, has the label \
                 osp/net: octavia, or has routes and the bridge of a policy"
            ),
        }
    }

    /// Definitions that are Octavia's. The only one of a file is, whatever its name.
    pub(super) fn subjects(&self) -> Vec<&Subject> {
        let none = BTreeSet::new();
        let bridges = self.bridges.as_ref().unwrap_or(&none);
        let mut chosen = Vec::new();
        for subject in &self.definitions {
            if self.definitions.len() == 1 && !self.is_of_cluster
                || subject.definition.name.is_empty()
                || is_of_octavia(&subject.definition, subject.label.as_deref(), bridges)
            {
                chosen.push(subject);
            }
        }
        chosen
    }

    /// Namespaces of the definitions that are Octavia's.
    pub(super) fn namespaces(&self) -> BTreeSet<String> {
        self.subjects().into_iter().map(|subject| subject.namespace.clone()).collect()
    }
}
