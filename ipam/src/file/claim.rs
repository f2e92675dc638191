//! Addresses that were claimed, and their way to the disk.

use std::path::PathBuf;
use std::thread::{Builder, JoinHandle};

use crate::error::StoreError;
use crate::request::Assigned;

use super::disk;

/// Addresses reserved by [`super::FileStore::acquire`].
///
/// The documents are written, synced and in place: no other process can get these addresses any more, and a power
/// cut leaves whole documents. What may be outstanding is the directory's own sync, without which a power cut could
/// bring the old documents back. It runs beside whatever the caller does next; [`Claim::settle`] waits for it.
#[derive(Debug)]
#[must_use = "the addresses survive a power cut only when settled"]
pub struct Claim {
    assigned: Vec<Assigned>,
    sync: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Claim {
    /// `changed`: the directory in which documents were replaced.
    pub(super) fn new(assigned: Vec<Assigned>, changed: Option<PathBuf>) -> Result<Self, StoreError> {
        let Some(directory) = changed else { return Ok(Self { assigned, sync: None }) };
        let beside = directory.clone();
        match Builder::new().name("sync".into()).spawn(move || disk::sync_dir(&beside)) {
            Ok(thread) => Ok(Self { assigned, sync: Some(thread) }),
            // No thread to be had: then at once.
            Err(_) => disk::sync_dir(&directory).map(|()| Self { assigned, sync: None }),
        }
    }

    /// One address per want of the request, in its order.
    pub fn assigned(&self) -> &[Assigned] {
        &self.assigned
    }

    /// Waits until the reservation survives a power cut.
    ///
    /// # Errors
    /// [`StoreError::Io`]: it may not; releasing the owner is right.
    pub fn settle(self) -> Result<Vec<Assigned>, StoreError> {
        match self.sync.map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => Ok(self.assigned),
            Some(Ok(Err(error))) => Err(error),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}
