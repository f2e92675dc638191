//! Pools that an older release kept on disk, and their way into memory.
//!
//! That release and this one must not both give addresses of one range. So its directory is closed before anything is read: where
//! it expects its lock, a file, there is a directory from then on, and each of its claims fails, with an error that names the
//! directory. What lives is moved then, and at last a file in that directory says that nothing is left to move. Killed at any
//! instant, the next run goes on: nothing is removed before it stands in its new place.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::error::StoreError;
use crate::pool::Pool;
use crate::state_file;

use super::FileStore;
use super::disk::{self, io_error};
use super::lock::Lock;
use super::release::belonging;
use super::tombstone::{Tombstone, Tombstones};

/// In [`CLOSED`], once nothing is left to move.
const MOVED: &str = "moved";
/// The older release's lock.
const CLOSED: &str = ".lock";
/// For people who wonder.
const NOTE: &str = "The pools are in /run/octavia-bridge since a release that keeps them there. This directory keeps an older \
                    release from giving their addresses a second time. To go back to such a release, see \"Upgrade and \
                    rollback\" in docs/install.md.\n";

/// The directories of an older release's `file` store.
#[derive(Debug, Clone)]
pub struct Former {
    pools: PathBuf,
    tombstones: Tombstones,
    /// The plugin's records.
    records: PathBuf,
}

impl Former {
    /// Those below a `dataDir`.
    pub fn below(data_dir: &Path) -> Self {
        Self {
            pools: data_dir.join("pools"),
            tombstones: Tombstones::passing(data_dir.join("tombstones")),
            records: data_dir.join("attachments"),
        }
    }

    /// Whether the older release is kept out, and what it left was moved once.
    pub fn is_finished(&self) -> bool {
        self.pools.join(CLOSED).join(MOVED).symlink_metadata().is_ok()
    }

    /// The same, and nothing came afterwards. The older release still attaches pods of other networks, and leaves tombstones; for
    /// that it makes the directories that [`Self::finish`] removes.
    pub fn is_moved(&self) -> bool {
        self.is_finished() && !is_there(&self.records) && !is_there(self.tombstones.directory())
    }

    /// Whether the older release is kept out.
    pub fn is_closed(&self) -> bool {
        self.pools.join(CLOSED).symlink_metadata().is_ok_and(|there| there.is_dir())
    }

    /// Whether there are documents or tombstones.
    ///
    /// # Errors
    /// A directory that cannot be listed.
    pub fn has_any(&self) -> Result<bool, StoreError> {
        Ok(!disk::names(&self.pools)?.is_empty() || !self.tombstones.list()?.is_empty())
    }

    /// Keeps the older release out, after a claim of it that is under way. Repeating it is no error.
    ///
    /// # Errors
    /// The older release holds its lock until `deadline`, or the disk cannot be written: then it cannot write there either.
    pub fn close(&self, deadline: Instant) -> Result<(), StoreError> {
        disk::create_dir(&self.pools)?;
        let path = self.pools.join(CLOSED);
        let mut directory = fs::DirBuilder::new();
        directory.mode(0o700);
        loop {
            match directory.create(&path) {
                Ok(()) => return Ok(()),
                Err(_) if self.is_closed() => return Ok(()),
                Err(cause) if cause.kind() == ErrorKind::AlreadyExists => {}
                Err(cause) => return Err(io_error("close", &self.pools)(cause)),
            }
            // Should another plugin of that release make the file anew, it is waited for as well.
            let _held = Lock::take(&self.pools, deadline)?;
            disk::remove(&path).map_err(io_error("remove lock", &path))?;
        }
    }

    /// Moves the entries of attachments that live into `store`, and removes the others. To be called after [`Self::close`].
    ///
    /// `alive` tells by container id and interface name; without an interface, whether any of the container's does. A document
    /// that cannot be read is moved as it is: it stays an error for the networks that need it.
    ///
    /// # Errors
    /// Nothing is lost then, and it can be repeated.
    pub fn move_to(
        &self,
        store: &FileStore,
        deadline: Instant,
        alive: &dyn Fn(&str, &str) -> bool,
    ) -> Result<(), StoreError> {
        let names = disk::names(&self.pools)?;
        let released = self.tombstones.list()?;
        if !names.is_empty() {
            disk::create_dir(&store.pools)?;
            let lock = Lock::take(&store.pools, deadline)?;
            for name in &names {
                self.move_pool(name, store, &released, alive, &lock)?;
            }
        }
        // An older release that came back releases what was moved before.
        let owed = !disk::names(&store.pools)?.is_empty();
        for tombstone in &released {
            if owed {
                store.tombstones.write(tombstone)?;
            }
            self.tombstones.remove(tombstone)?;
        }
        Ok(())
    }

    /// Says that nothing is left to move, and removes the directories that are empty.
    ///
    /// # Errors
    /// The disk cannot be written.
    pub fn finish(&self) -> Result<(), StoreError> {
        let path = self.pools.join(CLOSED).join(MOVED);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = state_file::open(&path, &options).and_then(|mut file| file.write_all(NOTE.as_bytes()));
        written.map_err(io_error("write", &path))?;
        // Drafts of killed writers.
        for name in disk::entries(&self.pools)?.iter().filter(|name| name.ends_with(".tmp")) {
            disk::remove(&self.pools.join(name)).ok();
        }
        // Should the older release write there meanwhile, the next run looks again.
        for emptied in [self.records.as_path(), self.tombstones.directory()] {
            fs::remove_dir(emptied).ok();
        }
        Ok(())
    }

    fn move_pool(
        &self,
        name: &str,
        store: &FileStore,
        released: &[Tombstone],
        alive: &dyn Fn(&str, &str) -> bool,
        lock: &Lock,
    ) -> Result<(), StoreError> {
        let (from, to) = (disk::path(&self.pools, name), disk::path(&store.pools, name));
        match disk::read(&self.pools, name) {
            Ok(None) => return Ok(()),
            Ok(Some(mut pool)) => {
                for tombstone in released {
                    let belongs = belonging(&pool, &tombstone.id, &tombstone.ifname);
                    pool.release(|_, entry| belongs(entry));
                }
                pool.release(|_, entry| !alive(entry.id(), entry.ifname().unwrap_or_default()));
                let pool = joined(pool, disk::read(&store.pools, name)?);
                if !pool.is_empty() {
                    disk::write(&store.pools, std::iter::once(&pool), lock)?;
                }
            }
            Err(StoreError::Corrupt { .. }) => copy(&from, &disk::temporary(&store.pools, name), &to)?,
            Err(error) => return Err(error),
        }
        disk::remove(&from).map_err(io_error("remove", &from))
    }
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// The older release's entries, and those that are in the new place by now, which count where both know an address.
fn joined(former: Pool, present: Option<Pool>) -> Pool {
    let Some(mut present) = present else { return former };
    for (address, entry) in former.iter() {
        present.adopt(address, entry);
    }
    present
}

/// Copies a document that cannot be understood, unless there is another.
fn copy(from: &Path, beside: &Path, to: &Path) -> Result<(), StoreError> {
    if to.symlink_metadata().is_ok() {
        return Ok(());
    }
    // Not a file at all, or larger than any pool: the text says so instead, and is as unusable.
    let text = state_file::read(from, state_file::LONGEST).unwrap_or_else(|why| why.to_string().into_bytes());
    let written = disk::remove(beside).and_then(|()| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
        file.write_all(&text)?;
        fs::rename(beside, to)
    });
    written.map_err(io_error("move pool document to", to))
}
