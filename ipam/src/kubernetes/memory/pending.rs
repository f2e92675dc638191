//! Pending allocations: addresses that claims of this agent have chosen, and that are not written down yet.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::name::PoolName;
use crate::pool::{Allocation, Pool};
use crate::request::Owner;

/// Addresses that claims of this agent have chosen and not yet seen written down, by pool.
#[derive(Debug, Default)]
pub(crate) struct PendingAllocations(HashMap<String, (IpNet, BTreeMap<IpAddr, Owner>)>);

impl PendingAllocations {
    pub(crate) fn begin(&mut self, pool: &PoolName, subnet: IpNet, address: IpAddr, owner: &Owner) {
        let (_, pending) = self.0.entry(pool.to_string()).or_insert_with(|| (subnet, BTreeMap::new()));
        pending.insert(address, owner.clone());
    }

    pub(crate) fn end(&mut self, pool: &PoolName, address: IpAddr) {
        if let Some((_, pending)) = self.0.get_mut(pool.as_str()) {
            pending.remove(&address);
            if pending.is_empty() {
                self.0.remove(pool.as_str());
            }
        }
    }

    /// Whether `entry` of `address` is about to be written already.
    pub(crate) fn has(&self, pool: &str, address: IpAddr, entry: &Allocation) -> bool {
        let owner = self.0.get(pool).and_then(|(_, pending)| pending.get(&address));
        owner.is_some_and(|owner| {
            owner.container_id == entry.id() && entry.ifname() == Some(owner.ifname.as_str())
        })
    }

    /// The names of the pools that have any.
    pub(crate) fn pools(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// How many in one pool.
    pub(crate) fn count(&self, pool: &str) -> usize {
        self.0.get(pool).map_or(0, |(_, pending)| pending.len())
    }

    /// Adds them to the pool as it is known.
    pub(crate) fn overlay(&self, pool: &mut Pool) {
        for (address, owner) in self.0.get(pool.name()).into_iter().flat_map(|(_, pending)| pending) {
            // What is written down already is not younger in memory.
            if pool.get(*address).is_none() {
                let inside = pool.assign(*address, &owner.container_id, owner.pod.as_deref(), &owner.ifname);
                debug_assert!(inside, "{address} was chosen from {}", pool.name());
            }
        }
    }
}
