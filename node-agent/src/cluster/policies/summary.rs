//! How a policy stands on all nodes together: a pure function of the nodes it selects and of their enactments.

use std::collections::{BTreeMap, HashMap};

use super::conditions::{self, Stage};
use super::objects::{Enactment, NODE_LABEL, Node, ObjectMeta};

/// Nodes that a message names; the enactments have them all.
const NAMED: usize = 3;

/// What the policy's status is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) stage: Stage,
    /// How far it has got, in kubernetes-nmstate's words.
    pub(super) count: String,
    /// What the nodes say that are not done.
    pub(super) details: String,
    /// Nodes that are not done.
    pub(super) unavailable: usize,
    /// Nodes that it selects.
    pub(super) nodes: usize,
}

impl Summary {
    /// The message of the condition.
    pub(super) fn message(&self) -> String {
        if self.details.is_empty() { self.count.clone() } else { format!("{}: {}", self.count, self.details) }
    }
}

/// Sums up. `nodes` are those that the policy selects; `enactments` may be of other nodes and earlier generations, too.
pub(super) fn sum_up(policy: &ObjectMeta, nodes: &[Node], enactments: &[Enactment]) -> Summary {
    let mut present: HashMap<&str, &Enactment> = HashMap::new();
    for one in enactments.iter().filter(|one| is_present(one, policy)) {
        present.entry(node_of(one, policy)).or_insert(one);
    }
    let mut done = 0;
    let mut said: BTreeMap<Stage, Vec<(&str, &str)>> = BTreeMap::new();
    let (mut silent, mut ignored) = (Vec::new(), 0);
    for node in nodes {
        let name = node.metadata.name.as_str();
        let stage = present.get(name).and_then(|one| {
            let conditions = &one.status.conditions;
            Some((Stage::of(conditions)?, conditions::message(conditions)))
        });
        match stage {
            Some((Stage::Done, _)) => done += 1,
            Some((stage, message)) => said.entry(stage).or_default().push((name, message)),
            None if node.is_ready() => silent.push(name),
            // It cannot speak. When it is back it will.
            None => ignored += 1,
        }
    }
    let total = nodes.len();
    let failed = said.remove(&Stage::Failed).unwrap_or_default();
    let progressing = said.remove(&Stage::Progressing).unwrap_or_default();
    let ignored_too =
        if ignored == 0 { String::new() } else { format!(", {ignored} nodes ignored due to NotReady state") };
    let (stage, count, details) = if total == 0 {
        (Stage::NoNode, "Policy does not match any node".into(), String::new())
    } else if !failed.is_empty() {
        let count = format!("{}/{total} nodes failed to configure", failed.len());
        (Stage::Failed, count, told(&failed))
    } else if !progressing.is_empty() || !silent.is_empty() || done == 0 {
        let expected = total - ignored;
        let count = format!("Policy is progressing {done}/{expected} nodes finished{ignored_too}");
        let details = match (progressing.is_empty(), silent.as_slice()) {
            (false, _) => told(&progressing),
            (true, []) => String::new(),
            (true, silent) => format!("no report yet from {}", several(silent.iter().copied())),
        };
        (Stage::Progressing, count, details)
    } else {
        (Stage::Done, format!("{done}/{total} nodes successfully configured{ignored_too}"), String::new())
    };
    Summary { stage, count, details, unavailable: total - done, nodes: total }
}

/// Whether an enactment is about this generation of this policy.
fn is_present(enactment: &Enactment, policy: &ObjectMeta) -> bool {
    enactment.status.policy_generation == policy.generation && enactment.is_of(policy)
}

/// Whether an enactment says how the policy stands on its node.
pub(super) fn speaks_of(enactment: &Enactment, policy: &ObjectMeta) -> bool {
    is_present(enactment, policy) && Stage::of(&enactment.status.conditions).is_some()
}

/// The node of an enactment: its label says so, or the name where that is too long for a label.
pub(super) fn node_of<'a>(enactment: &'a Enactment, policy: &ObjectMeta) -> &'a str {
    match enactment.metadata.labels.get(NODE_LABEL) {
        Some(node) => node,
        None => enactment.metadata.name.strip_suffix(&format!(".{}", policy.name)).unwrap_or_default(),
    }
}

/// What nodes say; what many say is said once.
fn told(said: &[(&str, &str)]) -> String {
    let mut texts: Vec<(&str, Vec<&str>)> = Vec::new();
    for (node, text) in said {
        match texts.iter_mut().find(|(known, _)| known == text) {
            Some((_, nodes)) => nodes.push(node),
            None => texts.push((text, vec![node])),
        }
    }
    let rest = texts.len().saturating_sub(NAMED);
    let mut lines: Vec<String> = texts
        .into_iter()
        .take(NAMED)
        .map(|(text, nodes)| format!("{}: {text}", several(nodes.into_iter())))
        .collect();
    if rest > 0 {
        lines.push(format!("{rest} more"));
    }
    lines.join("; ")
}

