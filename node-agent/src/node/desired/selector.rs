//! Which policies are meant for this node.

use std::str::FromStr;

use serde_json::Value;

use super::field::Fields;

/// A label of the node, as `--node-label KEY=VALUE` states it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Label {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// What of the documents to take.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Choice {
    /// Labels of this node.
    pub(crate) labels: Vec<Label>,
    /// Take policies whatever their `nodeSelector` says.
    pub(crate) all_policies: bool,
    /// Leave out entries with something unsupported, instead of refusing the document.
    pub(crate) ours_only: bool,
}

impl Choice {
    /// Why a policy with this `nodeSelector` is not for this node; `None` if it is. Every pair must
    /// be among the labels, so that one without a selector is for every node, as in Kubernetes.
    pub(crate) fn rejects(&self, selector: Option<Value>, spec: &Fields<'_>) -> Option<String> {
        let Value::Object(pairs) = selector? else {
            spec.invalid("nodeSelector", "must be a mapping of labels");
            return None;
        };
        if self.all_policies {
            return None;
        }
        let missing = pairs.iter().find(|(key, value)| {
            let has = |label: &Label| label.key == **key && value.as_str().unwrap_or_default() == label.value;
            !self.labels.iter().any(has)
        });
        missing.map(|(key, value)| {
            let value = value.as_str().unwrap_or_default();
            let remedy = if self.labels.is_empty() { " (give --node-label, or --all-policies)" } else { "" };
            format!("its nodeSelector asks for {key}={value}, which this node does not bear{remedy}")
        })
    }
}
