//! The one way an attachment ends: after DEL, after GC, and when an ADD fails or finds what a killed one left.
//!
//! It follows the record, goes on after a failure, and may be repeated. The record goes last, and only when
//! nothing is left for it to speak of.

use std::path::{Path, PathBuf};

use octavia_bridge_ipam::flock::Mode;
use octavia_bridge_netlink::{Link, Netlink};

use crate::addressing;
use crate::bridge;
use crate::identity;
use crate::pod;
use crate::protocol::Error;
use crate::record::{AddressingIntent, LinkIntent, Record, Records, Slot};

/// Where to tear down: the node's namespace, its records, and the plugins to delegate to.
#[derive(Debug)]
pub(crate) struct Teardown<'a> {
    pub(crate) host: &'a Netlink,
    pub(crate) data_dir: &'a Path,
    pub(crate) path: &'a [PathBuf],
}

impl Teardown<'_> {
    /// Ends the attachment of a record: link, addresses, bridge if an unfinished ADD changed it, record.
    pub(crate) async fn end(&self, slot: Slot) -> Result<(), Error> {
        if let Some(record) = &slot.record {
            self.undo(record).await?;
        }
        slot.remove()
    }

    /// The same without the record, to clear the way for a new try of the same ADD.
    pub(crate) async fn undo(&self, record: &Record) -> Result<(), Error> {
        let intent = &record.intent;
        let mut failures = Vec::new();
        failures.extend(self.undo_links(record).await.err());
        failures.extend(self.release(&intent.addressing, &intent.container_id, &intent.ifname).await.err());
        all(failures).map_or(Ok(()), Err)
    }

    async fn undo_links(&self, record: &Record) -> Result<(), Error> {
        let Some(link) = &record.intent.link else { return Ok(()) };
        self.remove_link(&record.intent.container_id, &record.intent.ifname).await?;
        if record.outcome.is_some() {
            return Ok(());
        }
        if link.loopback_ipv6_off {
            pod::switch_loopback_ipv6_off(link)?;
        }
        self.restore_bridge(link).await
    }

    /// Removes the pair by its host end. The name is derived, the MAC proves that it is ours: a link that
    /// somebody else gave this name stays. The pod's end goes with it, whatever it is called by now and whichever
    /// namespace it was moved to.
    pub(crate) async fn remove_link(&self, container_id: &str, ifname: &str) -> Result<(), Error> {
        let Some(link) = self.link(container_id, ifname).await? else { return Ok(()) };
        if !identity::is_host_link(&link, container_id, ifname) {
            tracing::warn!("{} is left alone: neither its MAC nor its alias is this attachment's", link.name);
            return Ok(());
        }
        // False: it went by itself meanwhile, as it does when its namespace ends.
        self.host
            .delete_link(link.index)
            .await
            .map(|_| ())
            .map_err(|cause| Error::kernel(format!("remove the link {}", link.name), &cause))
    }

    /// Whether the attachment's host end exists.
    pub(crate) async fn has_link(&self, container_id: &str, ifname: &str) -> Result<bool, Error> {
        let link = self.link(container_id, ifname).await?;
        Ok(link.is_some_and(|link| identity::is_host_link(&link, container_id, ifname)))
    }

    /// Whatever bears the name of the attachment's host end.
    async fn link(&self, container_id: &str, ifname: &str) -> Result<Option<Link>, Error> {
        let name = identity::host_link(container_id, ifname);
        self.host.link(name.as_str()).await.map_err(|cause| Error::kernel(&name, &cause))
    }

    async fn restore_bridge(&self, link: &LinkIntent) -> Result<(), Error> {
        let _exclusive = Records::new(self.data_dir).lock_bridges(Mode::Exclusive)?;
        bridge::restore(self.host, link).await
    }

    pub(crate) async fn release(
        &self,
        intent: &AddressingIntent,
        id: &str,
        ifname: &str,
    ) -> Result<(), Error> {
        addressing::release(intent, self.data_dir, id, ifname, self.path).await
    }
}

/// Several failures as one error: the first leads, the others follow in its details.
pub(crate) fn all(failures: Vec<Error>) -> Option<Error> {
    failures.into_iter().reduce(|first, next| {
        let text = next.to_string();
        first.with_details(text)
    })
}
