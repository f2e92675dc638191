//! What this agent did for which attachments.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::name::PoolName;
use crate::wire::Attachment;

/// So many released attachments are remembered: runtimes repeat DEL soon, if they do.
const REMEMBERED: usize = 1024;
/// A pod that is made again within this time gets the address again that it had, if that is free: kubelet tries again after 15 s,
/// and a release that an outage has delayed may come before that.
const SAME_AGAIN: Duration = Duration::from_secs(120);

/// What this agent did for which attachments.
#[derive(Debug, Default)]
pub(crate) struct Attachments {
    claimed: Claimed,
    released: HashSet<Attachment>,
    /// What pods had, by `namespace/name` and interface, until it was released at this moment.
    freed: HashMap<(String, String), FreedLately>,
}

/// What was released, and when.
#[derive(Debug)]
struct FreedLately {
    since: Instant,
    addresses: Vec<(PoolName, IpAddr)>,
}

/// Attachments as one text each, `container-id interface`: a node may have thousands.
#[derive(Debug, Default)]
struct Claimed(HashSet<Box<str>>);

impl Claimed {
    fn key(Attachment { container_id, ifname }: &Attachment) -> Box<str> {
        [container_id, " ", ifname].concat().into()
    }

    /// The interface's name has no space.
    fn container_ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|key| key.rsplit_once(' ')).map(|(container_id, _)| container_id)
    }
}

impl Attachments {
    /// Something is about to be made for it.
    pub(crate) fn begin_claim(&mut self, attachment: &Attachment) {
        self.released.remove(attachment);
    }

    /// Its claim succeeded.
    pub(crate) fn note_claimed(&mut self, attachment: &Attachment) {
        self.claimed.0.insert(Claimed::key(attachment));
    }

    /// The last that it had was taken back, as from one that is dead. Others may have made something for it meanwhile.
    pub(crate) fn note_emptied(&mut self, attachment: &Attachment) {
        self.claimed.0.remove(&Claimed::key(attachment));
    }

    /// The server went back: what was released may be there again.
    pub(crate) fn went_back(&mut self) {
        self.released.clear();
    }

    pub(crate) fn note_released(&mut self, attachment: &Attachment) {
        self.claimed.0.remove(&Claimed::key(attachment));
        if self.released.len() >= REMEMBERED {
            self.released.clear();
        }
        self.released.insert(attachment.clone());
    }

    /// Addresses of a pod's interface were released.
    pub(crate) fn freed(&mut self, pod: &str, ifname: &str, addresses: Vec<(PoolName, IpAddr)>) {
        if self.freed.len() >= REMEMBERED {
            self.freed.clear();
        }
        let freed = FreedLately { since: Instant::now(), addresses };
        self.freed.insert((pod.to_owned(), ifname.to_owned()), freed);
    }

    /// What a pod's interface had until a moment ago. It may be in use again.
    pub(crate) fn freed_lately(&self, pod: &str, ifname: &str) -> Vec<(PoolName, IpAddr)> {
        let freed = self.freed.get(&(pod.to_owned(), ifname.to_owned()));
        let freed = freed.filter(|freed| freed.since.elapsed() < SAME_AGAIN);
        freed.map(|freed| freed.addresses.clone()).unwrap_or_default()
    }

    /// Whether any claim has succeeded that was not released.
    pub(crate) fn has_any(&self) -> bool {
        !self.claimed.0.is_empty()
    }

    /// The containers of those that have claimed and were not released.
    pub(crate) fn claimed(&self) -> impl Iterator<Item = &str> {
        self.claimed.container_ids()
    }

    /// Whether it claimed or released here.
    pub(crate) fn knows(&self, attachment: &Attachment) -> bool {
        self.claimed.0.contains(&Claimed::key(attachment)) || self.released.contains(attachment)
    }

    /// Whether all that it had was given back: it has nothing that others could have made since.
    pub(crate) fn was_released(&self, attachment: &Attachment) -> bool {
        self.released.contains(attachment)
    }
}
