//! What a claim has to do, decided on one view of the pools: nothing is asked and nothing is written here.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::allocate::{Refusal, allocate_apart};
use crate::name::PoolName;
use crate::pool::Pool;
use crate::request::{Assigned, Owner, Request};
use crate::wire::{Attachment, Claim};

use crate::kubernetes::api::Api;
use crate::kubernetes::api::name::{address_of, of_address};
use crate::kubernetes::error::Error;
use crate::kubernetes::memory::cache::Cache;
use crate::kubernetes::memory::pending::PendingAllocations;
use crate::kubernetes::memory::pool::CachedPool;
use crate::kubernetes::memory::view::{Scope, View, sound};
use crate::kubernetes::write::change::{Change, difference};

/// Most that a pool's object may have, in bytes as JSON. etcd takes 1.5 MiB by default, the request's frame included.
const LARGEST: usize = 1_400_000;
/// What an address chosen and not yet written down may add to that.
const PENDING: usize = 320;
/// whereabouts reads offsets as signed 64-bit numbers, and deletes entries it cannot read.
const LAST_OFFSET: u128 = i64::MAX as u128;

/// What comes next.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Nothing before these pools were read.
    Unread(Vec<String>),
    /// Nothing before the plugin has said whether these live.
    Contested(Vec<Attachment>),
    /// Writing this.
    Write(Vec<Assigned>, Vec<PoolPlan>),
    /// There is no address, as far as these objects say: pools, and reservations without an entry.
    Refused(Refusal, Vec<String>, Vec<String>),
}

/// What to do in one pool.
#[derive(Debug)]
pub(crate) struct PoolPlan {
    pub(crate) name: PoolName,
    pub(crate) subnet: IpNet,
    pub(crate) changes: Vec<(IpAddr, Change)>,
    /// The addresses that the claimant shall have in this pool.
    pub(crate) addresses: Vec<Place>,
}

/// One address of a claimant.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) address: IpAddr,
    /// Name of its reservation; `None` where overlapping pools do not matter, as with whereabouts.
    pub(crate) reservation: Option<String>,
    /// Whether the claimant, or an earlier sandbox of its pod, has the entry already.
    pub(crate) kept: bool,
}

/// Which addresses to prefer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Preference<'a> {
    /// Of each range's free addresses so many are passed over.
    pub(crate) skip: usize,
    /// And all of these.
    pub(crate) passed_over: &'a BTreeMap<IpAddr, String>,
    /// What the pod's interface had until a moment ago: the claimant gets it again, if it is free.
    pub(crate) freed: &'a [(PoolName, IpAddr)],
}

