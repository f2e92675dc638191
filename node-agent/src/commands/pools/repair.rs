//! `pools repair`: what the agents do by themselves, once, and said aloud.

use std::process::ExitCode;
use std::time::Duration;

use octavia_bridge_ipam::kubernetes::{Holding, Repaired};
use tokio::time::sleep;

use super::census::{self, Responsible, Verdict};
use super::say;
use crate::cluster::reclaim::{Basis, Freed, Lone, Repairer, describe};
use crate::commands::cli::PoolsPlace;
use crate::commands::output::{print, tell};

/// Frees what is proven dead at two looks, `grace` apart, and puts back what this node's pods have lost.
///
/// What another node's agent answers for stays: only that one knows whether the sandbox still stands.
pub(super) async fn repair(
    repairer: &Repairer,
    place: &PoolsPlace,
    grace: Duration,
    dry_run: bool,
) -> anyhow::Result<ExitCode> {
    let node = place.node_name.as_deref().unwrap_or_default();
    let mut dead: Vec<(Holding, Responsible)> = Vec::new();
    let mut lone = Vec::new();
    for (holding, verdict) in census::take(repairer).await.0 {
        let words = describe(&holding);
        match verdict {
            Verdict::Gone(death, Responsible::Node(other)) if other != node => say(
                dry_run,
                &format!(
                    "left alone: {words}: {death}; the agent of node {other} frees it, or --node-name {other}"
                ),
            )?,
            Verdict::Gone(death, responsible) => {
                say(
                    dry_run,
                    &format!("{}: {words}: {death}", if dry_run { "would free" } else { "to be freed" }),
                )?;
                dead.push((holding, responsible));
            }
            Verdict::Unknown(why) => say(dry_run, &format!("left alone: {words}: {why}"))?,
            Verdict::Lives if is_lone(&holding, node) => lone.push(holding),
            Verdict::Lives => {}
        }
    }
    if dead.is_empty() && lone.is_empty() {
        say(dry_run, "nothing to repair")?;
    }
    if dry_run {
        for holding in lone {
            print(&format!(
                "would restore, if its sandbox runs on this node: the entry of {}",
                describe(&holding)
            ))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !dead.is_empty() {
        tell(&format!("checking again in {} s before freeing", grace.as_secs()));
        sleep(grace).await;
    }
    let mut failed = false;
    for (holding, responsible) in &dead {
        let (said, bad) = free(repairer, holding, responsible).await;
        tell(&format!("{said}: {}", describe(holding)));
        failed |= bad;
    }
    for holding in &lone {
        let (said, bad) = match repairer.repair_entry(holding).await {
            Ok(Some(Lone::Repaired(Repaired::Done))) => ("restored".to_owned(), false),
            Ok(Some(Lone::Repaired(Repaired::Taken))) => {
                ("allocated to another pod while it is in use".to_owned(), true)
            }
            Ok(Some(Lone::Released)) => ("not needed, its reservation was deleted".to_owned(), false),
            Ok(Some(Lone::Repaired(Repaired::Needless)) | None) => {
                ("left alone, not known to run on this node".to_owned(), false)
            }
            Err(error) => (format!("failed ({})", error.why), true),
        };
        tell(&format!("{said}: the entry of {}", describe(holding)));
        failed |= bad;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What was done, and whether that is a failure.
async fn free(repairer: &Repairer, holding: &Holding, responsible: &Responsible) -> (String, bool) {
    if let Responsible::ElectedForNode(node) = responsible {
        match repairer.api.has_node(node).await {
            Ok(false) => {}
            Ok(true) => return (format!("left alone, node {node} is back"), false),
            Err(error) => return (format!("failed ({})", error.in_words()), true),
        }
    }
    match repairer.free(holding).await {
        Ok(Freed::Done(_)) => ("freed".to_owned(), false),
        Ok(Freed::Lives) => ("left alone, its pod lives after all".to_owned(), false),
        Ok(Freed::Changed) => ("left alone, it has changed meanwhile".to_owned(), false),
        Ok(Freed::Stands(path)) => {
            (format!("left alone, its network namespace {} still exists", path.display()), false)
        }
        Err(error) => (format!("failed ({})", error.why), true),
    }
}

fn is_lone(holding: &Holding, node: &str) -> bool {
    let ours = matches!(Basis::of(holding), Basis::Uid { node: other, .. } if other == node);
    ours && holding.entry.is_none() && !holding.disputed
}
