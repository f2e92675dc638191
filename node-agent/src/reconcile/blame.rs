//! Keeping policies apart from each other: one that the kernel does not take shall not hold up the others.
//!
//! What depends on each other is brought about as a whole or not at all. If that fails and there are policies in it that
//! were not in force before, then they are tried one after the other, the oldest first, upon what was. Those that fail are
//! held back for a while, and what they had in force before stays.

use std::time::Duration;

use octavia_bridge_ipam::causes::chain;
use tokio::time::Instant;

use super::keeper::{Keeper, RETRY};
use super::repair::why_not;
use super::standing::{Failure, Looked};
use crate::cluster::policies::{Candidate, Outcome, Verdict};
use crate::node::state;

/// Pause before policies that were held back are tried again.
const HELD: Duration = Duration::from_secs(60);

impl Keeper<'_> {
    /// Brings about as much of what is wanted as can be.
    pub(super) async fn bring_about(&mut self) -> anyhow::Result<Looked> {
        if self.held_until.is_some_and(|until| until <= Instant::now()) {
            self.held_until = None;
            if self.wanted.release_all(&self.cut_offs) {
                self.standing.accepted();
                self.merge().await?;
            }
        }
        let result = self.repair().await;
        if result.is_ok() && self.held_until.is_none() {
            self.left_out = None;
        }
        let mut blamed = Vec::new();
        for policy in self.wanted.untried(&self.texts_in_force) {
            if let Some(why) = self.why_not(&policy, &result) {
                blamed.push((policy, why));
            }
        }
        if blamed.is_empty() {
            return self.without_new_files(result).await;
        }
        for (policy, why) in &blamed {
            tracing::debug!("{}: {why}; tried again by itself", policy.name);
            // Of several, each is tried by itself first.
            if blamed.len() == 1 {
                self.remember(policy, why);
            }
            self.wanted.hold(&policy.name, why.clone());
        }
        self.hold_on(&result);
        self.merge().await?;
        let mut all = result.unwrap_or_default().then(self.repair().await?);
        // A single one has just been tried.
        for (policy, _) in blamed.iter().filter(|_| blamed.len() > 1) {
            self.wanted.release(&policy.name);
            self.merge().await?;
            let result = self.repair().await;
            let why = self.why_not(policy, &result);
            all = all.then(result.unwrap_or_default());
            if let Some(why) = why {
                self.remember(policy, &why);
                self.wanted.hold(&policy.name, why);
                self.merge().await?;
                all = all.then(self.repair().await?);
            }
        }
        Ok(all)
    }

    /// Why this policy, which is new, did not come into force; `None` if it did, or waits.
    fn why_not(&self, policy: &Candidate, result: &anyhow::Result<Looked>) -> Option<String> {
        match result {
            Err(error) => Some(chain(&**error)),
            Ok(looked) => {
                let part = self.parts.get(&policy.name)?;
                why_not(&looked.failures, |name| part.asks_for(name))
            }
        }
    }

    /// A policy that cut the node off stays out, whatever others become.
    fn remember(&mut self, policy: &Candidate, why: &str) {
        if self.cut_offs.has(why) || why.lines().any(|line| self.cut_offs.has(line)) {
            self.cut_offs.forget(&format!("policy {} ", policy.name));
            self.cut_offs.add(policy.identity(), why.to_owned());
            self.disk.keep_cut_offs(&self.cut_offs);
        }
    }

    /// Keeps what was in force before, if files that are new cut the node off, could do so unseen, or
    /// cannot be kept.
    async fn without_new_files(&mut self, result: anyhow::Result<Looked>) -> anyhow::Result<Looked> {
        let (why, cut_off) = match &result {
            Err(error) if error.is::<state::Error>() => (chain(&**error), false),
            Err(_) => return result,
            Ok(looked) => match looked.failures.iter().find(|failure| self.leaves_files_out(failure)) {
                Some(failure) => (failure.why.clone(), !failure.is_untestable),
                None => return result,
            },
        };
        if !self.wanted.files_are_new(&self.texts_in_force) {
            return result;
        }
        // Said once, and not at each try.
        if self.left_out.as_ref() != Some(&why) {
            tracing::warn!("{why}");
            self.left_out = Some(why.clone());
        }
        self.wanted.hold_files(why.clone(), cut_off);
        if !cut_off {
            self.hold_on(&result);
        }
        self.merge().await?;
        self.standing.left_out(why);
        Ok(result.unwrap_or_default().then(self.repair().await?))
    }

    /// Whether new files are left out because of it. What nobody can vouch for waits only where something else is in force:
    /// with nothing to fall back to, its harmless parts are kept.
    fn leaves_files_out(&self, failure: &Failure) -> bool {
        let is_new = !failure.is_old && !self.in_force.is_empty();
        self.cut_offs.has(&failure.why) || failure.is_untestable && is_new
    }

    /// Until when what is held back is not tried again. A disk may have room again soon, and a try changes no link.
    fn hold_on(&mut self, result: &anyhow::Result<Looked>) {
        let disk = result.as_ref().is_err_and(anyhow::Error::is::<state::Error>);
        self.held_until = Some(Instant::now() + if disk { RETRY } else { HELD });
    }

    /// When to look again because of what is held back.
    pub(super) fn held_for(&self) -> Option<Duration> {
        self.held_until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// What became of each policy that the API has told of.
    pub(super) fn outcome_of(&self, looked: Result<&Looked, &str>) -> Outcome {
        let policies = self.wanted.chosen().map(|chosen| chosen.policies.as_slice()).unwrap_or_default();
        let verdict = |policy: &Candidate| match (self.refused.get(&policy.name), looked) {
            (Some(why), _) => Verdict::Failed(why.clone()),
            (None, Err(why)) => Verdict::Failed(why.to_owned()),
            (None, Ok(looked)) => self.parts.get(&policy.name).map_or_else(
                || Verdict::Done { left_alone: Vec::new(), warnings: Vec::new() },
                |part| {
                    if let Some(why) = why_not(&looked.failures, |name| part.asks_for(name)) {
                        return Verdict::Failed(why);
                    }
                    let waits = looked.waits.iter().filter(|missing| part.asks_for(&missing.of));
                    let waits: Vec<String> = waits.map(ToString::to_string).collect();
                    let paused =
                        looked.failures.iter().filter(|failure| failure.pause.is_some() && !failure.is_old);
                    let paused =
                        paused.filter(|failure| failure.names.iter().any(|name| part.asks_for(name)));
                    let waits: Vec<String> =
                        waits.into_iter().chain(paused.map(|failure| failure.why.clone())).collect();
                    if waits.is_empty() {
                        // A warning begins with the name that it is about.
                        let concerns = |text: &&String| {
                            // Perhaps with an alternative name behind it, in brackets.
                            let mut words = text.split([':', ' ', '(', ')']).filter(|word| !word.is_empty());
                            words.by_ref().take(2).any(|name| part.asks_for(name))
                        };
                        let warnings = looked.warnings.iter().filter(concerns).cloned().collect();
                        Verdict::Done { left_alone: part.left_alone.clone(), warnings }
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
