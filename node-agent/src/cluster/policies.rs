//! Policies of the cluster: `NodeNetworkConfigurationPolicy` objects that select this node, and the reports on them.
//!
//! The loop that keeps the links (`reconcile`) knows nothing of the API, and waits for nothing here. It is given the policies that
//! select this node ([`Chosen`]), merges them with the files it has, and reports what became of each ([`Outcome`]). From that
//! the reporter writes one enactment per policy of this node, and the policy's status, which sums up all nodes.
//!
//! Many agents write one status, without electing one of them. An agent that has something new to say waits for a time by
//! chance ([`sums`]), and unless another agent has counted it meanwhile, reads the nodes and enactments and writes the sum,
//! provided that the policy is still the version it had before that reading. So a sum that was true later is never
//! overwritten by one that was true earlier; the loser of a race reads again. Now and then an agent looks without having
//! something to say, which finds nodes that are gone.
//!
//! Beside that, each agent writes its node's present network, and how it stands itself ([`node_state`]).

mod api;
mod conditions;
mod enact;
mod event;
mod follow;
mod merge;
mod node_state;
mod objects;
mod patch;
mod refusals;
mod report;
mod status;
mod summary;
mod sums;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use octavia_bridge_cluster as cluster;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::health::{Health, Report};
use crate::node::desired::Label;
use api::PolicyApi;
use follow::{Known, Which, follow};
pub(crate) use merge::{Candidate, Merged, Part, RETRY_ANNOTATION, Version, merge};
use node_state::NodeState;
use objects::{Head, NODE_LABEL, Policy, Resource, is_label};
use report::{Reporter, Seen};

/// What the API wants of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// The node's.
    pub(crate) labels: Vec<Label>,
    /// Policies that select it, the oldest first.
    pub(crate) policies: Vec<Candidate>,
}

/// What has become of the policies, by their names: of which version, and how it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome(pub(crate) BTreeMap<String, (Version, Verdict)>);

/// How a policy stands on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// In force, but for what is left alone, and with what people should know.
    Done { left_alone: Vec<String>, warnings: Vec<String> },
    /// Something has to appear first.
    Waiting(String),
    /// It is not in force; what was before is.
    Failed(String),
}

/// The other side of the loop that keeps the links.
pub(crate) struct Following {
    /// What is to be kept; nothing until the API has answered.
    pub(crate) chosen: watch::Receiver<Option<Arc<Chosen>>>,
    /// What became of it; nothing until the loop has looked at the links for the first time.
    pub(crate) outcome: watch::Sender<Option<Outcome>>,
    /// Told when something in the kernel has changed.
    pub(crate) changes: Arc<Notify>,
    _tasks: JoinSet<()>,
}

/// Begins to follow the policies and to report, once there is a first outcome: what was kept comes before
/// any question to the API. `report` says how that goes. Ends when the result is dropped.
pub(crate) fn start(
    api: cluster::Api,
    node: String,
    nmstate_lock: &Path,
    health: &Arc<Health>,
    report: Report,
) -> Following {
    let (choose, chosen) = watch::channel(None);
    let (outcome, mut told) = watch::channel(None);
    let requests = PolicyApi::new(api.clone());
    let policies = watch::Sender::new(Known::default());
    let nodes = watch::Sender::new(Known::default());
    let changes = Arc::new(Notify::new());
    let state = NodeState::new(
        requests.clone(),
        node.clone(),
        nmstate_lock.to_owned(),
        health.clone(),
        changes.clone(),
    );
    let reporter = Reporter::new(requests, node.clone(), nmstate_lock.to_owned(), report);
    let mut tasks = JoinSet::new();
    let enactments = watch::Sender::new(Known::default());
    let seen = Seen {
        policies: policies.subscribe(),
        nodes: nodes.subscribe(),
        enactments: enactments.subscribe(),
        outcome: told.clone(),
        chosen: chosen.clone(),
    };
    let (own, mut looked) = (nodes.subscribe(), told.clone());
    tasks.spawn(async move {
        if looked.wait_for(Option::is_some).await.is_ok() {
            state.run(own).await;
        }
    });
    tasks.spawn(async move {
        // The loop that keeps the links ends first; then the policies are not needed.
        if told.wait_for(Option::is_some).await.is_err() {
            return;
        }
        tokio::join!(
            follow::<Policy>(&api, Resource::Policy, Which::All, &policies),
            follow::<Head>(&api, Resource::Node, Which::Named(node.clone()), &nodes),
            follow_enactments(&api, &node, &enactments),
            pick(policies.subscribe(), nodes.subscribe(), &node, &choose),
            reporter.run(seen),
        );
    });
    Following { chosen, outcome, changes, _tasks: tasks }
}

