//! Addresses that were claimed, and their way to the disk.

use std::path::PathBuf;

use crate::error::StoreError;
use crate::request::Assigned;

use super::disk::{self, Prepared};
use super::lock::Lock;
use super::tombstone::{Tombstone, Tombstones};

/// Addresses chosen by [`super::FileStore::acquire`], to be written down in two steps.
///
/// The choice is final as long as this lives, which holds the store's lock: no other process chooses meanwhile. The steps wait for the
/// disk, and may be done on another thread while the caller prepares what the addresses are for. Dropped before the
/// first step, a claim was none.
#[derive(Debug)]
#[must_use = "the addresses are the owner's once written down"]
pub struct Claim {
    pub(super) assigned: Vec<Assigned>,
    pub(super) ready: Prepared,
    /// The owner's, from an earlier release that could not be done.
    pub(super) tombstone: Tombstone,
    pub(super) tombstones: Tombstones,
    pub(super) pools: PathBuf,
    pub(super) lock: Lock,
}

/// A reservation that stands, unless the power goes.
#[derive(Debug)]
#[must_use = "a power cut can bring the old documents back until they are settled"]
pub struct Held {
    /// The directory in which documents were replaced, if any were.
    changed: Option<PathBuf>,
}

impl Claim {
    /// One address per want of the request, in its order.
    pub fn assigned(&self) -> &[Assigned] {
        &self.assigned
    }

    /// Puts the documents in place, synced. From here on no other process can get the addresses, also if this one is
    /// killed: before, nobody may use them.
    ///
    /// # Errors
    /// [`StoreError::Io`]: the reservation may or may not be on disk; releasing the owner is right in either case.
    pub fn hold(self) -> Result<Held, StoreError> {
        let changed = (!self.ready.is_empty()).then_some(self.pools);
        self.ready.put_in_place(&self.lock)?;
        // An earlier release that could not be done must not be done from now on. Not before: should the
        // claim fail or this process be killed, releasing is right.
        self.tombstones.remove(&self.tombstone)?;
        Ok(Held { changed })
        // The lock ends here. Whoever comes next reads what is in place; only the disk has to catch up.
    }
}

impl Held {
    /// Makes the reservation survive a power cut: before, nobody may be told.
    ///
    /// # Errors
    /// [`StoreError::Io`]: it may not; releasing the owner is right.
    pub fn settle(self) -> Result<(), StoreError> {
        self.changed.map_or(Ok(()), |pools| disk::sync_dir(&pools))
    }
}
