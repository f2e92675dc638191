//! Doing the steps of a plan, in a world that others change meanwhile.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use octavia_bridge_ipam::causes::chain;
use octavia_bridge_netlink::Netlink;

use super::journal::{Goal, Journal};
use super::reach::{Targets, Watch};
use super::undo::Undone;
use super::{Error, kernel, observe, plan_now, reach};
use crate::node::desired::Desired;
use crate::node::observed::{Kind, Link, Observed};
use crate::node::plan::{Plan, Planned, Step};

/// How often to plan again when reading back shows that something is left to do, or that others have changed what the
/// plan went by.
const ROUNDS: usize = 3;

/// An error before it is known how the taking back went.
pub(super) enum Failure {
    Step { step: String, source: kernel::Error },
    NotReached(String),
    CutOff(reach::Error),
    Other(Error),
}

impl Failure {
    pub(super) fn with(self, undone: Undone) -> Error {
        match self {
            Self::CutOff(cause) => Error::CutOff { cause, undone },
            other => Error::TakenBack { why: other.why(), undone },
        }
    }

    /// In words.
    pub(super) fn why(self) -> String {
        match self {
            Self::Step { step, source } => format!("{step}: {}", chain(&source)),
            Self::NotReached(left) => format!("after all steps there is still to do: {left}"),
            Self::CutOff(cause) => chain(&cause),
            Self::Other(error) => chain(&error),
        }
    }
}

/// Steps under way.
pub(super) struct Work<'a> {
    netlink: &'a Netlink,
    desired: &'a Desired,
    pub(super) journal: Option<Journal>,
    pub(super) done: Vec<Planned>,
    /// VRFs and bonds: a link that comes to one or leaves one may lose something.
    vrfs: BTreeSet<String>,
    /// What others have, and had to go for a while.
    owed: Vec<Step>,
    pub(super) notes: Vec<String>,
}

impl<'a> Work<'a> {
    /// With a journal, if one can be written.
    pub(super) fn begin(
        netlink: &'a Netlink,
        desired: &'a Desired,
        before: &Observed,
        directory: &Path,
    ) -> Self {
        let is_vrf = |(_, link): &(&String, &Link)| matches!(link.kind, Kind::Vrf { .. } | Kind::Bond { .. });
        let mut work = Self {
            vrfs: before.links.iter().filter(is_vrf).map(|(name, _)| name.clone()).collect(),
            netlink,
            desired,
            journal: None,
            done: Vec::new(),
            owed: Vec::new(),
            notes: Vec::new(),
        };
        match Journal::begin(directory) {
            Ok(journal) => work.journal = Some(journal),
            Err(why) => work.without_journal(&why),
        }
        work
    }

    /// Pods wait for their network, and not for a disk.
    fn without_journal(&mut self, why: &str) {
        // What it says is not all that was done.
        if let Some(journal) = self.journal.take()
            && let Err(text) = journal.end()
        {
            tracing::warn!("{text}");
        }
        self.notes
            .push(format!("changes are made without a journal, so a kill half-way is not undone: {why}"));
    }

    fn write(&mut self, line: impl FnOnce(&mut Journal) -> Result<(), String>) {
        if let Some(Err(why)) = self.journal.as_mut().map(line) {
            self.without_journal(&why);
        }
    }

    /// All steps are done, and `goal` is what is to follow.
    pub(super) fn reached(&mut self, goal: &Goal) {
        self.write(|journal| journal.reached(goal));
    }

    /// Does these steps, up to the first that fails.
    pub(super) async fn some(&mut self, steps: Vec<Planned>) -> Result<(), Failure> {
        let outdated = self.round(Plan { steps, ..Plan::default() }).await;
        self.pay().await;
        outdated?.map_or(Ok(()), Err)
    }

