//! Carrying out a plan: step by step, read back, and taken back if it does not come out as planned.

mod difference;
mod journal;
mod kernel;
mod reach;
#[cfg(test)]
mod tests;
mod undo;
mod work;

use std::path::Path;

use octavia_bridge_netlink::{self as nl, Netlink};

use crate::node::desired::Desired;
use crate::node::observed::{self, DefaultRoute, Observed, Scope};
use crate::node::plan::{self, Conflicts, Plan, Planned, Step};
use crate::node::witness::Marks;
use work::{Failure, Work};

pub(crate) use journal::{Goal, Journal, LeftBehind};
pub(crate) use reach::{Endpoint, Targets};
pub(crate) use undo::{Undone, take_back};

/// Why the desired state was not reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nothing was touched.
    #[error("read the present state")]
    Observe(#[source] nl::Error),

    /// Nothing was touched.
    #[error("{0}")]
    Conflicts(Conflicts),

    /// Nothing was touched.
    #[error("{0}")]
    Unreachable(reach::Error),

    /// What had been done was taken back, as far as `undone` says so.
    #[error("{why}; {undone}")]
    TakenBack { why: String, undone: Undone },

    /// The same, since the node could not reach the rest of the world any more.
    #[error("{cause}; {undone}")]
    CutOff { cause: reach::Error, undone: Undone },
}

impl Error {
    /// Default routes that the node had before and has no more.
    pub(crate) fn lost_defaults(&self) -> &[DefaultRoute] {
        match self {
            Self::Observe(_) | Self::Conflicts(_) | Self::Unreachable(_) => &[],
            Self::TakenBack { undone, .. } | Self::CutOff { undone, .. } => undone.lost(),
        }
    }

    /// Whether any step was begun.
    pub(crate) fn was_begun(&self) -> bool {
        matches!(self, Self::TakenBack { .. } | Self::CutOff { .. })
    }

    /// Whether the node is not as it was before.
    pub(crate) fn has_changed_the_node(&self) -> bool {
        match self {
            Self::Observe(_) | Self::Conflicts(_) | Self::Unreachable(_) => false,
            Self::TakenBack { undone, .. } | Self::CutOff { undone, .. } => !undone.is_complete(),
        }
    }
}

/// Reads and plans.
///
/// # Errors
/// Those of reading, and conflicts.
pub(crate) async fn plan_now(netlink: &Netlink, desired: &Desired) -> Result<Plan, Error> {
    let mut scope = plan::scope(desired);
    // Whether there is something to do takes less to tell than what: no routes and hardly any addresses, of which a
    // node may have thousands.
    match plan_in(netlink, desired, &scope).await {
        Ok(plan) if plan.steps.is_empty() => return Ok(plan),
        Ok(_) | Err(Error::Conflicts(_)) => {}
        Err(error) => return Err(error),
    }
    scope.whole = true;
    plan_in(netlink, desired, &scope).await
}

async fn plan_in(netlink: &Netlink, desired: &Desired, scope: &Scope) -> Result<Plan, Error> {
    let observed = observed::read_scope(netlink, scope).await.map_err(Error::Observe)?;
    plan::plan(desired, &observed).map_err(Error::Conflicts)
}

/// Plans with the marks that links have lost, and asks who could tell afterwards, as [`carry_out`] will. Changes nothing: what
/// it refuses has changed nothing either.
///
/// # Errors
/// Those of reading, conflicts, and that nobody answers.
pub(crate) async fn judge(
    netlink: &Netlink,
    desired: &Desired,
    marks: &Marks,
    targets: &Targets,
) -> Result<Plan, Error> {
    let mut observed = observe(netlink, desired).await?;
    marks.lend(&mut observed);
    let plan = plan::plan(desired, &observed).map_err(Error::Conflicts)?;
    targets.watch(netlink, &observed, &plan.steps).await.map_err(Error::Unreachable)?;
    Ok(plan)
}

