//! Claims: from what is known to addresses that are written down.

mod carry_out;
pub(crate) mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use ipnet::IpNet;
use octavia_bridge_cluster::api::TROUBLE;
use tokio::time::{Instant, sleep};

use crate::name::PoolName;
use crate::request::{Assigned, Owner};
use crate::wire::{Attachment, Claim, Sandbox};

use crate::kubernetes::api::object::Writer;
use crate::kubernetes::claim::carry_out::CarriedOut;
use crate::kubernetes::claim::plan::{Plan, Preference, plan};
use crate::kubernetes::error::Error;
use crate::kubernetes::memory::keep_up::unread_by_claim;
use crate::kubernetes::write::deadline::Deadline;
use crate::kubernetes::write::turn::Turn;
use crate::kubernetes::write::waits::Waiter;
use crate::kubernetes::{Store, lock};

/// So many reservations are read again before a refusal, beside the pools.
const LOOKED_AT: usize = 32;

/// After a conflict, a claim chooses by chance among so many of the lowest free addresses for each claim that is pending on this
/// node; doubled with each further conflict, up to the second number.
const SPREAD: usize = 32;
const WIDEST_SPREAD: usize = 4096;

/// How a claim came out.
#[derive(Debug)]
pub enum Claimed {
    /// One address per want, in order, written down where every node sees them.
    Assigned(Vec<Assigned>),
    /// Nothing was changed: whether these sandboxes live has to be known first.
    Contested(Vec<Attachment>),
}

/// A claim that failed.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub error: Error,
    /// What has to be undone, see [`Store::undo`]; `None` if nothing was written.
    pub residue: Option<Residue>,
}

/// What a claim that failed has written, or may have.
#[derive(Debug, Default)]
pub struct Residue {
    /// Addresses whose entries it may have added, by pool. A list: hundreds of claims under way have one.
    pub(crate) entries: Vec<(PoolName, IpNet, Vec<IpAddr>)>,
    pub(crate) reservations: BTreeSet<String>,
}

/// Addresses chosen and not yet written down, until dropped.
struct Chosen<'a> {
    store: &'a Store,
    places: Vec<(PoolName, IpAddr)>,
    /// When they were chosen as the lowest free ones, as everybody does who thinks that nobody else is at work.
    lowest_at: Option<Instant>,
}

impl Drop for Chosen<'_> {
    fn drop(&mut self) {
        let shared = &self.store.inner.shared;
        let mut pending = lock(&shared.pending);
        self.places.iter().for_each(|(pool, address)| pending.end(pool, *address));
        drop(pending);
        shared.pending_ended.notify_waiters();
    }
}

impl Store {
    /// Reserves an address for every want of the claim. Repeating it for the same owner gives the same addresses.
    ///
    /// The claimant must be the one whose `turn` it is. `deadline` bounds everything; a server that is away or silent is
    /// given four seconds.
    ///
    /// # Errors
    /// What is left to be undone comes with the error.
    pub async fn claim(&self, turn: &Turn, claim: &Claim, deadline: Instant) -> Result<Claimed, Refused> {
        let owner = &claim.request.owner;
        debug_assert_eq!((&owner.container_id, &owner.ifname), {
            let Attachment { container_id, ifname } = turn.attachment();
            (container_id, ifname)
        });
        let mut residue = Residue::default();
        lock(&self.inner.shared.attachments).begin_claim(turn.attachment());
        let claimed = self.claim_or_leave(claim, deadline, &mut residue).await;
        if let Ok(Claimed::Assigned(_)) = &claimed {
            lock(&self.inner.shared.attachments).note_claimed(turn.attachment());
        }
        claimed.map_err(|error| {
            let residue =
                Some(residue).filter(|left| !left.entries.is_empty() || !left.reservations.is_empty());
            Refused { error, residue }
        })
    }

