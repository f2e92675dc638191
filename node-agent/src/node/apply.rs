//! Carrying out a plan: step by step, read back, and taken back if it does not come out as planned.

mod journal;
mod kernel;
mod reach;

use std::path::Path;

use octavia_bridge_ipam::causes::chain;
use octavia_bridge_netlink::{self as nl, Netlink};

use crate::node::desired::Desired;
use crate::node::observed::{self, Scope};
use crate::node::plan::{self, Conflicts, Plan, Planned};

pub(crate) use journal::{Goal, Journal, LeftBehind};
pub(crate) use reach::Targets;

/// How often to plan again when reading back shows that something is left to do. The kernel has side
/// effects of its own (a primary IPv4 address takes its secondaries along), which a second plan mends.
const ROUNDS: usize = 3;

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

    /// What had been done was taken back.
    #[error("{step}; {undone}")]
    Step {
        step: String,
        #[source]
        source: kernel::Error,
        undone: Undone,
    },

    /// What had been done was taken back.
    #[error("after all steps there is still to do: {left}; {undone}")]
    NotReached { left: String, undone: Undone },

    /// What had been done was taken back.
    #[error("{cause}; {undone}")]
    CutOff { cause: reach::Error, undone: Undone },

    /// Nothing was touched since, or an earlier process's steps could not be taken back.
    #[error("{0}")]
    Journal(String),
}

/// How the taking back went.
#[derive(Debug)]
pub(crate) struct Undone(Vec<String>);

impl std::fmt::Display for Undone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("everything was put back as it was");
        }
        write!(f, "putting things back failed as well: {}", self.0.join("; "))
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

/// Steps that were done, and not yet what was to follow them.
#[derive(Debug, Default)]
#[must_use = "the journal has to end when what follows is done"]
pub(crate) struct Done {
    pub(crate) steps: Vec<Planned>,
    journal: Option<Journal>,
}

impl Done {
    /// What was to follow is done as well. A process killed before this leaves it to the next.
    ///
    /// # Errors
    /// Those of removing the journal.
    pub(crate) fn end(self) -> Result<Vec<Planned>, Error> {
        finish(self.journal)?;
        Ok(self.steps)
    }
}

/// Carries out `plan` and reads back. Writes nothing, neither to the kernel nor to disk, if the plan is
/// empty. With a `goal`, what was done stays done from then on, also if this process is killed; without one the
/// next process takes it back until [`Done::end`].
///
/// # Errors
/// What failed; everything done was taken back, as far as the error says so.
pub(crate) async fn carry_out(
    netlink: &Netlink,
    desired: &Desired,
    plan: Plan,
    targets: &Targets,
    state: &Path,
    goal: Option<&Goal>,
) -> Result<Done, Error> {
    if plan.steps.is_empty() {
        return Ok(Done::default());
    }
    let watched = match &plan.cuts {
        Some(step) => Some(targets.answering(netlink, step).await.map_err(Error::Unreachable)?),
        None => None,
    };
    let mut journal = Journal::begin(state).map_err(Error::Journal)?;
    let mut steps = Vec::new();
    let result = rounds(netlink, desired, plan, &mut journal, &mut steps).await;
    let result = match (result, watched) {
        (Ok(()), Some(watched)) => watched.wait().await.map_err(Failure::CutOff),
        (result, _) => result,
    };
    let result = match goal.filter(|_| result.is_ok()) {
        Some(goal) => journal.reached(goal).map_err(|text| Failure::Other(Error::Journal(text))),
        None => result,
    };
    if let Err(failure) = result {
        let undone = undo(netlink, &steps).await;
        // What could not be taken back now is tried again at the next start.
        if undone.0.is_empty() {
            finish(Some(journal))?;
        }
        return Err(failure.with(undone));
    }
    Ok(Done { steps, journal: Some(journal) })
}

fn finish(journal: Option<Journal>) -> Result<(), Error> {
    journal.map_or(Ok(()), |journal| journal.end().map_err(Error::Journal))
}

/// An error before it is known how the taking back went.
enum Failure {
    Step { step: String, source: kernel::Error },
    NotReached(String),
    CutOff(reach::Error),
    Other(Error),
}

impl Failure {
    fn with(self, undone: Undone) -> Error {
        match self {
            Self::Step { step, source } => Error::Step { step, source, undone },
            Self::NotReached(left) => Error::NotReached { left, undone },
            Self::CutOff(cause) => Error::CutOff { cause, undone },
            Self::Other(error) => error,
        }
    }
}

async fn rounds(
    netlink: &Netlink,
    desired: &Desired,
    mut plan: Plan,
    journal: &mut Journal,
    done: &mut Vec<Planned>,
) -> Result<(), Failure> {
    for _ in 0..ROUNDS {
        for planned in plan.steps {
            journal.about_to(&planned).map_err(|text| Failure::Other(Error::Journal(text)))?;
            // Before it is done: a step that fails may have been done in part.
            done.push(planned.clone());
            if let Err(source) = kernel::carry_out(netlink, &planned.apply).await {
                return Err(Failure::Step { step: planned.apply.to_string(), source });
            }
        }
        plan = plan_now(netlink, desired).await.map_err(Failure::Other)?;
        if plan.steps.is_empty() {
            return Ok(());
        }
    }
    let left: Vec<String> = plan.steps.iter().map(|planned| planned.apply.to_string()).collect();
    Err(Failure::NotReached(left.join(", ")))
}

async fn undo(netlink: &Netlink, done: &[Planned]) -> Undone {
    let mut failures = Vec::new();
    for planned in done.iter().rev() {
        if let Err(error) = kernel::take_back(netlink, &planned.undo).await {
            failures.push(format!("{}: {}", planned.undo, chain(&error)));
        }
    }
    Undone(failures)
}

/// What a process that was killed has left behind, if it has and can be recovered from.
pub(crate) fn left_behind(state: &Path) -> Option<LeftBehind> {
    Journal::left_behind(state)
}

/// Takes back what that process had begun.
///
/// # Errors
/// Steps that cannot be taken back; the journal then stays.
pub(crate) async fn take_back(netlink: &Netlink, begun: &[Planned]) -> Result<(), Error> {
    let undone = undo(netlink, begun).await;
    if undone.0.is_empty() {
        return Ok(());
    }
    Err(Error::Journal(format!("take back what a killed process left half done: {undone}")))
}
