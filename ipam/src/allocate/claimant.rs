//! Whose an entry is, seen by the attachment that asks for addresses.
//!
//! Everything that can change while an allocation runs is looked up once, at its beginning: a sandbox that
//! ends half-way must not make one entry foreign first and the owner's own later.

use crate::pool::{Allocation, Pool};
use crate::request::Owner;

/// How an entry of a pool relates to the claimant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holding {
    /// The entry is this attachment's, or was its pod's in a sandbox that is gone.
    Own,
    /// The entry has no interface name (whereabouts before 0.8 wrote none), and this attachment may adopt
    /// it. Refusing to see such entries leaked them after whereabouts' own upgrade.
    Unnamed,
    /// The entry is somebody else's.
    Foreign,
}

/// An owner, and what its pod's other sandboxes still hold.
pub(super) struct Claimant<'a> {
    owner: &'a Owner,
    /// Entries' container and interface ("" for none) that belong to a living sandbox of the same pod.
    living: Vec<(String, String)>,
    /// Pools where the pod, or the container, has an entry with an interface name.
    named: Vec<String>,
}

impl<'a> Claimant<'a> {
    /// `pools` are all that take part; `alive` is asked once per foreign sandbox of the owner's pod, see
    /// [`super::allocate`].
    pub(super) fn new<'p>(
        owner: &'a Owner,
        pools: impl Iterator<Item = &'p Pool>,
        alive: &dyn Fn(&str, &str) -> bool,
    ) -> Self {
        let mut claimant = Self { owner, living: Vec::new(), named: Vec::new() };
        let mut asked: Vec<(&str, &str)> = Vec::new();
        for pool in pools {
            for (_, entry) in pool.iter().filter(|(_, entry)| is_of(owner, entry)) {
                let ifname = entry.ifname().unwrap_or_default();
                if !ifname.is_empty() && !claimant.named.iter().any(|name| name == pool.name()) {
                    claimant.named.push(pool.name().to_owned());
                }
                let contested = ifname.is_empty() || ifname == owner.ifname;
                if entry.id() == owner.container_id || !contested || asked.contains(&(entry.id(), ifname)) {
                    continue;
                }
                asked.push((entry.id(), ifname));
                if alive(entry.id(), ifname) {
                    claimant.living.push((entry.id().to_owned(), ifname.to_owned()));
                }
            }
        }
        claimant
    }

    /// How `entry` of the pool called `pool` relates to the owner.
    ///
    /// Nothing in an entry without interface says which of its container's interfaces it is. So only the
    /// first attachment of a pod or container in a pool adopts such entries; a second interface gets an
    /// address of its own, and the entry goes with its container's DEL.
    pub(super) fn holding(&self, pool: &str, entry: &Allocation) -> Holding {
        if !is_of(self.owner, entry) || self.is_living(entry) {
            return Holding::Foreign;
        }
        match entry.ifname() {
            Some(ifname) if ifname == self.owner.ifname => Holding::Own,
            None if !self.named.iter().any(|name| name == pool) => Holding::Unnamed,
            _ => Holding::Foreign,
        }
    }

    fn is_living(&self, entry: &Allocation) -> bool {
        let ifname = entry.ifname().unwrap_or_default();
        self.living.iter().any(|(id, name)| *id == entry.id() && name == ifname)
    }
}

/// Whether `entry` is of the owner's pod or container. The id counts for known pods too: an earlier call of
/// this sandbox may not have known its pod.
fn is_of(owner: &Owner, entry: &Allocation) -> bool {
    let same_pod = owner.pod.as_ref().is_some_and(|pod| *pod == entry.podref());
    same_pod || entry.id() == owner.container_id
}
