//! Sandboxes that a plugin does not know, and that may run on another node.
//!
//! A pod that was deleted by force may have a successor of the same name while its sandbox still runs on its node. The plugin of the
//! successor's node has no record of that sandbox, and reports it as gone. Reservations name the node; but networks whose
//! overlapping ranges do not matter have none, and those of whereabouts name none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use octavia_bridge_cluster::lock;
use octavia_bridge_ipam::allocate::Usage;
use octavia_bridge_ipam::file::Tombstones;
use octavia_bridge_ipam::wire::{Attachment, Claim};
use tokio::time::{Instant, timeout_at};

use super::Broker;
use crate::attachments::Sandboxes;
use crate::cluster::pending::of;
use crate::cluster::reclaim::{Basis, PodRef, Pods, ReclaimApi, describe};

/// So many leaked addresses a message names.
const SHOWN: usize = 4;
/// So many sandboxes are remembered, those that were asked about last.
const REMEMBERED: usize = 1024;

/// What is needed to judge sandboxes that other writers recorded.
pub(super) struct Contested {
    pub(super) node: String,
    pub(super) sandboxes: Sandboxes,
    pub(super) api: ReclaimApi,
    pub(super) grace: Duration,
    /// Those of this node.
    pub(super) pods: Arc<Pods>,
    pub(super) doubts: Mutex<Doubts>,
}

/// Since when nothing has shown that sandboxes run, and when they were last asked about.
#[derive(Debug, Default)]
pub(super) struct Doubts(HashMap<Attachment, Doubt>);

#[derive(Debug)]
struct Doubt {
    since: Instant,
    asked: Instant,
}

impl Doubts {
    /// Notes a question; how long the sandbox has been in doubt. What nobody asked about for a grace period begins anew: it
    /// may have been seen meanwhile.
    fn ask(&mut self, attachment: &Attachment, grace: Duration) -> Duration {
        let now = Instant::now();
        if !self.0.contains_key(attachment) && self.0.len() >= REMEMBERED {
            let oldest = self.0.iter().min_by_key(|(_, doubt)| doubt.asked);
            if let Some(oldest) = oldest.map(|(attachment, _)| attachment.clone()) {
                self.0.remove(&oldest);
            }
        }
        let doubt = self.0.entry(attachment.clone()).or_insert(Doubt { since: now, asked: now });
        if now - doubt.asked > grace {
            doubt.since = now;
        }
        doubt.asked = now;
        now - doubt.since
    }
}

impl Contested {
    /// Whether the sandbox may run on another node: the API knows a pod of that name there, or the pod that the sandbox's
    /// reservation names, or has known neither for less than the grace period.
    async fn may_run_elsewhere(
        &self,
        attachment: &Attachment,
        podref: &str,
        pod_uid: Option<&str>,
        deadline: Instant,
    ) -> bool {
        let Some(podref) = PodRef::new(podref) else { return true };
        let Ok(Ok(pod)) = timeout_at(deadline, self.api.pod(&podref)).await else { return true };
        let is_known = pod.is_some_and(|pod| {
            (!pod.node.is_empty() && *pod.node != *self.node) || pod_uid == Some(&*pod.uid)
        });
        let mut doubts = lock(&self.doubts);
        if is_known {
            doubts.0.remove(attachment);
            return true;
        }
        doubts.ask(attachment, self.grace) < self.grace
    }
}

impl Broker {
    /// Marks the sandboxes of a claim as alive that the plugin takes for gone only because another node, or another program,
    /// knows them.
    pub(super) async fn judge(&self, claim: &mut Claim, deadline: Instant) {
        let podref = claim.request.owner.pod.clone().unwrap_or_default();
        for sandbox in claim.sandboxes.iter_mut().filter(|sandbox| !sandbox.alive) {
            let attachment = &sandbox.attachment;
            if self.was_here(attachment).await {
                continue;
            }
            let known = self.store.survey(|holding| holding.attachment() == *attachment);
            let uid = known.iter().find_map(|holding| Some(holding.reservation.as_ref()?.1.pod_uid()));
            let uid = uid.filter(|uid| !uid.is_empty());
            sandbox.alive = self.contested.may_run_elsewhere(attachment, &podref, uid, deadline).await;
        }
    }

    /// The addresses in a full range that this node's agent takes for leaked, as the end of a message; nothing if it knows none.
    pub(super) fn leaked(&self, full: &Usage) -> String {
        let Contested { node, pods, grace, .. } = &self.contested;
        if !pods.are_known() {
            return String::new();
        }
        let leaked = self.store.survey(|holding| {
            let Some(entry) = &holding.entry else { return false };
            let Basis::Uid { node: other, podref, uid } = Basis::of(holding) else { return false };
            entry.pool.as_str() == full.pool
                && (full.first..=full.last).contains(&entry.address)
                && other == *node
                && !pods.lives(podref.as_str(), &uid)
        });
        if leaked.is_empty() {
            return String::new();
        }
        let shown: Vec<String> = leaked.iter().take(SHOWN).map(describe).collect();
        let more = if leaked.len() > SHOWN { ", …" } else { "" };
        format!(
            "; {} of pods that are gone from this node: {}{more}; the agent frees them within {} s",
            leaked.len(),
            shown.join(", "),
            2 * grace.as_secs()
        )
    }

    /// Whether the sandbox was on this node. Then the plugin's word is enough.
    async fn was_here(&self, attachment: &Attachment) -> bool {
        if self.store.was_here(attachment) {
            return true;
        }
        let (sandboxes, attachment) = (self.contested.sandboxes.clone(), attachment.clone());
        let look = move |tombstones: &Tombstones| {
            sandboxes.has_record(&attachment) || tombstones.has(&of(&attachment)).is_ok_and(|has| has)
        };
        self.pending.look(look).await.is_ok_and(|was_here| was_here)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const GRACE: Duration = Duration::from_secs(60);

    fn sandbox(number: usize) -> Attachment {
        Attachment { container_id: format!("c{number}"), ifname: "net1".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_doubt_lasts_as_long_as_somebody_asks_within_the_grace_period() {
        let mut doubts = Doubts::default();
        assert_eq!(doubts.ask(&sandbox(1), GRACE), Duration::ZERO);
        advance(GRACE / 2).await;
        assert_eq!(doubts.ask(&sandbox(1), GRACE), GRACE / 2);
        advance(GRACE).await;
        assert_eq!(doubts.ask(&sandbox(1), GRACE), GRACE * 3 / 2, "seen by none in between");
        advance(GRACE * 2).await;
        assert_eq!(doubts.ask(&sandbox(1), GRACE), Duration::ZERO, "nobody looked for a while");
    }

    #[tokio::test(start_paused = true)]
    async fn the_doubt_that_was_asked_about_first_makes_room() {
        let mut doubts = Doubts::default();
        for number in 0..REMEMBERED {
            doubts.ask(&sandbox(number), GRACE);
            advance(Duration::from_millis(1)).await;
        }
        doubts.ask(&sandbox(0), GRACE);
        doubts.ask(&sandbox(REMEMBERED), GRACE);
        assert_eq!(doubts.0.len(), REMEMBERED);
        assert!(doubts.ask(&sandbox(0), GRACE) > Duration::ZERO);
        assert!(doubts.ask(&sandbox(2), GRACE) > Duration::ZERO);
        assert_eq!(doubts.ask(&sandbox(1), GRACE), Duration::ZERO, "forgotten");
    }
}
