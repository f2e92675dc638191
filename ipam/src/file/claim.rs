//! Addresses that were claimed, and their way into the documents.

use crate::error::StoreError;
use crate::request::Assigned;

use super::disk::Prepared;
use super::lock::Lock;
use super::tombstone::{Tombstone, Tombstones};

/// Addresses chosen by [`super::FileStore::acquire`], to be held before anybody uses them.
///
/// The choice is final as long as this lives, which holds the store's lock: no other process chooses meanwhile. Dropped, a claim
/// was none.
#[derive(Debug)]
#[must_use = "the addresses are the owner's once held"]
pub struct Claim {
    pub(super) assigned: Vec<Assigned>,
    pub(super) ready: Prepared,
    /// The owner's, from an earlier release that could not be done.
    pub(super) tombstone: Tombstone,
    pub(super) tombstones: Tombstones,
    pub(super) lock: Lock,
}

impl Claim {
    /// One address per want of the request, in its order.
    pub fn assigned(&self) -> &[Assigned] {
        &self.assigned
    }

    /// Puts the documents in place. From here on no other process can get the addresses, also if this one is killed: before,
    /// nobody may use them.
    ///
    /// # Errors
    /// [`StoreError::Io`]: some may be reserved; releasing the owner is right.
    pub fn hold(self) -> Result<(), StoreError> {
        self.ready.put_in_place(&self.lock)?;
        // An earlier release that could not be done must not be done from now on. Not before: should the
        // claim fail or this process be killed, releasing is right.
        self.tombstones.remove(&self.tombstone)
        // The lock ends here. Whoever comes next reads what is in place.
    }
}
