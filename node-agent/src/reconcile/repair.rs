//! One look at the links with what it leads to: all groups at once as long as none fails, each by itself otherwise.

use std::collections::BTreeSet;
use std::time::Duration;

use octavia_bridge_ipam::causes::chain;
use tokio::time::Instant;

use super::groups::{Group, place, split};
use super::keeper::Keeper;
use super::standing::{Failure, Looked};
use super::wanted::WHOLE;
use crate::cluster::policies::{Part, RETRY_ANNOTATION};
use crate::node::apply::{self, Done, Error, Goal};
use crate::node::desired::Desired;
use crate::node::observed::{Observed, read_scope};
use crate::node::plan::{self, Plan, Step};
use crate::node::recovery;
use crate::node::state::{self, Bridges, NotInForce};

/// What can be brought about now.
struct Round {
    /// `None` for all of it.
    part: Option<Desired>,
    plan: Plan,
    failures: Vec<Failure>,
}

impl Round {
    /// Whether something is or was to be asked of gateways, which may be silent.
    fn asks(&self) -> bool {
        self.plan.cuts.is_some() || self.failures.iter().any(|failure| failure.is_untestable)
    }
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
            for (goal, journal) in recovery::take_back_begun(self.netlink, self.state).await {
                self.disk.recovers(goal, journal);
            }
            self.recovered = true;
        }
        // Before the first look: a bridge that the plugin makes on its own is seen here, or not made.
        self.promised &= !self.disk.is_untold();
        if !self.promised {
            match self.promise().await {
                Ok(()) => self.promised = true,
                // A full or slow disk keeps nothing from being repaired, but something new waits: the plugin has to know of it.
                Err(error) if self.texts == self.texts_in_force => notes.push(chain(&error)),
                Err(error) => return Err(error.into()),
            }
        }
        let started = Instant::now();
        self.refusals.tidy(started);
        let mut restored = Vec::new();
        let mut round = self.plan_apart().await?;
        if round.asks() {
            restored = self.restore_ways(started).await?;
        }
        if !restored.is_empty() {
            // Those that waited for an answer may get one now.
            self.refusals.forget_untestable();
            self.held_until = self.held_until.map(|_| started);
            round = self.plan_apart().await?;
        }
        let Round { part, mut plan, failures } = round;
        let mut looked = Looked { failures, steps: restored, ..Looked::default() };
        let desired = part.as_ref().unwrap_or(&self.desired).clone();
        if self.harmless_first(&desired, &plan, &mut looked).await? {
            plan = apply::plan_now(self.netlink, &desired).await?;
        }
        looked.waits.clone_from(&plan.missing);
        looked.warnings.extend(plan.warnings.iter().cloned());
        let goal = self.is_settled(&looked).then(|| Goal::Keep(self.texts.clone()));
        // With nothing to keep there is nothing to bring about at the next boot either. Refused texts are
        // kept for another release.
        let keeps = goal.is_some() && self.keeps_any();
        // With a journal as in `apply`: killed on its way to a state that was never kept, the next start, which may
        // know only the kept one, would not know what of the other to take away.
        let done = match self.carry_out(&desired, plan, goal.as_ref()).await {
            Ok(done) => done,
            Err(error) => {
                if matches!(error, Error::Observe(_)) {
                    return Err(error.into());
                }
                looked.waits.clear();
                looked.warnings = notes;
                self.one_by_one(&desired, &error, &mut looked).await?;
                self.settle(&looked);
                looked.took = started.elapsed();
                return Ok(looked);
            }
        };
        looked.took = started.elapsed();
        looked.warnings.extend(notes);
        looked.steps.extend(done.steps.iter().map(|planned| planned.apply.clone()));
        if goal.is_none() {
            drop(done.end());
            return Ok(looked);
        }
        if keeps || self.texts_in_force != self.texts {
            self.disk.keep(keeps.then_some(&self.texts));
        }
        // Without steps there is no journal either, and that of earlier ones stays.
        if done.is_begun() {
            self.disk.follows(done);
        }
        self.comes_into_force();
        Ok(looked)
    }

    /// Tells the plugin which bridges are kept.
    async fn promise(&mut self) -> Result<(), state::Error> {
        let not_in_force = [self.not_in_force.as_slice(), &self.failing].concat();
        let text = Bridges::of(&self.desired, &self.texts).and(&not_in_force).told()?;
        self.disk.tell(text).await
    }

    /// Tells the plugin why bridges that pods wait for are not there.
    pub(super) async fn tell_failing(&mut self, failures: &[Failure]) {
        let mut failing = Vec::new();
        for failure in failures.iter().filter(|failure| failure.pause.is_none()) {
            let asks = |name: &str| failure.names.contains(name);
            failing.extend(NotInForce::part(&self.desired, &self.texts, asks, &failure.why));
        }
        if failing != self.failing {
            self.failing = failing;
            // What cannot be written now is written with the next look.
            self.promised = self.promise().await.is_ok();
        }
    }

    /// Plans all of it, or those groups that do not stand in their own way.
    async fn plan_apart(&self) -> Result<Round, Error> {
        let now = Instant::now();
        let error = match apply::plan_now(self.netlink, &self.desired).await {
            Ok(plan) if plan.steps.is_empty() || !(self.fights.any(now) || self.may_be_refused(&plan)) => {
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
            let plan = match plan::plan(&group.desired, &observed) {
                Ok(plan) => plan,
                Err(conflicts) => {
                    failures.push(self.failure(&group, conflicts.to_string(), None));
                    continue;
                }
            };
            if plan.steps.is_empty() {
                part.extend(group.desired);
            } else if let Some(refusal) = self.refusals.of(&group.desired, now) {
                let is_untestable = refusal.is_untestable;
                failures.push(Failure { is_untestable, ..self.failure(&group, refusal.why.clone(), None) });
            } else if let Some(why) = self.cut_offs.why(&self.wanted.identity(&group, &self.parts))
                && self.endangers(&observed, &plan).await
            {
                failures.push(self.failure(&group, why.to_owned(), None));
            } else if let Some(pause) = self.fights.pause(&group.names, now) {
                let steps: Vec<String> = plan.steps.iter().map(|step| step.apply.to_string()).collect();
                let why = format!(
                    "another program undoes it time and again: {}; done in {} s",
                    steps.join(", "),
                    pause.as_secs() + 1
                );
                failures.push(self.failure(&group, why, Some(pause)));
            } else {
                part.extend(group.desired);
            }
        }
        match (plan::plan(&part, &observed), error) {
            (Ok(plan), _) => Ok(Round { part: Some(part), plan, failures }),
            // Between groups that are none, then.
            (Err(conflicts), None) | (Err(_), Some(conflicts)) => Err(Error::Conflicts(conflicts)),
        }
    }

    /// Notes that a group was taken back because of `error`. One that cut the node off is not tried again by itself.
    fn taken_back(&mut self, group: Group, error: &Error, looked: &mut Looked) {
        let why = why_taken_back(error);
        let is_untestable = matches!(error, Error::Unreachable(_));
        looked.failures.push(Failure { is_untestable, ..self.failure(&group, why.clone(), None) });
        if matches!(error, Error::CutOff { .. }) {
            self.cut_offs.add(self.wanted.identity(&group, &self.parts), why.clone());
            self.disk.keep_cut_offs(&self.cut_offs);
        }
        self.refusals.add(group.desired, why, is_untestable, Instant::now());
    }

    /// After all groups together have failed and were taken back, because of `whole`.
    async fn one_by_one(
        &mut self,
        desired: &Desired,
        whole: &Error,
        looked: &mut Looked,
    ) -> Result<(), Error> {
        let observed = self.read(desired).await?;
        let groups = self.groups(desired, &observed);
        let dangerous = match whole {
            Error::Unreachable(_) | Error::CutOff { .. } => self.dangerous(&groups, &observed).await,
            _ => Vec::new(),
        };
        let mut unanswered = groups.iter().zip(&dangerous).filter(|(_, is_dangerous)| **is_dangerous);
        if matches!(whole, Error::Unreachable(_))
            && self.may_fall_back()
            && unanswered.any(|(group, _)| !self.in_force.has(&group.desired))
        {
            // The other groups would be undone with these, at each try.
            for (group, is_dangerous) in groups.into_iter().zip(dangerous) {
                if is_dangerous && !self.in_force.has(&group.desired) {
                    self.taken_back(group, whole, looked);
                }
            }
            return Ok(());
        }
        let only = groups.len() == 1;
        let is_sure = match whole {
            // Nobody answers who could tell of one of them either.
            Error::Unreachable(_) => true,
            // Once is enough for what takes the node's connection away. Of several that may have done it, each is tried
            // by itself, so that none is remembered for what another did.
            Error::CutOff { .. } => dangerous.iter().filter(|is_dangerous| **is_dangerous).count() == 1,
            _ => false,
        };
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
            if only || is_sure && self.endangers(&self.read(&group.desired).await?, &plan).await {
                self.taken_back(group, whole, looked);
                continue;
            }
            match self.carry_out(&group.desired, plan, None).await {
                Ok(done) => {
                    looked.steps.extend(done.end().into_iter().map(|planned| planned.apply));
                }
                Err(error @ Error::Observe(_)) => return Err(error),
                Err(error) => self.taken_back(group, &error, looked),
            }
        }
        Ok(())
    }

    /// Brings the links of the default routes back as they were in force, before gateways are asked by them.
    async fn restore_ways(&mut self, now: Instant) -> Result<Vec<Step>, Error> {
        let mut steps = Vec::new();
        let observed = self.read(&self.in_force).await?;
        for group in split(&self.in_force, &observed, &[]) {
            let Ok(plan) = plan::plan(&group.desired, &observed) else { continue };
            let restoring = plan::restoring(&observed, &plan.steps);
            if restoring.is_empty() || self.fights.pause(&group.names, now).is_some() {
                continue;
            }
            let (desired, journal) = (&group.desired, self.state.journal());
            steps.extend(apply::restore_ways(self.netlink, desired, &observed, restoring, journal).await);
            self.disk.begins_steps();
        }
        Ok(steps)
    }

    /// Carries a plan out. The journal of earlier steps ends with the first of these.
    async fn carry_out(&mut self, desired: &Desired, plan: Plan, goal: Option<&Goal>) -> Result<Done, Error> {
        let journal = self.state.journal();
        let done = apply::carry_out(self.netlink, desired, plan, &self.targets, journal, goal).await;
        let is_begun = match &done {
            Ok(done) => {
                self.left.extend(done.notes.iter().cloned());
                done.is_begun()
            }
            Err(error) => {
                self.remember_damage(error);
                error.was_begun()
            }
        };
        if is_begun {
            self.disk.begins_steps();
        }
        done
    }

    /// Brings about the groups that cannot cut the node off, before anybody is asked about the others: asking takes
    /// seconds, and there may be no answer. Whether it has changed anything.
    async fn harmless_first(
        &mut self,
        desired: &Desired,
        plan: &Plan,
        looked: &mut Looked,
    ) -> Result<bool, Error> {
        let is_harmless = plan.cuts.is_none() && self.targets.named.is_empty();
        if plan.steps.is_empty() || is_harmless || self.may_fall_back() {
            return Ok(false);
        }
        let observed = self.read(desired).await?;
        let mut harmless = Desired::default();
        for group in self.groups(desired, &observed) {
            let Ok(plan) = plan::plan(&group.desired, &observed) else { continue };
            if !plan.steps.is_empty() && !self.endangers(&observed, &plan).await {
                harmless.extend(group.desired);
            }
        }
        if harmless.is_empty() {
            return Ok(false);
        }
        let plan = match apply::plan_now(self.netlink, &harmless).await {
            Ok(plan) => plan,
            Err(Error::Conflicts(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        match self.carry_out(&harmless, plan, None).await {
            Ok(done) => {
                looked.steps.extend(done.end().into_iter().map(|planned| planned.apply));
            }
            Err(error @ Error::Observe(_)) => return Err(error),
            // It fails once more with the rest, which tells whose fault it is.
            Err(error) => tracing::debug!("{}", chain(&error)),
        }
        Ok(true)
    }

    /// Whether each of the groups could cut the node off.
    async fn dangerous(&self, groups: &[Group], observed: &Observed) -> Vec<bool> {
        let mut dangerous = Vec::new();
        for group in groups {
            dangerous.push(match plan::plan(&group.desired, observed) {
                Ok(plan) => self.endangers(observed, &plan).await,
                Err(_) => false,
            });
        }
        dangerous
    }

    /// Whether files that are new are left out as a whole if one of their groups is, for what was in force before.
    fn may_fall_back(&self) -> bool {
        !self.in_force.is_empty() && self.wanted.files_are_new(&self.texts_in_force)
    }

    /// Whether the plan could cut the node off.
    async fn endangers(&self, observed: &Observed, plan: &Plan) -> bool {
        !plan.steps.is_empty() && self.targets.is_endangered(self.netlink, observed, &plan.steps).await
    }

    /// What of `desired` is planned and fails by itself.
    fn groups(&self, desired: &Desired, observed: &Observed) -> Vec<Group> {
        let untried = self.wanted.untried(&self.texts_in_force);
        let together: Vec<&Part> = untried.iter().filter_map(|policy| self.parts.get(&policy.name)).collect();
        split(desired, observed, &together)
    }

    /// Whether a group of the plan may have to be left as it is.
    fn may_be_refused(&self, plan: &Plan) -> bool {
        self.refusals.any(Instant::now()) || !plan.steps.is_empty() && self.cut_offs.any(WHOLE)
    }

    async fn read(&self, desired: &Desired) -> Result<Observed, Error> {
        let mut scope = plan::scope(desired);
        scope.whole = true;
        read_scope(self.netlink, &scope).await.map_err(Error::Observe)
    }

    fn failure(&self, group: &Group, why: String, pause: Option<Duration>) -> Failure {
        let is_old = self.in_force.has(&group.desired);
        Failure { names: group.names.clone(), why, pause, is_old, is_untestable: false }
    }

    /// Whether what is wanted may be kept on disk: all that is not brought about was in force before.
    fn is_settled(&self, looked: &Looked) -> bool {
        if self.texts == self.texts_in_force {
            return true;
        }
        let failed_before = looked.failures.iter().all(|failure| failure.is_old);
        failed_before && looked.waits.iter().all(|missing| self.was_wanted(&missing.of))
    }

    /// Whether all that asks for this interface or route was in force before.
    fn was_wanted(&self, what: &str) -> bool {
        for entry in &self.desired.interfaces {
            let asks = entry.name == what || entry.ports().iter().any(|port| port == what);
            if asks && !self.in_force.interfaces.contains(entry) {
                return false;
            }
        }
        let mut routes = self.desired.routes.iter().filter(|route| place(route) == what);
        routes.all(|route| self.in_force.routes.contains(route))
    }

    /// Keeps on disk what is wanted, if only links that were in force before fail or wait.
    fn settle(&mut self, looked: &Looked) {
        if self.texts == self.texts_in_force || !self.is_settled(looked) {
            return;
        }
        self.disk.keep(Some(&self.texts).filter(|_| self.keeps_any()));
        self.comes_into_force();
    }

    /// Whether there is anything to keep on disk.
    fn keeps_any(&self) -> bool {
        !self.desired.is_empty() || self.texts.refused.is_some()
    }

    fn comes_into_force(&mut self) {
        let is_new = self.texts_in_force != self.texts;
        self.texts_in_force.clone_from(&self.texts);
        self.in_force.clone_from(&self.desired);
        if is_new {
            self.publish(false);
        }
    }
}

/// Why a change was taken back, and what comes of that.
fn why_taken_back(error: &Error) -> String {
    let why = chain(error);
    match error {
        Error::CutOff { .. } => format!(
            "{why}; it is not tried again until the policy, its annotation {RETRY_ANNOTATION}, or the file changes, or SIGHUP asks for it"
        ),
        _ => why,
    }
}

impl Desired {
    fn extend(&mut self, other: Self) {
        self.interfaces.extend(other.interfaces);
        self.routes.extend(other.routes);
        self.own_ports.extend(other.own_ports);
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
