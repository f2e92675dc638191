//! Releases that could not be done in their time.
//!
//! A plugin, or this agent, left a tombstone: the API server was away, the agent was away, or somebody was killed.

use std::sync::Arc;
use std::time::Duration;

use octavia_bridge_ipam::file::Tombstone;
use octavia_bridge_ipam::wire::{Attachment, Failure};
use tokio::time::{Instant, sleep};

use super::Broker;
use super::call::of;

/// Between two looks into the folder. Nobody waits for these addresses but the pool.
const LOOK: Duration = Duration::from_secs(2);
/// After failures, up to this.
const LONGEST: Duration = Duration::from_secs(30);
/// How long one release may take.
const RELEASE: Duration = Duration::from_secs(20);

/// Does what tombstones ask for, for ever.
pub(super) async fn replay(broker: Arc<Broker>) {
    let mut pause = LOOK;
    let mut told = String::new();
    loop {
        match broker.replay_all().await {
            Ok(()) => {
                pause = LOOK;
                told.clear();
            }
            Err(why) => {
                pause = (pause * 2).min(LONGEST);
                if why != told {
                    tracing::warn!("tombstones wait: {why}");
                    told = why;
                }
            }
        }
        sleep(pause).await;
    }
}

impl Broker {
    /// Replays every tombstone; the first failure in words. One that fails does not keep the others waiting, unless the
    /// API itself is away.
    async fn replay_all(&self) -> Result<(), String> {
        let mut failure = Ok(());
        for Tombstone { id, ifname } in self.tombstones.list().map_err(|error| error.to_string())? {
            let attachment = Attachment { container_id: id, ifname };
            let deadline = Instant::now() + RELEASE;
            let Some(turn) = self.turn(&attachment, deadline).await else { continue };
            // Attached again while we waited, it has addresses in use.
            let stands = self.tombstones.list().is_ok_and(|all| all.contains(&of(&attachment)));
            if !stands {
                continue;
            }
            match self.store.release(&turn, deadline).await {
                Ok(released) => {
                    let Attachment { container_id, ifname } = &attachment;
                    tracing::info!(
                        "{released} addresses of container {container_id} {ifname} are free at last"
                    );
                    self.unbury(&attachment);
                }
                Err(error) => {
                    let why = Failure::from(&error);
                    if why.kind == octavia_bridge_ipam::wire::Kind::Unavailable {
                        return Err(why.message);
                    }
                    failure = failure.and(Err(why.message));
                }
            }
        }
        failure
    }
}
