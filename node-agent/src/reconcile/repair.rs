//! One look at the links with what it leads to: all groups at once as long as none fails, each by itself otherwise.

use std::collections::BTreeSet;
use std::time::Duration;

use octavia_bridge_ipam::causes::chain;
use tokio::time::Instant;

use super::groups::{Group, place, split};
use super::keeper::{Keeper, RETRY};
use super::standing::{Failure, Looked};
use crate::cluster::policies::{Part, RETRY_ANNOTATION};
use crate::node::apply::{self, Error, Goal};
use crate::node::desired::Desired;
use crate::node::observed::{Observed, read_scope};
use crate::node::plan::{self, Plan};
use crate::node::recovery;
use crate::node::state::Bridges;

/// A group that was begun and taken back.
pub(super) struct RefusedGroup {
    desired: Desired,
    why: String,
    /// It is not tried again before.
    until: Instant,
}

/// What can be brought about now.
struct Round {
    /// `None` for all of it.
    part: Option<Desired>,
    plan: Plan,
    failures: Vec<Failure>,
}

impl Keeper<'_> {
    /// Brings about what can be. A group that fails is no error but a [`Failure`].
    ///
    /// # Errors
    /// What concerns all groups: reading, the journal, what the plugin is told.
    pub(super) async fn repair(&mut self) -> anyhow::Result<Looked> {
        let mut notes = Vec::new();
        // Only now that nobody else keeps these links: taking back is changing, too.
        if !self.recovered {
            match recovery::recover(self.netlink, self.state).await {
                Ok(()) => self.recovered = true,
                // A full disk keeps nothing from being repaired.
                Err(error) => notes.push(chain(&*error)),
            }
        }
        // Before the first look: a bridge that the plugin makes on its own is seen here, or not made.
        if !self.promised {
            self.state.promise(&Bridges::of(&self.desired, &self.kept).and(&self.not_in_force))?;
            self.promised = true;
        }
        let started = Instant::now();
        self.refused_groups.retain(|refused| started < refused.until);
        let Round { part, plan, failures } = self.plan_apart().await?;
        let mut looked = Looked { failures, ..Looked::default() };
        looked.waits.clone_from(&plan.missing);
        looked.warnings.clone_from(&plan.warnings);
        let identity = self.wanted.identity(&self.kept);
        let cut_off = self.cut_offs.why(&identity).map(ToOwned::to_owned);
        if let Some(why) = cut_off
            && self.endangers(part.as_ref().unwrap_or(&self.desired), &plan).await?
        {
            let desired = part.unwrap_or_else(|| self.desired.clone());
            looked.waits.clear();
            looked.warnings = notes;
            self.one_by_one(&desired, &why, true, &mut looked).await?;
            self.settle(&mut looked);
            looked.took = started.elapsed();
            return Ok(looked);
        }
        let goal = self.is_settled(&looked).then(|| Goal::Keep(self.kept.clone()));
        // With nothing to keep there is nothing to bring about at the next boot either.
        let keeps = goal.is_some() && !self.desired.is_empty();
        let draft = if keeps { self.state.draft(&self.kept) } else { Ok(None) };
        // With a journal as in `apply`: killed on its way to a state that was never kept, the next start, which may
        // know only the kept one, would not know what of the other to take away.
        let journal = self.state.journal();
        let desired = part.as_ref().unwrap_or(&self.desired);
        let done = apply::carry_out(self.netlink, desired, plan, &self.targets, journal, goal.as_ref()).await;
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                if let Err(left) = draft.and_then(|draft| self.state.discard(draft)) {
                    tracing::warn!("{}", chain(&left));
                }
                if matches!(error, Error::Observe(_)) {
                    return Err(error.into());
                }
                let desired = desired.clone();
                let cut = matches!(error, Error::CutOff { .. } | Error::Unreachable(_));
                let why = self.why_taken_back(&error);
                looked.waits.clear();
                looked.warnings = notes;
                self.one_by_one(&desired, &why, cut, &mut looked).await?;
                self.settle(&mut looked);
                looked.took = started.elapsed();
                return Ok(looked);
            }
        };
        looked.took = started.elapsed();
        if goal.is_some() {
            let kept = match keeps {
                true => draft.and_then(|draft| self.state.publish(draft)),
                false if self.good == self.kept => Ok(()),
                false => self.state.keep_nothing(),
            };
            if let Err(error) = kept {
                let why = chain(&error);
                looked.warnings.push(format!("the policy is in force but not kept for the next boot: {why}"));
            }
            self.good.clone_from(&self.kept);
            self.reached.clone_from(&self.desired);
        }
        looked.warnings.extend(notes);
        looked.warnings.extend(done.notes.iter().cloned());
        looked.steps = done.end().into_iter().map(|planned| planned.apply).collect();
        Ok(looked)
    }

    /// Plans all of it, or those groups that do not stand in their own way.
    async fn plan_apart(&self) -> Result<Round, Error> {
        let now = Instant::now();
        let error = match apply::plan_now(self.netlink, &self.desired).await {
            Ok(plan) if plan.steps.is_empty() || !(self.fights.any(now) || self.any_refused()) => {
                return Ok(Round { part: None, plan, failures: Vec::new() });
            }
            Ok(_) => None,
            Err(Error::Conflicts(conflicts)) => Some(conflicts),
            Err(error) => return Err(error),
        };
        let observed = self.read(&self.desired).await?;
        let mut failures = Vec::new();
        let mut part = Desired::default();
        for group in self.groups(&self.desired, &observed) {
            match plan::plan(&group.desired, &observed) {
                Err(conflicts) => failures.push(self.failure(&group, conflicts.to_string(), None)),
                Ok(plan)
                    if !plan.steps.is_empty()
                        && let Some(why) = self.was_refused(&group) =>
                {
                    failures.push(self.failure(&group, why.to_owned(), None));
                }
                Ok(plan) => match self.fights.pause(&group.names, now).filter(|_| !plan.steps.is_empty()) {
                    Some(pause) => {
                        let steps: Vec<String> =
                            plan.steps.iter().map(|step| step.apply.to_string()).collect();
                        let why = format!(
                            "another program undoes it time and again: {}; done in {} s",
                            steps.join(", "),
                            pause.as_secs() + 1
                        );
                        failures.push(self.failure(&group, why, Some(pause)));
                    }
                    None => part.extend(group.desired),
                },
            }
        }
        match (plan::plan(&part, &observed), error) {
            (Ok(plan), _) => Ok(Round { part: Some(part), plan, failures }),
            // Between groups that are none, then.
            (Err(conflicts), None) | (Err(_), Some(conflicts)) => Err(Error::Conflicts(conflicts)),
        }
    }

    /// Why a change was taken back. One that cut the node off is remembered, and is not tried again by itself.
    fn why_taken_back(&mut self, error: &Error) -> String {
        let why = chain(error);
        if !matches!(error, Error::CutOff { .. }) {
            return why;
        }
        let why = format!(
            "{why}; it is not tried again until the policy, its annotation {RETRY_ANNOTATION}, or the file changes, or SIGHUP asks for it"
        );
        self.cut_offs.add(self.wanted.identity(&self.kept), why.clone());
        self.state.keep_cut_offs(&self.cut_offs);
        why
    }

    /// After all groups together have failed and were taken back, or must not be tried: `why`. `cut` says that it concerns
    /// those that could cut the node off.
    async fn one_by_one(
        &mut self,
        desired: &Desired,
        why: &str,
        cut: bool,
        looked: &mut Looked,
    ) -> Result<(), Error> {
        let groups = self.groups(desired, &self.read(desired).await?);
        let only = groups.len() == 1;
        for group in groups {
            let plan = match apply::plan_now(self.netlink, &group.desired).await {
                Ok(plan) => plan,
                Err(Error::Conflicts(conflicts)) => {
                    looked.failures.push(self.failure(&group, conflicts.to_string(), None));
                    continue;
                }
                Err(error) => return Err(error),
            };
            looked.waits.extend(plan.missing.iter().cloned());
            looked.warnings.extend(plan.warnings.iter().cloned());
            // Once is enough for what takes the node's connection away.
            if only || cut && self.endangers(&group.desired, &plan).await? {
                looked.failures.push(self.failure(&group, why.to_owned(), None));
                self.refuse(group, why.to_owned());
                continue;
            }
            let journal = self.state.journal();
            let done =
                apply::carry_out(self.netlink, &group.desired, plan, &self.targets, journal, None).await;
            match done {
                Ok(done) => {
                    looked.warnings.extend(done.notes.iter().cloned());
                    looked.steps.extend(done.end().into_iter().map(|planned| planned.apply));
                }
                Err(error @ Error::Observe(_)) => return Err(error),
                Err(error) => {
                    let why = self.why_taken_back(&error);
                    looked.failures.push(self.failure(&group, why.clone(), None));
                    self.refuse(group, why);
                }
            }
        }
        Ok(())
    }

    /// Whether the plan could cut the node off.
    async fn endangers(&self, desired: &Desired, plan: &Plan) -> Result<bool, Error> {
        if plan.steps.is_empty() {
            return Ok(false);
        }
        let observed = self.read(desired).await?;
        Ok(self.targets.is_endangered(self.netlink, &observed, &plan.steps).await)
    }

    /// What of `desired` is planned and fails by itself.
    fn groups(&self, desired: &Desired, observed: &Observed) -> Vec<Group> {
        let untried = self.wanted.untried(&self.good);
        let together: Vec<&Part> = untried.iter().filter_map(|policy| self.parts.get(&policy.name)).collect();
        split(desired, observed, &together)
    }

    /// Notes that a group was begun and taken back. The events of that would have it tried again at once, for ever.
    fn refuse(&mut self, group: Group, why: String) {
        let until = Instant::now() + RETRY;
        self.refused_groups.push(RefusedGroup { desired: group.desired, why, until });
    }

    fn any_refused(&self) -> bool {
        !self.refused_groups.is_empty()
    }

    /// Why the group was taken back just now, if it asks for the same still.
    fn was_refused(&self, group: &Group) -> Option<&str> {
        let same = self.refused_groups.iter().find(|refused| refused.desired == group.desired);
        same.map(|refused| refused.why.as_str())
    }

    async fn read(&self, desired: &Desired) -> Result<Observed, Error> {
        let mut scope = plan::scope(desired);
        scope.whole = true;
        read_scope(self.netlink, &scope).await.map_err(Error::Observe)
    }

    fn failure(&self, group: &Group, why: String, pause: Option<Duration>) -> Failure {
        let is_old = self.reached.has(&group.desired);
        Failure { names: group.names.clone(), why, pause, is_old }
    }

    /// Whether what is wanted may be kept on disk: all that is not brought about was in force before.
    fn is_settled(&self, looked: &Looked) -> bool {
        if self.kept == self.good {
            return true;
        }
        let failed_before = looked.failures.iter().all(|failure| failure.is_old);
        failed_before && looked.waits.iter().all(|missing| self.was_wanted(&missing.of))
    }

    /// Whether all that asks for this interface or route was in force before.
    fn was_wanted(&self, what: &str) -> bool {
        for entry in &self.desired.interfaces {
            let asks = entry.name == what || entry.ports().iter().any(|port| port == what);
            if asks && !self.reached.interfaces.contains(entry) {
                return false;
            }
        }
        let mut routes = self.desired.routes.iter().filter(|route| place(route) == what);
        routes.all(|route| self.reached.routes.contains(route))
    }

    /// Keeps on disk what is wanted, if only links that were in force before fail or wait.
    fn settle(&mut self, looked: &mut Looked) {
        if self.kept == self.good || !self.is_settled(looked) {
            return;
        }
        let kept =
            if self.desired.is_empty() { self.state.keep_nothing() } else { self.state.keep(&self.kept) };
        if let Err(error) = kept {
            let why = chain(&error);
            looked.warnings.push(format!("the policy is in force but not kept for the next boot: {why}"));
        }
        self.good.clone_from(&self.kept);
        self.reached.clone_from(&self.desired);
    }
}

impl Desired {
    fn extend(&mut self, other: Self) {
        self.interfaces.extend(other.interfaces);
        self.routes.extend(other.routes);
    }

    /// Whether all of `part` is in it.
    fn has(&self, part: &Self) -> bool {
        part.interfaces.iter().all(|entry| self.interfaces.contains(entry))
            && part.routes.iter().all(|route| self.routes.contains(route))
    }
}

/// Names of the failures that concern someone who asks for what `asks` says.
pub(super) fn why_not(failures: &[Failure], asks: impl Fn(&str) -> bool) -> Option<String> {
    let mut texts = BTreeSet::new();
    for failure in failures.iter().filter(|failure| failure.pause.is_none()) {
        if failure.names.iter().any(|name| asks(name)) {
            texts.insert(failure.why.as_str());
        }
    }
    let text = texts.into_iter().collect::<Vec<_>>().join("\n");
    Some(text).filter(|text| !text.is_empty())
}