    /// Does the plan, and what is left to do after it, but nothing that could cut off what is not `watched`.
    pub(super) async fn rounds(
        &mut self,
        mut plan: Plan,
        targets: &Targets,
        watched: &Watch,
    ) -> Result<(), Failure> {
        let mut outdated = None;
        for _ in 0..ROUNDS {
            outdated = self.round(plan).await?;
            plan = plan_now(self.netlink, self.desired).await.map_err(Failure::Other)?;
            if plan.steps.is_empty() {
                self.pay().await;
                return Ok(());
            }
            let now = observe(self.netlink, self.desired).await.map_err(Failure::Other)?;
            let unwatched = targets.unwatched(self.netlink, &now, &plan.steps, watched, &self.done).await;
            if let Some(step) = unwatched {
                return Err(Failure::NotReached(format!("{step}, which could cut this node off by now")));
            }
        }
        Err(outdated.unwrap_or_else(|| {
            let left: Vec<String> = plan.steps.iter().map(|planned| planned.apply.to_string()).collect();
            Failure::NotReached(left.join(", "))
        }))
    }

    /// Does the steps of one plan, up to one of which somebody else has changed the preconditions. A new plan goes by that.
    async fn round(&mut self, plan: Plan) -> Result<Option<Failure>, Failure> {
        let mut steps = plan.steps.into_iter();
        while let Some(planned) = steps.next() {
            if self.may_take_along(&planned) {
                self.clear_the_way(&planned.apply).await?;
            }
            match self.step(planned).await {
                Err(Failure::Step { step, source }) if source.is_outdated() => {
                    // Some of these are there to give back what this plan has taken.
                    let back = |step: &Step| matches!(step, Step::AddRoute(_) | Step::AddAddress { .. });
                    self.owed.extend(steps.rev().map(|planned| planned.apply).filter(back));
                    return Ok(Some(Failure::Step { step, source }));
                }
                result => result?,
            }
        }
        Ok(None)
    }

    /// Whether it is worth a look at all that is there: the kernel may take something along.
    fn may_take_along(&self, planned: &Planned) -> bool {
        match (&planned.apply, &planned.undo) {
            (Step::SetMaster { master: new, .. }, Step::SetMaster { master: old, .. }) => {
                [new, old].into_iter().flatten().any(|master| self.vrfs.contains(master))
            }
            (apply, _) => apply.may_take_along(),
        }
    }

    /// What others have put there since the plan was made, and the kernel would take along without a word.
    async fn clear_the_way(&mut self, step: &Step) -> Result<(), Failure> {
        let now = observe(self.netlink, self.desired).await.map_err(Failure::Other)?;
        for taken in now.taken_along(step) {
            let planned = taken.planned(&now);
            let owed = planned.undo.clone();
            self.step(planned).await?;
            if matches!(owed, Step::AddRoute(_) | Step::AddAddress { .. }) {
                self.owed.push(owed);
            }
        }
        Ok(())
    }

    pub(super) async fn step(&mut self, mut planned: Planned) -> Result<(), Failure> {
        if let (Step::Create(new), Step::Delete(made)) = (&mut planned.apply, &mut planned.undo) {
            let token = token();
            (new.token, made.token) = (Some(token), Some(token));
            if let Kind::Vrf { .. } | Kind::Bond { .. } = new.kind {
                self.vrfs.insert(new.name.clone());
            }
        }
        let failed = |source| Failure::Step { step: planned.apply.to_string(), source };
        planned.index = kernel::index_of(self.netlink, &planned.apply).await.map_err(failed)?;
        self.write(|journal| journal.about_to(&planned));
        match kernel::take(self.netlink, &planned.apply).await {
            Ok(true) => self.done.push(planned),
            // Somebody else has done it: theirs to take back.
            Ok(false) => self.write(Journal::not_done),
            Err(source) => {
                let step = planned.apply.to_string();
                match source.is_refusal() {
                    true => self.write(Journal::not_done),
                    false => self.done.push(planned),
                }
                return Err(Failure::Step { step, source });
            }
        }
        Ok(())
    }

    /// Gives back to others what is theirs. What cannot be given back any more is named.
    async fn pay(&mut self) {
        for step in std::mem::take(&mut self.owed).into_iter().rev() {
            match kernel::give_back(self.netlink, &step).await {
                Ok(_) => tracing::info!("{step}"),
                Err(kernel::Error::Netlink(error)) if error.is_exists() => {}
                Err(error) => self.notes.push(format!("{step}, which somebody else made: {}", chain(&error))),
            }
        }
    }
}

/// A number by chance and not 0, which is every other link's group. As a group it is a positive number of 32 bits.
fn token() -> u32 {
    let chance = RandomState::new().hash_one(std::process::id());
    u32::try_from(chance >> 33).unwrap_or_default().max(1)
}