async fn observe(netlink: &Netlink, desired: &Desired) -> Result<Observed, Error> {
    let scope = Scope { whole: true, ..plan::scope(desired) };
    observed::read_scope(netlink, &scope).await.map_err(Error::Observe)
}

/// Steps that were done, and not yet what was to follow them.
#[derive(Debug, Default)]
#[must_use = "the journal has to end when what follows is done"]
pub(crate) struct Done {
    pub(crate) steps: Vec<Planned>,
    /// What people should know of how it went.
    pub(crate) notes: Vec<String>,
    journal: Option<Journal>,
}

impl Done {
    /// What an earlier process has done, of which only the journal is left.
    pub(crate) fn left(journal: Journal) -> Self {
        Self { journal: Some(journal), ..Self::default() }
    }

    /// Whether there is, or would be, a journal of it.
    pub(crate) fn is_begun(&self) -> bool {
        !self.steps.is_empty() || self.journal.is_some()
    }

    /// What was to follow is done as well. A process killed before this leaves it to the next.
    pub(crate) fn end(self) -> Vec<Planned> {
        finish(self.journal);
        self.steps
    }
}

/// Carries out `plan` and reads back. Writes nothing, neither to the kernel nor to disk, if the plan is
/// empty. With a `goal`, what was done stays done from then on, also if this process is killed; without one the
/// next process takes it back until [`Done::end`]. `directory` is the journal's; where it cannot be written the work is
/// done without.
///
/// # Errors
/// What failed; everything done was taken back, as far as the error says so.
pub(crate) async fn carry_out(
    netlink: &Netlink,
    desired: &Desired,
    plan: Plan,
    targets: &Targets,
    directory: &Path,
    goal: Option<&Goal>,
) -> Result<Done, Error> {
    if plan.steps.is_empty() {
        return Ok(Done::default());
    }
    let mut before = observe(netlink, desired).await?;
    let watched = targets.watch(netlink, &before, &plan.steps).await.map_err(Error::Unreachable)?;
    // To ask takes seconds if there is no answer, and what others have changed meanwhile is theirs.
    if !watched.is_empty() {
        before = observe(netlink, desired).await?;
    }
    let mut work = Work::begin(netlink, desired, &before, directory);
    let mut result = work.rounds(plan, targets, &watched).await;
    if result.is_ok() && !watched.is_empty() {
        result = watched.wait(netlink).await.map_err(Failure::CutOff);
    }
    match result {
        Ok(()) => {
            if let Some(goal) = goal {
                work.reached(goal);
            }
            let Work { done, notes, journal, .. } = work;
            Ok(Done { steps: done, notes, journal })
        }
        Err(failure) => {
            let undone = undo::put_back(netlink, desired, &work.done, &before).await;
            // Whatever is left: the next plan goes by what is there, and another try would fail in the same way.
            finish(work.journal);
            Err(failure.with(undone))
        }
    }
}

/// Does the steps of a plan that bring the links of the node's default routes back ([`plan::restoring`]), unguarded. Returns what
/// was done. A step that fails ends this, and is left to the plan.
pub(crate) async fn restore_ways(
    netlink: &Netlink,
    desired: &Desired,
    before: &Observed,
    steps: Vec<Planned>,
    directory: &Path,
) -> Vec<Step> {
    let mut work = Work::begin(netlink, desired, before, directory);
    if let Err(failure) = work.some(steps).await {
        tracing::debug!("{}", failure.why());
    }
    finish(work.journal);
    work.done.into_iter().map(|planned| planned.apply).collect()
}

fn finish(journal: Option<Journal>) {
    if let Some(Err(text)) = journal.map(Journal::end) {
        tracing::warn!("{text}");
    }
}

/// What a process that was killed has left behind, if it has and can be recovered from.
pub(crate) fn left_behind(directory: &Path) -> Option<LeftBehind> {
    Journal::left_behind(directory)
}
