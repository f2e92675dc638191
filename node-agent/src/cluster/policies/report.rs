//! Reporting to the API how policies stand: this node's enactments, events, and each policy's status.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use octavia_bridge_cluster::{ApiError, Backoff, Jitter};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::api::PolicyApi;
use super::conditions::{self, Stage};
use super::enact::{Enactments, NodeReport};
use super::event::PolicyEvent;
use super::follow::Known;
use super::merge::{Candidate, Version};
use super::objects::{Head, ObjectMeta, Policy};
use super::refusals::Refusals;
use super::status::{Look, Statuses};
use super::sums::{self, Sums};
use super::{Chosen, Outcome, Verdict};
use crate::cluster::backoff;
use crate::health::{Line, Report};
use crate::node::nmstate_lock;

/// A policy that is not decided by then is said to be under way. Nearly all are: nothing is said in between then.
const UNDER_WAY: Duration = Duration::from_millis(300);
/// Between two looks at a policy, over all its nodes.
const ROUND: Duration = Duration::from_secs(10);
/// Between two looks of a node at a policy that does not select it.
const OTHERS: Duration = Duration::from_secs(600);
/// How long a node leaves a new policy to those that it selects.
const LEFT_TO_OTHERS: Duration = Duration::from_secs(3);
/// When to look again at what others have just begun to write.
const SOON: Duration = Duration::from_secs(1);

/// Where what is to be reported comes from.
pub(super) struct Seen {
    pub(super) policies: watch::Receiver<Known<Policy>>,
    /// This node.
    pub(super) nodes: watch::Receiver<Known<Head>>,
    /// This node's.
    pub(super) enactments: watch::Receiver<Known<Head>>,
    pub(super) outcome: watch::Receiver<Option<Outcome>>,
    pub(super) chosen: watch::Receiver<Option<Arc<Chosen>>>,
}

/// The one of this node.
pub(super) struct Reporter {
    api: PolicyApi,
    node: String,
    nmstate_lock: PathBuf,
    report: Report,
    enactments: Enactments,
    statuses: Statuses,
    /// When to look at each policy's status next.
    due: BTreeMap<String, Instant>,
    sums: Sums,
    /// Since when versions of policies have been without an outcome.
    undecided: BTreeMap<String, (Version, Instant)>,
    /// Policies whose present version was in force once: one event reports it.
    succeeded: BTreeMap<String, Version>,
    /// What failed last, said once.
    told: String,
    backoff: Backoff,
    jitter: Jitter,
}

impl Reporter {
    pub(super) fn new(api: PolicyApi, node: String, nmstate_lock: PathBuf, report: Report) -> Self {
        Self {
            enactments: Enactments::new(api.clone(), node.clone()),
            statuses: Statuses::new(api.clone()),
            api,
            node,
            nmstate_lock,
            report,
            due: BTreeMap::new(),
            sums: Sums::default(),
            undecided: BTreeMap::new(),
            succeeded: BTreeMap::new(),
            told: String::new(),
            backoff: backoff::status(),
            jitter: Jitter::fresh(),
        }
    }

    /// Reports what is new until the task is ended.
    pub(super) async fn run(mut self, seen: Seen) {
        let Seen { mut policies, mut nodes, mut enactments, mut outcome, mut chosen } = seen;
        loop {
            if let Some(heads) = &enactments.borrow_and_update().objects {
                self.enactments.compare(heads);
            }
            let wake = {
                let (all, node) =
                    (policies.borrow_and_update().objects.clone(), self.own(&nodes.borrow_and_update()));
                let outcome = outcome.borrow_and_update().clone().unwrap_or_default();
                let chosen = chosen.borrow_and_update().clone();
                self.report.set(self.lines(&policies.borrow(), node.is_some(), &outcome, chosen.as_deref()));
                match (all, node, chosen) {
                    (Some(all), Some(node), Some(chosen)) => self.round(&all, &node, &outcome, &chosen).await,
                    _ => Instant::now() + ROUND,
                }
            };
            let changed = tokio::select! {
                changed = policies.changed() => changed,
                changed = nodes.changed() => changed,
                changed = enactments.changed() => changed,
                changed = outcome.changed() => changed,
                changed = chosen.changed() => changed,
                () = sleep_until(wake) => Ok(()),
            };
            // The agent is ending.
            if changed.is_err() {
                return;
            }
        }
    }

    fn own(&self, nodes: &Known<Head>) -> Option<ObjectMeta> {
        Some(nodes.objects.as_ref()?.get(&self.node)?.metadata.clone())
    }

