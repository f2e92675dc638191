//! Keeping up with what others write to the pools: whoever looks for what is wrong in them goes by what was read.

use std::sync::Arc;
use std::time::Duration;

use octavia_bridge_cluster::{Backoff, Jitter};
use octavia_bridge_ipam::wire::Failure;
use tokio::time::{Instant, sleep};

use super::{Reclaim, Told};

/// Between two looks at what was changed.
const LOOK: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After so long the elected agent reads a pool that was changed, at the latest.
const LATEST: Duration = Duration::from_secs(60);
/// How long a round of reading may take.
const READING: Duration = Duration::from_secs(60);

/// Reads pools that were changed, for ever.
pub(super) async fn run(reclaim: Arc<Reclaim>) {
    let every = reclaim.grace.min(LATEST);
    let mut told = Told::default();
    let (mut backoff, jitter) = (Backoff::new(LOOK, LONGEST_PAUSE), Jitter::fresh());
    loop {
        let mut pause = LOOK;
        if !reclaim.can_judge() {
            sleep(pause).await;
            continue;
        }
        let here = reclaim.mender.sandboxes.containers();
        let deadline = Instant::now() + READING;
        match reclaim.mender.store.keep_up(reclaim.election.is_won(), &here, every, deadline).await {
            Ok(()) => {
                told.clear();
                backoff.reset();
            }
            Err(error) => {
                pause = backoff.next(&jitter);
                told.warn(format!(
                    "a pool that was changed cannot be read now: {}",
                    Failure::from(&error).message
                ));
            }
        }
        sleep(pause).await;
    }
}
