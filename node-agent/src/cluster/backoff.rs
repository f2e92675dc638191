//! How long to wait before the API server is asked again.
//!
//! All pauses double with each failure in a row, up to a bound, and are spread by chance between a half and the whole
//! ([`Backoff`]): a thousand agents that failed at the same moment, as when a server restarts, come back one after the
//! other. The first pause is two seconds, since leader elections of etcd and restarts of an API server take a few: an
//! earlier try finds the same. The bounds differ by who waits:
//!
//! - A policy's status is read by people and by programs that wait for a rollout. They see the end of an outage 16 s
//!   late at most.
//! - A reservation or an entry that was deleted while its pod lives protects an address in use: it comes back 30 s after
//!   the server takes it. Each has a backoff of its own, so one that a webhook refuses keeps no other waiting.
//! - Only the pool waits for the address of a pod that is gone. A minute is enough, also with hundreds of them.
//!
//! A conflict, where another agent was faster, says nothing about the server. It is tried again within milliseconds, a
//! few times: each try reads what the other agent has written.

use std::hash::Hash;
use std::time::Duration;

use octavia_bridge_cluster::{Backoff, Retries};

/// First pause after a request that failed.
pub(super) const FIRST: Duration = Duration::from_secs(2);
/// Longest pause before a status is written again.
const STATUS: Duration = Duration::from_secs(16);
/// Longest pause before an object that protects an address is written again.
const REPAIR: Duration = Duration::from_secs(30);
/// Longest pause before an address is released again.
const RELEASE: Duration = Duration::from_secs(60);
/// First pause after a conflict, and how often to try.
const CONFLICT: Duration = Duration::from_millis(20);
pub(super) const TRIES: u32 = 5;

/// For statuses, enactments and events of policies.
pub(super) fn status() -> Backoff {
    Backoff::new(FIRST, STATUS)
}

/// For reservations and entries of pods that live.
pub(super) fn repair() -> Backoff {
    Backoff::new(FIRST, REPAIR)
}

/// For releases, each for itself.
pub(super) fn releases<K: Eq + Hash>() -> Retries<K> {
    Retries::new(FIRST, RELEASE)
}

/// After conflicts.
pub(super) fn conflict() -> Backoff {
    Backoff::new(CONFLICT, CONFLICT * 2_u32.pow(TRIES))
}
