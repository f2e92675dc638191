//! What tells that an attachment lives: its pair, and, where there is none, its namespace. A namespace may have lost its path and
//! live on, and paths and inode numbers are used again; a pair's indexes are not.

use std::path::PathBuf;

use octavia_bridge_ipam::host_end;
use octavia_bridge_ipam::wire::Attachment;
use octavia_bridge_netlink::{Identity, Link, LinkKind, Namespace, Netlink, Result, ask};
use serde::Deserialize;

use super::record::{Outcome, Record};

/// A pod's namespace, by device and inode since paths are used again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Netns {
    pub(super) path: PathBuf,
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Netns {
    fn identity(&self) -> Identity {
        Identity { device: self.device, inode: self.inode }
    }

    /// Whether nothing or another one is at its path, where its directory is to be seen: a container may lack it.
    pub(super) fn is_gone(&self) -> bool {
        !self.identity().may_exist_unseen_at(&self.path)
    }

    /// The namespace, if it is where it was.
    pub(super) fn open(&self) -> Option<Namespace> {
        Namespace::open(&self.path).ok().filter(|now| now.identity() == self.identity())
    }
}

/// Whether the host's end of the pair is on this node, be it renamed. What cannot be told counts as there.
pub(super) fn has_host_end(attachment: &Attachment, outcome: Option<&Outcome>) -> bool {
    ask(async |host| find_host_end(host, attachment, outcome).await).unwrap_or(true)
}

/// Whether there is a pair at all: another program may have moved the host's end to another namespace. What cannot be told
/// counts as there.
pub(super) fn has_pair(attachment: &Attachment, record: &Record) -> bool {
    let outcome = record.outcome.as_ref();
    let found = ask(async |host| {
        if find_host_end(host, attachment, outcome).await? {
            return Ok(true);
        }
        match (record.netns.as_ref().and_then(Netns::open), outcome) {
            (Some(pod), Some(outcome)) => find_pod_end(&pod, outcome).await,
            _ => Ok(false),
        }
    });
    found.unwrap_or(true)
}

async fn find_host_end(host: &Netlink, attachment: &Attachment, outcome: Option<&Outcome>) -> Result<bool> {
    let Attachment { container_id, ifname } = attachment;
    let is_ours = |link: &Link| {
        let mac = link.mac.map(|mac| mac.octets());
        host_end::is_of(link.alias.as_deref(), mac, container_id, ifname)
    };
    if host.link(host_end::name(container_id, ifname).as_str()).await?.is_some_and(|link| is_ours(&link)) {
        return Ok(true);
    }
    match outcome.map(|outcome| outcome.host_link) {
        // The IPAM-only face made none.
        None | Some(0) => Ok(false),
        Some(index) => Ok(host.link(index).await?.is_some_and(|link| is_ours(&link))),
    }
}

async fn find_pod_end(pod: &Namespace, outcome: &Outcome) -> Result<bool> {
    if outcome.pod_link == 0 {
        return Ok(false);
    }
    let link = Netlink::open_in(pod).await?.link(outcome.pod_link).await?;
    Ok(link.is_some_and(|link| link.kind == LinkKind::Veth && link.parent == Some(outcome.host_link)))
}
