//! Keeping policies apart from each other: one that the kernel does not take shall not hold up the others.
//!
//! All policies are one plan, and a plan is carried out as a whole or not at all. If it fails and there are policies in it
//! that were not in force before, then they are tried one after the other, the oldest first, upon what was. Those that
//! fail are held back for a while, and what they had in force before stays.

use std::time::Duration;

use octavia_bridge_ipam::causes::chain;
use tokio::time::Instant;

use super::keeper::Keeper;
use super::standing::Looked;
use crate::cluster::policies::{Candidate, Outcome, Verdict};
use crate::node::plan::Missing;

/// Pause before policies that were held back are tried again.
const HELD: Duration = Duration::from_secs(60);

impl Keeper<'_> {
    /// Brings about as much of what is wanted as can be.
    pub(super) async fn bring_about(&mut self) -> anyhow::Result<Looked> {
        if self.held_until.is_some_and(|until| until <= Instant::now()) {
            self.held_until = None;
            if self.wanted.release_all() {
                self.merge().await?;
            }
        }
        let error = match self.repair().await {
            Ok(looked) => return Ok(looked),
            Err(error) => error,
        };
        let untried = self.wanted.untried(&self.good);
        if untried.is_empty() {
            return Err(error);
        }
        // What could not be taken back is in the journal.
        self.recovered = false;
        let why = chain(&*error);
        tracing::debug!("{why}; {} policies are new, and are tried by themselves", untried.len());
        for policy in &untried {
            self.wanted.hold(&policy.name, why.clone());
        }
        self.held_until = Some(Instant::now() + HELD);
        self.merge().await?;
        let mut all = self.repair().await?;
        // A single one has just been tried.
        for policy in untried.iter().filter(|_| untried.len() > 1) {
            self.wanted.release(&policy.name);
            self.merge().await?;
            match self.repair().await {
                Ok(Looked { steps, waits, warnings, took }) => {
                    all.steps.extend(steps);
                    all.took += took;
                    (all.waits, all.warnings) = (waits, warnings);
                }
                Err(error) => {
                    self.recovered = false;
                    self.wanted.hold(&policy.name, chain(&*error));
                    self.merge().await?;
                }
            }
        }
        Ok(all)
    }

    /// When to look again because of what is held back.
    pub(super) fn held_for(&self) -> Option<Duration> {
        self.held_until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// What became of each policy that the API has told of.
    pub(super) fn outcome_of(&self, looked: Result<&[Missing], &str>) -> Outcome {
        let policies = self.wanted.chosen().map(|chosen| chosen.policies.as_slice()).unwrap_or_default();
        let verdict = |policy: &Candidate| match (self.refused.get(&policy.name), looked) {
            (Some(why), _) => Verdict::Failed(why.clone()),
            (None, Err(why)) => Verdict::Failed(why.to_owned()),
            (None, Ok(waits)) => self.parts.get(&policy.name).map_or_else(
                || Verdict::Done { left_alone: Vec::new() },
                |part| {
                    let waits = waits.iter().filter(|missing| part.asks_for(&missing.of));
                    let waits: Vec<String> = waits.map(ToString::to_string).collect();
                    if waits.is_empty() {
                        Verdict::Done { left_alone: part.left_alone.clone() }
                    } else {
                        Verdict::Waiting(waits.join("; "))
                    }
                },
            ),
        };
        let one = |policy: &Candidate| (policy.name.clone(), (policy.version.clone(), verdict(policy)));
        Outcome(policies.iter().map(one).collect())
    }

    /// Tells it to whoever reports. The first time it is the sign to begin.
    pub(super) fn tell(&self, outcome: Outcome) {
        if let Some(told) = &self.outcome {
            told.send_if_modified(|present| {
                let changed = present.as_ref() != Some(&outcome);
                *present = Some(outcome);
                changed
            });
        }
    }
}
