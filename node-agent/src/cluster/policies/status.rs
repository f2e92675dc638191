//! A policy's status, which all agents write.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use octavia_bridge_cluster::{ApiError, Jitter};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::api::PolicyApi;
use super::conditions::{self, Condition, Stage};
use super::merge::Version;
use super::objects::{Enactment, Head, Node, ObjectMeta, Policy, Resource};
use super::patch::replacing;
use super::summary::{Summary, node_of, speaks_of, sum_up};
use crate::cluster::backoff;

/// What a new version's status says before anything was counted.
const UNDER_WAY: &str = "Policy is progressing";
/// So many nodes without a word are asked for one by one, and more with all others.
const ASKED_SINGLY: usize = 8;
/// How long the number of nodes is believed.
const SIZE_KNOWN: Duration = Duration::from_secs(600);

/// What a look at a policy has led to.
#[derive(Debug)]
pub(super) enum Look {
    /// The status says what it should.
    Well {
        /// How many nodes the policy selects.
        nodes: usize,
        /// Those that have an enactment.
        enacted: BTreeSet<String>,
    },
    /// It does not yet; others are about to write.
    Again,
    /// The policy was deleted.
    Gone,
}

/// The writer of this node.
pub(super) struct Statuses {
    api: PolicyApi,
    /// Versions whose status this agent has written, or found right.
    told: BTreeMap<String, Version>,
    /// Policies with a new count that need not be written at once.
    counting: BTreeSet<String>,
    jitter: Jitter,
    /// How many nodes there are, and since when that is known.
    size: Option<(usize, Instant)>,
    /// The server's definition is an older one, without the count by generation.
    pruned: bool,
}

impl Statuses {
    pub(super) fn new(api: PolicyApi) -> Self {
        Self {
            api,
            told: BTreeMap::new(),
            counting: BTreeSet::new(),
            jitter: Jitter::fresh(),
            size: None,
            pruned: false,
        }
    }

    /// Whether the status is about the present generation, as far as is known.
    pub(super) fn is_reported(&self, policy: &Policy) -> bool {
        let known = self.told.get(&policy.metadata.name) == Some(&version(policy));
        policy.is_reported() || (self.pruned && known && !policy.status.conditions.is_empty())
    }

    /// Whether the status counts nodes, as only a sum does.
    pub(super) fn is_sum(policy: &Policy) -> bool {
        let said = conditions::message(&policy.status.conditions);
        policy.is_reported() && said != UNDER_WAY
    }

    /// Says that a new version is under way, unless this agent has said so. Whether it tried; another may have been faster.
    pub(super) async fn reset(&mut self, policy: &Policy) -> Result<bool, ApiError> {
        let metadata = &policy.metadata;
        let version = version(policy);
        if self.told.get(&metadata.name) == Some(&version) {
            return Ok(false);
        }
        let summary = Summary {
            stage: Stage::Progressing,
            count: UNDER_WAY.into(),
            details: String::new(),
            unavailable: 1,
            nodes: 1,
        };
        match self.write(policy, &summary).await {
            // Another agent was faster, or it is gone: what comes next says which.
            Err(error) if error.is_conflict() || error.is_absent() => {}
            written => {
                written?;
                self.told.insert(metadata.name.clone(), version);
            }
        }
        Ok(true)
    }

    /// Sums up all nodes, and writes the sum if the status says something else.
    pub(super) async fn look(&mut self, name: &str) -> Result<Look, ApiError> {
        let mut backoff = backoff::conflict();
        for _ in 0..backoff::TRIES {
            // In this order: whatever was written to the policy after this reading makes the write below fail.
            let Some(policy) = self.api.get::<Policy>(Resource::Policy, name).await? else {
                return Ok(self.gone(name));
            };
            let (summary, enacted) = self.sum_up(&policy).await?;
            let late = self.is_reported(&policy)
                && Stage::of(&policy.status.conditions) == Some(Stage::Progressing)
                && is_only_count(&policy.status.conditions, &summary);
            if late && self.counting.insert(name.to_owned()) {
                return Ok(Look::Again);
            }
            match self.write(&policy, &summary).await {
                Err(error) if error.is_absent() => return Ok(self.gone(name)),
                Err(error) if error.is_conflict() => sleep(backoff.next(&self.jitter)).await,
                written => {
                    written?;
                    self.counting.remove(name);
                    self.told.insert(name.to_owned(), version(&policy));
                    return Ok(Look::Well { nodes: summary.nodes, enacted });
                }
            }
        }
        Ok(Look::Again)
    }

    /// There is nothing to report any more.
    fn gone(&mut self, name: &str) -> Look {
        self.told.remove(name);
        self.counting.remove(name);
        Look::Gone
    }

