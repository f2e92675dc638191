//! This node's enactments: one object per policy, named `<node>.<policy>`, which says how it fares here.

use std::collections::BTreeMap;

use octavia_bridge_cluster::ApiError;
use serde_json::{Value, json};

use super::Verdict;
use super::api::PolicyApi;
use super::conditions::{self, Stage};
use super::merge::Candidate;
use super::objects::{Enactment, Head, NODE_LABEL, ObjectMeta, POLICY_LABEL, POLICY_UID, Resource, is_label};
use super::patch::replacing;

/// What is to be said of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeReport {
    pub(super) stage: Stage,
    pub(super) message: String,
}

impl NodeReport {
    pub(super) fn is_success(&self) -> bool {
        self.stage == Stage::Done
    }

    /// How it stands on this node.
    pub(super) fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Done { left_alone, warnings } => {
                let mut message = "successfully reconciled".to_owned();
                if !left_alone.is_empty() {
                    message = format!("{message}; left alone: {}", left_alone.join("; "));
                }
                if !warnings.is_empty() {
                    message = format!("{message}; warning: {}", warnings.join("; "));
                }
                Self { stage: Stage::Done, message }
            }
            Verdict::Waiting(what) => Self { stage: Stage::Progressing, message: format!("waiting: {what}") },
            Verdict::Failed(why) => Self { stage: Stage::Failed, message: why.clone() },
        }
    }
}

/// The enactments of one node, as the server has them.
pub(super) struct Enactments {
    api: PolicyApi,
    node: String,
    /// By policy; `None` until they were read.
    known: Option<BTreeMap<String, Enactment>>,
    /// The uids of those that the watch showed last, by name.
    seen: BTreeMap<String, String>,
}

impl Enactments {
    pub(super) fn new(api: PolicyApi, node: String) -> Self {
        Self { api, node, known: None, seen: BTreeMap::new() }
    }

    /// What was said last of this very version of a policy; of those of earlier processes, too.
    pub(super) fn written(&self, policy: &Candidate) -> Option<NodeReport> {
        let enactment = self.known.as_ref()?.get(&policy.name)?;
        let status = &enactment.status;
        if uid_of(enactment) != policy.version.uid || status.policy_generation != policy.version.generation {
            return None;
        }
        let message = conditions::message(&status.conditions).to_owned();
        Some(NodeReport { stage: Stage::of(&status.conditions)?, message })
    }

    /// In which version the enactment of a policy was written.
    pub(super) fn version(&self, policy: &str) -> Option<u64> {
        self.known.as_ref()?.get(policy)?.metadata.resource_version.parse().ok()
    }

    /// Finds out which there are, unless that is known.
    pub(super) async fn learn(&mut self) -> Result<(), ApiError> {
        if self.known.is_some() {
            return Ok(());
        }
        // A node's name may be longer than a label; its enactments then bear none.
        let selection = if is_label(&self.node) {
            format!("labelSelector=nmstate.io%2Fnode%3D{}", self.node)
        } else {
            String::new()
        };
        let all = self.api.list::<Enactment>(Resource::Enactment, &selection).await?;
        let named = all.into_iter().filter_map(|enactment| {
            let policy = enactment.metadata.labels.get(POLICY_LABEL)?.clone();
            (enactment.metadata.name == self.name(&policy)).then_some((policy, enactment))
        });
        self.known = Some(named.collect());
        Ok(())
    }

    /// Forgets those of the server's objects of the watch before that are not there `now`, if they are the very ones that
    /// are known.
    pub(super) fn compare(&mut self, now: &BTreeMap<String, Head>) {
        let mut gone = Vec::new();
        for (policy, enactment) in self.known.iter().flatten() {
            let ObjectMeta { name, uid, .. } = &enactment.metadata;
            if self.seen.get(name) == Some(uid) && !now.contains_key(name) {
                gone.push(policy.clone());
            }
        }
        self.seen = now.iter().map(|(name, head)| (name.clone(), head.metadata.uid.clone())).collect();
        for policy in &gone {
            tracing::info!("the enactment {} was deleted, and is created again", self.name(policy));
            self.forget(policy);
        }
    }

