//! Choosing addresses: which ones an attachment gets from the pools as they stand.
//!
//! Pure: pools go in, changed pools and the assigned addresses come out, and the caller writes the pools
//! or, on a refusal, forgets them.

mod claimant;
mod keep;
mod search;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::address::{Span, bits, from_bits, overlap, same_family};
use crate::pool::Pool;
use crate::range::Range;
use crate::request::{Assigned, Choice, Holder, Request, Want};

use claimant::{Claimant, Holding};

/// How many holders a message names before it only counts.
const HOLDERS_SHOWN: usize = 8;

/// Why a request cannot be met.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A range has no free address.
    #[error(transparent)]
    Exhausted(Box<Exhausted>),
    /// An address asked for by name belongs to somebody else.
    #[error("address {address} is held by {holder}")]
    Held {
        /// The address.
        address: IpAddr,
        /// Who has it.
        holder: Box<Holder>,
    },
}

/// State of one range: what can be handed out, and what is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Name of the range's pool.
    pub pool: String,
    /// Lowest address of the range.
    pub first: IpAddr,
    /// Highest address of the range.
    pub last: IpAddr,
    /// Addresses that can be handed out at all: between the bounds, not excluded, not reserved.
    #[serde(with = "crate::wire::decimal")]
    pub capacity: u128,
    /// Of these, addresses in use in this pool or an overlapping one.
    #[serde(with = "crate::wire::decimal")]
    pub used: u128,
    /// Of these, addresses still free.
    #[serde(with = "crate::wire::decimal")]
    pub free: u128,
    /// Addresses between the bounds left out by `exclude`.
    #[serde(with = "crate::wire::decimal")]
    pub excluded: u128,
    /// Addresses between the bounds kept for gateways and next hops.
    #[serde(with = "crate::wire::decimal")]
    pub reserved: u128,
    /// Who holds addresses between the bounds, lowest first.
    pub holders: Vec<Holder>,
}

/// A range without a free address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Exhausted(pub Usage);

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Usage { pool, first, last, used, free, excluded, reserved, holders, .. } = &self.0;
        write!(f, "pool {pool} has no free address in {first}-{last}: ")?;
        write!(f, "{used} used, {free} free, {reserved} reserved, {excluded} excluded")?;
        // Of a question, only a few are named.
        if holders.len() as u128 >= *used && holders.len() > HOLDERS_SHOWN {
            write!(f, "; by namespace: {}", by_namespace(holders))?;
        }
        for (i, holder) in holders.iter().take(HOLDERS_SHOWN).enumerate() {
            write!(f, "{} {} {holder}", if i == 0 { "; held:" } else { "," }, holder.address)?;
        }
        if holders.len() > HOLDERS_SHOWN {
            write!(f, ", and {} more", holders.len() - HOLDERS_SHOWN)?;
        }
        Ok(())
    }
}

