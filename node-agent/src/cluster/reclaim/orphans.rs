//! What no node's agent answers for: addresses of nodes that are gone, and those of which only a pod's name is known.
//! One agent, the elected one, looks after them.
//!
//! Pods are asked for one by one, five a second at most: a thousand addresses take a few minutes, and the server hardly
//! notices. A list of all pods of a large cluster is hundreds of megabytes for the server, and its reader. Each look asks for
//! every name that is due before the next look begins, so that none is asked for at the cost of another.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use octavia_bridge_cluster::Jitter;
use octavia_bridge_ipam::kubernetes::Holding;
use tokio::time::{Instant, sleep};

use super::node::{describe, key};
use super::pod::PodRef;
use super::proof::Basis;
use super::repair::{Failed, Failures, Freed};
use super::{Reclaim, WarnOnce};

/// Between two questions: the budget of 5 requests a second, documented in docs/operations.md.
const PAUSE: Duration = Duration::from_millis(200);
/// What exists is asked for again after so many grace periods.
const RECHECK: u32 = 5;

/// What the last answer was.
#[derive(Debug, Clone, Copy)]
enum Presence {
    /// It exists; until then it need not be asked for.
    Present { until: Instant },
    /// It does not; first seen so then.
    Absent { since: Instant },
}

/// Names and what was found of them.
#[derive(Debug, Default)]
struct Presences(HashMap<String, Presence>);

impl Presences {
    /// Whether it has to be asked for now.
    fn is_due(&self, name: &str, grace: Duration) -> bool {
        match self.0.get(name) {
            None => true,
            Some(Presence::Present { until }) => Instant::now() >= *until,
            Some(Presence::Absent { since }) => since.elapsed() >= grace,
        }
    }

    /// Notes an answer. Whether it was absent then and is absent now, a grace period later.
    fn note(&mut self, name: &str, exists: bool, grace: Duration) -> bool {
        let now = Instant::now();
        let before = self.0.get(name).copied();
        if exists {
            self.0.insert(
                name.to_owned(),
                Presence::Present { until: now + Jitter::fresh().spread(grace * RECHECK) },
            );
            return false;
        }
        match before {
            Some(Presence::Absent { since }) => since.elapsed() >= grace,
            _ => {
                self.0.insert(name.to_owned(), Presence::Absent { since: now });
                false
            }
        }
    }

    fn only(&mut self, names: &BTreeSet<String>) {
        self.0.retain(|name, _| names.contains(name));
    }
}

/// What is remembered while this agent is the elected one.
#[derive(Debug, Default)]
struct Memory {
    nodes: Presences,
    pods: Presences,
    /// Pods of nodes that are gone, by uid: they may live in the API for a while.
    remains: Presences,
}

/// Looks again and again, for ever, while this agent is the elected one.
pub(super) async fn run(reclaim: Arc<Reclaim>) {
    let (mut memory, mut warning) = (Memory::default(), WarnOnce::default());
    loop {
        if !reclaim.election.is_won() {
            // Another agent's looks are not ours: the elected one sees everything for itself, twice.
            memory = Memory::default();
        } else if reclaim.can_judge() {
            match reclaim.look_after_orphans(&mut memory).await {
                Ok(()) => warning.clear(),
                Err(why) => {
                    warning.warn(format!("cannot reclaim leaked addresses of deleted nodes now: {why}"));
                }
            }
        }
        sleep(reclaim.pace()).await;
    }
}

