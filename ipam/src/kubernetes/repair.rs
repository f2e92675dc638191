//! What is wrong in the pools, put right one address at a time.
//!
//! Whether something is wrong is the caller's to prove. Here it is only made sure that what is changed is still what the
//! proof was about: an entry goes with its container id tested, a reservation in the version that was seen.

use tokio::time::Instant;

use crate::name::PoolName;
use crate::pool::Allocation;
use crate::request::Owner;

use crate::kubernetes::api::object::Writer;
use crate::kubernetes::api::reservation::Reservation;
use crate::kubernetes::error::Error;
use crate::kubernetes::memory::keep_up::unread_by_repair;
use crate::kubernetes::survey::{Entry, Holding, home, survey};
use crate::kubernetes::write::change::Change;
use crate::kubernetes::write::deadline::Deadline;
use crate::kubernetes::write::job::Written;
use crate::kubernetes::write::reserve::Reserved;
use crate::kubernetes::write::turn::Turn;
use crate::kubernetes::{Store, lock};

/// What became of a reservation or an entry that was to be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repaired {
    /// It was made.
    Done,
    /// There is nothing to do any more.
    Needless,
    /// The address is somebody else's meanwhile.
    Taken,
}

impl Store {
    /// Waits until all was read and changes arrive.
    ///
    /// # Errors
    /// The reason why that is not so by the deadline, or within four seconds.
    pub async fn synced(&self, deadline: Instant) -> Result<(), Error> {
        self.ready(&Deadline::until(deadline)).await?.map_or(Ok(()), |cause| Err(Error::Api(cause)))
    }

    /// Reads what is not known for sure of the pools that have the address of this reservation, or of this pool: what was found
    /// wrong in them may be right meanwhile.
    async fn read_before_repair(
        &self,
        turn: &Turn,
        pool: Option<&PoolName>,
        reservation: Option<&str>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let shared = &self.inner.shared;
        lock(&shared.attachments).begin_claim(turn.attachment());
        let unread = unread_by_repair(&lock(&shared.cache), pool, reservation);
        self.read_all(&unread, &[], &Deadline::until(deadline)).await
    }

    /// Frees an address whose holder is gone. The `turn` is that of the holding's attachment. `false`: it is no longer as
    /// `dead` says, and was left alone.
    ///
    /// # Errors
    /// Its entry or its reservation may be gone then, and the other not.
    pub async fn reclaim(&self, turn: &Turn, dead: &Holding, deadline: Instant) -> Result<bool, Error> {
        debug_assert_eq!(*turn.attachment(), dead.attachment());
        let name = dead.reservation.as_ref().map(|(name, _)| &**name);
        let pool = dead.entry.as_ref().map(|entry| &entry.pool);
        self.read_before_repair(turn, pool, name, deadline).await?;
        if self.survey(|now| now == dead).is_empty() {
            return Ok(false);
        }
        if let Some(Entry { pool, subnet, address, allocation }) = &dead.entry {
            let change = (*address, Change::Remove(allocation.clone()));
            if let Written::Failed(error) = self.queue(pool, *subnet).write(vec![change], deadline).await {
                return Err(error);
            }
        }
        // A new sandbox has it, made meanwhile by whereabouts, which leaves the reservation as it is.
        if !self.survey(|now| has_taken_over(now, dead)).is_empty() {
            return Ok(false);
        }
        if let Some((name, reservation)) = &dead.reservation {
            let same = |now: &Reservation| *now == **reservation;
            let (gate, mut within) = (&self.inner.other_requests, Deadline::until(deadline));
            self.inner.shared.unreserve(gate, name, same, &mut within).await?;
        }
        if self.survey(|now| now.attachment() == *turn.attachment()).is_empty() {
            lock(&self.inner.shared.attachments).note_emptied(turn.attachment());
        }
        Ok(true)
    }

    /// Writes the entry of a reservation that lives and has none, as after whereabouts' reconciler took it for dead.
    ///
    /// # Errors
    /// Those of writing.
    pub async fn repair_entry(
        &self,
        turn: &Turn,
        lone: &Holding,
        deadline: Instant,
    ) -> Result<Repaired, Error> {
        debug_assert_eq!(*turn.attachment(), lone.attachment());
        let Some((name, reservation)) = &lone.reservation else { return Ok(Repaired::Needless) };
        self.read_before_repair(turn, None, Some(name), deadline).await?;
        let home = {
            let cache = lock(&self.inner.shared.cache);
            let stands = !survey(&cache, |now| now == lone).is_empty();
            home(&cache, name).filter(|_| stands && !lone.disputed)
        };
        let Some((pool, subnet, address)) = home else { return Ok(Repaired::Needless) };
        let entry = Allocation::new(reservation.container(), reservation.podref(), reservation.ifname());
        let change = (address, Change::Add(entry));
        match self.queue(&pool, subnet).write(vec![change], deadline).await {
            Written::Done => Ok(Repaired::Done),
            Written::Lost(_) => Ok(Repaired::Taken),
            Written::Failed(error) => Err(error),
        }
    }

