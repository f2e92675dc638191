//! Which pools have to be read, and when.
//!
//! What is watched of a pool says that it was changed, not how. So its content is read
//! - when a claim, a release or a repair needs to know what only the content says;
//! - now and then, for those of which this node's attachments are, to see that their entries still stand;
//! - by the elected agent, for all: it looks after what no node's agent answers for, and tells how full pools are.
//!
//! An agent whose node has no attachment reads nothing when others do something.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::address::overlap;
use crate::name::{self, PoolName, network_of};
use crate::range::Range;
use crate::request::Request;
use crate::wire::Inquiry;

use super::cache::Cache;
use crate::kubernetes::api::name::address_of;
use crate::kubernetes::api::reservation::Reservation;
use crate::kubernetes::error::Error;
use crate::kubernetes::memory::pool::CachedPool;
use crate::kubernetes::release::Holdings;
use crate::kubernetes::write::deadline::Deadline;
use crate::kubernetes::{Shared, Store, lock};

/// So long after the last reservation of whereabouts' more of them are expected.
const WHEREABOUTS: Duration = Duration::from_secs(3600);
/// How full a range is, is told by what was read at most so long ago, as long as that says that there is room.
const ROOM: Duration = Duration::from_secs(60);

impl Shared {
    /// Whether whereabouts has written here lately. It writes an entry before the reservation, and fails when it finds ours
    /// there: so its entries have to be seen before a choice. Agents of this project make the reservation first.
    pub(crate) fn is_whereabouts_at_work(&self) -> bool {
        lock(&self.whereabouts).is_some_and(|last| last.elapsed() < WHEREABOUTS)
    }
}

/// The pools that a claim has to read before it can choose, beside those that it has `read` already.
pub(crate) fn unread_by_claim(
    cache: &Cache,
    request: &Request,
    read: &BTreeSet<String>,
    whereabouts: bool,
) -> Vec<String> {
    let network = request.network_name.as_deref();
    let own = request.pools();
    let mut unread = Vec::new();
    for (name, _, pool) in cache.pools.iter() {
        if pool.is_current() || (pool.known.is_some() && read.contains(name)) {
            continue;
        }
        let needed = if own.iter().any(|(mine, _)| mine.as_str() == name) {
            // Without reservations only the content says what is in use; with them, the reservation of the pod that its
            // entry may be there.
            whereabouts
                || pool.sound().is_none()
                || !request.overlapping
                || has_unknown_entry(cache, request, name, pool)
        } else {
            // Its entries may have no reservation.
            let subnet = name::subnet_of(network, name);
            let related = subnet.is_some_and(|subnet| own.iter().any(|(_, mine)| overlap(mine, &subnet)));
            request.overlapping && related
        };
        if needed {
            unread.push(name.to_owned());
        }
    }
    unread
}

/// Whether a reservation of the claimant's pod shows that the pool may have an entry of it that is not known.
fn has_unknown_entry(cache: &Cache, request: &Request, name: &str, pool: &CachedPool) -> bool {
    let (Some(pool), Some(pod)) = (pool.sound(), request.owner.pod.as_deref()) else { return true };
    if request.pools().iter().any(|(mine, subnet)| mine.as_str() == name && *subnet != pool.subnet()) {
        return true;
    }
    cache.reservations.iter().filter(|(_, _, seen)| seen.podref() == pod).any(|(name, _, seen)| {
        let address = address_of(request.network_name.as_deref(), name);
        let address = address.filter(|address| pool.offset(*address).is_some());
        address.is_some_and(|address| pool.get(address).is_none_or(|entry| !seen.goes_with(entry)))
    })
}

/// The pools that a release has to read, by what is known of its attachment.
///
/// Entries of an attachment are made on its node, and so by this agent, which remembers them, by one before it, or by another
/// program.
pub(crate) fn unread_by_release(cache: &Cache, holdings: &Holdings, was_released: bool) -> Vec<String> {
    let mut unread = Vec::new();
    for (name, _, pool) in cache.pools.iter() {
        if pool.is_current() {
            continue;
        }
        let needed = if holdings.is_empty() {
            !was_released
        } else {
            !pool.was_read || has_unknown_holding(holdings, name, pool)
        };
        if needed {
            unread.push(name.to_owned());
        }
    }
    unread
}

/// Whether a reservation of the attachment shows that the pool may have an entry of it that is not known.
fn has_unknown_holding(holdings: &Holdings, name: &str, pool: &CachedPool) -> bool {
    let Some(known) = pool.sound() else { return true };
    let network = network_of(name, &known.subnet());
    for reservation in &holdings.reservations {
        let Some(address) = address_of(network, reservation) else { continue };
        let mut held = holdings.pools.iter().filter(|held| held.name.as_str() == name);
        let is_held = held.any(|held| held.entries.iter().any(|(known, _)| *known == address));
        if known.offset(address).is_some() && !is_held {
            return true;
        }
    }
    false
}

