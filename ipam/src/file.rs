//! The pools of one host: a directory with one JSON document per pool.
//!
//! The directory lies in memory, and dies with the boot as the links do that have the addresses: nothing is synced.
//!
//! Writers exclude each other by a lock on `.lock` in that directory. A document is replaced as a whole
//! (written beside, renamed), so readers need no lock and a killed writer leaves
//! the old or the new text. A document that cannot be read is an error for whoever needs it and is never
//! overwritten: taking it for empty would give out its addresses a second time.
//!
//! A release that is impossible just now leaves a tombstone, an empty file whose name says whose addresses
//! to release. Every later writer replays tombstones before anything else; the attachment's own next
//! reservation removes its tombstone, lest a later replay free what is in use again.

mod claim;
mod disk;
mod former;
mod lock;
mod release;
mod tombstone;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ipnet::IpNet;

use crate::address::overlap;
use crate::allocate::{self, Usage};
use crate::conf::Ipam;
use crate::name;
use crate::pool::Pool;
use crate::request::Request;

pub use crate::error::StoreError;
pub use crate::request::Assigned;
pub use claim::Claim;
pub use former::Former;
pub use release::Released;
pub(crate) use release::belonging;
pub use tombstone::{Tombstone, Tombstones};

use lock::Lock;

/// Pools in a directory of this host.
#[derive(Debug, Clone)]
pub struct FileStore {
    pools: PathBuf,
    tombstones: Tombstones,
}

impl FileStore {
    /// A store with its documents in `pools` and its tombstones in `tombstones`. Neither need exist:
    /// they are made, readable by their owner only, by the first write.
    pub fn new(pools: PathBuf, tombstones: PathBuf) -> Self {
        Self { pools, tombstones: Tombstones::passing(tombstones) }
    }

    /// Chooses an address for every want of the request. Repeating it for the same owner gives the same
    /// addresses. [`Claim::hold`] makes them the owner's.
    ///
    /// `deadline` bounds the wait for other writers. After an error nothing is reserved.
    ///
    /// `alive` says which attachments still exist, see [`allocate::allocate`]. It is called under the
    /// store's lock, so it must not wait for anything that a waiter for this lock may hold.
    pub fn acquire(
        &self,
        request: &Request,
        deadline: Instant,
        alive: &dyn Fn(&str, &str) -> bool,
    ) -> Result<Claim, StoreError> {
        disk::create_dir(&self.pools)?;
        self.tombstones.prepare()?;
        let lock = Lock::take(&self.pools, deadline)?;
        self.replay(&lock)?;
        let mut pools = Vec::new();
        for (name, subnet) in request.pools() {
            pools.push(self.pool(name.as_str(), subnet)?.unwrap_or_else(|| Pool::new(&name, subnet)));
        }
        let others = if request.overlapping {
            let subnets: Vec<(String, IpNet)> =
                pools.iter().map(|pool| (pool.name().to_owned(), pool.subnet())).collect();
            self.overlapping(request.network_name.as_deref(), &subnets)?
        } else {
            Vec::new()
        };
        let assigned = allocate::allocate(request, &mut pools, &others, alive)?;
        let ready = disk::prepare(&self.pools, pools.iter().filter(|pool| pool.is_changed()), &lock)?;
        Ok(Claim {
            assigned,
            ready,
            tombstone: Tombstone::of(&request.owner.container_id, &request.owner.ifname),
            tombstones: self.tombstones.clone(),
            lock,
        })
    }

    /// Names of the pools whose entries count for the request: its own and, if they matter, overlapping ones.
    ///
    /// # Errors
    /// A directory or an overlapping pool that cannot be read.
    pub fn related(&self, request: &Request) -> Result<Vec<String>, StoreError> {
        let own = request.pools().into_iter().map(|(name, subnet)| (name.to_string(), subnet));
        let own: Vec<(String, IpNet)> = own.collect();
        let mut names: Vec<String> = own.iter().map(|(name, _)| name.clone()).collect();
        if request.overlapping {
            let others = self.overlapping(request.network_name.as_deref(), &own)?;
            names.extend(others.iter().map(|pool| pool.name().to_owned()));
        }
        Ok(names)
    }

    /// The addresses that the attachment has in the pools of `ipam`, lowest first within each pool.
    /// Takes no lock; a missing directory holds nothing.
    pub fn held(&self, id: &str, ifname: &str, ipam: &Ipam) -> Result<Vec<IpNet>, StoreError> {
        let mut held = Vec::new();
        for (name, subnet) in ipam.pools() {
            let Some(pool) = self.pool(name.as_str(), subnet)? else { continue };
            let belongs = belonging(&pool, id, ifname);
            let own = pool.iter().filter(|(_, entry)| belongs(entry));
            held.extend(own.map(|(address, _)| IpNet::new_assert(address, subnet.prefix_len())));
        }
        Ok(held)
    }

    /// State of every range of `ipam`, in order. Takes no lock and writes nothing; a missing directory
    /// holds nothing.
    pub fn usage(&self, ipam: &Ipam) -> Result<Vec<Usage>, StoreError> {
        let reserved: Vec<IpAddr> = ipam.reserved();
        let mut usages = Vec::new();
        for range in &ipam.ranges {
            let Ok(name) = range.pool_name(ipam.network_name.as_deref()) else { continue };
            let own =
                self.pool(name.as_str(), range.subnet())?.unwrap_or_else(|| Pool::new(&name, range.subnet()));
            let mut pools = vec![own];
            if ipam.enable_overlapping_ranges {
                let subnets = [(name.to_string(), range.subnet())];
                pools.extend(self.overlapping(ipam.network_name.as_deref(), &subnets)?);
            }
            usages.push(allocate::usage(range, name.as_str(), pools.iter(), &reserved));
        }
        Ok(usages)
    }

    /// Releases that are still to be done, for diagnostics.
    pub fn entombed(&self) -> Result<Vec<Tombstone>, StoreError> {
        self.tombstones.list()
    }

    /// The pool called `name` if it exists, which must be of `subnet`.
    fn pool(&self, name: &str, subnet: IpNet) -> Result<Option<Pool>, StoreError> {
        let Some(pool) = disk::read(&self.pools, name)? else { return Ok(None) };
        // Names are ambiguous between network names that look like IPv6 groups and ranges.
        if pool.subnet() != subnet {
            let why = format!("spec.range is {}, and {subnet} has the same pool name", pool.subnet());
            return Err(StoreError::Corrupt { path: disk::path(&self.pools, name), why });
        }
        Ok(Some(pool))
    }

    /// The pools of the domain that share addresses with any of `own` (name and subnet) but are none of
    /// them. Reads only documents whose name says so.
    fn overlapping(
        &self,
        network_name: Option<&str>,
        own: &[(String, IpNet)],
    ) -> Result<Vec<Pool>, StoreError> {
        let mut found = Vec::new();
        for name in disk::names(&self.pools)? {
            let Some(subnet) = name::subnet_of(network_name, &name) else { continue };
            let related = own.iter().any(|(_, mine)| overlap(mine, &subnet));
            if !related || own.iter().any(|(mine, _)| *mine == name) {
                continue;
            }
            // A pool of another domain may have a name that reads as one of ours; its range tells.
            found.extend(disk::read(&self.pools, &name)?.filter(|pool| pool.subnet() == subnet));
        }
        Ok(found)
    }

    fn pools_dir(&self) -> &Path {
        &self.pools
    }
}
