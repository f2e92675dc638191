//! This node's own: what its agents wrote down with a pod's uid.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use octavia_bridge_cluster::Jitter;
use octavia_bridge_ipam::kubernetes::{Entry, Holding, Repaired, Reservation};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};

use super::proof::Basis;
use super::repair::{Failed, Failures, Freed, Lone};
use super::{Reclaim, Seen, WarnOnce};
use crate::attachments::Recorded;
use crate::cluster::backoff;

/// How long the record of an attachment may still be there after its release, of which the watch may have reported. Not longer:
/// meanwhile another pod may get the address.
const AFTER_RELEASE: Duration = Duration::from_secs(2);
/// How long an ADD may be under way before its record says which addresses the attachment has: runtimes give it two minutes.
const LONGEST_ADD: Duration = Duration::from_secs(150);

/// How one of this node's addresses stands, as far as is known without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// All is well, or another agent is responsible.
    Well,
    /// No such pod is among those of this node.
    Suspect,
    /// The pod lives, and its reservation has no entry.
    Lone,
}

/// Looks again and again, for ever.
pub(super) async fn run(reclaim: Arc<Reclaim>) {
    let (mut suspects, mut lone, mut warning) = (Seen::default(), Seen::default(), WarnOnce::default());
    loop {
        if reclaim.can_judge() && reclaim.pods.are_known() {
            match reclaim.look(&mut suspects, &mut lone).await {
                Ok(()) => warning.clear(),
                Err(why) => warning.warn(format!("cannot reclaim leaked addresses of this node now: {why}")),
            }
        }
        sleep(reclaim.pace()).await;
    }
}

/// Recreates reservations that were deleted: whereabouts deletes them after it has lost an address to us, and its reconciler of a pod that
/// does not yet report its address, together with the entry. For ever. Each one is a task of its own: one that always fails
/// keeps no other waiting.
pub(super) async fn keep_reservations(reclaim: Arc<Reclaim>) {
    let mut at_work = JoinSet::new();
    let mut names: HashMap<String, AbortHandle> = HashMap::new();
    loop {
        let (name, lost) = tokio::select! {
            lost = reclaim.repairer.store.lost() => lost,
            Some(_ended) = at_work.join_next() => {
                names.retain(|_, task| !task.is_finished());
                continue;
            }
        };
        let reclaim = reclaim.clone();
        let task = at_work.spawn(keep_reservation(reclaim, name.clone(), lost));
        // It was deleted once more: what was to be put back before is not what it was last.
        if let Some(before) = names.insert(name, task) {
            before.abort();
        }
    }
}

async fn keep_reservation(reclaim: Arc<Reclaim>, name: String, lost: Reservation) {
    if reclaim.keep_reservation(&name, &lost, false).await != Repaired::Needless {
        return;
    }
    let begun = Instant::now();
    // An ADD that has not come to its end may have chosen another address.
    while begun.elapsed() < LONGEST_ADD && reclaim.repairer.recorded(&name, &lost).await != Recorded::Lacks {
        // Of a DEL that is about to end it may come to nothing.
        sleep(AFTER_RELEASE).await;
        if reclaim.repairer.recorded(&name, &lost).await == Recorded::Has {
            reclaim.keep_reservation(&name, &lost, true).await;
            return;
        }
    }
}

/// Puts back the entries of this node's attachments that the server lost because it was restored from a backup. Their
/// reservations, where there are any, are recreated by [`keep_reservations`]. For ever.
pub(super) async fn keep_entries(reclaim: Arc<Reclaim>) {
    let mut at_work = JoinSet::new();
    loop {
        let lost = tokio::select! {
            lost = reclaim.repairer.store.lost_entries() => lost,
            Some(_ended) = at_work.join_next() => continue,
        };
        for entry in lost {
            at_work.spawn(keep_entry(reclaim.clone(), entry));
        }
    }
}

async fn keep_entry(reclaim: Arc<Reclaim>, entry: Entry) {
    let (mut backoff, jitter) = (backoff::repair(), Jitter::fresh());
    let mut warning = WarnOnce::default();
    let Entry { address, allocation, .. } = &entry;
    // A DEL may be about to end it.
    sleep(AFTER_RELEASE).await;
    loop {
        match reclaim.repairer.repair_lost_entry(&entry).await {
            Ok(Some(Repaired::Done)) => {
                tracing::warn!(
                    "the API server lost {address} of {} (container {}); the agent restored it",
                    allocation.podref(),
                    allocation.id()
                );
                reclaim.metrics.restored("entry");
                return;
            }
            Ok(Some(Repaired::Taken)) => {
                tracing::error!(
                    "the API server lost {address} of {} (container {}), and another pod has it now, while it is in use",
                    allocation.podref(),
                    allocation.id()
                );
                return;
            }
            Ok(Some(Repaired::Needless) | None) => return,
            Err(failed) => {
                warning.warn(format!(
                    "the API server lost {address}, and the agent cannot restore it now: {}",
                    failed.why
                ));
                sleep(backoff.next(&jitter)).await;
            }
        }
    }
}

