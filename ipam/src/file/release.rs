//! Giving addresses back, now or, where that is impossible, later.

use std::time::Instant;

use crate::error::StoreError;
use crate::pool::Allocation;

use super::lock::Lock;
use super::tombstone::{self, Tombstone};
use super::{FileStore, disk};

/// How a release ended that was not allowed to fail.
#[derive(Debug)]
pub enum Released {
    /// This many addresses are free again.
    Done(usize),
    /// Some could not be released because of this; a tombstone will see to it.
    Entombed(StoreError),
}

/// What a pass over the pools did.
#[derive(Debug, Default)]
struct Swept {
    /// Addresses released, per claim.
    released: Vec<usize>,
    /// Pools that could not be dealt with.
    failed: Vec<(String, StoreError)>,
}

impl FileStore {
    /// Frees every address of the attachment, in every pool: DEL may come without a configuration.
    /// Returns how many. An attachment that holds nothing causes no write, and no directory is made.
    ///
    /// A pool that cannot be read or written does not keep the others from being dealt with; the error
    /// is [`StoreError::Incomplete`] then. `deadline` bounds the wait for other writers.
    pub fn release(&self, id: &str, ifname: &str, deadline: Instant) -> Result<usize, StoreError> {
        if !self.pools_dir().is_dir() {
            return Ok(0);
        }
        let lock = Lock::take(self.pools_dir(), deadline)?;
        let (released, failed) = self.release_locked(id, ifname, &lock)?;
        if failed.is_empty() {
            return Ok(released);
        }
        let failures = failed.into_iter().map(|(_, error)| error).collect();
        Err(StoreError::Incomplete { released, failures })
    }

    /// As [`FileStore::release`], but what cannot be released is left as a tombstone, which the next
    /// writer that can will replay. Fails only if the tombstone cannot be written either.
    pub fn release_or_entomb(
        &self,
        id: &str,
        ifname: &str,
        deadline: Instant,
    ) -> Result<Released, StoreError> {
        if !self.pools_dir().is_dir() {
            return Ok(Released::Done(0));
        }
        let entomb = |pool: Option<String>| {
            let grave = Tombstone { id: id.to_owned(), ifname: ifname.to_owned(), pool };
            tombstone::write(&self.tombstones, &grave)
        };
        let everywhere = |error| match entomb(None) {
            Ok(()) => Ok(Released::Entombed(error)),
            Err(second) => Err(StoreError::Incomplete { released: 0, failures: vec![error, second] }),
        };
        let lock = match Lock::take(self.pools_dir(), deadline) {
            Ok(lock) => lock,
            Err(error) => return everywhere(error),
        };
        let (released, failed) = match self.release_locked(id, ifname, &lock) {
            Ok(done) => done,
            Err(error) => return everywhere(error),
        };
        if failed.is_empty() {
            return Ok(Released::Done(released));
        }
        // Still under the lock: nobody can attach this container again in between.
        let written: Result<(), StoreError> =
            failed.iter().try_for_each(|(pool, _)| entomb(Some(pool.clone())));
        let mut failures: Vec<StoreError> = failed.into_iter().map(|(_, error)| error).collect();
        match written {
            Ok(()) => Ok(Released::Entombed(StoreError::Incomplete { released, failures })),
            Err(error) => {
                failures.push(error);
                Err(StoreError::Incomplete { released, failures })
            }
        }
    }

    /// Does what tombstones ask for, as far as it can be done now.
    pub(super) fn replay(&self, lock: &Lock) -> Result<(), StoreError> {
        let tombstones = tombstone::list(&self.tombstones)?;
        if tombstones.is_empty() {
            return Ok(());
        }
        let swept = self.sweep(&tombstones, lock)?;
        self.settle(&tombstones, &swept)
    }

    /// One pass over the pools for this attachment and all tombstones.
    fn release_locked(
        &self,
        id: &str,
        ifname: &str,
        lock: &Lock,
    ) -> Result<(usize, Vec<(String, StoreError)>), StoreError> {
        disk::remove_leftovers(self.pools_dir(), lock)?;
        let tombstones = tombstone::list(&self.tombstones)?;
        let mut claims = vec![Tombstone { id: id.to_owned(), ifname: ifname.to_owned(), pool: None }];
        claims.extend(tombstones.iter().cloned());
        let swept = self.sweep(&claims, lock)?;
        self.settle(&tombstones, &swept)?;
        Ok((swept.released.first().copied().unwrap_or_default(), swept.failed))
    }

    fn sweep(&self, claims: &[Tombstone], lock: &Lock) -> Result<Swept, StoreError> {
        let mut swept = Swept { released: vec![0; claims.len()], failed: Vec::new() };
        for name in disk::names(self.pools_dir())? {
            let concerns = |claim: &Tombstone| claim.pool.as_ref().is_none_or(|pool| *pool == name);
            if !claims.iter().any(concerns) {
                continue;
            }
            match self.sweep_pool(&name, claims, lock) {
                Ok(released) => {
                    for (sum, released) in swept.released.iter_mut().zip(released) {
                        *sum += released;
                    }
                }
                Err(error) => swept.failed.push((name, error)),
            }
        }
        Ok(swept)
    }

    /// Releases in one pool; how many addresses per claim.
    fn sweep_pool(&self, name: &str, claims: &[Tombstone], lock: &Lock) -> Result<Vec<usize>, StoreError> {
        let mut released = vec![0; claims.len()];
        let Some(mut pool) = disk::read(self.pools_dir(), name)? else { return Ok(released) };
        for (count, claim) in released.iter_mut().zip(claims) {
            if claim.pool.as_ref().is_none_or(|pool| *pool == name) {
                *count = pool.release(|_, entry| belongs(entry, &claim.id, &claim.ifname));
            }
        }
        if pool.is_changed() {
            disk::write(self.pools_dir(), std::iter::once(&pool), lock)?;
        }
        Ok(released)
    }

    /// Removes tombstones that are done, and narrows those that are done but for some pools.
    fn settle(&self, tombstones: &[Tombstone], swept: &Swept) -> Result<(), StoreError> {
        for done in tombstones {
            let undone = |pool: &String| swept.failed.iter().any(|(name, _)| name == pool);
            if done.pool.as_ref().is_some_and(undone) {
                continue;
            }
            if done.pool.is_none() {
                for (pool, _) in &swept.failed {
                    let rest = Tombstone { pool: Some(pool.clone()), ..done.clone() };
                    tombstone::write(&self.tombstones, &rest)?;
                }
            }
            tombstone::remove(&self.tombstones, done)?;
        }
        Ok(())
    }
}

/// Whether `entry` is the attachment's as DEL sees it: by container, not by pod, since the pod may have
/// a new container already. Entries of whereabouts before 0.8 have no interface and go with any.
pub(super) fn belongs(entry: &Allocation, id: &str, ifname: &str) -> bool {
    entry.id == id && entry.ifname.as_ref().is_none_or(|name| name == ifname)
}