    /// It is not as it was known.
    pub(super) fn forget(&mut self, policy: &str) {
        if let Some(known) = &mut self.known {
            known.remove(policy);
        }
    }

    /// Policies that are not, or no longer, of this node and have an enactment.
    pub(super) fn surplus(&self, policies: &[Candidate]) -> Vec<String> {
        let known = self.known.iter().flat_map(BTreeMap::keys);
        known.filter(|name| policies.iter().all(|policy| policy.name != **name)).cloned().collect()
    }

    /// Deletes the enactment of a policy.
    pub(super) async fn delete(&mut self, policy: &str) -> Result<(), ApiError> {
        self.api.delete(Resource::Enactment, &self.name(policy)).await?;
        self.forget(policy);
        Ok(())
    }

    /// Says how a policy stands; whether that was anything new. `node` owns the enactment: it goes with the node.
    pub(super) async fn write(
        &mut self,
        policy: &Candidate,
        report: &NodeReport,
        node: &ObjectMeta,
        now: &str,
    ) -> Result<bool, ApiError> {
        let name = self.name(&policy.name);
        let known = self.known.as_ref().and_then(|known| known.get(&policy.name));
        let enactment = match known {
            Some(enactment) if uid_of(enactment) == policy.version.uid && is_owned(enactment, node) => {
                enactment.clone()
            }
            known => {
                // Of a policy, or owned by a node, that had this name before, or of another program's making.
                if known.is_some() {
                    self.delete(&policy.name).await?;
                }
                self.create(policy, node).await?
            }
        };
        let status = &enactment.status;
        let said = status.policy_generation == policy.version.generation;
        let wanted = conditions::of_enactment(report.stage, &report.message);
        // The same words about another generation are written as well.
        let before = &status.conditions;
        let conditions = match conditions::renewed(before, wanted.clone(), now) {
            None if said => return Ok(false),
            renewed => renewed.unwrap_or_else(|| conditions::dated(before, wanted, now)),
        };
        let document: Value = serde_json::from_str(&policy.text.yaml).unwrap_or_default();
        let state = &document["spec"]["desiredState"];
        let patch = json!({
            "conditions": conditions,
            "policyGeneration": policy.version.generation,
            "desiredState": replacing(&status.desired_state, state),
        });
        let written = self.api.merge_status::<Enactment>(Resource::Enactment, &name, None, &patch).await;
        if written.as_ref().is_err_and(ApiError::is_absent) {
            self.forget(&policy.name);
        }
        self.know(&policy.name, written?);
        Ok(true)
    }

    async fn create(&mut self, policy: &Candidate, node: &ObjectMeta) -> Result<Enactment, ApiError> {
        let name = self.name(&policy.name);
        let mut labels = BTreeMap::from([(POLICY_LABEL, policy.name.as_str())]);
        if is_label(&self.node) {
            labels.insert(NODE_LABEL, &self.node);
        }
        let object = json!({
            "apiVersion": "nmstate.io/v1beta1",
            "kind": "NodeNetworkConfigurationEnactment",
            "metadata": {
                "name": name,
                "labels": labels,
                "annotations": { POLICY_UID: policy.version.uid },
                "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": self.node, "uid": node.uid }],
            },
        });
        let made = match self.api.create::<Enactment>(Resource::Enactment, &object).await {
            // Made by a request whose answer was lost.
            Err(error) if error.is_conflict() => {
                self.api.get(Resource::Enactment, &name).await?.ok_or(error)?
            }
            made => made?,
        };
        self.know(&policy.name, made.clone());
        Ok(made)
    }

    fn know(&mut self, policy: &str, enactment: Enactment) {
        self.known.get_or_insert_default().insert(policy.to_owned(), enactment);
    }

    fn name(&self, policy: &str) -> String {
        format!("{}.{policy}", self.node)
    }
}

/// Whether the enactment goes with this very node, and not with one that had its name before.
fn is_owned(enactment: &Enactment, node: &ObjectMeta) -> bool {
    enactment.metadata.owner_references.iter().any(|owner| owner.uid == node.uid)
}

/// The policy that an enactment says it is of.
fn uid_of(enactment: &Enactment) -> &str {
    enactment.metadata.annotations.get(POLICY_UID).map_or("", String::as_str)
}