fn several<'a>(nodes: impl ExactSizeIterator<Item = &'a str>) -> String {
    let rest = nodes.len().saturating_sub(NAMED);
    let mut names = nodes.take(NAMED).collect::<Vec<_>>().join(", ");
    if rest > 0 {
        names.push_str(&format!(" and {rest} more"));
    }
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::policies::conditions::of_enactment;
    use crate::cluster::policies::objects::POLICY_UID;

    fn policy() -> ObjectMeta {
        ObjectMeta { name: "octavia".into(), uid: "u2".into(), generation: 3, ..ObjectMeta::default() }
    }

    fn node(name: &str, ready: bool) -> Node {
        let status = if ready { "True" } else { "Unknown" };
        let conditions =
            json!([{"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": status}]);
        serde_json::from_value(json!({"metadata": {"name": name}, "status": {"conditions": conditions}}))
            .unwrap()
    }

    fn enactment(node: &str, generation: i64, stage: Stage, message: &str) -> Enactment {
        let mut one: Enactment = serde_json::from_value(json!({
            "metadata": {
                "name": format!("{node}.octavia"), "labels": {NODE_LABEL: node}, "annotations": {POLICY_UID: "u2"},
            },
            "status": {"policyGeneration": generation},
        }))
        .unwrap();
        one.status.conditions = of_enactment(stage, message);
        one
    }

    fn told(nodes: &[Node], enactments: &[Enactment]) -> (Stage, String) {
        let summary = sum_up(&policy(), nodes, enactments);
        (summary.stage, summary.message())
    }

    fn three() -> [Node; 3] {
        ["worker-0", "worker-1", "worker-2"].map(|name| node(name, true))
    }

    #[test]
    fn success_is_all_nodes_of_this_generation() {
        let mut enactments =
            ["worker-0", "worker-1", "worker-2"].map(|node| enactment(node, 3, Stage::Done, "")).to_vec();
        let done = (Stage::Done, "3/3 nodes successfully configured".to_owned());
        assert_eq!(told(&three(), &enactments), done);
        // Neither an earlier generation nor an earlier policy of that name counts, and neither does silence.
        let silent = "Policy is progressing 2/3 nodes finished: no report yet from worker-2";
        enactments[2].status.policy_generation = 2;
        assert_eq!(told(&three(), &enactments), (Stage::Progressing, silent.to_owned()));
        enactments[2].status.policy_generation = 3;
        enactments[2].metadata.annotations.insert(POLICY_UID.into(), "u1".into());
        assert_eq!(told(&three(), &enactments), (Stage::Progressing, silent.to_owned()));
        enactments.truncate(2);
        assert_eq!(told(&three(), &enactments), (Stage::Progressing, silent.to_owned()));
        // Of nodes that are gone nothing is expected, and their enactments do not count.
        enactments.push(enactment("worker-9", 3, Stage::Failed, "gone"));
        assert_eq!(
            told(&three()[..2], &enactments),
            (Stage::Done, "2/2 nodes successfully configured".to_owned())
        );
    }

    #[test]
    fn one_failure_is_a_failure_and_says_whose() {
        let enactments = [
            enactment("worker-0", 3, Stage::Done, ""),
            enactment("worker-1", 3, Stage::Failed, "octbr is there, and is no bridge"),
        ];
        let text = "1/3 nodes failed to configure: worker-1: octbr is there, and is no bridge";
        assert_eq!(told(&three(), &enactments), (Stage::Failed, text.to_owned()));
        assert_eq!(sum_up(&policy(), &three(), &enactments).unavailable, 2);
    }

    #[test]
    fn what_many_nodes_say_is_said_once() {
        let names = ["worker-0", "worker-1", "worker-2"];
        let enactments = names.map(|node| enactment(node, 3, Stage::Failed, "interfaces[0].name: missing"));
        let text = "3/3 nodes failed to configure: worker-0, worker-1, worker-2: interfaces[0].name: missing";
        assert_eq!(told(&three(), &enactments), (Stage::Failed, text.to_owned()));
    }

    #[test]
    fn a_node_that_waits_says_what_for() {
        let enactments =
            [enactment("worker-0", 3, Stage::Progressing, "waiting: enp6s0.24: enp6s0 does not exist")];
        let text =
            "Policy is progressing 0/1 nodes finished: worker-0: waiting: enp6s0.24: enp6s0 does not exist";
        assert_eq!(told(&three()[..1], &enactments), (Stage::Progressing, text.to_owned()));
    }

    #[test]
    fn nodes_that_are_not_ready_are_not_waited_for_unless_there_is_no_other() {
        let nodes = [node("worker-0", true), node("worker-1", false)];
        let enactments = [enactment("worker-0", 3, Stage::Done, "")];
        let text = "1/2 nodes successfully configured, 1 nodes ignored due to NotReady state";
        assert_eq!(told(&nodes, &enactments), (Stage::Done, text.to_owned()));
        let text = "Policy is progressing 0/0 nodes finished, 1 nodes ignored due to NotReady state";
        assert_eq!(told(&nodes[1..], &[]), (Stage::Progressing, text.to_owned()));
        // One that speaks counts, whatever kubelet thinks.
        let both = [enactment("worker-0", 3, Stage::Done, ""), enactment("worker-1", 3, Stage::Done, "")];
        assert_eq!(told(&nodes, &both), (Stage::Done, "2/2 nodes successfully configured".to_owned()));
    }

    #[test]
    fn no_node_is_said_to_be_none() {
        assert_eq!(told(&[], &[]), (Stage::NoNode, "Policy does not match any node".to_owned()));
    }
}
