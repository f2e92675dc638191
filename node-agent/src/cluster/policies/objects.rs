//! The objects of the API as far as they are looked at.

use std::collections::BTreeMap;

use kube::core::{ApiResource, GroupVersionKind};
use octavia_bridge_cluster::Content;
use serde::Deserialize;
use serde_json::{Value, json};

use super::conditions::Condition;

/// The label of an enactment that names its policy, as kubernetes-nmstate has it.
pub(super) const POLICY_LABEL: &str = "nmstate.io/policy";
/// The label of an enactment that names its node.
pub(super) const NODE_LABEL: &str = "nmstate.io/node";
/// The annotation of an enactment of ours with its policy's uid: another policy may bear the name of one that was
/// deleted, and its generations begin with 1 again.
pub(super) const POLICY_UID: &str = "octavia-bridge/policy-uid";
/// Longest value of a label (`validation.LabelValueMaxLength` in apimachinery).
const MAX_LABEL: usize = 63;

/// A kind of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    Policy,
    Enactment,
    State,
    Node,
    /// Those of the namespace where events of cluster-wide objects go.
    Event,
}

impl Resource {
    /// The plural by which the API knows it.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Policy => "nodenetworkconfigurationpolicies",
            Self::Enactment => "nodenetworkconfigurationenactments",
            Self::State => "nodenetworkstates",
            Self::Node => "nodes",
            Self::Event => "events",
        }
    }

    /// It as a watch names it.
    pub(super) fn resource(self) -> ApiResource {
        let (group, version, kind) = match self {
            Self::Policy => ("nmstate.io", "v1", "NodeNetworkConfigurationPolicy"),
            Self::Enactment => ("nmstate.io", "v1beta1", "NodeNetworkConfigurationEnactment"),
            Self::State => ("nmstate.io", "v1beta1", "NodeNetworkState"),
            Self::Node => ("", "v1", "Node"),
            Self::Event => ("", "v1", "Event"),
        };
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), self.plural())
    }

    /// Where its objects are.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Policy => "/apis/nmstate.io/v1/nodenetworkconfigurationpolicies",
            Self::Enactment => "/apis/nmstate.io/v1beta1/nodenetworkconfigurationenactments",
            Self::State => "/apis/nmstate.io/v1beta1/nodenetworkstates",
            Self::Node => "/api/v1/nodes",
            Self::Event => "/api/v1/namespaces/default/events",
        }
    }
}

/// What the API says of every object.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectMeta {
    pub(super) name: String,
    #[serde(default)]
    pub(super) uid: String,
    #[serde(default)]
    pub(super) resource_version: String,
    /// Grows with each change of the spec.
    #[serde(default)]
    pub(super) generation: i64,
    /// RFC 3339 in UTC, so that the order of texts is that of time.
    #[serde(default)]
    pub(super) creation_timestamp: String,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) owner_references: Vec<Owner>,
}

/// Another object, with which this one goes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Owner {
    #[serde(default)]
    pub(super) uid: String,
}

/// An object that is watched.
pub(super) trait Object {
    /// What is wrong with it, if only parts of it could be read.
    fn unreadable(&self) -> Option<&str> {
        None
    }
}

/// A `NodeNetworkConfigurationPolicy`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Policy {
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) spec: Value,
    #[serde(default)]
    pub(super) status: PolicyStatus,
    /// Why the rest of it cannot be read. It is refused by its name then, on the nodes that it selects.
    #[serde(skip)]
    pub(super) unreadable: Option<String>,
}

impl Content for Policy {
    fn read(text: &str) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Parts {
            metadata: ObjectMeta,
            #[serde(default)]
            spec: Selector,
            #[serde(default)]
            status: PolicyStatus,
        }
        #[derive(Deserialize, Default)]
        #[serde(default, rename_all = "camelCase")]
        struct Selector {
            node_selector: Value,
        }
        serde_json::from_str(text).or_else(|error| {
            // Which policy it is, and whom it is for, does not depend on what it asks for.
            let Parts { metadata, spec, status } = serde_json::from_str(text)?;
            let spec = json!({ "nodeSelector": spec.node_selector });
            // Where in the text it is says nothing to a user, and changes with the status.
            let why = error.to_string();
            let why = why.split(" at line ").next().unwrap_or_default().to_owned();
            Ok(Self { metadata, spec, status, unreadable: Some(why) })
        })
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PolicyStatus {
    #[serde(default)]
    pub(super) conditions: Vec<Condition>,
    /// Nodes that are not done, by generation of the policy. Conditions do not say which generation they are about;
    /// this does.
    #[serde(default)]
    pub(super) unavailable_node_count_map: BTreeMap<String, i64>,
}

impl Policy {
    /// The pairs of `nodeSelector`; `None` if it is not a mapping of texts.
    pub(super) fn selector(&self) -> Option<Vec<(&str, &str)>> {
        match &self.spec["nodeSelector"] {
            Value::Null => Some(Vec::new()),
            Value::Object(pairs) => {
                pairs.iter().map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect()
            }
            _ => None,
        }
    }

