//! What an earlier process, or a change that failed, has left: half-done steps, and a promise to the plugin.

use octavia_bridge_ipam::causes::chain;
use octavia_bridge_netlink::Netlink;

use super::apply::{self, Goal, LeftBehind};
use super::source;
use super::state::{Bridges, Kept, State};

/// After a change that failed the plugin has to go by the policy before it again.
pub(crate) fn promise_kept(state: &State) {
    let promised = || -> anyhow::Result<()> {
        match state.kept() {
            Some(kept) => state.promise(&Bridges::of(&source::desired(&kept)?, &kept))?,
            None => state.promise_nothing()?,
        }
        Ok(())
    };
    if let Err(error) = promised() {
        tracing::warn!("the plugin still follows the failed policy: {}", chain(&*error));
    }
}

/// What is kept, or will be when [`recover`] is done.
pub(crate) fn kept_last(state: &State) -> Option<Kept> {
    match apply::left_behind(state.directory()).and_then(|left| left.reached) {
        Some(Goal::Keep(kept)) => Some(kept),
        Some(Goal::Forget) => None,
        None => state.kept(),
    }
}

/// Settles what a process that was killed has left: steps half-way are taken back, steps complete are not. A process that
/// dies of it is the last to try.
pub(crate) async fn recover(netlink: &Netlink, state: &State) -> anyhow::Result<()> {
    let Some(mut left) = apply::left_behind(state.directory()) else { return Ok(()) };
    left.begins();
    match settle(netlink, state, &left).await {
        Ok(()) => Ok(left.journal.end().map_err(apply::Error::Journal)?),
        Err(error) => {
            left.failed();
            Err(error)
        }
    }
}

async fn settle(netlink: &Netlink, state: &State, left: &LeftBehind) -> anyhow::Result<()> {
    match &left.reached {
        Some(Goal::Keep(kept)) => state.keep(kept)?,
        Some(Goal::Forget) => state.forget()?,
        None if left.begun.is_empty() => {}
        None => {
            apply::take_back(netlink, &left.begun).await?;
            let number = left.begun.len();
            tracing::warn!("an earlier process was killed half-way; its {number} steps were taken back");
        }
    }
    Ok(())
}
