//! Reclaim: addresses whose holder is gone become free, and what others took away from those that live is put back.
//!
//! A DEL that never came, a node that was lost, a process killed at a bad moment: something is always left behind. An
//! address is freed only after proof, never because something is missing:
//! - one that an agent of this project wrote names the pod's uid and its node. The agent of that node frees it when
//!   the pod of that uid is gone or has ended, has been so for a grace period, and is found so again just before; and not
//!   while the plugin's record says that the sandbox still stands here;
//! - of a node that the API does not know any more (asked twice, the grace period apart), it is for one elected agent, by the
//!   same proof of the pod;
//! - one of which only the pod's name is known (whereabouts wrote it, or overlapping pools do not matter) is for the elected
//!   agent, when there is no pod of that name, asked twice, the grace period apart.
//!
//! Times are counted on this machine's monotonic clock from when this process first saw something; wall clocks, and when an
//! object says that it was made, play no part. What is freed is tested to be still what the proof was about, so it does no
//! harm if two agents take themselves for the elected one, or if whereabouts writes at the same time.

mod api;
mod bare;
mod election;
mod keep_up;
mod metrics;
mod node;
mod orphans;
mod pod;
mod pods;
mod proof;
mod repair;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use octavia_bridge_cluster as cluster;
use octavia_bridge_ipam::kubernetes::{Store, Watching};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::attachments::Sandboxes;
use crate::cluster::pending::Pending;
use crate::health::Health;
pub(crate) use api::ReclaimApi;
use election::Election;
use metrics::ReclaimMetrics;
pub(crate) use node::describe;
pub(crate) use pod::{Pod, PodRef};
pub(crate) use pods::Pods;
pub(crate) use proof::{Basis, Death};
pub(crate) use repair::{Freed, Lone, Repairer};

/// What reclaim has to know.
pub(crate) struct Settings<'a> {
    /// This node's name in the API.
    pub(crate) node: &'a str,
    /// Where the pools are, and so the lease.
    pub(crate) namespace: &'a str,
    /// How long a holder must have been seen dead.
    pub(crate) grace: Duration,
    /// The plugin's `dataDir`.
    pub(crate) state_dir: &'a Path,
    /// The pods of this node, which reclaim follows.
    pub(crate) pods: &'a Arc<Pods>,
    /// Releases of this node that are pending.
    pub(crate) pending: &'a Pending,
}

/// What its parts share.
struct Reclaim {
    repairer: Repairer,
    pods: Arc<Pods>,
    election: Arc<Election>,
    node: String,
    grace: Duration,
    metrics: ReclaimMetrics,
}

/// Begins to reclaim. It ends with the set.
pub(crate) fn start(
    store: &Store,
    api: &cluster::Api,
    settings: &Settings<'_>,
    health: &Health,
) -> JoinSet<()> {
    let Settings { node, namespace, grace, state_dir, pods, pending } = *settings;
    let election = Arc::new(Election::new(node, namespace, grace));
    let metrics = ReclaimMetrics::new(&health.metrics, election.clone());
    let repairer = Repairer {
        store: store.clone(),
        api: ReclaimApi::new(api.clone()),
        sandboxes: Sandboxes::under(state_dir),
        pending: pending.clone(),
    };
    let (node, followed) = (node.to_owned(), pods.clone());
    let (pods, elected) = (pods.clone(), election.clone());
    let reclaim = Arc::new(Reclaim { repairer, pods, election: elected, node: node.clone(), grace, metrics });
    let mut tasks = JoinSet::new();
    tasks.spawn(pods::follow(api.clone(), node, followed));
    tasks.spawn(election.stand(ReclaimApi::new(api.clone())));
    tasks.spawn(keep_up::run(reclaim.clone()));
    tasks.spawn(node::run(reclaim.clone()));
    tasks.spawn(node::keep_reservations(reclaim.clone()));
    tasks.spawn(node::keep_entries(reclaim.clone()));
    tasks.spawn(bare::run(reclaim.clone()));
    tasks.spawn(orphans::run(reclaim));
    tasks
}

impl Reclaim {
    /// Between two looks at what is in memory.
    fn pace(&self) -> Duration {
        (self.grace / 6).clamp(Duration::from_millis(100), Duration::from_secs(10))
    }

    /// Whether the pools in memory are worth being judged.
    fn can_judge(&self) -> bool {
        matches!(self.repairer.store.watching(), Watching::Well)
    }
}

/// Since when what was seen last time has been seen, and whether it was seen this time, by a key.
#[derive(Debug, Default)]
struct Seen(HashMap<String, (Instant, bool)>);

impl Seen {
    /// Notes that it was seen this time, and for how long it has been.
    fn for_long(&mut self, key: &str) -> Duration {
        match self.0.get_mut(key) {
            Some((since, now)) => {
                *now = true;
                since.elapsed()
            }
            None => {
                self.0.insert(key.to_owned(), (Instant::now(), true));
                Duration::ZERO
            }
        }
    }

    /// Ends one look at all: forgets what was not seen in it.
    fn end_look(&mut self) {
        self.0.retain(|_, (_, now)| std::mem::take(now));
    }

    fn forget(&mut self, key: &str) {
        self.0.remove(key);
    }
}

/// A warning is not repeated until something else was to be said.
#[derive(Debug, Default)]
struct WarnOnce(String);

impl WarnOnce {
    fn warn(&mut self, text: String) {
        if self.0 != text {
            tracing::warn!("{text}");
            self.0 = text;
        }
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_away_for_a_moment_begins_anew() {
        let mut seen = Seen::default();
        assert_eq!(seen.for_long("a"), Duration::ZERO);
        advance(Duration::from_secs(50)).await;
        seen.end_look();
        assert_eq!(seen.for_long("a"), Duration::from_secs(50));
        seen.end_look();
        seen.end_look();
        assert_eq!(seen.for_long("a"), Duration::ZERO);
    }
}