/// How many addresses the pods of each namespace hold, most first.
fn by_namespace(holders: &[Holder]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for holder in holders {
        let namespace = holder.pod.split_once('/').map_or("unnamed pods", |(namespace, _)| namespace);
        *counts.entry(namespace).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let shown: Vec<String> =
        counts.iter().take(HOLDERS_SHOWN).map(|(namespace, count)| format!("{namespace} {count}")).collect();
    shown.join(", ")
}

/// Gives the request's owner one address per want, in the order of the wants.
///
/// `pools` holds every pool the request names; `others` the further pools of the same address domain
/// that overlap them, and is empty when overlapping does not matter. Entries of this owner that the
/// request no longer covers are freed. After a refusal the pools are half-changed and must be dropped.
///
/// `alive(container id, interface)` says whether that attachment still exists; with an empty interface,
/// whether any of the container's does. It is asked about entries of the owner's pod that another
/// container has: a dead one's are taken over, a living one's are as foreign as anybody's. An attachment
/// whose ADD is still under way is alive.
///
/// # Panics
///
/// If a pool that the request names is not among `pools`.
pub fn allocate(
    request: &Request,
    pools: &mut [Pool],
    others: &[Pool],
    alive: &dyn Fn(&str, &str) -> bool,
) -> Result<Vec<Assigned>, Refusal> {
    allocate_apart(request, pools, others, alive, 0)
}

/// As [`allocate`], but each range passes over `skip` of its free addresses, counted from the lowest and, where there
/// are fewer, around again. Those who compete for the lowest address from several nodes and have just lost it all want
/// the next one, too; with numbers of their own they part.
///
/// # Panics
///
/// As [`allocate`].
pub fn allocate_apart(
    request: &Request,
    pools: &mut [Pool],
    others: &[Pool],
    alive: &dyn Fn(&str, &str) -> bool,
    skip: usize,
) -> Result<Vec<Assigned>, Refusal> {
    let claimant = &Claimant::new(&request.owner, pools.iter().chain(others), alive);
    // Addresses asked for by name come first, so that no range hands them out in the same breath.
    for want in &request.wants {
        if let Choice::Exactly(address) = want.choice {
            reject_foreign(claimant, address, related(request, want, pools, others))?;
        }
    }
    let mut chosen = own(request, claimant, pools, others);
    release_surplus(request, claimant, pools, &chosen);
    // What is chosen by now is written down before any search, so that searches see it as taken.
    for (slot, want) in chosen.iter().zip(&request.wants) {
        if let Some(address) = slot {
            record(request, want, pools, *address);
        }
    }
    for (i, want) in request.wants.iter().enumerate() {
        if let (None, Choice::Lowest(range)) = (chosen[i], &want.choice) {
            let address = search(request, want, range, pools, others, &chosen, skip)?;
            record(request, want, pools, address);
            chosen[i] = Some(address);
        }
    }
    // The pools do not say which address is which range's. Dealt out as a repetition would find them,
    // old and new addresses cannot change places later.
    let assigned = |(address, want): (IpAddr, &Want)| Assigned {
        address: IpNet::new_assert(address, want.subnet.prefix_len()),
        gateway: want.gateway,
    };
    let settled = own(request, claimant, pools, others);
    debug_assert!(settled.iter().all(Option::is_some), "what was just chosen can be kept");
    let slots = settled.into_iter().zip(chosen).filter_map(|(settled, chosen)| settled.or(chosen));
    Ok(slots.zip(&request.wants).map(assigned).collect())
}

/// What the owner has already, per want, and what it asks for by name.
fn own(request: &Request, claimant: &Claimant<'_>, pools: &[Pool], others: &[Pool]) -> Vec<Option<IpAddr>> {
    let by_name = |want: &Want| match want.choice {
        Choice::Exactly(address) => Some(address),
        Choice::Lowest(_) => None,
    };
    let mut chosen: Vec<Option<IpAddr>> = request.wants.iter().map(by_name).collect();
    keep::keep_own(request, claimant, pools, others, &mut chosen);
    chosen
}

/// Frees the owner's entries that no want keeps.
fn release_surplus(
    request: &Request,
    claimant: &Claimant<'_>,
    pools: &mut [Pool],
    chosen: &[Option<IpAddr>],
) {
    for pool in pools {
        let name = pool.name().to_owned();
        let here = |(_, want): &(&Option<IpAddr>, &Want)| want.pool.as_str() == name;
        let kept: Vec<&Option<IpAddr>> =
            chosen.iter().zip(&request.wants).filter(here).map(|(slot, _)| slot).collect();
        pool.release(|address, entry| {
            claimant.holding(&name, entry) == Holding::Own && !kept.contains(&&Some(address))
        });
    }
}

/// The lowest address that `range` can give to `want`, or the one `skip` free ones above it.
fn search(
    request: &Request,
    want: &Want,
    range: &Range,
    pools: &[Pool],
    others: &[Pool],
    chosen: &[Option<IpAddr>],
    skip: usize,
) -> Result<IpAddr, Refusal> {
    let related = related(request, want, pools, others);
    let mut taken = search::taken(range, related.clone());
    // Even where overlapping pools do not matter, one interface never gets one address twice.
    let mine = chosen.iter().flatten().filter(|address| same_family(&want.subnet, **address));
    taken.extend(mine.map(|address| bits(*address)));
    taken.sort_unstable();
    let blocked = search::blocked(range, &request.reserved);
    match search::free(range.span(), &blocked, &taken, skip) {
        Some(free) => Ok(from_bits(free, &want.subnet)),
        None => {
            let full = usage(range, want.pool.as_str(), related, &request.reserved);
            Err(Refusal::Exhausted(Box::new(Exhausted(full))))
        }
    }
}

/// State of `range` as seen in its pool and, if they matter, the overlapping ones.
pub fn usage<'a>(
    range: &Range,
    pool_name: &str,
    pools: impl Iterator<Item = &'a Pool> + Clone,
    reserved: &[IpAddr],
) -> Usage {
    let span = range.span();
    let blocked = search::blocked(range, reserved);
    let sum = |spans: &[Span]| spans.iter().map(Span::len).fold(0, u128::saturating_add);
    let excluded = sum(&range.excluded());
    let capacity = span.len() - sum(&blocked);
    let taken = search::taken(range, pools.clone());
    let in_use = taken.iter().filter(|n| !search::is_blocked(&blocked, **n)).count() as u128;
    let mut holders: Vec<Holder> = pools
        .flat_map(Pool::iter)
        .filter(|(address, _)| same_family(&range.subnet(), *address) && span.contains(bits(*address)))
        .map(|(address, entry)| Holder::new(address, entry))
        .collect();
    holders.sort_by_key(|holder| holder.address);
    Usage {
        pool: pool_name.to_owned(),
        first: range.first(),
        last: range.last(),
        capacity,
        used: in_use,
        free: capacity - in_use,
        excluded,
        reserved: sum(&blocked) - excluded,
        holders,
    }
}

/// The pools whose entries count for `want`: its own always, the request's further ones where overlapping
/// pools matter, and all `others`.
fn related<'a>(
    request: &'a Request,
    want: &'a Want,
    pools: &'a [Pool],
    others: &'a [Pool],
) -> impl Iterator<Item = &'a Pool> + Clone {
    let concerns = move |pool: &&Pool| {
        pool.name() == want.pool.as_str() || (request.overlapping && overlap(&pool.subnet(), &want.subnet))
    };
    pools.iter().filter(concerns).chain(others)
}

/// Refuses `address` if anybody but the owner has it. The owner itself may have it in an overlapping
/// pool, from before its range was resized: that is still the same interface.
fn reject_foreign<'a>(
    claimant: &Claimant<'_>,
    address: IpAddr,
    pools: impl Iterator<Item = &'a Pool>,
) -> Result<(), Refusal> {
    for (pool, entry) in pools.filter_map(|pool| Some((pool, pool.get(address)?))) {
        if claimant.holding(pool.name(), entry) == Holding::Foreign {
            return Err(Refusal::Held { address, holder: Box::new(Holder::new(address, entry)) });
        }
    }
    Ok(())
}

fn record(request: &Request, want: &Want, pools: &mut [Pool], address: IpAddr) {
    let owner = &request.owner;
    let pool = pools.iter_mut().find(|p| p.name() == want.pool.as_str());
    let pool = pool.expect("the caller brings every pool of the request");
    let inside = pool.assign(address, &owner.container_id, owner.pod.as_deref(), &owner.ifname);
    debug_assert!(inside, "{address} was chosen for pool {}", want.pool);
}
