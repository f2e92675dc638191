//! Releases that are pending: tombstones, as the thread that serves may use them.
//!
//! A frozen or dying disk answers nobody, and a call to it cannot be ended. So every look and every change is made by a thread
//! beside, of which there are few, and is waited for for a limited time. A thread that is late does its work when the disk
//! answers. Changes have threads of their own: a frozen file system still answers those who only look.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use octavia_bridge_cluster::lock;
use octavia_bridge_ipam::file::{Tombstone, Tombstones};
use octavia_bridge_ipam::wire::Attachment;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How long a disk may take to answer.
const LIMIT: Duration = Duration::from_secs(2);
/// Looks, and changes, that may be waited for at once.
const THREADS: usize = 16;

/// Threads for what a disk may hold up.
#[derive(Debug, Clone)]
pub(crate) struct DiskThreads(Arc<Semaphore>);

impl Default for DiskThreads {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(THREADS)))
    }
}

impl DiskThreads {
    /// Does `work` on one of the threads.
    ///
    /// # Errors
    /// It was not done in time. Once begun, it will be.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let threads = self.0.clone();
        let done = async {
            let permit = threads.acquire_owned().await?;
            let begun = spawn_blocking(move || {
                let done = work();
                drop(permit);
                done
            });
            anyhow::Ok(begun.await?)
        };
        let in_time = timeout(LIMIT, done).await;
        in_time.with_context(|| format!("the disk did not answer within {} s", LIMIT.as_secs()))?
    }
}

/// The tombstones of releases that are owed to the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    tombstones: Tombstones,
    looks: DiskThreads,
    changes: DiskThreads,
    /// Of the last list; `None` if it could not be read.
    count: Arc<Mutex<Option<usize>>>,
}

impl Pending {
    pub(crate) fn new(tombstones: Tombstones) -> Self {
        let (looks, changes) = (DiskThreads::default(), DiskThreads::default());
        Self { tombstones, looks, changes, count: Arc::new(Mutex::new(Some(0))) }
    }

    /// How many there were at the last look.
    pub(crate) fn count(&self) -> Option<usize> {
        *lock(&self.count)
    }

    /// All of them.
    ///
    /// # Errors
    /// The directory cannot be read, or not in time.
    pub(crate) async fn list(&self) -> anyhow::Result<Vec<Tombstone>> {
        let tombstones = self.tombstones.clone();
        let all = self.looks.run(move || tombstones.list()).await.and_then(|all| Ok(all?));
        *lock(&self.count) = all.as_ref().ok().map(Vec::len);
        all
    }

    /// Whether the release of an attachment is pending.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub(crate) async fn has(&self, attachment: &Attachment) -> anyhow::Result<bool> {
        let (tombstones, tombstone) = (self.tombstones.clone(), of(attachment));
        Ok(self.looks.run(move || tombstones.has(&tombstone)).await??)
    }

    /// Looks at files that may be on the disk as the tombstones are.
    ///
    /// # Errors
    /// Not in time.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Tombstones) -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let tombstones = self.tombstones.clone();
        self.looks.run(move || look(&tombstones)).await
    }

    /// Leaves a tombstone.
    ///
    /// # Errors
    /// It cannot be written, or not in time: then it may appear later.
    pub(crate) async fn write(&self, attachment: &Attachment) -> anyhow::Result<()> {
        let (tombstones, tombstone) = (self.tombstones.clone(), of(attachment));
        self.changes.run(move || tombstones.write(&tombstone)).await??;
        self.list().await?;
        Ok(())
    }

    /// Removes a tombstone if there is one.
    ///
    /// # Errors
    /// It cannot be removed, or not in time.
    pub(crate) async fn remove(&self, attachment: &Attachment) -> anyhow::Result<()> {
        // A frozen file system holds up also those who remove what is not there.
        if !self.has(attachment).await? {
            return Ok(());
        }
        let (tombstones, tombstone) = (self.tombstones.clone(), of(attachment));
        let removed = self.changes.run(move || tombstones.remove(&tombstone)).await;
        removed.context("remove a tombstone")??;
        Ok(())
    }
}

pub(crate) fn of(attachment: &Attachment) -> Tombstone {
    Tombstone::of(&attachment.container_id, &attachment.ifname)
}
