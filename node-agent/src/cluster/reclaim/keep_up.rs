//! Keeping up with what others write to the pools: repair and reclaim go by what was read.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use octavia_bridge_cluster::Jitter;
use octavia_bridge_ipam::wire::Failure;
use tokio::time::{Instant, sleep};

use super::{Reclaim, WarnOnce};
use crate::cluster::backoff;

/// Between two looks at what was changed.
const LOOK: Duration = Duration::from_secs(2);
/// After so long the elected agent reads a pool that was changed, at the latest.
const LATEST: Duration = Duration::from_secs(60);
/// How long a round of reading may take.
const READING: Duration = Duration::from_secs(60);

/// Reads pools that were changed, for ever.
pub(super) async fn run(reclaim: Arc<Reclaim>) {
    let every = reclaim.grace.min(LATEST);
    let mut warning = WarnOnce::default();
    let (mut backoff, jitter) = (backoff::repair(), Jitter::fresh());
    loop {
        let mut pause = LOOK;
        let repairer = &reclaim.repairer;
        let looked = repairer.look(|sandboxes, _| (sandboxes.containers(), sandboxes.use_cluster())).await;
        // A disk that does not answer may have anything.
        let (here, uses_cluster) = looked.unwrap_or((HashSet::new(), true));
        if uses_cluster || reclaim.election.is_won() || repairer.has_tombstones().await {
            repairer.store.need();
        }
        if !reclaim.can_judge() {
            sleep(pause).await;
            continue;
        }
        let deadline = Instant::now() + READING;
        match reclaim.repairer.store.keep_up(reclaim.election.is_won(), &here, every, deadline).await {
            Ok(()) => {
                warning.clear();
                backoff.reset();
            }
            Err(error) => {
                pause = backoff.next(&jitter);
                warning
                    .warn(format!("cannot read a pool that was changed: {}", Failure::from(&error).message));
            }
        }
        sleep(pause).await;
    }
}