/// Decides for `claim`, whose agent is on `node`.
///
/// # Errors
/// What no later try can mend, and damaged pools.
pub(crate) fn plan(
    cache: &Cache,
    pending: &PendingAllocations,
    claim: &Claim,
    node: &str,
    preference: Preference<'_>,
    api: &Api,
) -> Result<Plan, Error> {
    let Preference { skip, passed_over, freed } = preference;
    let mut request = Cow::Borrowed(&claim.request);
    if !passed_over.is_empty() {
        request.to_mut().reserved.extend(passed_over.keys());
    }
    let request = &*request;
    let scope = Scope {
        pools: &request.pools(),
        network_name: request.network_name.as_deref(),
        overlapping: request.overlapping,
        owner: Some(&request.owner),
    };
    let View { mut own, others, pools, alone } = View::new(cache, pending, &scope, api)?;
    for (name, address) in freed {
        let is_taken = others.iter().any(|other| other.get(*address).is_some());
        let Some(pool) = own.iter_mut().find(|pool| pool.name() == name.as_str() && !is_taken) else {
            continue;
        };
        if pool.get(*address).is_none() {
            // As if the claimant had it already; whether it suits the claimant's ranges is for the allocation to say.
            let Owner { container_id, ifname, pod } = &request.owner;
            let _inside = pool.assign(*address, container_id, pod.as_deref(), ifname);
        }
    }
    let nodes = nodes(cache, request);
    let contested: RefCell<Vec<Attachment>> = RefCell::default();
    let alive = |id: &str, ifname: &str| {
        // What another node's sandbox has is freed by what knows that node, and a nameless one by nobody but its writer.
        if id.is_empty() || nodes.get(id).is_some_and(|other| *other != node) {
            return true;
        }
        let sandbox = Attachment { container_id: id.to_owned(), ifname: ifname.to_owned() };
        if let Some(known) = claim.sandboxes.iter().find(|known| known.attachment == sandbox) {
            return known.alive;
        }
        contested.borrow_mut().push(sandbox);
        true
    };
    let outcome = allocate_apart(request, &mut own, &others, &alive, skip);
    let contested = contested.into_inner();
    if !contested.is_empty() {
        return Ok(Plan::Contested(contested));
    }
    let assigned = match outcome {
        Ok(assigned) => assigned,
        Err(refusal) => return Ok(Plan::Refused(refusal, pools, alone)),
    };
    let mut plans = Vec::with_capacity(own.len());
    for (after, (name, subnet)) in own.iter().zip(request.pools()) {
        let known = sound(cache, name.as_str(), subnet, api)?;
        let before = known.unwrap_or_else(|| Arc::new(Pool::new(&name, subnet)));
        // What others here are about to write is theirs to write.
        let changes = difference(&before, after, |address, new| pending.has(name.as_str(), address, new));
        fits(cache, pending, &name, &changes, api)?;
        let mut addresses = Vec::new();
        let mine = assigned.iter().zip(&request.wants).filter(|(_, want)| want.pool == name);
        for address in mine.map(|(assigned, _)| assigned.address.addr()) {
            let kept = before.get(address).is_some();
            if !kept && after.offset(address).is_none_or(|offset| offset > LAST_OFFSET) {
                let text = format!(
                    "{address} is more than 2^63 addresses into {subnet}, which whereabouts cannot read and deletes; \
                     use a range further down"
                );
                return Err(Error::Unsupported(text));
            }
            let reservation = request.overlapping.then(|| of_address(scope.network_name, address));
            let reservation = reservation.transpose().map_err(|error| {
                Error::Unsupported(format!("the reservation of {address} cannot be made: {error}"))
            })?;
            addresses.push(Place { address, reservation, kept });
        }
        plans.push(PoolPlan { name, subnet, changes, addresses });
    }
    Ok(Plan::Write(assigned, plans))
}

/// On which nodes the sandboxes of the claimant's pod are, as far as reservations say.
fn nodes<'a>(cache: &'a Cache, request: &Request) -> HashMap<&'a str, &'a str> {
    let pod = request.owner.pod.as_deref().unwrap_or_default();
    let known = cache.reservations.iter().filter(|(name, _, reservation)| {
        reservation.podref() == pod
            && !reservation.node().is_empty()
            && address_of(request.network_name.as_deref(), name).is_some()
    });
    known.map(|(_, _, reservation)| (reservation.container(), reservation.node())).collect()
}

/// Whether the pool's object can take the changes.
fn fits(
    cache: &Cache,
    pending: &PendingAllocations,
    name: &PoolName,
    changes: &[(IpAddr, Change)],
    api: &Api,
) -> Result<(), Error> {
    let growth: usize = changes.iter().map(|(_, change)| change.growth()).sum();
    let known = cache.pools.get(name.as_str()).and_then(|pool| pool.known.as_ref());
    let size = known.map_or(0, |known| known.size);
    let expected = size + growth + pending.count(name.as_str()) * PENDING;
    if growth > 0 && expected > LARGEST {
        return Err(Error::Unsupported(format!(
            "{} has {size} bytes and would have {expected}; the API keeps no more than {LARGEST} in one object: \
             split the range into smaller subnets",
            api.describe::<CachedPool>(name.as_str())
        )));
    }
    Ok(())
}