    /// How the policies stand, for /readyz. What the server refuses is reported there by the part `api`.
    fn lines(
        &self,
        known: &Known<Policy>,
        node: bool,
        outcome: &Outcome,
        chosen: Option<&Chosen>,
    ) -> Vec<Line> {
        let Some(policies) = &known.objects else {
            return vec![if known.absent {
                Line::Note("the API server has no NodeNetworkConfigurationPolicies".into())
            } else {
                let why = known.trouble.as_ref().map(|error| format!(": {}", error.in_words()));
                Line::Amiss(format!("not read yet{}", why.unwrap_or_default()))
            }];
        };
        if policies.is_empty() {
            return vec![Line::Well("none".into())];
        }
        let Some(chosen) = chosen.filter(|_| node) else {
            return vec![Line::Amiss(format!("the API server has no node {}", self.node))];
        };
        let failed = outcome.0.iter().filter_map(|(name, (_, verdict))| match verdict {
            // Where it was wrong, the enactment and the policy's status say so.
            Verdict::Failed(why) => Some(Line::Note(format!("{name} is not in force: {why}"))),
            _ => None,
        });
        let (few, all) = (chosen.policies.len(), policies.len());
        [Line::Well(format!("{few} of {all} select this node"))].into_iter().chain(failed).collect()
    }

    /// Reports what is new. Returns when to come back.
    async fn round(
        &mut self,
        all: &BTreeMap<String, Policy>,
        node: &ObjectMeta,
        outcome: &Outcome,
        chosen: &Chosen,
    ) -> Instant {
        // Its handler writes the same objects.
        if nmstate_lock::stand_down(&self.nmstate_lock).is_err() {
            self.report.set(vec![Line::Note("kubernetes-nmstate reports their status".into())]);
            return Instant::now() + backoff::FIRST;
        }
        let mut refusals = Refusals::default();
        let reported = self.report_all(all, node, outcome, chosen, &mut refusals).await;
        let next = reported.map_err(|error| refusals.push(error)).ok();
        let errors = refusals.to_string();
        if errors.is_empty() && !self.told.is_empty() {
            tracing::info!("the agent can write the status of policies again");
        } else if self.told != errors {
            tracing::warn!("{errors}; the agent retries");
        }
        let retry = if errors.is_empty() {
            self.backoff.reset();
            None
        } else {
            Some(Instant::now() + self.backoff.next(&self.jitter))
        };
        self.told = errors;
        next.into_iter().chain(retry).min().unwrap_or_else(|| Instant::now() + backoff::FIRST)
    }

    async fn report_all(
        &mut self,
        all: &BTreeMap<String, Policy>,
        node: &ObjectMeta,
        outcome: &Outcome,
        chosen: &Chosen,
        refusals: &mut Refusals,
    ) -> Result<Instant, ApiError> {
        // First of all, so that the success of an earlier generation is not taken for this one's.
        for policy in all.values().filter(|policy| policy.can_be_named() && policy.selects(&node.labels)) {
            if !self.statuses.is_reported(policy)
                && refusals.note(self.statuses.reset(policy).await)? == Some(true)
            {
                self.due.insert(policy.metadata.name.clone(), Instant::now() + self.jitter.around(SOON));
            }
        }
        let undecided = self.enact(node, outcome, chosen, refusals).await?;
        let next = self.look(all, chosen, refusals).await?;
        Ok(undecided.into_iter().chain([next]).min().unwrap_or(next))
    }

    /// Brings this node's enactments up to date. Returns when to come back for those that are not decided.
    async fn enact(
        &mut self,
        node: &ObjectMeta,
        outcome: &Outcome,
        chosen: &Chosen,
        refusals: &mut Refusals,
    ) -> Result<Option<Instant>, ApiError> {
        self.enactments.learn().await?;
        for policy in self.enactments.surplus(&chosen.policies) {
            if refusals.note(self.enactments.delete(&policy).await)?.is_some() {
                // What another agent has counted does not say that it is gone.
                self.sums.done(&policy);
                self.due.insert(policy, Instant::now());
            }
        }
        let names: BTreeSet<&String> = chosen.policies.iter().map(|policy| &policy.name).collect();
        self.undecided.retain(|name, _| names.contains(name));
        self.succeeded.retain(|name, _| names.contains(name));
        let mut back: Option<Instant> = None;
        for policy in &chosen.policies {
            let verdict = outcome.0.get(&policy.name).filter(|(version, _)| *version == policy.version);
            let report = match verdict {
                Some((_, verdict)) => NodeReport::of(verdict),
                None => match self.under_way(policy) {
                    Ok(report) => report,
                    Err(when) => {
                        back = Some(back.map_or(when, |back| back.min(when)));
                        continue;
                    }
                },
            };
            let before = self.enactments.written(policy);
            let said = self.enactments.write(policy, &report, node, &conditions::now()).await;
            if refusals.note(said)? == Some(true) {
                self.has_news(policy).await;
                self.publish(policy, before.as_ref(), &report, verdict.is_some()).await;
            }
        }
        Ok(back)
    }