/// The pools that have to be read before something is repaired in `pool`, or in those that can have the address of a reservation.
pub(crate) fn unread_by_repair(
    cache: &Cache,
    pool: Option<&PoolName>,
    reservation: Option<&str>,
) -> Vec<String> {
    let mut unread = Vec::new();
    for (name, _, cached) in cache.pools.iter() {
        if cached.is_current() {
            continue;
        }
        let is_it = pool.is_some_and(|pool| pool.as_str() == name);
        if is_it || can_have(name, cached, reservation) {
            unread.push(name.to_owned());
        }
    }
    unread
}

/// Whether the pool can have the address of this reservation, as far as is known.
fn can_have(name: &str, cached: &CachedPool, reservation: Option<&str>) -> bool {
    let Some(known) = cached.sound() else { return true };
    let network = network_of(name, &known.subnet());
    let address = reservation.and_then(|reservation| address_of(network, reservation));
    address.is_some_and(|address| known.offset(address).is_some())
}

impl Store {
    /// The pools to read before it is told how full a range is; `content` as it was read lately is good enough if `lately`.
    pub(crate) fn unread_by_usage(
        &self,
        inquiry: &Inquiry,
        range: &Range,
        lately: bool,
    ) -> Result<Vec<String>, Error> {
        let network = inquiry.network_name.as_deref();
        let name = range.pool_name(network).map_err(|error| Error::Unsupported(error.to_string()))?;
        let cache = lock(&self.inner.shared.cache);
        let pools = cache.pools.iter().filter(|(other, _, pool)| {
            let mine = name.as_str() == *other;
            let subnet = name::subnet_of(network, other).filter(|_| inquiry.overlapping);
            let known = pool.known.as_ref().filter(|_| lately);
            (mine || subnet.is_some_and(|subnet| overlap(&range.subnet(), &subnet)))
                && !pool.is_current()
                && known.is_none_or(|known| known.asked.elapsed() >= ROOM)
        });
        Ok(pools.map(|(name, ..)| name.to_owned()).collect())
    }

    /// Reads pools that others have changed, and forgets those that are of no use here.
    ///
    /// `all` are of use to the elected agent, which reads a changed one after at most `every`; to others those with entries of
    /// this node, or of containers that are `here` as the plugin's records say. These are read after five times that.
    ///
    /// # Errors
    /// The first of those of reading; others were read nevertheless, unless the server is away.
    pub async fn keep_up(
        &self,
        all: bool,
        here: &HashSet<String>,
        every: Duration,
        deadline: Instant,
    ) -> Result<(), Error> {
        /// How many times longer an agent waits that is not the elected one: there are many of them.
        const OTHERS: u32 = 5;
        let within = Deadline::until(deadline);
        self.read(&within).await?;
        let every = if all { every } else { every.saturating_mul(OTHERS) };
        let mut result = Ok(());
        for name in self.due(all, here, every) {
            if let Err(error) = self.inner.shared.read_pool(&name, &within).await {
                let away = matches!(&error, Error::Api(cause) if cause.is_away());
                result = result.and(Err(error));
                if away {
                    break;
                }
            }
        }
        result
    }

    /// The names of the pools that are to be read now.
    fn due(&self, all: bool, here: &HashSet<String>, every: Duration) -> Vec<String> {
        let shared = &self.inner.shared;
        let mut cache = lock(&shared.cache);
        let Cache { pools, reservations } = &mut *cache;
        let pending = lock(&shared.pending);
        let own = |seen: &Reservation| seen.node() == &*shared.node && !shared.node.is_empty();
        let mut ids: HashSet<&str> = here.iter().map(String::as_str).collect();
        let reserved = reservations.iter().map(|(_, _, seen)| seen).filter(|seen| own(seen));
        ids.extend(reserved.map(|seen| seen.container()));
        let attachments = lock(&shared.attachments);
        ids.extend(attachments.claimed());
        let now = Instant::now();
        let mut due = Vec::new();
        for (name, pool) in pools.iter_mut() {
            if pool.is_current() {
                continue;
            }
            let is_used = all
                || pool.sound().is_some_and(|pool| pool.iter().any(|(_, entry)| ids.contains(entry.id())));
            let is_due = match &mut pool.known {
                // Once: to see whether it is of use.
                None => all || !(pool.was_read || ids.is_empty()),
                // Those who hear of a change at the same moment do not ask at the same moment.
                Some(known) if is_used => {
                    now >= *known.again.get_or_insert_with(|| now + shared.jitter.spread(every))
                }
                // The claims that are under way here still need it.
                Some(_) if pending.count(name) > 0 => false,
                Some(_) => {
                    pool.known = None;
                    false
                }
            };
            if is_due {
                due.push(name.to_owned());
            }
        }
        due
    }
}
