//! Reaches the desired state, and keeps it for the next boot.

use std::process::ExitCode;

use anyhow::Context;
use octavia_bridge_ipam::causes::chain;
use octavia_bridge_ipam::visible;
use octavia_bridge_netlink::Netlink;

use super::cli::{Cli, Safety};
use super::output::{print_steps, warn};
use super::remove::own_ports;
use crate::node::apply::{self, Goal, Targets};
use crate::node::desired::Desired;
use crate::node::nmstate_lock;
use crate::node::plan::Missing;
use crate::node::ports;
use crate::node::recovery::{promise_kept, recover};
use crate::node::source::{self, Input};
use crate::node::state::{Bridges, Kept, State};
use crate::node::witness::{self, Marks};

/// Something has to appear before the desired state can be reached; nothing was touched.
#[derive(Debug, thiserror::Error)]
#[error("{}", visible::lines(.0))]
pub(crate) struct Incomplete(Vec<Missing>);

/// The links are as wanted, and the next boot will not know.
#[derive(Debug, thiserror::Error)]
#[error("the node is as the policy says, but the policy is not kept: {0}")]
pub(crate) struct NotKept(pub(super) String);

pub(crate) async fn apply(cli: &Cli, input: &Input, safety: &Safety) -> anyhow::Result<ExitCode> {
    // Standard input is read before the lock is taken: it may be long in coming.
    let named = if input.files.is_empty() { None } else { Some(read(input, None)?) };
    nmstate_lock::stand_down(&cli.nmstate_lock)?;
    let state = State::lock(&cli.state_dir)?;
    let netlink = Netlink::open().await?;
    recover(&netlink, &state).await?;
    let named = named.map_or_else(|| read(input, Some(&state)), Ok);
    let applied = async { reconcile(&netlink, &state, named?, safety).await }.await;
    if applied.is_err() {
        promise_kept(&state);
    }
    applied
}

fn read(input: &Input, state: Option<&State>) -> anyhow::Result<(Kept, Desired)> {
    let kept = source::texts(input, state.and_then(State::kept))?;
    let desired = source::desired(&kept)?;
    Ok((kept, desired))
}

async fn reconcile(
    netlink: &Netlink,
    state: &State,
    (kept, mut desired): (Kept, Desired),
    safety: &Safety,
) -> anyhow::Result<ExitCode> {
    // Before the first look: a bridge that the plugin makes on its own is seen here, or not made.
    let refused = kept.not_in_force(&ports::bridges(&desired));
    state.promise(&Bridges::of(&desired, &kept).and(refused.as_slice()))?;
    let marks = Marks::read(netlink, state).await.context("look for lost marks")?;
    desired.own_ports = own_ports(netlink, state.kept().as_ref(), marks.ports()).await;
    let mut cut_offs = state.cut_offs();
    let targets = Targets::named(&safety.reach).and_lost(cut_offs.lost());
    if marks.are_lost() {
        let plan = apply::judge(netlink, &desired, &marks, &targets).await?;
        if !plan.missing.is_empty() {
            return Err(Incomplete(plan.missing).into());
        }
    }
    for note in marks.restore(netlink, state).await {
        tracing::warn!("{note}");
    }
    let plan = apply::plan_now(netlink, &desired).await?;
    if !plan.missing.is_empty() {
        return Err(Incomplete(plan.missing).into());
    }
    warn(&desired, &plan);
    let draft = state.draft(&kept)?;
    let goal = Goal::Keep(kept);
    match apply::carry_out(netlink, &desired, plan, &targets, state.journal(), Some(&goal)).await {
        Ok(done) => {
            let kept = state.publish(draft);
            for note in &done.notes {
                tracing::warn!("{note}");
            }
            let steps = done.end();
            witness::learn(netlink, state, &desired).await;
            print_steps(&steps);
            kept.map_err(|cause| NotKept(chain(&cause)))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            if let Err(left) = state.discard(draft) {
                tracing::warn!("{}", chain(&left));
            }
            if !error.lost_defaults().is_empty() {
                cut_offs.lose(error.lost_defaults());
                if let Err(left) = state.write_cut_offs(&cut_offs) {
                    tracing::warn!("{}", chain(&left));
                }
            }
            Err(error.into())
        }
    }
}