    /// Something new was said of a policy on this node: its status may have to say so. Where it is said on a thousand nodes at
    /// once, each of them summing up a thousand would be a million; so they take their time, and find that it was done.
    async fn has_news(&mut self, policy: &Candidate) {
        let size = self.statuses.cluster_size().await;
        self.due.insert(policy.name.clone(), Instant::now() + self.jitter.below(sums::spread(size)));
        if let Some(version) = self.enactments.version(&policy.name) {
            self.sums.has_news(&policy.name, version);
        }
    }

    /// What to say of a policy without an outcome, or when.
    fn under_way(&mut self, policy: &Candidate) -> Result<NodeReport, Instant> {
        let now = Instant::now();
        let (version, since) =
            self.undecided.entry(policy.name.clone()).or_insert_with(|| (policy.version.clone(), now));
        if *version != policy.version {
            (*version, *since) = (policy.version.clone(), now);
        }
        let when = *since + UNDER_WAY;
        if now < when {
            return Err(when);
        }
        Ok(NodeReport { stage: Stage::Progressing, message: "Applying desired state".into() })
    }

    /// An event for what was not said before. Best effort: the enactment says the same.
    async fn publish(
        &mut self,
        policy: &Candidate,
        before: Option<&NodeReport>,
        report: &NodeReport,
        decided: bool,
    ) {
        if before.is_some_and(NodeReport::is_success) {
            self.succeeded.insert(policy.name.clone(), policy.version.clone());
        }
        let again = report.is_success() && self.succeeded.get(&policy.name) == Some(&policy.version);
        if !decided || again {
            return;
        }
        if report.is_success() {
            self.succeeded.insert(policy.name.clone(), policy.version.clone());
        }
        let (uid, node) = (policy.version.uid.as_str(), self.node.as_str());
        let event =
            PolicyEvent { policy: &policy.name, uid, node, stage: report.stage, message: &report.message };
        if let Err(error) = event.send(&self.api).await {
            tracing::warn!("{}; the enactment has the same message: {}", error.in_words(), report.message);
        }
    }

    /// When to look at the status of a policy that was not seen before.
    fn first_look(&self, ours: bool, reported: bool) -> Instant {
        let pause = match (ours, reported) {
            (true, _) => SOON,
            (false, true) => OTHERS,
            (false, false) => LEFT_TO_OTHERS,
        };
        Instant::now() + self.jitter.around(pause)
    }

    /// Looks at the statuses that are due. Returns when the next one is.
    async fn look(
        &mut self,
        all: &BTreeMap<String, Policy>,
        chosen: &Chosen,
        refusals: &mut Refusals,
    ) -> Result<Instant, ApiError> {
        self.due.retain(|name, _| all.contains_key(name));
        self.sums.note(all);
        for (name, policy) in all {
            let ours = chosen.policies.iter().any(|one| one.name == *name);
            let reported = self.statuses.is_reported(policy);
            let first = self.first_look(ours, reported);
            let due = *self.due.entry(name.clone()).or_insert(first);
            // A new generation of a policy that does not select this node: as with a new one.
            let due = if !ours && !reported { due.min(first) } else { due };
            self.due.insert(name.clone(), due);
            if due > Instant::now() {
                continue;
            }
            if self.sums.is_told(policy) {
                self.sums.done(name);
                let later = ROUND * u32::try_from(self.statuses.cluster_size().await).unwrap_or(1);
                self.due.insert(name.clone(), Instant::now() + self.jitter.around(later));
                continue;
            }
            self.sums.done(name);
            let Some(looked) = refusals.note(self.statuses.look(name).await)? else {
                self.due.insert(name.clone(), Instant::now() + self.jitter.around(backoff::FIRST));
                continue;
            };
            let pause = match looked {
                Look::Again => SOON,
                // The watch will say so; until then its enactment is known.
                Look::Gone => ROUND,
                Look::Well { .. } if !ours => OTHERS,
                Look::Well { nodes, .. } => ROUND * u32::try_from(nodes).unwrap_or(1).max(1),
            };
            if let Look::Well { enacted, .. } = &looked
                && ours
                && !enacted.contains(&self.node)
            {
                // It was deleted.
                self.enactments.forget(name);
                self.due.insert(name.clone(), Instant::now() + self.jitter.around(SOON));
                continue;
            }
            self.due.insert(name.clone(), Instant::now() + self.jitter.around(pause));
        }
        Ok(self.due.values().min().copied().unwrap_or_else(|| Instant::now() + ROUND))
    }
}