    async fn claim_or_leave(
        &self,
        claim: &Claim,
        deadline: Instant,
        residue: &mut Residue,
    ) -> Result<Claimed, Error> {
        let Some(podref) = claim.request.owner.pod.as_deref() else {
            return Err(Error::Unsupported(
                "the runtime named no pod, and an entry without one is nobody's; it has to pass K8S_POD_NAMESPACE \
                 and K8S_POD_NAME in CNI_ARGS"
                    .into(),
            ));
        };
        let by = Writer {
            owner: &claim.request.owner,
            podref,
            pod_uid: claim.pod_uid.as_deref(),
            node: &self.inner.shared.node,
            sandboxes: &claim.sandboxes,
        };
        let _turns = self.wait_for_releases(claim, deadline).await?;
        let freed = lock(&self.inner.shared.attachments).freed_lately(podref, &by.owner.ifname);
        let mut within = Deadline::until(deadline);
        // Since the last conflict: whether the claim's pools were read, which other objects were, and how many reservations.
        let (mut conflicts, mut fresh, mut looked, mut reread) = (0, false, BTreeSet::new(), 0);
        // What others were found to have.
        let mut theirs = BTreeMap::new();
        while !within.is_over() {
            if self.ready(&within).await?.is_some() && !fresh {
                self.refresh(claim, &within).await?;
                fresh = true;
            }
            let (plan, chosen) = self.decide(claim, conflicts, &theirs, &freed, &looked)?;
            let (assigned, plans) = match plan {
                Plan::Unread(pools) => {
                    self.read_all(&pools, &[], &within).await?;
                    looked.extend(pools);
                    fresh |= claim.request.pools().iter().all(|(name, _)| looked.contains(name.as_str()));
                    continue;
                }
                Plan::Contested(sandboxes) => return Ok(Claimed::Contested(sandboxes)),
                // A claim is refused only after all that speaks against it was read again. Pools come first: they tell which
                // reservations have no entry.
                Plan::Refused(refusal, mut pools, mut reservations) => {
                    pools.retain(|name| !looked.contains(name));
                    if pools.is_empty() {
                        reservations.extend(std::mem::take(&mut theirs).into_values());
                    } else {
                        // Most of them have an entry that is not known yet.
                        reservations.clear();
                    }
                    reservations.retain(|name| !looked.contains(name));
                    reservations.truncate(LOOKED_AT.saturating_sub(reread));
                    if pools.is_empty() && reservations.is_empty() {
                        return Err(refusal.into());
                    }
                    self.read_all(&pools, &reservations, &within).await?;
                    reread += reservations.len();
                    looked.extend(pools.into_iter().chain(reservations));
                    fresh = true;
                    continue;
                }
                Plan::Write(assigned, plans) => (assigned, plans),
            };
            // An address that the claimant has already needs no write that would confirm it: its pool is read again.
            if !fresh && plans.iter().flat_map(|plan| &plan.addresses).any(|place| place.kept) {
                self.refresh(claim, &within).await?;
                fresh = true;
                continue;
            }
            match self.carry_out(&by, &plans, chosen.lowest_at, deadline, residue).await? {
                CarriedOut::Done => {
                    drop(chosen);
                    self.tidy(&by, claim, &plans, &mut within).await;
                    return Ok(Claimed::Assigned(assigned));
                }
                CarriedOut::Skipped => {}
                CarriedOut::Taken(found) => {
                    drop(chosen);
                    theirs.extend(found);
                    self.inner.shared.conflicts.fetch_add(1, Ordering::Relaxed);
                    (conflicts, fresh) = (conflicts + 1, false);
                    looked.clear();
                    reread = 0;
                    let Some(pause) = within.conflict(conflicts, &self.inner.shared.jitter) else { break };
                    sleep(pause).await;
                }
            }
        }
        Err(Error::Late {
            attempt: format!("choosing an address, {conflicts} times taken by others meanwhile,"),
        })
    }

    /// Waits for releases of earlier sandboxes of the claimant's pod, such as those that an outage of the API has delayed, and
    /// keeps others from beginning while the turns are held: what they would free is the claimant's. Without, the release and
    /// the takeover of one entry would meet, and the pod would get another address.
    async fn wait_for_releases(
        &self,
        claim: &Claim,
        deadline: Instant,
    ) -> Result<(Vec<Turn>, Waiter), Error> {
        let mut turns = Vec::<Turn>::new();
        let until = deadline.min(Instant::now() + TROUBLE);
        let owner = &claim.request.owner;
        let Owner { container_id, ifname, .. } = owner.clone();
        let waiter = self.inner.waits.waiter(Attachment { container_id, ifname });
        for Sandbox { attachment, alive } in &claim.sandboxes {
            let own = attachment.container_id == owner.container_id && attachment.ifname == owner.ifname;
            if *alive || own || turns.iter().any(|turn| turn.attachment() == attachment) {
                continue;
            }
            // Where two claims take each other for gone, the tests in the patches decide, as between agents.
            if !waiter.want(attachment) {
                continue;
            }
            let turn = self.turn_unless_away(attachment, until).await;
            waiter.end(attachment, turn.is_ok());
            match turn {
                Ok(turn) => turns.push(turn),
                Err(Error::Late { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((turns, waiter))
    }

    /// Decides by what is known, and keeps others of this agent from choosing the same.
    fn decide(
        &self,
        claim: &Claim,
        conflicts: u32,
        theirs: &BTreeMap<IpAddr, String>,
        freed: &[(PoolName, IpAddr)],
        looked: &BTreeSet<String>,
    ) -> Result<(Plan, Chosen<'_>), Error> {
        let shared = &self.inner.shared;
        let pools = claim.request.pools();
        let rivals = || pools.iter().any(|(name, subnet)| self.has_rivals(name, *subnet));
        let lowest_at = (conflicts == 0 && !rivals()).then(Instant::now);
        let cache = lock(&shared.cache);
        let unread = unread_by_claim(&cache, &claim.request, looked, shared.is_whereabouts_at_work());
        if !unread.is_empty() {
            return Ok((Plan::Unread(unread), Chosen { store: self, places: Vec::new(), lowest_at }));
        }
        let mut pending = lock(&shared.pending);
        let skip = if lowest_at.is_some() {
            0
        } else {
            // As many as compete here compete on other nodes.
            let here = pools.iter().map(|(name, _)| pending.count(name.as_str())).max().unwrap_or(0);
            let width = (here.max(1) * SPREAD) << conflicts.saturating_sub(1).min(8);
            shared.jitter.roll(width.min(WIDEST_SPREAD))
        };
        let preference = Preference { skip, passed_over: theirs, freed };
        let plan = plan(&cache, &pending, claim, &shared.node, preference, &shared.api)?;
        let mut places = Vec::new();
        if let Plan::Write(_, plans) = &plan {
            for (plan, place) in
                plans.iter().flat_map(|plan| plan.addresses.iter().map(move |place| (plan, place)))
            {
                pending.begin(&plan.name, plan.subnet, place.address, &claim.request.owner);
                places.push((plan.name.clone(), place.address));
            }
        }
        drop(pending);
        Ok((plan, Chosen { store: self, places, lowest_at }))
    }

    /// Reads the claim's pools again.
    async fn refresh(&self, claim: &Claim, within: &Deadline) -> Result<(), Error> {
        let names: Vec<String> = claim.request.pools().iter().map(|(name, _)| name.to_string()).collect();
        self.read_all(&names, &[], within).await
    }
}
