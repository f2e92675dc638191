//! The pools as one claim sees them: what is known of the API, and what this agent is about to write.
//!
//! Pure but for reading the cache. A reservation counts as an address in use even where no pool has an entry for it:
//! it is another node's claim under way, or what whereabouts left behind, and which of them nobody can tell by looking.

use std::sync::Arc;

use ipnet::IpNet;

use crate::address::overlap;
use crate::name::{self, NameError, PoolName};
use crate::pool::Pool;
use crate::request::Owner;

use super::cache::Cache;
use super::pending::PendingAllocations;
use super::pool::{CachedPool, Content};
use crate::kubernetes::api::Api;
use crate::kubernetes::api::name::address_of;
use crate::kubernetes::error::Error;

/// The pools that matter for a question.
#[derive(Debug)]
pub(crate) struct View {
    /// Those it names, in its order, empty where there is none yet.
    pub(crate) own: Vec<Pool>,
    /// Further ones that share addresses with them, and reservations without an entry.
    pub(crate) others: Vec<Pool>,
    /// The names of all pools seen, for reading them again.
    pub(crate) pools: Vec<String>,
    /// The names of the reservations without an entry that match, for reading them again.
    pub(crate) alone: Vec<String>,
}

/// What a view is of.
pub(crate) struct Scope<'a> {
    /// The pools asked for.
    pub(crate) pools: &'a [(PoolName, IpNet)],
    /// The address domain.
    pub(crate) network_name: Option<&'a str>,
    /// Whether addresses in use in overlapping pools, and reserved ones, count.
    pub(crate) overlapping: bool,
    /// Whose reservations are none of somebody else's.
    pub(crate) owner: Option<&'a Owner>,
}

impl View {
    /// # Errors
    /// [`Error::Corrupt`]: a pool that matters is not what its name says.
    pub(crate) fn new(
        cache: &Cache,
        pending: &PendingAllocations,
        scope: &Scope<'_>,
        api: &Api,
    ) -> Result<Self, Error> {
        let mut own = Vec::new();
        for (name, subnet) in scope.pools {
            let known = sound(cache, name.as_str(), *subnet, api)?;
            let mut pool = known.map_or_else(|| Pool::new(name, *subnet), Arc::unwrap_or_clone);
            pending.overlay(&mut pool);
            own.push(pool);
        }
        let mut view = Self { own, others: Vec::new(), pools: Vec::new(), alone: Vec::new() };
        if scope.overlapping {
            view.add_overlapping(cache, pending, scope, api)?;
            view.pools.extend(view.others.iter().map(|pool| pool.name().to_owned()));
            view.add_reservations(cache, scope);
        }
        view.pools.extend(scope.pools.iter().map(|(name, _)| name.to_string()));
        Ok(view)
    }

    fn add_overlapping(
        &mut self,
        cache: &Cache,
        pending: &PendingAllocations,
        scope: &Scope<'_>,
        api: &Api,
    ) -> Result<(), Error> {
        let known = cache.pools.iter().map(|(name, _, _)| name);
        let coming = pending.pools().filter(|name| cache.pools.get(name).is_none());
        for name in known.chain(coming) {
            let Some(subnet) = name::subnet_of(scope.network_name, name) else { continue };
            let related = scope.pools.iter().any(|(_, mine)| overlap(mine, &subnet));
            if !related || scope.pools.iter().any(|(mine, _)| mine.as_str() == name) {
                continue;
            }
            // A pool of another domain may have a name that reads as one of ours; its range tells.
            let mut pool = match pool(cache, name, api)? {
                Some(pool) => Arc::unwrap_or_clone(pool),
                None => {
                    Pool::new(&PoolName::try_from(name.to_owned()).map_err(|error| unnamed(&error))?, subnet)
                }
            };
            if pool.subnet() == subnet {
                pending.overlay(&mut pool);
                self.others.push(pool);
            }
        }
        Ok(())
    }

    /// Adds the reservations that no entry stands for, as pools of their own.
    fn add_reservations(&mut self, cache: &Cache, scope: &Scope<'_>) {
        let mut subnets: Vec<IpNet> = scope.pools.iter().map(|(_, subnet)| *subnet).collect();
        subnets.dedup();
        let name = PoolName::try_from("reservations".to_owned());
        let mut reserved: Vec<Pool> =
            name.iter().flat_map(|name| subnets.iter().map(|subnet| Pool::new(name, *subnet))).collect();
        for (name, _, reservation) in cache.reservations.iter() {
            let Some(address) = address_of(scope.network_name, name) else { continue };
            let pools = || self.own.iter().chain(&self.others);
            let spoken_for =
                pools().filter_map(|pool| pool.get(address)).any(|entry| reservation.goes_with(entry));
            let mine = |owner: &Owner| reservation.is_of(&owner.container_id, &owner.ifname);
            if spoken_for || scope.owner.is_some_and(mine) {
                continue;
            }
            let mut matters = false;
            for pool in &mut reserved {
                matters |= pool.assign(
                    address,
                    reservation.container(),
                    Some(reservation.podref()),
                    reservation.ifname(),
                );
            }
            if matters {
                self.alone.push(name.to_owned());
            }
        }
        self.others.extend(reserved.into_iter().filter(|pool| !pool.is_empty()));
    }
}

/// The pool called `name`, which must be of `subnet`; `None` if there is none, or it was not read.
pub(crate) fn sound(cache: &Cache, name: &str, subnet: IpNet, api: &Api) -> Result<Option<Arc<Pool>>, Error> {
    let Some(pool) = pool(cache, name, api)? else { return Ok(None) };
    // Names are ambiguous between network names that look like IPv6 groups and ranges.
    if pool.subnet() != subnet {
        let why = format!("spec.range is {}, and {subnet} has the same pool name", pool.subnet());
        return Err(Error::Corrupt { object: api.describe::<CachedPool>(name), why });
    }
    Ok(Some(pool))
}

fn pool(cache: &Cache, name: &str, api: &Api) -> Result<Option<Arc<Pool>>, Error> {
    match cache.pools.get(name).and_then(CachedPool::content) {
        None => Ok(None),
        Some(Content::Sound(pool)) => Ok(Some(pool.clone())),
        Some(Content::Corrupt { why, .. }) => {
            Err(Error::Corrupt { object: api.describe::<CachedPool>(name), why: why.to_string() })
        }
    }
}

/// Pools that are known or coming have names that objects can have.
fn unnamed(error: &NameError) -> Error {
    Error::Unsupported(error.to_string())
}
