//! The acts: proving that a holder is gone and freeing its address, or putting back what one that lives has lost.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use octavia_bridge_cluster::ApiError;
use octavia_bridge_ipam::file::Tombstones;
use octavia_bridge_ipam::kubernetes::{
    Entry, Error, Holding, Repaired, Reservation, Store, Turn, names_address,
};
use octavia_bridge_ipam::wire::{Attachment, Failure};
use tokio::time::{Instant, timeout_at};

use super::api::ReclaimApi;
use super::proof::{Basis, Death};
use crate::attachments::{Recorded, Sandboxes};
use crate::cluster::pending::{self, Pending};

/// How long one act may take.
const ACT: Duration = Duration::from_secs(20);

/// What the acts need.
pub(crate) struct Repairer {
    pub(crate) store: Store,
    pub(crate) api: ReclaimApi,
    /// This node's.
    pub(crate) sandboxes: Sandboxes,
    pub(crate) pending: Pending,
}

/// How a try to free an address ended.
#[derive(Debug)]
pub(crate) enum Freed {
    /// It is free.
    Done(Death),
    /// Its pod lives.
    Lives,
    /// Its pod is gone, but its sandbox still stands on this node.
    Stands(PathBuf),
    /// Another pod holds it meanwhile, or none.
    Changed,
}

/// What became of a reservation without an entry.
#[derive(Debug)]
pub(crate) enum Lone {
    /// Its entry was missing.
    Repaired(Repaired),
    /// Its attachment has other addresses: it was deleted.
    Released,
}

/// A try that came to no end.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) why: String,
    /// The server answers nothing: what comes next would find the same.
    pub(crate) away: bool,
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self { why: format!("look at the records of this node: {error:#}"), away: false }
    }
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        Self { why: error.in_words(), away: error.is_away() }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let away = matches!(&error, Error::Api(cause) if cause.is_away());
        Self { why: Failure::from(&error).message, away }
    }
}

/// The first failure of many acts, of which one does not keep the others from being tried.
#[derive(Debug, Default)]
pub(super) struct Failures(Option<String>);

impl Failures {
    /// Notes what became of an act; whether to go on with the next one.
    pub(super) fn note(&mut self, act: Result<(), Failed>) -> bool {
        let Err(Failed { why, away }) = act else { return true };
        self.0.get_or_insert(why);
        !away
    }

    /// # Errors
    /// The first failure.
    pub(super) fn result(self) -> Result<(), String> {
        self.0.map_or(Ok(()), Err)
    }
}

impl Repairer {
    /// Frees the address if its holder is proven gone now.
    ///
    /// # Errors
    /// Nothing is proven then, or the address is not quite free.
    pub(crate) async fn free(&self, holding: &Holding) -> Result<Freed, Failed> {
        let (attachment, deadline) = (holding.attachment(), Instant::now() + ACT);
        // A claim or a release for it that runs now ends before it is looked at.
        let turn = self.turn(&attachment, deadline).await?;
        let death = match Basis::of(holding) {
            Basis::Uid { podref, uid, .. } => {
                Death::of_uid(&podref, &uid, self.api.pod(&podref).await?.as_ref())
            }
            Basis::Name { podref } => Death::of_name(&podref, self.api.pod(&podref).await?.as_ref()),
            Basis::Nothing => None,
        };
        let Some(death) = death else { return Ok(Freed::Lives) };
        let holder = attachment.clone();
        if let Some(namespace) = self.look(move |sandboxes, _| sandboxes.standing(&holder)).await? {
            return Ok(Freed::Stands(namespace));
        }
        let freed = self.store.reclaim(&turn, holding, deadline).await?;
        Ok(if freed { Freed::Done(death) } else { Freed::Changed })
    }