/// Watches this node's enactments, so that one that was deleted is soon back. Those of a node whose name is no label cannot
/// be told from others; a look at the policy's sum finds that one of them is missing.
async fn follow_enactments(api: &cluster::Api, node: &str, known: &watch::Sender<Known<Head>>) {
    if is_label(node) {
        let own = Which::Labelled(NODE_LABEL, node.to_owned());
        follow::<Head>(api, Resource::Enactment, own, known).await;
    }
}

/// Chooses the policies for this node, whenever they or its labels change.
async fn pick(
    mut policies: watch::Receiver<Known<Policy>>,
    mut nodes: watch::Receiver<Known<Head>>,
    node: &str,
    choose: &watch::Sender<Option<Arc<Chosen>>>,
) {
    loop {
        let chosen = choice(&policies.borrow_and_update(), &nodes.borrow_and_update(), node);
        if let Some(chosen) = chosen {
            choose.send_if_modified(|present| {
                let new = present.as_deref() != Some(&chosen);
                if new {
                    *present = Some(Arc::new(chosen));
                }
                new
            });
        }
        let changed = tokio::select! {
            changed = policies.changed() => changed,
            changed = nodes.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// What is to be kept; `None` as long as the API has not answered, and while it does not know this node: what was kept stays.
fn choice(policies: &Known<Policy>, nodes: &Known<Head>, node: &str) -> Option<Chosen> {
    let labels = &nodes.objects.as_ref()?.get(node)?.metadata.labels;
    let policies = policies.objects.as_ref()?;
    let meant = policies.values().filter(|policy| policy.can_be_named() && policy.selects(labels));
    let mut policies: Vec<Candidate> = meant.map(Candidate::new).collect();
    policies.sort_by(Candidate::by_age);
    let labels = labels.iter().map(|(key, value)| Label { key: key.clone(), value: value.clone() }).collect();
    Some(Chosen { labels, policies })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn known<T: serde::de::DeserializeOwned>(objects: &[Value]) -> Known<T> {
        let read = |object: &Value| {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            (name, serde_json::from_value(object.clone()).unwrap())
        };
        Known { objects: Some(objects.iter().map(read).collect()), ..Known::default() }
    }

    fn policy(name: &str, created: &str, selector: &Value) -> Value {
        let metadata = json!({"name": name, "creationTimestamp": created});
        json!({"metadata": metadata, "spec": {"nodeSelector": selector}})
    }

    fn node(labels: &Value) -> Known<Head> {
        known(&[json!({"metadata": {"name": "worker-0", "labels": labels}})])
    }

    #[test]
    fn policies_are_chosen_by_all_their_labels_and_ordered_by_age() {
        let (early, late) = ("2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z");
        let policies = known(&[
            policy("a-late", late, &json!({"role": "worker"})),
            policy("b-early", early, &json!({"role": "worker", "zone": "1"})),
            policy("c-late", late, &Value::Null),
            policy("elsewhere", early, &json!({"role": "worker", "zone": "2"})),
            policy("wrong", early, &json!("worker")),
            policy(&"long".repeat(16), early, &Value::Null),
        ]);
        let labels = json!({"role": "worker", "zone": "1", "disk": ""});
        let chosen = choice(&policies, &node(&labels), "worker-0").unwrap();
        let names: Vec<&str> = chosen.policies.iter().map(|policy| policy.name.as_str()).collect();
        assert_eq!(names, ["b-early", "a-late", "c-late"]);
        assert_eq!(chosen.labels.len(), 3);
    }

    #[test]
    fn nothing_is_chosen_until_all_is_known() {
        let policies = known(&[policy("a", "", &Value::Null)]);
        let labels = node(&json!({}));
        assert_eq!(choice(&Known::default(), &labels, "worker-0"), None);
        assert_eq!(choice(&policies, &Known::default(), "worker-0"), None);
        assert_eq!(choice(&policies, &known(&[]), "worker-0"), None, "the node is unknown");
        // A server that has forgotten the kind does not say that there are no policies.
        let absent = Known { absent: true, ..known(&[policy("a", "", &Value::Null)]) };
        assert_eq!(choice(&absent, &labels, "worker-0").unwrap().policies.len(), 1);
    }
}