impl Reclaim {
    async fn look_after_orphans(&self, memory: &mut Memory) -> Result<(), String> {
        let (mut nodes, mut names) = (BTreeSet::new(), BTreeSet::new());
        self.repairer.store.survey(|holding| {
            match Basis::of(holding) {
                Basis::Uid { node, .. } if node != self.node => drop(nodes.insert(node)),
                Basis::Name { podref } => drop(names.insert(podref.to_string())),
                Basis::Uid { .. } | Basis::Nothing => {}
            }
            false
        });
        memory.nodes.only(&nodes);
        memory.pods.only(&names);
        let (mut gone, mut failures) = (BTreeSet::new(), Failures::default());
        for node in nodes {
            if !memory.nodes.is_due(&node, self.grace) {
                continue;
            }
            if !self.goes_on().await {
                return failures.result();
            }
            match self.repairer.api.has_node(&node).await {
                Ok(exists) => {
                    if memory.nodes.note(&node, exists, self.grace) {
                        gone.insert(node);
                    }
                }
                Err(error) => {
                    if !failures.note(Err(error.into())) {
                        return failures.result();
                    }
                }
            }
        }
        if !self.free_of_nodes(&gone, &mut memory.remains, &mut failures).await {
            return failures.result();
        }
        for name in names {
            let due = memory.pods.is_due(&name, self.grace);
            let Some(podref) = PodRef::new(&name).filter(|_| due) else { continue };
            if !self.goes_on().await || !failures.note(self.free_by_name(&name, &podref, memory).await) {
                break;
            }
        }
        failures.result()
    }

    /// Frees what the pod of this name holds, if there is no such pod, as there was none a grace period ago.
    async fn free_by_name(&self, name: &str, podref: &PodRef, memory: &mut Memory) -> Result<(), Failed> {
        let exists = self.repairer.api.pod(podref).await?.is_some();
        if memory.pods.note(name, exists, self.grace) {
            let basis = Basis::Name { podref: podref.clone() };
            for holding in self.repairer.store.survey(|holding| Basis::of(holding) == basis) {
                self.free_orphan(&holding, "").await?;
            }
        }
        Ok(())
    }

    /// Frees what pods of these nodes, none of which exists, have left. Returns whether to go on with others.
    async fn free_of_nodes(
        &self,
        gone: &BTreeSet<String>,
        remains: &mut Presences,
        failures: &mut Failures,
    ) -> bool {
        let left = self
            .repairer
            .store
            .survey(|holding| matches!(Basis::of(holding), Basis::Uid { node, .. } if gone.contains(&node)));
        remains.only(&left.iter().map(|holding| key(holding).to_owned()).collect());
        for holding in left {
            let key = key(&holding).to_owned();
            if !remains.is_due(&key, self.grace) {
                continue;
            }
            if !self.goes_on().await {
                return false;
            }
            let Basis::Uid { node, .. } = Basis::of(&holding) else { continue };
            match self.free_orphan(&holding, &format!("node {node} is gone, and ")).await {
                Ok(freed) => drop(remains.note(&key, !freed, self.grace)),
                Err(failed) => {
                    if !failures.note(Err(failed)) {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Frees the address if its holder is proven gone; `false` if that lives.
    async fn free_orphan(&self, holding: &Holding, why: &str) -> Result<bool, Failed> {
        match self.repairer.free(holding).await? {
            Freed::Done(death) => {
                tracing::info!("reclaimed {}: {why}{death}", describe(holding));
                self.metrics.reclaimed(&death);
                Ok(true)
            }
            Freed::Lives | Freed::Stands(_) => Ok(false),
            Freed::Changed => Ok(true),
        }
    }

    /// Waits for the next question's time; whether there is to be one.
    async fn goes_on(&self) -> bool {
        sleep(PAUSE).await;
        self.election.is_won()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const GRACE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn absence_is_believed_when_it_is_seen_twice_a_grace_period_apart() {
        let mut presences = Presences::default();
        assert!(presences.is_due("a", GRACE));
        assert!(!presences.note("a", false, GRACE));
        assert!(!presences.is_due("a", GRACE));
        advance(GRACE / 2).await;
        assert!(!presences.note("a", false, GRACE));
        advance(GRACE / 2).await;
        assert!(presences.is_due("a", GRACE));
        assert!(presences.note("a", false, GRACE));
        // It exists after all, and has to be missing twice again.
        assert!(!presences.note("a", true, GRACE));
        advance(GRACE).await;
        assert!(!presences.is_due("a", GRACE), "what exists is not asked for at every look");
        advance(GRACE * RECHECK).await;
        assert!(presences.is_due("a", GRACE));
        assert!(!presences.note("a", false, GRACE));
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_address_names_any_more_is_forgotten() {
        let mut presences = Presences::default();
        assert!(!presences.note("a", false, GRACE));
        advance(GRACE).await;
        presences.only(&BTreeSet::new());
        assert!(!presences.note("a", false, GRACE));
    }
}