    /// Writes the entry of a lone reservation whose attachment is known to live on this node and to have the address. If it has
    /// other addresses, the reservation goes. `None`: nothing is known.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) async fn repair_entry(&self, lone: &Holding) -> Result<Option<Lone>, Failed> {
        let (attachment, deadline) = (lone.attachment(), Instant::now() + ACT);
        let turn = self.turn(&attachment, deadline).await?;
        let Some((name, reservation)) = &lone.reservation else { return Ok(None) };
        match self.recorded(name, reservation).await {
            Recorded::Has => Ok(Some(Lone::Repaired(self.store.repair_entry(&turn, lone, deadline).await?))),
            // A claim gave it up, and could not delete it.
            Recorded::Lacks if self.look(move |here, owed| lives(here, owed, &attachment)).await? => {
                Ok(self.store.reclaim(&turn, lone, deadline).await?.then_some(Lone::Released))
            }
            Recorded::Lacks | Recorded::Open => Ok(None),
        }
    }

    /// Writes an entry that the server lost, if its attachment lives on this node; `None` if it does not.
    ///
    /// # Errors
    /// Those of writing.
    pub(super) async fn repair_lost_entry(&self, entry: &Entry) -> Result<Option<Repaired>, Failed> {
        let Entry { allocation, .. } = entry;
        let ifname = allocation.ifname().unwrap_or_default().to_owned();
        let attachment = Attachment { container_id: allocation.id().to_owned(), ifname };
        let deadline = Instant::now() + ACT;
        let turn = self.turn(&attachment, deadline).await?;
        let meant = entry.address;
        if self.recorded_if_alive(attachment, move |address| address == meant).await? != Recorded::Has {
            return Ok(None);
        }
        Ok(Some(self.store.repair_lost_entry(&turn, entry, deadline).await?))
    }

    /// Recreates a deleted reservation of an attachment, if its entry still stands, or, where that may be gone (`bare`), the
    /// attachment does.
    ///
    /// # Errors
    /// Those of writing.
    pub(super) async fn repair_reservation(
        &self,
        name: &str,
        lost: &Reservation,
        bare: bool,
    ) -> Result<Repaired, Failed> {
        let deadline = Instant::now() + ACT;
        let turn = self.turn(&attachment_of(lost), deadline).await?;
        let alive = bare && self.recorded(name, lost).await == Recorded::Has;
        Ok(self.store.repair_reservation(&turn, name, lost, alive, deadline).await?)
    }

    /// Whether the attachment of reservation `name` has its address. One that is not known to live on this node has none.
    pub(super) async fn recorded(&self, name: &str, reservation: &Reservation) -> Recorded {
        let name = name.to_owned();
        let is_it = move |address| names_address(&name, address);
        self.recorded_if_alive(attachment_of(reservation), is_it).await.unwrap_or(Recorded::Open)
    }

    async fn recorded_if_alive(
        &self,
        attachment: Attachment,
        is_it: impl Fn(IpAddr) -> bool + Send + 'static,
    ) -> anyhow::Result<Recorded> {
        self.look(move |sandboxes, tombstones| match lives(sandboxes, tombstones, &attachment) {
            true => sandboxes.recorded(&attachment, is_it),
            false => Recorded::Lacks,
        })
        .await
    }

    /// Looks at the files of this node.
    ///
    /// # Errors
    /// The disk does not answer.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Sandboxes, &Tombstones) -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let sandboxes = self.sandboxes.clone();
        self.pending.look(move |tombstones| look(&sandboxes, tombstones)).await
    }

    /// Whether releases wait. A directory that cannot be read may have some.
    pub(super) async fn has_tombstones(&self) -> bool {
        self.pending.list().await.map_or(true, |all| !all.is_empty())
    }

    async fn turn(&self, attachment: &Attachment, deadline: Instant) -> Result<Turn, Failed> {
        timeout_at(deadline, self.store.turn(attachment)).await.map_err(|_| {
            let Attachment { container_id, ifname } = attachment;
            let why = format!("another call for container {container_id} {ifname} is still running");
            Failed { why, away: false }
        })
    }
}

/// Whether the attachment is known to live on this node. One whose release waits is not to get anything back.
fn lives(sandboxes: &Sandboxes, tombstones: &Tombstones, attachment: &Attachment) -> bool {
    let waits = tombstones.has(&pending::of(attachment));
    !waits.unwrap_or(true) && sandboxes.standing(attachment).is_some()
}

fn attachment_of(reservation: &Reservation) -> Attachment {
    let (container_id, ifname) = (reservation.container().to_owned(), reservation.ifname().to_owned());
    Attachment { container_id, ifname }
}
