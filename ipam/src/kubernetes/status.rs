//! How the store stands, for those who watch over it. Nothing is asked of the server for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ipnet::IpNet;
use octavia_bridge_cluster::ApiError;

use crate::allocate::{self, Usage};
use crate::range::Range;
use crate::wire::Inquiry;

use crate::kubernetes::error::Error;
use crate::kubernetes::memory::pool::Content;
use crate::kubernetes::memory::view::{Scope, View};
use crate::kubernetes::memory::watch::Freshness;
use crate::kubernetes::{Store, lock};

/// One pool as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// Its entries by number, unless it is damaged: then why. `None`: it was not read, as this agent has no use for it.
    pub content: Option<Result<PoolFill, String>>,
}

/// How full a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolFill {
    /// Its range.
    pub subnet: IpNet,
    /// Addresses with an entry.
    pub used: u128,
    /// Addresses that a range over the whole subnet could hand out.
    pub capacity: u128,
}

/// What the memory of the pools is worth.
#[derive(Debug, Clone)]
pub enum Watching {
    /// It follows the API.
    Well,
    /// It was read, and has not followed for some seconds.
    Behind(Arc<ApiError>),
    /// Not all was read yet, for this reason if there is one.
    Unread(Option<Arc<ApiError>>),
    /// Nothing is watched: no address of this node needs it.
    Unneeded,
}

impl Store {
    /// Whether the pools in memory follow the API.
    pub fn watching(&self) -> Watching {
        if !self.inner.shared.is_needed() {
            return Watching::Unneeded;
        }
        match self.inner.shared.watches.borrow().freshness() {
            Freshness::Fresh => Watching::Well,
            Freshness::Stale(error) => Watching::Behind(error),
            Freshness::Nothing(error) => Watching::Unread(error),
        }
    }

    /// Has the pools and the reservations watched from now on, and for some minutes after the last call of this, and of every
    /// operation on an address.
    pub fn need(&self) {
        self.inner.shared.need();
    }

    /// Every pool in memory, by name. What is told of those that [`Store::keep_up`] reads may be as old as it says there.
    pub fn pools(&self) -> Vec<PoolStatus> {
        let cache = lock(&self.inner.shared.cache);
        let known = cache.pools.iter().map(|(name, _, pool)| {
            let content = pool.content().map(|content| match content {
                Content::Sound(pool) => {
                    let subnet = pool.subnet();
                    let used = pool.iter().count() as u128;
                    Ok(PoolFill { subnet, used, capacity: capacity(subnet) })
                }
                Content::Corrupt { why, .. } => Err(why.to_string()),
            });
            PoolStatus { name: name.to_owned(), content }
        });
        known.collect()
    }

    /// So many times a claim has found that somebody else was faster, and chosen again.
    pub fn conflicts(&self) -> u64 {
        self.inner.shared.conflicts.load(Ordering::Relaxed)
    }

    /// State of one of the inquiry's ranges, by what is in memory; `None` if its pool was not read.
    ///
    /// # Errors
    /// Damaged pools, and a range that no pool can have.
    pub fn known_usage(&self, inquiry: &Inquiry, range: &Range) -> Result<Option<Usage>, Error> {
        let network = inquiry.network_name.as_deref();
        let name = range.pool_name(network).map_err(|error| Error::Unsupported(error.to_string()))?;
        let scope = Scope {
            pools: &[(name.clone(), range.subnet())],
            network_name: network,
            overlapping: inquiry.overlapping,
            owner: None,
        };
        let shared = &self.inner.shared;
        // Without a watch nothing is known, which is not the same as nothing in use.
        if !shared.watches.borrow().are_read() {
            return Ok(None);
        }
        let cache = lock(&shared.cache);
        if cache.pools.get(name.as_str()).is_some_and(|pool| pool.known.is_none()) {
            return Ok(None);
        }
        let view = View::new(&cache, &lock(&shared.pending), &scope, &shared.api)?;
        let pools = view.own.iter().chain(&view.others);
        Ok(Some(allocate::usage(range, name.as_str(), pools, &inquiry.reserved)))
    }
}

/// Of a subnet that no range can be over, such as a /32, none.
fn capacity(subnet: IpNet) -> u128 {
    let whole = Range::new(subnet, None, None, Vec::new());
    whole.map_or(0, |(range, _)| allocate::usage(&range, "", [].iter(), &[]).capacity)
}
