//! Reservations that this agent deletes.
//!
//! The watch, or another reader, may report the end of one before the server answers the request to delete it. Without a note it
//! would look like another program's deletion, and the agent would recreate what it has just given up.

use std::collections::HashMap;

use tokio::time::Instant;

use super::cache::LATEST_REPLY;
use crate::kubernetes::api::reservation::Reservation;

/// What this agent asked the server to delete, by name, each as it was seen last, and when it asked.
#[derive(Debug, Default)]
pub(crate) struct Deletions(HashMap<String, (Reservation, Instant)>);

impl Deletions {
    /// The server is about to be asked to delete this one.
    pub(crate) fn add(&mut self, name: &str, seen: &Reservation) {
        self.0.retain(|_, (_, asked)| asked.elapsed() < LATEST_REPLY);
        self.0.insert(name.to_owned(), (seen.clone(), Instant::now()));
    }

    /// It is known what became of it, or a claim needs it again.
    pub(crate) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Whether this very reservation is being deleted here. One that another sandbox has taken over since is not.
    pub(crate) fn has(&self, name: &str, ended: &Reservation) -> bool {
        self.0.get(name).is_some_and(|(seen, _)| seen == ended)
    }
}