    async fn sum_up(&self, policy: &Policy) -> Result<(Summary, BTreeSet<String>), ApiError> {
        let metadata = &policy.metadata;
        if !policy.can_be_named() {
            let summary = Summary {
                stage: Stage::Failed,
                count: "all nodes failed to configure".into(),
                details: "metadata.name: longer than 63 characters, so enactments cannot have it as a label"
                    .into(),
                unavailable: 0,
                nodes: 0,
            };
            return Ok((summary, BTreeSet::new()));
        }
        let Some(selector) = policy.selector() else {
            return Ok((sum_up(metadata, &[], &[]), BTreeSet::new()));
        };
        let of_policy = format!("labelSelector=nmstate.io%2Fpolicy%3D{}", metadata.name);
        let enactments = self.api.list::<Enactment>(Resource::Enactment, &of_policy).await?;
        let pairs: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let selection = format!("labelSelector={}", encoded(&pairs.join(",")));
        let nodes = match self.api.list::<Head>(Resource::Node, &selection).await {
            Ok(nodes) => self.with_readiness(nodes, metadata, &enactments, &selection).await?,
            // Keys or values that no label can have, so no node has them.
            Err(error) if error.code() == Some(400) => Vec::new(),
            Err(error) => return Err(error),
        };
        let enacted = enactments.iter().map(|one| node_of(one, metadata).to_owned()).collect();
        Ok((sum_up(metadata, &nodes, &enactments), enacted))
    }

    /// The nodes with what kubelet says of those that say nothing themselves: of the others that does not matter, and a whole
    /// Node is ten times as large as its metadata.
    async fn with_readiness(
        &self,
        heads: Vec<Head>,
        policy: &ObjectMeta,
        enactments: &[Enactment],
        selection: &str,
    ) -> Result<Vec<Node>, ApiError> {
        let speaking: BTreeSet<&str> =
            enactments.iter().filter(|one| speaks_of(one, policy)).map(|one| node_of(one, policy)).collect();
        let is_silent = |head: &Head| !speaking.contains(head.metadata.name.as_str());
        if heads.iter().filter(|head| is_silent(head)).count() > ASKED_SINGLY {
            return self.api.list::<Node>(Resource::Node, selection).await;
        }
        let mut nodes = Vec::new();
        for head in heads {
            if is_silent(&head) {
                // One that is gone meanwhile is not expected to say anything.
                nodes.extend(self.api.get::<Node>(Resource::Node, &head.metadata.name).await?);
            } else {
                nodes.push(Node::known(head.metadata, true));
            }
        }
        Ok(nodes)
    }

    /// How many nodes there are, 1 at least: it is asked for now and then.
    pub(super) async fn cluster_size(&mut self) -> usize {
        if let Some((size, since)) = self.size
            && since.elapsed() < SIZE_KNOWN
        {
            return size;
        }
        // Without an answer, what comes next finds out why.
        let size = self.api.count(Resource::Node).await.unwrap_or(1).max(1);
        self.size = Some((size, Instant::now()));
        size
    }

    /// Writes the summary if it is not what the status says; only if the policy is still as it was read.
    async fn write(&mut self, policy: &Policy, summary: &Summary) -> Result<(), ApiError> {
        let Policy { metadata, status, .. } = policy;
        let conditions = conditions::of_policy(summary.stage, &summary.message());
        let renewed = conditions::renewed(&status.conditions, conditions, &conditions::now());
        let generation = metadata.generation.to_string();
        let counts = BTreeMap::from([(generation.clone(), summary.unavailable as i64)]);
        if renewed.is_none() && (self.pruned || status.unavailable_node_count_map == counts) {
            return Ok(());
        }
        let counts = replacing(&json!(status.unavailable_node_count_map), &json!(counts));
        let mut patch = json!({ "unavailableNodeCountMap": counts });
        if let Some(conditions) = renewed {
            patch["conditions"] = json!(conditions);
        }
        let version = Some(metadata.resource_version.as_str());
        let written =
            self.api.merge_status::<Policy>(Resource::Policy, &metadata.name, version, &patch).await?;
        self.pruned = !written.status.unavailable_node_count_map.contains_key(&generation);
        Ok(())
    }
}

fn version(policy: &Policy) -> Version {
    Version { uid: policy.metadata.uid.clone(), generation: policy.metadata.generation }
}

/// Whether the status differs only in how many nodes are done.
fn is_only_count(conditions: &[Condition], summary: &Summary) -> bool {
    let said = conditions::message(conditions);
    let details = said.split_once(": ").map_or("", |(_, details)| details);
    summary.stage == Stage::Progressing && said != summary.message() && details == summary.details
}

/// A value within a query.
fn encoded(text: &str) -> String {
    let mut query = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            query.push(char::from(byte));
        } else {
            query.push_str(&format!("%{byte:02X}"));
        }
    }
    query
}
