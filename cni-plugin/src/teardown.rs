//! The one way an attachment ends: after DEL, after GC, and when an ADD fails or finds what a killed one left.
//!
//! It follows the record, goes on after a failure, and may be repeated. The record goes last, and only when
//! nothing is left for it to speak of.

use std::path::{Path, PathBuf};

use octavia_bridge_ipam::flock::Mode;
use octavia_bridge_netlink::{Link, Netlink};

use crate::addressing;
use crate::bridge;
use crate::config::{Essentials, IpamKind};
use crate::delegate::Delegate;
use crate::identity;
use crate::life;
use crate::pod;
use crate::protocol::{Error, Verb};
use crate::record::{AddressingIntent, BridgeBefore, Intent, LinkIntent, Outcome, Record, Records, Slot};
use crate::store::{self, Patience};

/// Where to tear down: the node's namespace, its records, and the plugins to delegate to.
#[derive(Debug)]
pub(crate) struct Teardown<'a> {
    host: &'a Netlink,
    data_dir: &'a Path,
    path: &'a [PathBuf],
    patience: Patience,
}

impl<'a> Teardown<'a> {
    pub(crate) fn new(host: &'a Netlink, data_dir: &'a Path, path: &'a [PathBuf]) -> Self {
        Self { host, data_dir, path, patience: Patience::new() }
    }

    /// Ends the attachment of a record: link, addresses, bridge if an unfinished ADD changed it, record.
    pub(crate) async fn end(&self, slot: Slot) -> Result<(), Error> {
        if let Some(record) = &slot.record {
            self.undo(record).await?;
        }
        slot.remove()
    }

    /// The same without the record, to clear the way for a new try of the same ADD.
    pub(crate) async fn undo(&self, record: &Record) -> Result<(), Error> {
        let (intent, outcome) = (&record.intent, record.outcome.as_ref());
        let (id, ifname) = (intent.container_id.as_str(), intent.ifname.as_str());
        // A DHCP client can tell the server only as long as it has its interface. Should that fail, it is tried again below.
        if sends_from_the_link(&intent.addressing)
            && let Err(failure) = self.release(&intent.addressing, id, ifname)
        {
            tracing::warn!("{failure}");
        }
        if intent.link.is_some() && !self.remove_link(id, ifname, outcome).await? {
            self.remove_pod_end(intent, outcome).await?;
        }
        // Only now: as long as a link may have them, nobody else must get the addresses.
        let mut failures = Vec::new();
        failures.extend(self.release(&intent.addressing, id, ifname).err());
        if let (Some(link), None) = (&intent.link, outcome) {
            if link.loopback_ipv6_off {
                failures.extend(pod::switch_loopback_ipv6_off(intent).err());
            }
            failures.extend(self.restore_bridge(link).await.err());
        }
        all(failures)
    }

    /// Ends what can be proved to be the attachment's where no record tells: the link by its derived name, the
    /// addresses by container id and interface, and, if `config` is the attachment's, whatever a delegated plugin knows
    /// under them. ADD refuses an `ipam.type` that leads to no such plugin, so there is nothing to give back then, unless a
    /// record `is_strange`.
    pub(crate) async fn end_unrecorded(
        &self,
        id: &str,
        ifname: &str,
        essentials: &Essentials,
        config: Option<&[u8]>,
        is_strange: bool,
    ) -> Result<(), Error> {
        self.remove_link(id, ifname, None).await?;
        let mut failures = store::release_unrecorded(essentials, id, ifname, &self.patience);
        if let (IpamKind::Delegated(program), Some(config)) = (&essentials.ipam, config) {
            match Delegate::find(program, self.path, config) {
                Ok(delegate) => failures.extend(delegate.call(Verb::Del).err()),
                Err(error) if is_strange => failures.push(error),
                Err(error) => {
                    tracing::warn!("{error}; no record names an attachment, so nothing is released");
                }
            }
        }
        all(failures)
    }

    /// Removes the pair by its host end, and says whether there was one. The pod's end goes with it, whatever it is
    /// called by now and whichever namespace it was moved to.
    ///
    /// The name is derived; MAC and alias tell a foreign link that bears it, which stays. Should somebody have
    /// renamed ours, the index in the record still leads to it.
    async fn remove_link(&self, id: &str, ifname: &str, outcome: Option<&Outcome>) -> Result<bool, Error> {
        let link = match self.link(id, ifname).await? {
            Some(link) if identity::is_host_link(&link, id, ifname) => Some(link),
            other => {
                if let Some(link) = other {
                    tracing::warn!(
                        "{} is left alone: neither its MAC nor its alias is this attachment's",
                        link.name
                    );
                }
                self.link_by_index(id, ifname, outcome).await?
            }
        };
        let Some(link) = link else { return Ok(false) };
        // False: it went by itself meanwhile, as it does when its namespace ends.
        self.host
            .delete_link(link.index)
            .await
            .map(|_| true)
            .map_err(|cause| Error::kernel(format!("remove the link {}", link.name), &cause))
    }

    async fn link_by_index(
        &self,
        id: &str,
        ifname: &str,
        outcome: Option<&Outcome>,
    ) -> Result<Option<Link>, Error> {
        let Some(outcome) = outcome else { return Ok(None) };
        let link = self.host.link(outcome.host_link).await;
        let link = link.map_err(|cause| Error::kernel("look for the host's end", &cause))?;
        Ok(link.filter(|link| identity::is_host_link(link, id, ifname)))
    }

    /// The host's end is nowhere on the node; somebody may have moved it away. The pod's end, if it is still where it
    /// was born, takes it along.
    async fn remove_pod_end(&self, intent: &Intent, outcome: Option<&Outcome>) -> Result<(), Error> {
        let netns = intent.netns.as_ref().and_then(crate::record::Netns::open);
        let (Some(outcome), Some(netns)) = (outcome, netns) else { return Ok(()) };
        let failed = |cause| Error::kernel(format!("remove the pod's end of {}", intent.ifname), &cause);
        let pod = Netlink::open_in(&netns).await.map_err(failed)?;
        match life::pod_end(&pod, outcome).await.map_err(failed)? {
            Some(link) => pod.delete_link(link.index).await.map(|_| ()).map_err(failed),
            None => Ok(()),
        }
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
        if link.bridge_before == BridgeBefore::Up {
            return Ok(());
        }
        let _exclusive = Records::new(self.data_dir).lock_bridges(Mode::Exclusive)?;
        bridge::restore(self.host, link).await
    }

    fn release(&self, intent: &AddressingIntent, id: &str, ifname: &str) -> Result<(), Error> {
        addressing::release(intent, self.data_dir, id, ifname, self.path, &self.patience)
    }
}

/// Whether the addresses were got by messages on the pod's network, and are given back so.
fn sends_from_the_link(addressing: &AddressingIntent) -> bool {
    matches!(addressing, AddressingIntent::Delegated { program, .. } if program == "dhcp")
}

/// Several failures as one error: the first leads, the others follow in its details.
pub(crate) fn all(failures: Vec<Error>) -> Result<(), Error> {
    let together = failures.into_iter().reduce(|first, next| {
        let text = next.to_string();
        first.with_details(text)
    });
    together.map_or(Ok(()), Err)
}
