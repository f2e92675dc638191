//! Entries of this node without a reservation: it was deleted while no agent was there to see it.
//!
//! Whereabouts deletes a reservation by its name after it has lost an address to one of ours. An agent at work sees that
//! (`node::keep_reservations`); one that starts afterwards finds an entry that looks like those of networks whose overlapping
//! ranges do not matter, which have no reservations. So two things are asked for: the plugin's record says that the
//! attachment stands here, and another entry of the same pool has a reservation.

use std::collections::BTreeSet;

use octavia_bridge_ipam::kubernetes::{Entry, Holding, Repaired, Reservation, ReservationFields};
use tokio::time::sleep;

use super::repair::Failures;
use super::{Reclaim, Seen, WarnOnce};
use crate::attachments::{Recorded, Sandboxes};

/// Looks again and again, for ever.
pub(super) async fn run(reclaim: std::sync::Arc<Reclaim>) {
    let (mut seen, mut warning) = (Seen::default(), WarnOnce::default());
    loop {
        if reclaim.can_judge() && reclaim.pods.are_known() {
            match reclaim.repair_bare(&mut seen).await {
                Ok(()) => warning.clear(),
                Err(why) => warning.warn(format!("cannot recreate a missing reservation now: {why}")),
            }
        }
        sleep(reclaim.pace()).await;
    }
}

impl Reclaim {
    async fn repair_bare(&self, seen: &mut Seen) -> Result<(), String> {
        let mut reserved = BTreeSet::new();
        let mut bare = self.repairer.store.survey(|holding| {
            let (Some(entry), None) = (&holding.entry, &holding.reservation) else {
                reserved.extend(holding.entry.as_ref().map(|entry| entry.pool.to_string()));
                return false;
            };
            entry.allocation.ifname().is_some()
        });
        bare.retain(|holding| {
            holding.entry.as_ref().is_some_and(|entry| reserved.contains(entry.pool.as_str()))
        });
        // As long as a claim or a release may be half-way, and then once in so long: a record is a file.
        bare.retain(|holding| seen.for_long(&key(holding)) >= self.grace);
        seen.end_look();
        let mut failures = Failures::default();
        for holding in &bare {
            seen.forget(&key(holding));
            let Some((name, lost)) = self.lost_by(holding).await else { continue };
            let repaired = match self.repairer.repair_reservation(&name, &lost, false).await {
                Ok(repaired) => repaired,
                // In another grace period. Others are not kept waiting.
                Err(failed) => {
                    if failures.note(Err(failed)) {
                        continue;
                    }
                    break;
                }
            };
            let holder = format!("{} {} (container {})", lost.podref(), lost.ifname(), lost.container());
            match repaired {
                Repaired::Done => {
                    tracing::warn!("reservation {name} of {holder} was missing; the agent recreated it");
                    self.metrics.restored("reservation");
                }
                Repaired::Taken => {
                    tracing::error!("another pod has taken reservation {name} of {holder}");
                }
                Repaired::Needless => {}
            }
        }
        failures.result()
    }

    /// The reservation that an entry should have, if its attachment stands on this node and its pod lives.
    async fn lost_by(&self, holding: &Holding) -> Option<(String, Reservation)> {
        let Entry { allocation, address: meant, .. } = holding.entry.as_ref()?;
        let name = holding.entry.as_ref()?.reservation_name()?;
        let attachment = holding.attachment();
        let meant = *meant;
        let has = move |sandboxes: &Sandboxes| {
            sandboxes.standing(&attachment).is_some()
                && sandboxes.recorded(&attachment, |address| address == meant) == Recorded::Has
        };
        if !self.repairer.look(move |sandboxes, _| has(sandboxes)).await.is_ok_and(|has| has) {
            return None;
        }
        let pod_uid = self.pods.uid(allocation.podref())?;
        let lost = ReservationFields {
            podref: allocation.podref(),
            ifname: allocation.ifname()?,
            container: allocation.id(),
            node: &self.node,
            pod_uid: &pod_uid,
            ..ReservationFields::default()
        };
        Some((name, lost.into()))
    }
}

fn key(holding: &Holding) -> String {
    let pool = holding.entry.as_ref().map(|entry| entry.pool.as_str()).unwrap_or_default();
    format!("{pool} {} {}", holding.address(), holding.attachment().container_id)
}