impl Reclaim {
    /// Recreates a reservation, `bare` if also without its entry, and says so. Tries until it is known what becomes of it.
    async fn keep_reservation(&self, name: &str, lost: &Reservation, bare: bool) -> Repaired {
        let (mut backoff, jitter) = (backoff::repair(), Jitter::fresh());
        let mut warning = WarnOnce::default();
        loop {
            match self.repairer.repair_reservation(name, lost, bare).await {
                Ok(repaired) => {
                    self.say_kept(name, lost, repaired);
                    return repaired;
                }
                Err(failed) => {
                    warning.warn(format!(
                        "reservation {name} was deleted, and the agent cannot recreate it now: {}",
                        failed.why
                    ));
                    sleep(backoff.next(&jitter)).await;
                }
            }
        }
    }

    fn say_kept(&self, name: &str, lost: &Reservation, repaired: Repaired) {
        let holder = format!("{} {} (container {})", lost.podref(), lost.ifname(), lost.container());
        match repaired {
            Repaired::Done => {
                tracing::warn!(
                    "reservation {name} of {holder} was deleted while its pod lives; the agent recreated it"
                );
                self.metrics.restored("reservation");
            }
            Repaired::Taken => {
                tracing::error!("another pod has taken reservation {name} of {holder}");
            }
            Repaired::Needless => {}
        }
    }

    async fn look(&self, suspects: &mut Seen, lone: &mut Seen) -> Result<(), String> {
        // Only those that are due are kept: of a node that was emptied, all may be suspect.
        let due = self.repairer.store.survey(|holding| {
            let seen = match self.stands(holding) {
                Stands::Well => return false,
                Stands::Suspect => &mut *suspects,
                Stands::Lone => &mut *lone,
            };
            seen.for_long(key(holding)) >= self.grace
        });
        suspects.end_look();
        lone.end_look();
        let mut failures = Failures::default();
        for holding in due.iter().filter(|holding| self.stands(holding) == Stands::Suspect) {
            let freed = self.free_own(holding, suspects).await;
            if freed.is_err() {
                // In another grace period. Others are not kept waiting.
                suspects.forget(key(holding));
            }
            if !failures.note(freed) {
                return failures.result();
            }
        }
        for holding in due.iter().filter(|holding| self.stands(holding) == Stands::Lone) {
            lone.forget(key(holding));
            if !failures.note(self.repair_own(holding).await) {
                break;
            }
        }
        failures.result()
    }

    async fn free_own(&self, holding: &Holding, suspects: &mut Seen) -> Result<(), Failed> {
        match self.repairer.free(holding).await? {
            Freed::Done(death) => {
                tracing::info!("reclaimed {}: {death}", describe(holding));
                self.metrics.reclaimed(&death);
            }
            // Asked again only after another grace period.
            Freed::Lives | Freed::Changed => suspects.forget(key(holding)),
            Freed::Stands(namespace) => {
                suspects.forget(key(holding));
                tracing::warn!(
                    "{} is not reclaimed: its pod is gone from the API, but its network namespace {} still exists",
                    describe(holding),
                    namespace.display()
                );
            }
        }
        Ok(())
    }

    async fn repair_own(&self, holding: &Holding) -> Result<(), Failed> {
        match self.repairer.repair_entry(holding).await? {
            Some(Lone::Repaired(Repaired::Done)) => {
                tracing::warn!(
                    "{} was removed from its pool while its pod lives; the agent restored it",
                    describe(holding)
                );
                self.metrics.restored("entry");
            }
            Some(Lone::Repaired(Repaired::Taken)) => {
                tracing::error!("another pod has {} now, while it is in use", describe(holding));
            }
            Some(Lone::Released) => {
                tracing::info!("released {}: its pod has another address", describe(holding));
            }
            Some(Lone::Repaired(Repaired::Needless)) | None => {}
        }
        Ok(())
    }

    fn stands(&self, holding: &Holding) -> Stands {
        match Basis::of(holding) {
            Basis::Uid { node, podref, uid } if node == self.node => {
                if !self.pods.lives(podref.as_str(), &uid) {
                    Stands::Suspect
                } else if holding.entry.is_none() && !holding.disputed {
                    Stands::Lone
                } else {
                    Stands::Well
                }
            }
            _ => Stands::Well,
        }
    }
}

/// What is known by a uid has a reservation, and that has a uid of its own.
pub(super) fn key(holding: &Holding) -> &str {
    holding.reservation.as_ref().map(|(_, reservation)| reservation.uid()).unwrap_or_default()
}

/// For people.
pub(crate) fn describe(holding: &Holding) -> String {
    let attachment = holding.attachment();
    let ifname = if attachment.ifname.is_empty() { "unnamed interface" } else { &attachment.ifname };
    let container = match attachment.container_id.as_str() {
        "" => "container unknown".to_owned(),
        id => format!("container {id}"),
    };
    format!("{} of {} {ifname} ({container})", holding.address(), holding.podref())
}
