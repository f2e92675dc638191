//! Addresses in use as the objects say: entries with their reservations, and either without the other.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::name::{PoolName, network_of};
use crate::pool::Allocation;
use crate::wire::Attachment;

use crate::kubernetes::api::name::{address_of, of_address};
use crate::kubernetes::api::reservation::Reservation;
use crate::kubernetes::memory::cache::Cache;
use crate::kubernetes::{Shared, Store, lock};

/// An address in use: its entry, its reservation, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// What a pool says; `None` where only the reservation stands.
    pub entry: Option<Entry>,
    /// The reservation of the entry's pod, with its name. An entry of another pod has none of its own.
    pub reservation: Option<(String, Arc<Reservation>)>,
    /// Of a reservation without an entry: some pool says that another pod has the address.
    pub disputed: bool,
}

/// An entry with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The pool's name.
    pub pool: PoolName,
    /// Its range.
    pub subnet: IpNet,
    /// The address.
    pub address: IpAddr,
    /// Whose it is.
    pub allocation: Allocation,
}

impl Entry {
    /// The name of the reservation that belongs to it; `None` for the few IPv6 addresses that can have none.
    pub fn reservation_name(&self) -> Option<String> {
        of_address(network_of(self.pool.as_str(), &self.subnet), self.address).ok()
    }
}

impl Holding {
    /// `namespace/name` of the pod, as its writer said.
    pub fn podref(&self) -> &str {
        let reserved = || self.reservation.as_ref().map(|(_, reservation)| reservation.podref());
        self.entry.as_ref().map(|entry| entry.allocation.podref()).or_else(reserved).unwrap_or_default()
    }

    /// The attachment. A container id that whereabouts did not write down is empty.
    pub fn attachment(&self) -> Attachment {
        let of_entry = self.entry.as_ref().map(|Entry { allocation, .. }| Attachment {
            container_id: allocation.id().to_owned(),
            ifname: allocation.ifname().unwrap_or_default().to_owned(),
        });
        let of_reservation = || {
            let (_, reservation) = self.reservation.as_ref()?;
            let (id, ifname) = (reservation.container().to_owned(), reservation.ifname().to_owned());
            Some(Attachment { container_id: id, ifname })
        };
        let empty = || Attachment { container_id: String::new(), ifname: String::new() };
        of_entry.or_else(of_reservation).unwrap_or_else(empty)
    }

    /// The address as text; of a lone reservation its name, which is the address and perhaps a network's name before it.
    pub fn address(&self) -> String {
        let name = || self.reservation.as_ref().map(|(name, _)| name.clone()).unwrap_or_default();
        self.entry.as_ref().map_or_else(name, |entry| entry.address.to_string())
    }
}

impl Store {
    /// Whether the attachment was on this node, by a claim or a release of this agent, or by a reservation.
    pub fn was_here(&self, attachment: &Attachment) -> bool {
        let Shared { node, cache, attachments, .. } = &*self.inner.shared;
        let Attachment { container_id, ifname } = attachment;
        let is_it = |seen: &Reservation| {
            seen.node() == &**node
                && seen.container() == container_id
                && (ifname.is_empty() || seen.ifname() == ifname)
        };
        let cache = lock(cache);
        cache.reservations.iter().any(|(_, _, seen)| is_it(seen)) || lock(attachments).knows(attachment)
    }

    /// The addresses in use that `wanted` wants, by pool and address; lone reservations come last.
    ///
    /// What is in memory is told, see [`Store::watching`] and [`Store::keep_up`]. `wanted` must not call the store.
    pub fn survey(&self, wanted: impl FnMut(&Holding) -> bool) -> Vec<Holding> {
        survey(&lock(&self.inner.shared.cache), wanted)
    }
}

pub(crate) fn survey(cache: &Cache, mut wanted: impl FnMut(&Holding) -> bool) -> Vec<Holding> {
    let mut found = Vec::new();
    let mut keep = |holding: Holding| {
        if wanted(&holding) {
            found.push(holding);
        }
    };
    let (mut spoken_for, mut disputed) = (HashSet::new(), HashSet::new());
    for (name, _, pool) in cache.pools.iter() {
        let Some(pool) = pool.sound() else { continue };
        let Ok(pool_name) = PoolName::try_from(name.to_owned()) else { continue };
        let network = network_of(name, &pool.subnet());
        for (address, allocation) in pool.iter() {
            let known = of_address(network, address).ok();
            let known = known.and_then(|name| cache.reservations.entry(&name));
            let mut reservation = None;
            if let Some((name, seen)) = known {
                // One of the pod's earlier sandboxes is the pod's, too: whereabouts leaves it as it is.
                if seen.goes_with(allocation) || seen.podref() == allocation.podref() {
                    spoken_for.insert(name);
                    reservation = Some((name.to_owned(), seen.clone()));
                } else {
                    disputed.insert(name);
                }
            }
            let (pool, subnet, allocation) = (pool_name.clone(), pool.subnet(), allocation.clone());
            let entry = Some(Entry { pool, subnet, address, allocation });
            keep(Holding { entry, reservation, disputed: false });
        }
    }
    for (name, _, seen) in cache.reservations.iter().filter(|(name, ..)| !spoken_for.contains(name)) {
        let reservation = Some((name.to_owned(), seen.clone()));
        keep(Holding { entry: None, reservation, disputed: disputed.contains(name) });
    }
    found
}

/// Whether another sandbox of the reservation's pod has the entry at its address, as after a takeover by whereabouts: then the
/// reservation protects the address for that one.
pub(crate) fn is_taken_over(cache: &Cache, name: &str, reservation: &Reservation) -> bool {
    for (pool_name, _, pool) in cache.pools.iter() {
        let Some(pool) = pool.sound() else { continue };
        let Some(address) = address_of(network_of(pool_name, &pool.subnet()), name) else { continue };
        let Some(entry) = pool.get(address) else { continue };
        let same = |ifname: &str| reservation.ifname().is_empty() || reservation.ifname() == ifname;
        if entry.podref() == reservation.podref()
            && entry.id() != reservation.container()
            && entry.ifname().is_none_or(same)
        {
            return true;
        }
    }
    false
}

/// The one pool to which the address of reservation `name` can belong; `None` if there are several, or one is damaged or was
/// not read, so that nobody knows.
pub(crate) fn home(cache: &Cache, name: &str) -> Option<(PoolName, IpNet, IpAddr)> {
    let mut home = None;
    for (pool_name, _, pool) in cache.pools.iter() {
        let pool = pool.sound()?;
        let address = address_of(network_of(pool_name, &pool.subnet()), name);
        if let Some(address) = address.filter(|address| pool.offset(*address).is_some()) {
            let found = (PoolName::try_from(pool_name.to_owned()).ok()?, pool.subnet(), address);
            if home.replace(found).is_some() {
                return None;
            }
        }
    }
    home
}
