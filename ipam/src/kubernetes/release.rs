//! Giving addresses back: the entries first, then their reservations, so that an address without an entry is still
//! reserved until nobody needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use ipnet::IpNet;
use tokio::time::Instant;

use crate::file::belonging;
use crate::name::{self, PoolName};
use crate::pool::Allocation;

use crate::kubernetes::api::name::of_address;
use crate::kubernetes::api::reservation::Reservation;
use crate::kubernetes::claim::Residue;
use crate::kubernetes::error::Error;
use crate::kubernetes::memory::cache::Cache;
use crate::kubernetes::memory::keep_up::unread_by_release;
use crate::kubernetes::memory::pool::{CachedPool, Content};
use crate::kubernetes::survey::is_taken_over;
use crate::kubernetes::write::change::Change;
use crate::kubernetes::write::deadline::Deadline;
use crate::kubernetes::write::job::Written;
use crate::kubernetes::write::queue::Queue;
use crate::kubernetes::write::turn::Turn;
use crate::kubernetes::{Store, lock};

/// What an attachment has in one pool.
#[derive(Debug)]
pub(crate) struct InPool {
    pub(crate) name: PoolName,
    subnet: IpNet,
    pub(crate) entries: Vec<(IpAddr, Allocation)>,
}

/// What an attachment has.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    /// Its entries by pool.
    pub(crate) pools: Vec<InPool>,
    /// Names of the reservations that say so themselves.
    pub(crate) reservations: BTreeSet<String>,
    /// A damaged pool that names the container.
    corrupt: Option<Error>,
}

/// Reservations by name, each with the entry that was removed, if there was one, and the queue of its pool.
type Freed<'a> = BTreeMap<String, (Option<Arc<Queue>>, Option<&'a Allocation>)>;

impl Holdings {
    pub(crate) fn is_empty(&self) -> bool {
        self.pools.is_empty() && self.reservations.is_empty() && self.corrupt.is_none()
    }
}

impl Store {
    /// Frees every address of the attachment whose `turn` it is, in every pool: DEL may come without a configuration.
    /// Returns how many. Repeating it is no error; an attachment that has nothing causes no request.
    ///
    /// # Errors
    /// Some may be free then, and others not.
    pub async fn release(&self, turn: &Turn, deadline: Instant) -> Result<usize, Error> {
        let within = Deadline::until(deadline);
        let stale = self.ready(&within).await?;
        let attachment = turn.attachment();
        let doubts = lock(&self.inner.doubts).remove(attachment);
        let released = async {
            if let Some(doubts) = &doubts {
                self.look(doubts, &within).await?;
            }
            let (id, ifname) = (&attachment.container_id, &attachment.ifname);
            let unread = {
                let cache = lock(&self.inner.shared.cache);
                let holdings = self.holdings(&cache, id, ifname);
                let was_released = lock(&self.inner.shared.attachments).was_released(attachment);
                unread_by_release(&cache, &holdings, was_released)
            };
            self.read_all(&unread, &[], &within).await?;
            let holdings = self.holdings(&lock(&self.inner.shared.cache), id, ifname);
            match stale {
                // What was never heard of may be there all the same.
                Some(cause) if holdings.is_empty() => Err(Error::Api(cause)),
                _ => self.give_back(id, ifname, holdings, deadline).await,
            }
        };
        let released = released.await;
        match (&released, doubts) {
            (Ok(_), _) => lock(&self.inner.shared.attachments).note_released(attachment),
            (Err(_), Some(doubts)) => drop(lock(&self.inner.doubts).insert(attachment.clone(), doubts)),
            (Err(_), None) => {}
        }
        released
    }

    /// Takes back what a failed claim of the attachment whose `turn` it is has written, and nothing that it had before.
    ///
    /// # Errors
    /// Then [`Store::release`] is to be called until it succeeds.
    pub async fn undo(&self, turn: &Turn, residue: Residue, deadline: Instant) -> Result<(), Error> {
        let attachment = turn.attachment();
        let undone = async {
            self.look(&residue, &Deadline::until(deadline)).await?;
            let (id, ifname) = (&attachment.container_id, &attachment.ifname);
            let mut holdings = self.holdings(&lock(&self.inner.shared.cache), id, ifname);
            for InPool { name, subnet, entries } in &mut holdings.pools {
                let of_pool =
                    residue.entries.iter().filter(|(pool, range, _)| pool == name && range == subnet);
                let written: Vec<IpAddr> = of_pool.flat_map(|(.., addresses)| addresses).copied().collect();
                entries.retain(|(address, _)| written.contains(address));
            }
            holdings.reservations.retain(|name| residue.reservations.contains(name));
            self.give_back(id, ifname, holdings, deadline).await
        };
        let undone = undone.await;
        undone.map(drop).inspect_err(|_| {
            lock(&self.inner.doubts).insert(attachment.clone(), residue);
        })
    }

