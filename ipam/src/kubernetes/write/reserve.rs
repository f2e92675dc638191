//! Reservations: one object per address, whose name only one can have.

use std::sync::Arc;

use octavia_bridge_cluster::{ApiError, Why};
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep};

use super::deadline::Deadline;
use super::queue::Gate;
use crate::kubernetes::api::object::{Version, Writer};
use crate::kubernetes::api::reservation::Reservation;
use crate::kubernetes::error::Error;
use crate::kubernetes::{Shared, lock};

/// A reservation that failed.
#[derive(Debug)]
pub(crate) struct Unreserved {
    pub(crate) error: Error,
    /// It may have been made all the same.
    pub(crate) doubtful: bool,
}

/// How a reservation came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reserved {
    /// It did not exist, and is the claimant's now.
    Made,
    /// It was the claimant's, or an earlier sandbox' of its pod, and is the claimant's now.
    Ours,
    /// It is somebody else's.
    Taken,
}

impl From<Error> for Unreserved {
    fn from(error: Error) -> Self {
        Self { error, doubtful: false }
    }
}

struct Attempt<'a> {
    name: &'a str,
    kept: bool,
    by: &'a Writer<'a>,
    /// A request to make it was sent, and whether it was carried out is not known.
    doubtful: bool,
}

impl Shared {
    /// Makes reservation `name` the claimant's, whose turn it is to make requests. `kept` says that the claimant has the
    /// entry of this address already, or takes it over from an earlier sandbox of its pod.
    pub(crate) async fn reserve(
        &self,
        _turn: &SemaphorePermit<'_>,
        name: &str,
        kept: bool,
        by: &Writer<'_>,
        within: &mut Deadline,
    ) -> Result<Reserved, Unreserved> {
        let mut attempt = Attempt { name, kept, by, doubtful: false };
        let reserved = self.reserve_now(&mut attempt, within).await;
        if let Ok(Reserved::Made | Reserved::Ours) = reserved {
            lock(&self.deletions).remove(name);
        }
        reserved.map_err(|error| Unreserved { error, doubtful: attempt.doubtful })
    }

    async fn reserve_now(&self, attempt: &mut Attempt<'_>, within: &mut Deadline) -> Result<Reserved, Error> {
        let Attempt { name, kept, by, .. } = *attempt;
        let (mut confirmed, mut conflicts) = (false, 0);
        loop {
            let sent = Instant::now();
            let result = match self.reservation(name) {
                None => {
                    let object = by.reservation(name);
                    let made = self.api.create(name, &object, within.request()).await;
                    made.map(|stored| (stored, Reserved::Made))
                }
                Some((_, seen)) if seen.is_of(&by.owner.container_id, &by.owner.ifname) => {
                    // Found after a lost reply, or there from before and seen just now.
                    if attempt.doubtful {
                        return Ok(Reserved::Made);
                    }
                    if confirmed {
                        return Ok(Reserved::Ours);
                    }
                    self.read_again::<Reservation>(name, within).await?;
                    confirmed = true;
                    continue;
                }
                Some((version, seen)) if kept && by.may_take(&seen) => {
                    let part = by.takeover(seen.uid(), version);
                    let taken = self.api.merge(name, &part, within.request()).await;
                    taken.map(|stored| (stored, Reserved::Ours))
                }
                Some(_) => return Ok(Reserved::Taken),
            };
            let error = match result {
                Ok((stored, reserved)) => {
                    self.trouble.send_replace(None);
                    lock(&self.cache).reservations.put(stored);
                    return Ok(reserved);
                }
                Err(error) => error,
            };
            // Another writer has made it, and no earlier request of ours can have.
            if error.code() == Some(409) && !kept && !attempt.doubtful {
                return Ok(Reserved::Taken);
            }
            attempt.doubtful |= error.attempt == "create" && error.is_doubtful();
            // A name that is new cannot be missing; 404 then says that the API knows no reservations at all.
            let refused =
                error.code() == Some(409) || (error.code() == Some(404) && error.attempt != "create");
            let pause = if refused {
                within.conflict(conflicts, &self.jitter)
            } else {
                within.pause(sent, &error, &self.jitter)
            };
            let Some(pause) = pause else { return Err(self.given_up(error)) };
            conflicts += u32::from(refused);
            // No pause after the first conflict: the other writer has finished.
            if !refused || conflicts > 1 {
                sleep(pause).await;
            }
            if error.code() != Some(429) {
                self.read_again::<Reservation>(name, within).await?;
                confirmed = true;
            }
        }
    }

    /// Deletes reservation `name` if it is known and `mine` says so, in whatever version.
    pub(crate) async fn unreserve(
        &self,
        gate: &Gate,
        name: &str,
        mine: impl Fn(&Reservation) -> bool,
        within: &mut Deadline,
    ) -> Result<(), Error> {
        let _permit = gate.enter(within.deadline()).await?;
        let mut conflicts = 0;
        loop {
            let Some((version, seen)) = self.reservation(name).filter(|(_, seen)| mine(seen)) else {
                lock(&self.deletions).remove(name);
                return Ok(());
            };
            lock(&self.deletions).add(name, &seen);
            let sent = Instant::now();
            let error =
                match self.api.delete::<Reservation>(name, seen.uid(), version, within.request()).await {
                    Ok(()) => {
                        self.trouble.send_replace(None);
                        lock(&self.cache).reservations.ended(name, version);
                        lock(&self.deletions).remove(name);
                        return Ok(());
                    }
                    Err(error) => error,
                };
            if matches!(error.code(), Some(404 | 409)) {
                // Gone, or changed since, perhaps by whom it belongs to now.
                let Some(pause) = within.conflict(conflicts, &self.jitter) else {
                    return Err(self.given_up(error));
                };
                conflicts += 1;
                if conflicts > 1 {
                    sleep(pause).await;
                }
                self.read_again::<Reservation>(name, within).await?;
            } else {
                let Some(pause) = within.pause(sent, &error, &self.jitter) else {
                    return Err(self.given_up(error));
                };
                sleep(pause).await;
            }
        }
    }

    fn reservation(&self, name: &str) -> Option<(Version, Reservation)> {
        let cache = lock(&self.cache);
        Some((cache.reservations.version(name)?, cache.reservations.get(name)?.clone()))
    }

    /// Tells those who wait for their turn if the server is away.
    pub(crate) fn report_if_away(&self, error: &Arc<ApiError>) {
        if error.is_passing() && !matches!(error.why, Why::Busy(_)) {
            self.trouble.send_replace(Some((Instant::now(), error.clone())));
        }
    }

    /// What an operation fails with that has given up.
    pub(crate) fn given_up(&self, error: ApiError) -> Error {
        let error = Arc::new(error);
        self.report_if_away(&error);
        Error::Api(error)
    }
}