    /// Waits for a reservation of this node that another program deleted.
    pub async fn lost(&self) -> (String, Reservation) {
        let shared = &self.inner.shared;
        loop {
            // Listens before it looks, so that nothing falls between the two.
            let told = shared.lost_one.notified();
            let first = lock(&shared.lost).pop_first();
            if let Some(first) = first {
                return first;
            }
            told.await;
        }
    }

    /// Waits for entries, of whatever node, that the server lost because it was restored from a backup.
    pub async fn lost_entries(&self) -> Vec<Entry> {
        let shared = &self.inner.shared;
        loop {
            let told = shared.lost_entry.notified();
            let lost = std::mem::take(&mut *lock(&shared.lost_entries));
            if !lost.is_empty() {
                return lost;
            }
            told.await;
        }
    }

    /// Writes an entry that the server lost, and whose attachment the caller knows to be in use.
    ///
    /// # Errors
    /// Those of writing.
    pub async fn repair_lost_entry(
        &self,
        turn: &Turn,
        entry: &Entry,
        deadline: Instant,
    ) -> Result<Repaired, Error> {
        debug_assert_eq!(turn.attachment().container_id, entry.allocation.id());
        let Entry { pool, subnet, address, allocation } = entry;
        let name = entry.reservation_name();
        self.read_before_repair(turn, Some(pool), name.as_deref(), deadline).await?;
        let reserved =
            self.survey(|now| now.reservation.as_ref().is_some_and(|(now, _)| Some(now) == name.as_ref()));
        let other = |now: &Holding| {
            now.reservation.as_ref().is_some_and(|(_, reservation)| !reservation.goes_with(allocation))
        };
        if reserved.iter().any(other) {
            return Ok(Repaired::Taken);
        }
        if !self.survey(|now| now.entry.as_ref() == Some(entry)).is_empty() {
            return Ok(Repaired::Needless);
        }
        match self
            .queue(pool, *subnet)
            .write(vec![(*address, Change::Add(allocation.clone()))], deadline)
            .await
        {
            Written::Done => Ok(Repaired::Done),
            Written::Lost(_) => Ok(Repaired::Taken),
            Written::Failed(error) => Err(error),
        }
    }

    /// Makes a reservation anew whose entry still stands, or, where the caller knows that the attachment is `alive`, one whose
    /// entry is gone as well: [`Store::repair_entry`] then writes the entry.
    ///
    /// # Errors
    /// Those of writing.
    pub async fn repair_reservation(
        &self,
        turn: &Turn,
        name: &str,
        lost: &Reservation,
        alive: bool,
        deadline: Instant,
    ) -> Result<Repaired, Error> {
        let attachment = turn.attachment();
        // A deletion by this agent's own release may be told before it is answered.
        if !alive && lock(&self.inner.shared.attachments).was_released(attachment) {
            return Ok(Repaired::Needless);
        }
        self.read_before_repair(turn, None, Some(name), deadline).await?;
        let of_pod = |now: &Holding| {
            let entry = now.entry.as_ref().filter(|_| now.reservation.is_none())?;
            Some(entry.reservation_name()? == name && lost.goes_with(&entry.allocation))
        };
        let standing = self.survey(|now| now.attachment() == *attachment && of_pod(now) == Some(true));
        if standing.is_empty() && !alive {
            return Ok(Repaired::Needless);
        }
        let owner = Owner {
            container_id: lost.container().to_owned(),
            ifname: lost.ifname().to_owned(),
            pod: Some(lost.podref().to_owned()),
        };
        let by = Writer {
            owner: &owner,
            podref: lost.podref(),
            pod_uid: Some(lost.pod_uid()).filter(|uid| !uid.is_empty()),
            node: lost.node(),
            sandboxes: &[],
        };
        let (gate, mut within) = (&self.inner.other_requests, Deadline::until(deadline));
        let turn = gate.enter(deadline).await?;
        match self.inner.shared.reserve(&turn, name, false, &by, &mut within).await {
            Ok(Reserved::Made) => Ok(Repaired::Done),
            Ok(Reserved::Ours) => Ok(Repaired::Needless),
            Ok(Reserved::Taken) => Ok(Repaired::Taken),
            Err(failed) => Err(failed.error),
        }
    }
}

/// Whether `now` has an entry at the address that `dead` had.
fn has_taken_over(now: &Holding, dead: &Holding) -> bool {
    let Some(entry) = &now.entry else { return false };
    if let Some(before) = &dead.entry
        && (&entry.pool, entry.address) == (&before.pool, before.address)
    {
        return true;
    }
    match (&now.reservation, &dead.reservation) {
        (Some((now, _)), Some((dead, _))) => now == dead,
        _ => false,
    }
}