    /// Whether a node with these labels is meant.
    pub(super) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector().is_some_and(|pairs| {
            pairs.iter().all(|(key, value)| labels.get(*key).is_some_and(|has| has == value))
        })
    }

    /// Whether the status is about the present generation.
    pub(super) fn is_reported(&self) -> bool {
        !self.status.conditions.is_empty()
            && self.status.unavailable_node_count_map.contains_key(&self.metadata.generation.to_string())
    }

    /// Whether an enactment can name this policy in a label.
    pub(super) fn can_be_named(&self) -> bool {
        is_label(&self.metadata.name)
    }
}

/// Whether the name of an object is short enough for a label. Its characters are right: names of objects are stricter.
pub(super) fn is_label(name: &str) -> bool {
    name.len() <= MAX_LABEL
}

/// A `NodeNetworkConfigurationEnactment`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Enactment {
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) status: EnactmentStatus,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EnactmentStatus {
    #[serde(default)]
    pub(super) conditions: Vec<Condition>,
    #[serde(default)]
    pub(super) policy_generation: i64,
    #[serde(default)]
    pub(super) desired_state: Value,
}

impl Enactment {
    /// Whether it is about this very policy, and not about one that bore its name before. One that another program wrote
    /// does not tell.
    pub(super) fn is_of(&self, policy: &ObjectMeta) -> bool {
        self.metadata.annotations.get(POLICY_UID).is_none_or(|uid| *uid == policy.uid)
    }
}

/// A `NodeNetworkState`, without the state.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct NetworkState {
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) status: NetworkStateStatus,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct NetworkStateStatus {
    #[serde(default)]
    pub(super) conditions: Vec<Condition>,
}

/// A Node.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Node {
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) status: NodeStatus,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct NodeStatus {
    #[serde(default)]
    conditions: Vec<NodeCondition>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct NodeCondition {
    r#type: String,
    status: String,
}

impl Node {
    /// One of which nothing else matters.
    pub(super) fn known(metadata: ObjectMeta, ready: bool) -> Self {
        let status = if ready { "True" } else { "False" }.to_owned();
        let conditions = vec![NodeCondition { r#type: "Ready".to_owned(), status }];
        Self { metadata, status: NodeStatus { conditions } }
    }

    /// Whether kubelet says that it works.
    pub(super) fn is_ready(&self) -> bool {
        self.status
            .conditions
            .iter()
            .any(|condition| condition.r#type == "Ready" && condition.status == "True")
    }
}

impl Object for Policy {
    fn unreadable(&self) -> Option<&str> {
        self.unreadable.as_deref()
    }
}

/// An object's metadata, which is all that is watched of this node and of its enactments.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Head {
    pub(super) metadata: ObjectMeta,
}

impl Object for Head {}

impl Content for Head {
    const METADATA: bool = true;

    fn read(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }
}

impl Content for Node {
    fn read(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }
}

impl Content for NetworkState {
    fn read(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }
}

impl Content for Enactment {
    fn read(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The server accepts such a policy; the reader stops at 128.
    #[test]
    fn a_policy_that_is_nested_too_deep_is_known_by_name_selector_and_status() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let text = format!(
            r#"{{"metadata":{{"name":"deep","uid":"u","generation":2}},
                "spec":{{"desiredState":{{"interfaces":[{{"a":{deep}}}]}},"nodeSelector":{{"role":"worker"}}}},
                "status":{{"conditions":[],"unavailableNodeCountMap":{{"2":1}}}}}}"#
        );
        let policy = Policy::read(&text).unwrap();
        assert_eq!((policy.metadata.name.as_str(), policy.metadata.generation), ("deep", 2));
        assert_eq!(policy.selector(), Some(vec![("role", "worker")]));
        assert_eq!(policy.status.unavailable_node_count_map["2"], 1);
        assert_eq!(policy.unreadable.as_deref(), Some("recursion limit exceeded"));
    }
}
