//! Releases that could not be done in their time.
//!
//! A plugin, or this agent, left a tombstone: the API server was away, the agent was away, or one of the two was killed.

use std::sync::Arc;
use std::time::Duration;

use octavia_bridge_cluster::{Jitter, Retries};
use octavia_bridge_ipam::file::Tombstone;
use octavia_bridge_ipam::kubernetes::Error;
use octavia_bridge_ipam::wire::{Attachment, Failure};
use tokio::time::{Instant, sleep};

use super::Broker;
use crate::attachments::Use;
use crate::cluster::backoff;
use crate::cluster::pending::of;

/// Between two looks into the directory. Only the pool waits for these addresses.
const LOOK: Duration = Duration::from_secs(2);
/// How long one release may take.
const RELEASE: Duration = Duration::from_secs(20);

/// Does what tombstones ask for, for ever.
pub(super) async fn replay(broker: Arc<Broker>) {
    let mut replay = Replay { retries: backoff::releases(), jitter: Jitter::fresh() };
    let mut told = String::new();
    loop {
        match replay.round(&broker).await {
            Ok(()) => told.clear(),
            Err(why) => {
                if why != told {
                    tracing::warn!("pending releases fail, and are tried again: {why}");
                    told = why;
                }
            }
        }
        sleep(LOOK).await;
    }
}

/// The tombstones whose release has failed.
struct Replay {
    retries: Retries<Attachment>,
    jitter: Jitter,
}

impl Replay {
    /// Replays every tombstone that is due; the first failure in words. One that fails does not keep the others waiting, unless
    /// the API server is away: then this round is over.
    async fn round(&mut self, broker: &Broker) -> Result<(), String> {
        let all = broker.pending.list().await.map_err(|error| format!("{error:#}"))?;
        self.retries.retain(|attachment| all.contains(&of(attachment)));
        let mut failure = Ok(());
        for Tombstone { id, ifname } in all {
            let attachment = Attachment { container_id: id, ifname };
            if !self.retries.is_due(&attachment) {
                continue;
            }
            let (why, away) = match broker.release_at_last(&attachment).await {
                Ok(()) => {
                    self.retries.done(&attachment);
                    continue;
                }
                Err(Unreleased::Busy) => (None, false),
                Err(Unreleased::Failed(error)) => {
                    let away = matches!(&error, Error::Api(cause) if cause.is_away());
                    (Some(Failure::from(&error).message), away)
                }
            };
            self.retries.failed(attachment, &self.jitter);
            failure = failure.and(why.map_or(Ok(()), Err));
            if away {
                break;
            }
        }
        failure
    }
}

/// Why a tombstone stays.
enum Unreleased {
    /// Another call for the attachment is at work, or it is not known whether one is.
    Busy,
    Failed(Error),
}

impl Broker {
    /// Releases the addresses of an attachment that has a tombstone, and removes that.
    async fn release_at_last(&self, attachment: &Attachment) -> Result<(), Unreleased> {
        let deadline = Instant::now() + RELEASE;
        let Some(turn) = self.turn(attachment, Instant::now() + LOOK).await else {
            return Err(Unreleased::Busy);
        };
        // Attached again while we waited, it has addresses in use.
        if !self.pending.has(attachment).await.unwrap_or(true) {
            return Ok(());
        }
        let (sandboxes, meant) = (self.contested.sandboxes.clone(), attachment.clone());
        match self.pending.look(move |_| sandboxes.usage(&meant)).await {
            Ok(Use::Unused) => {}
            // A tombstone may come late, from a process that waited for the disk.
            Ok(Use::Used) => {
                let Attachment { container_id, ifname } = attachment;
                tracing::info!(
                    "container {container_id} {ifname} was attached again, and keeps its addresses"
                );
                self.remove_tombstone(attachment).await;
                return Ok(());
            }
            Ok(Use::Unsettled) | Err(_) => return Err(Unreleased::Busy),
        }
        let released = self.store.release(&turn, deadline).await.map_err(Unreleased::Failed)?;
        let Attachment { container_id, ifname } = attachment;
        tracing::info!(
            "released {released} addresses of container {container_id} {ifname}, which were pending"
        );
        self.remove_tombstone(attachment).await;
        Ok(())
    }
}