    /// Reads what a claim may have written.
    async fn look(&self, residue: &Residue, within: &Deadline) -> Result<(), Error> {
        let pools: BTreeSet<String> = residue.entries.iter().map(|(name, ..)| name.to_string()).collect();
        let pools: Vec<String> = pools.into_iter().collect();
        let reservations: Vec<String> = residue.reservations.iter().cloned().collect();
        self.read_all(&pools, &reservations, within).await
    }

    /// What the attachment has, by what is known.
    fn holdings(&self, cache: &Cache, id: &str, ifname: &str) -> Holdings {
        let mut holdings = Holdings::default();
        for (name, _, pool) in cache.pools.iter() {
            match pool.content() {
                None => {}
                Some(Content::Sound(pool)) => {
                    let belongs = belonging(pool, id, ifname);
                    let own = pool.iter().filter(|(_, entry)| belongs(entry));
                    let entries: Vec<(IpAddr, Allocation)> =
                        own.map(|(address, entry)| (address, entry.clone())).collect();
                    if let (false, Ok(name)) = (entries.is_empty(), PoolName::try_from(name.to_owned())) {
                        holdings.pools.push(InPool { name, subnet: pool.subnet(), entries });
                    }
                }
                Some(Content::Corrupt { why, containers }) if containers.contains(id) => {
                    let object = self.inner.shared.api.describe::<CachedPool>(name);
                    holdings.corrupt = Some(Error::Corrupt { object, why: why.to_string() });
                }
                Some(Content::Corrupt { .. }) => {}
            }
        }
        let mine = cache.reservations.iter().filter(|(_, _, seen)| seen.is_of(id, ifname));
        holdings.reservations.extend(mine.map(|(name, _, _)| name.to_owned()));
        holdings
    }

    async fn give_back(
        &self,
        id: &str,
        ifname: &str,
        holdings: Holdings,
        deadline: Instant,
    ) -> Result<usize, Error> {
        let Holdings { pools, reservations, corrupt } = holdings;
        let removed = join_all(pools.iter().map(|InPool { name, subnet, entries }| async move {
            let queue = self.queue(name, *subnet);
            let changes = entries.iter().map(|(address, entry)| (*address, Change::Remove(entry.clone())));
            let written = queue.write(changes.collect(), deadline).await;
            (queue, written)
        }));
        let mut failure = corrupt;
        let mut released = 0;
        let (mut free, mut had, mut pod) = (Freed::new(), Vec::new(), None);
        // Their entries may stand in the damaged pool.
        if failure.is_none() {
            free.extend(reservations.into_iter().map(|name| (name, (None, None))));
        }
        for (InPool { name, subnet, entries }, (queue, written)) in pools.iter().zip(removed.await) {
            let network = name::network_of(name.as_str(), subnet);
            let named = entries
                .iter()
                .filter_map(|(address, entry)| Some((of_address(network, *address).ok()?, entry)));
            if let Written::Failed(error) = written {
                // While an entry stands its reservation does.
                named.for_each(|(name, _)| drop(free.remove(&name)));
                failure = Some(error);
            } else {
                released += entries.len();
                had.extend(entries.iter().map(|(address, _)| (name.clone(), *address)));
                pod = entries.first().map(|(_, entry)| entry.podref()).or(pod);
                free.extend(named.map(|(name, entry)| (name, (Some(queue.clone()), Some(entry)))));
            }
        }
        if let Some(pod) = pod {
            lock(&self.inner.shared.attachments).freed(pod, ifname, had);
        }
        self.keep_needed(&mut free);
        let deleting = free.iter().map(|(name, (queue, entry))| async move {
            let gate = queue.as_ref().map_or(&self.inner.other_requests, |queue| queue.gate());
            // whereabouts does not write whose container it is, but then its entry was.
            let mine = |seen: &Reservation| {
                seen.is_of(id, ifname)
                    || (seen.container().is_empty() && entry.is_some_and(|entry| seen.goes_with(entry)))
            };
            self.inner.shared.unreserve(gate, name, mine, &mut Deadline::until(deadline)).await
        });
        for deleted in join_all(deleting).await {
            failure = deleted.err().or(failure);
        }
        failure.map_or(Ok(released), Err)
    }

    /// Leaves out the reservations that another sandbox of their pod needs: whereabouts gives it the entry, and leaves the
    /// reservation as it is.
    fn keep_needed(&self, free: &mut Freed<'_>) {
        let cache = lock(&self.inner.shared.cache);
        free.retain(|name, _| {
            cache.reservations.get(name).is_none_or(|reservation| !is_taken_over(&cache, name, reservation))
        });
    }
}
