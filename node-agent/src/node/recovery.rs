//! What an earlier process, or a change that failed, has left: half-done steps, and a promise to the plugin.

use std::path::Path;

use octavia_bridge_ipam::causes::chain;
use octavia_bridge_netlink::Netlink;

use super::apply::{self, Goal, Journal, LeftBehind};
use super::state::{Bridges, Kept, State};
use super::{ports, source};

/// After a change that failed the plugin has to go by the policy before it again.
pub(crate) fn promise_kept(state: &State) {
    let promised = || -> anyhow::Result<()> {
        match state.kept() {
            Some(kept) => {
                let desired = source::desired(&kept)?;
                let refused = kept.not_in_force(&ports::bridges(&desired));
                state.promise(&Bridges::of(&desired, &kept).and(refused.as_slice()))?;
            }
            None => state.promise_nothing()?,
        }
        Ok(())
    };
    if let Err(error) = promised() {
        tracing::warn!("the plugin still follows the failed policy: {}", chain(&*error));
    }
}

/// A journal that was left in `directory`. One that this release left before an older release kept the links, as after a
/// rollback, tells nothing of them any more.
fn left_behind(state: &State, directory: &Path) -> Option<LeftBehind> {
    let left = apply::left_behind(directory)?;
    if directory == state.journal() && state.was_left_to_older_release() {
        tracing::warn!(
            "an older release has kept the links since an earlier process was killed half-way; they stay as they are"
        );
        end(left.journal);
        return None;
    }
    Some(left)
}

/// What is kept, or will be when [`recover`] is done.
pub(crate) fn kept_last(state: &State) -> Option<Kept> {
    for directory in state.journals() {
        match left_behind(state, directory).and_then(|left| left.reached) {
            Some(Goal::Keep(kept)) => return Some(kept),
            Some(Goal::Forget) => return None,
            None => {}
        }
    }
    state.kept()
}

/// Settles what a process that was killed has left: steps half-way are taken back, steps complete are not. One attempt is
/// made: what cannot be taken back is logged, and the plan goes by what is there.
///
/// # Errors
/// A state that was reached and cannot be kept; that is tried again.
pub(crate) async fn recover(netlink: &Netlink, state: &State) -> anyhow::Result<()> {
    for (number, (goal, journal)) in take_back_begun(netlink, state).await.into_iter().enumerate() {
        // As `kept_last` has it, the first one counts.
        match goal {
            _ if number > 0 => {}
            Goal::Keep(kept) => state.keep(&kept)?,
            Goal::Forget => state.forget()?,
        }
        end(journal);
    }
    Ok(())
}

/// Takes back the steps half-way. Returns what was left complete, with the journals that end when the first of these goals
/// is on the disk.
pub(crate) async fn take_back_begun(netlink: &Netlink, state: &State) -> Vec<(Goal, Journal)> {
    let mut reached = Vec::new();
    for directory in state.journals() {
        let Some(mut left) = left_behind(state, directory) else { continue };
        if let Some(goal) = left.reached.take() {
            reached.push((goal, left.journal));
            continue;
        }
        if !left.begun.is_empty() {
            // A process that dies of it is the last to try.
            left.begins();
            take_back(netlink, &left).await;
        }
        end(left.journal);
    }
    state.adopt();
    reached
}

fn end(journal: Journal) {
    if let Err(text) = journal.end() {
        tracing::warn!("{text}");
    }
}

async fn take_back(netlink: &Netlink, left: &LeftBehind) {
    let number = left.begun.len();
    let failures = apply::take_back(netlink, &left.begun).await;
    if failures.is_empty() {
        tracing::warn!("an earlier process was killed half-way; its {number} steps were taken back");
        return;
    }
    for failure in &failures {
        tracing::error!("an earlier process was killed half-way, and this could not be put back: {failure}");
    }
}
