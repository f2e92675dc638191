//! Carrying out what a claim has decided.

use std::net::IpAddr;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::pool::Allocation;
use crate::wire::Claim;

use super::Residue;
use super::plan::{Place, PoolPlan};
use crate::kubernetes::api::name::of_address;
use crate::kubernetes::api::object::Writer;
use crate::kubernetes::api::reservation::Reservation;
use crate::kubernetes::error::Error;
use crate::kubernetes::survey::is_taken_over;
use crate::kubernetes::write::change::Change;
use crate::kubernetes::write::deadline::Deadline;
use crate::kubernetes::write::job::Written;
use crate::kubernetes::write::reserve::{Reserved, Unreserved};
use crate::kubernetes::{Store, lock};

/// What became of a plan.
pub(crate) enum CarriedOut {
    Done,
    /// Another writer was faster somewhere; these reservations are its own, which the cache may not have yet.
    Taken(Vec<(IpAddr, String)>),
    /// Nothing was sent: another node has won addresses since these were chosen, and would probably win these, too.
    Skipped,
}

impl Store {
    /// Writes a plan down: the reservations first, so that whoever looks for one before writing to an overlapping pool
    /// finds it, then the entries. `lowest_at` says when the lowest free addresses were chosen, if they were.
    pub(crate) async fn carry_out(
        &self,
        by: &Writer<'_>,
        plans: &[PoolPlan],
        lowest_at: Option<Instant>,
        deadline: Instant,
        residue: &mut Residue,
    ) -> Result<CarriedOut, Error> {
        let (mut taken, mut passed, mut lost, mut failure) = (Vec::new(), false, false, None);
        for (address, name, reserved) in self.reserve_all(by, plans, lowest_at, deadline).await {
            match reserved {
                Ok(None) => passed = true,
                Ok(Some(Reserved::Ours)) => {}
                Ok(Some(Reserved::Made)) => drop(residue.reservations.insert(name)),
                Ok(Some(Reserved::Taken)) => taken.push((address, name)),
                Err(Unreserved { error, doubtful }) => {
                    if doubtful {
                        residue.reservations.insert(name);
                    }
                    failure = Some(error);
                }
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        if !taken.is_empty() {
            return Ok(CarriedOut::Taken(taken));
        }
        if passed {
            return Ok(CarriedOut::Skipped);
        }
        let plans_with_work = || plans.iter().filter(|plan| !plan.changes.is_empty());
        for plan in plans_with_work() {
            let added = plan.changes.iter().filter(|(_, change)| matches!(change, Change::Add(_)));
            let added = added.map(|(address, _)| *address).collect();
            residue.entries.push((plan.name.clone(), plan.subnet, added));
        }
        let written = join_all(plans_with_work().map(|plan| async move {
            let queue = self.queue(&plan.name, plan.subnet);
            (plan, queue.write(plan.changes.clone(), deadline).await)
        }));
        for (plan, written) in written.await {
            match written {
                Written::Done => {}
                Written::Lost(addresses) => {
                    lost = true;
                    self.queue(&plan.name, plan.subnet).rivals().note();
                    self.give_way(by, plan, &addresses, deadline).await?;
                }
                Written::Failed(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) => Err(error),
            None if lost => Ok(CarriedOut::Taken(Vec::new())),
            None => Ok(CarriedOut::Done),
        }
    }

    /// Makes the reservations of a choice; `None` for one that was no longer worth a request when its turn had come.
    async fn reserve_all(
        &self,
        by: &Writer<'_>,
        plans: &[PoolPlan],
        lowest_at: Option<Instant>,
        deadline: Instant,
    ) -> Vec<(IpAddr, String, Result<Option<Reserved>, Unreserved>)> {
        let mut reserving = Vec::new();
        for plan in plans {
            for Place { address, reservation, kept } in &plan.addresses {
                let Some(name) = reservation.as_deref() else { continue };
                reserving.push(async move {
                    let reserved = self.reserve_one(by, plan, name, *kept, lowest_at, deadline).await;
                    (*address, name.to_owned(), reserved)
                });
            }
        }
        join_all(reserving).await
    }

    /// Makes one reservation, when its turn has come.
    async fn reserve_one(
        &self,
        by: &Writer<'_>,
        plan: &PoolPlan,
        name: &str,
        kept: bool,
        lowest_at: Option<Instant>,
        deadline: Instant,
    ) -> Result<Option<Reserved>, Unreserved> {
        let queue = self.queue(&plan.name, plan.subnet);
        let turn = queue.gate().enter(deadline).await?;
        // Where another node's claims were faster, these would meet the next of them at every address.
        if !kept && lowest_at.is_some_and(|chosen| queue.rivals().were_met_since(chosen)) {
            return Ok(None);
        }
        let mut within = Deadline::until(deadline);
        let reserved = self.inner.shared.reserve(&turn, name, kept, by, &mut within).await?;
        if reserved == Reserved::Taken {
            queue.rivals().note();
        }
        Ok(Some(reserved))
    }

    /// Gives back the reservations of addresses whose entry is somebody else's: who has the entry wants the reservation,
    /// too, and whereabouts fails for good when it is ours.
    async fn give_way(
        &self,
        by: &Writer<'_>,
        plan: &PoolPlan,
        lost: &[IpAddr],
        deadline: Instant,
    ) -> Result<(), Error> {
        let queue = &self.queue(&plan.name, plan.subnet);
        let theirs = plan.addresses.iter().filter(|place| lost.contains(&place.address));
        let giving = theirs.filter_map(|place| place.reservation.as_deref()).map(|name| async move {
            let mine = |seen: &Reservation| by.owns(seen);
            self.inner.shared.unreserve(queue.gate(), name, mine, &mut Deadline::until(deadline)).await
        });
        join_all(giving).await.into_iter().collect()
    }

    /// Deletes the reservations of addresses that the claimant had, or that an earlier try of it reserved, and does not
    /// have now. What cannot be deleted goes with the attachment's release.
    pub(crate) async fn tidy(
        &self,
        by: &Writer<'_>,
        claim: &Claim,
        plans: &[PoolPlan],
        within: &mut Deadline,
    ) {
        let Some(first) = plans.first() else { return };
        let places = || plans.iter().flat_map(|plan| &plan.addresses);
        let needed = |name: &str| places().any(|place| place.reservation.as_deref() == Some(name));
        let mut surplus: Vec<(String, Option<&Allocation>)> = {
            let cache = lock(&self.inner.shared.cache);
            let mine = cache.reservations.iter().filter(|(name, _, seen)| {
                by.owns(seen) && !needed(name) && !is_taken_over(&cache, name, seen)
            });
            mine.map(|(name, _, _)| (name.to_owned(), None)).collect()
        };
        for (address, change) in plans.iter().flat_map(|plan| &plan.changes) {
            if let Change::Remove(old) = change
                && let Ok(name) = of_address(claim.request.network_name.as_deref(), *address)
                && !needed(&name)
            {
                surplus.push((name, Some(old)));
            }
        }
        let queue = self.queue(&first.name, first.subnet);
        for (name, entry) in surplus {
            let mine = |seen: &Reservation| by.owns(seen) || entry.is_some_and(|entry| seen.goes_with(entry));
            if let Err(error) = self.inner.shared.unreserve(queue.gate(), &name, mine, within).await {
                tracing::warn!("reservation {name} is not needed and stays for now: {error}");
            }
        }
    }
}
