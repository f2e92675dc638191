//! Giving addresses back, now or, where that is impossible, later.

use std::collections::HashSet;
use std::time::Instant;

use crate::error::StoreError;
use crate::pool::{Allocation, Pool};
use crate::request::Holder;

use super::lock::Lock;
use super::tombstone::Tombstone;
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
    /// Addresses released for the first claim.
    released: usize,
    /// What stood in the way, one failure per pool that could not be dealt with.
    failures: Vec<StoreError>,
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
        let Swept { released, failures } = self.release_locked(id, ifname, &lock)?;
        if failures.is_empty() { Ok(released) } else { Err(StoreError::Incomplete { released, failures }) }
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
        let entomb = || self.tombstones.write(&Tombstone::of(id, ifname));
        let nowhere = |error| match entomb() {
            Ok(()) => Ok(Released::Entombed(error)),
            Err(second) => Err(StoreError::Incomplete { released: 0, failures: vec![error, second] }),
        };
        let lock = match Lock::take(self.pools_dir(), deadline) {
            Ok(lock) => lock,
            Err(error) => return nowhere(error),
        };
        let Swept { released, mut failures } = match self.release_locked(id, ifname, &lock) {
            Ok(swept) => swept,
            Err(error) => return nowhere(error),
        };
        if failures.is_empty() {
            return Ok(Released::Done(released));
        }
        match entomb() {
            Ok(()) => Ok(Released::Entombed(StoreError::Incomplete { released, failures })),
            Err(error) => {
                failures.push(error);
                Err(StoreError::Incomplete { released, failures })
            }
        }
    }

    /// Takes back the entries of which `gone` says, by container id and interface name, that their attachment is provably gone, in
    /// the pools of these names. Returns who had them.
    ///
    /// # Errors
    /// As [`FileStore::release`]; what was taken back before stays so.
    pub fn take_back(
        &self,
        pools: &[String],
        deadline: Instant,
        gone: &dyn Fn(&str, &str) -> bool,
    ) -> Result<Vec<Holder>, StoreError> {
        let mut taken = Vec::new();
        if !self.pools_dir().is_dir() {
            return Ok(taken);
        }
        let lock = Lock::take(self.pools_dir(), deadline)?;
        for name in pools {
            let Some(mut pool) = disk::read(self.pools_dir(), name)? else { continue };
            let already = taken.len();
            pool.release(|address, entry| {
                let is_gone = entry.ifname().is_some_and(|ifname| gone(entry.id(), ifname));
                taken.extend(is_gone.then(|| Holder::new(address, entry)));
                is_gone
            });
            if taken.len() > already {
                disk::write(self.pools_dir(), std::iter::once(&pool), &lock)?;
            }
        }
        Ok(taken)
    }

    /// The names of all pools.
    ///
    /// # Errors
    /// A directory that cannot be listed.
    pub fn names(&self) -> Result<Vec<String>, StoreError> {
        disk::names(self.pools_dir())
    }

    /// Does what tombstones ask for, as far as it can be done now. What cannot is no failure of whoever
    /// came by: its tombstone stands and says so, see [`FileStore::entombed`].
    pub(super) fn replay(&self, lock: &Lock) -> Result<(), StoreError> {
        let tombstones = self.tombstones.list()?;
        if !tombstones.is_empty() {
            let swept = self.sweep(&tombstones, lock)?;
            self.clear(&tombstones, &swept);
        }
        Ok(())
    }

    /// One pass over the pools for this attachment and all tombstones.
    fn release_locked(&self, id: &str, ifname: &str, lock: &Lock) -> Result<Swept, StoreError> {
        disk::remove_leftovers(self.pools_dir(), lock);
        let mut claims = vec![Tombstone::of(id, ifname)];
        claims.extend(self.tombstones.list()?);
        let swept = self.sweep(&claims, lock)?;
        self.clear(&claims[1..], &swept);
        Ok(swept)
    }

    fn sweep(&self, claims: &[Tombstone], lock: &Lock) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        for name in disk::names(self.pools_dir())? {
            match self.sweep_pool(&name, claims, lock) {
                Ok(released) => swept.released += released,
                Err(error) => swept.failures.push(error),
            }
        }
        Ok(swept)
    }

    /// Releases in one pool; how many addresses for the first claim.
    fn sweep_pool(&self, name: &str, claims: &[Tombstone], lock: &Lock) -> Result<usize, StoreError> {
        let Some(mut pool) = disk::read(self.pools_dir(), name)? else { return Ok(0) };
        // A pool that stays corrupt gathers tombstones; they must not cost every writer a pass over every
        // pool each.
        let asked: HashSet<&str> = claims.iter().map(|claim| claim.id.as_str()).collect();
        let ids: HashSet<String> = pool
            .iter()
            .map(|(_, entry)| entry.id())
            .filter(|id| asked.contains(id))
            .map(str::to_owned)
            .collect();
        let mut first = 0;
        for (i, claim) in claims.iter().enumerate().filter(|(_, claim)| ids.contains(&claim.id)) {
            let belongs = belonging(&pool, &claim.id, &claim.ifname);
            let released = pool.release(|_, entry| belongs(entry));
            first += if i == 0 { released } else { 0 };
        }
        if pool.is_changed() {
            disk::write(self.pools_dir(), std::iter::once(&pool), lock)?;
        }
        Ok(first)
    }

    /// Removes tombstones after a pass that met every pool. One that cannot be removed finds nothing the
    /// next time; were its container attached again meanwhile, that would have removed it or failed.
    fn clear(&self, tombstones: &[Tombstone], swept: &Swept) {
        if swept.failures.is_empty() {
            for done in tombstones {
                self.tombstones.remove(done).ok();
            }
        }
    }
}

/// Tells which entries of `pool` are the attachment's as DEL sees it: by container, not by pod, since the
/// pod may have a new container already.
///
/// An entry without interface (whereabouts before 0.8) goes with the last interface of its container that
/// has an entry in this pool.
pub(crate) fn belonging<'a>(
    pool: &Pool,
    id: &'a str,
    ifname: &'a str,
) -> impl Fn(&Allocation) -> bool + use<'a> {
    let other = |entry: &Allocation| entry.id() == id && entry.ifname().is_some_and(|n| n != ifname);
    let is_last = !pool.iter().any(|(_, entry)| other(entry));
    move |entry| entry.id() == id && entry.ifname().map_or(is_last, |name| name == ifname)
}
