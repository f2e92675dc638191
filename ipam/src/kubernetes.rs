//! The pools of a cluster: whereabouts' own objects in the Kubernetes API, written by one agent per node.
//!
//! An address in use is an entry in its subnet's `IPPool` and, unless overlapping pools do not matter, an
//! `OverlappingRangeIPReservation` that bears its name. Both are whereabouts' to the byte, so both programs can serve
//! one cluster.
//!
//! # Where to find what
//!
//! | place | what it does |
//! |---|---|
//! | `claim` | [`Store::claim`]: `plan` chooses addresses by what is known, `carry_out` writes them down |
//! | `release`, `repair` | [`Store::release`] and [`Store::undo`]; what reclaim frees and puts back |
//! | `status`, `lookup`, `survey` | questions that change nothing |
//! | `write` | a `queue` for each pool, whose `writer` makes one patch of what waits; `reserve`; `deadline`: what is tried again, and for how long |
//! | `memory` | the `cache`, kept by `watch`; a `pool` as it is known; `pending` allocations; `view`: pools as one claim sees them; `keep_up`: what has to be read; `attachments` that claimed here |
//! | `api` | requests, and objects as the API writes them |
//!
//! A claim goes this way: `claim.rs` decides by `claim/plan.rs` on a `memory/view.rs`; `claim/carry_out.rs` makes the reservation
//! (`write/reserve.rs`) and hands the entry to the pool's queue (`write/queue.rs`), whose writer (`write/writer.rs`) sends the
//! patch (`write/change.rs`) through `api.rs`.
//!
//! # Why no address has two owners
//!
//! Nothing is decided by what is remembered. The memory ([`memory`], kept by two watches and by every reply to our own
//! requests) only says what to try; whether it holds is decided by the server, which does two things for one writer
//! alone: it makes an object of a new name, and it carries out a patch whose tests hold. So a claim needs neither a lease
//! nor a request that lists objects.
//!
//! Of pools only the metadata are watched, because each change of a pool would bring all of it to all agents. Its content is
//! read when it is needed. Whether what is remembered is all there is, its generation tells, which the server counts up with
//! each change of the spec. Where other agents have changed it since, the reservations, which are watched whole, still say which
//! addresses are in use; so a claim reads first only what they cannot tell (see [`memory::keep_up`]).
//!
//! A claim makes the reservation first and then the entry, by a patch that tests only that this one entry is absent.
//! A release removes the entry first and then deletes the reservation, in the version it has seen. Hence
//! - in one pool an address has one entry, whoever writes: ours test the entry, whereabouts' the pool's whole version;
//! - where pools overlap, the reservation decides: whoever makes it has the address, and the other one chooses again.
//!
//! whereabouts writes in the other order, entry before reservation. If its entry comes between our reservation and our
//! entry, our patch fails, and the reservation is given back. In an overlapping pool it looks for a reservation before it
//! writes its entry; if ours comes between the two, it fails to make its own, and reports an error.
//!
//! Before it chooses, a claim reads each overlapping pool that has changed: an entry there may have no reservation.
//!
//! One hole remains, in whereabouts: the DEL that follows such an error deletes the reservation by name, without looking
//! whose it is. The agent recreates ours as soon as it sees that it was deleted, see [`Store::repair_reservation`]. Between agents there is no hole,
//! because each counts the entries of overlapping pools, too.
//!
//! # Why nothing is lost
//!
//! A request may be carried out and its reply be lost. Before anything is asked again, the object is read: what is
//! ours already is done. What a failed claim has written, or may have, is handed to the caller as [`Residue`] and taken
//! back by [`Store::undo`]; what cannot be taken back now goes with a later [`Store::release`].

mod api;
mod claim;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod lookup;
mod memory;
mod release;
mod repair;
mod status;
mod survey;
mod write;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use ipnet::IpNet;
use octavia_bridge_cluster::{self as cluster, ApiError, Jitter, lock};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::name::PoolName;
use crate::pool::Pool;
use crate::wire::Attachment;

pub use api::name::names_address;
pub use api::reservation::{Reservation, ReservationFields};
pub use claim::{Claimed, Refused, Residue};
pub use error::Error;
pub use repair::Repaired;
pub use status::{PoolFill, PoolStatus, Watching};
pub use survey::{Entry, Holding};
pub use write::turn::Turn;

use api::Api;
use memory::attachments::Attachments;
use memory::cache::Cache;
use memory::deletions::Deletions;
use memory::need::Need;
use memory::pending::PendingAllocations;
use memory::pool::CachedPool;
use memory::watch::{Watches, follow};
use write::queue::{Gate, Queue};
use write::turn::Turns;
use write::waits::Waits;

/// Where the pools are, and who asks.
#[derive(Debug)]
pub struct Settings {
    /// The namespace of the objects; `kube-system` as whereabouts comes, `openshift-multus` as Red Hat ships it.
    pub namespace: String,
    /// This node's name in the API.
    pub node: String,
    /// Where chance begins; `None` for anywhere.
    pub seed: Option<u64>,
}

/// The pools of a cluster, as one agent sees and writes them.
///
/// Cloning it is cheap, and gives the same one. The watches end with the last clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    other_requests: Gate,
    /// By the subnet, too: names are ambiguous between network names that look like IPv6 groups and ranges.
    queues: Mutex<HashMap<(PoolName, IpNet), Arc<Queue>>>,
    turns: Turns,
    waits: Waits,
    /// What failed claims may have written, for their release.
    doubts: Mutex<HashMap<Attachment, Residue>>,
    _watches: JoinSet<()>,
}

/// What the tasks of a store have in common.
struct Shared {
    api: Api,
    node: String,
    jitter: Jitter,
    cache: Mutex<Cache>,
    /// Always locked after the cache.
    pending: Mutex<PendingAllocations>,
    /// Word that a pending allocation has ended.
    pending_ended: Notify,
    watches: watch::Sender<Watches>,
    needed: watch::Sender<Need>,
    /// The last finding that the server is away, until it answers.
    trouble: watch::Sender<Option<(Instant, Arc<ApiError>)>>,
    /// Reservations of this node that somebody else has deleted, by name, and word that there is one.
    lost: Mutex<BTreeMap<String, Reservation>>,
    /// Reservations that this agent deletes: their end is not a loss.
    deletions: Mutex<Deletions>,
    /// Pools as they were before the server went back, until they are listed again, and their entries that it lost.
    before: Mutex<BTreeMap<String, Arc<Pool>>>,
    lost_entries: Mutex<Vec<Entry>>,
    lost_entry: Notify,
    lost_one: Notify,
    /// Pools that are being read: one request answers all who wait for it.
    reading: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Attachments that have claimed here and were not released, and those that were.
    attachments: Mutex<Attachments>,
    /// When a reservation was last seen that no agent of this project wrote.
    whereabouts: Mutex<Option<Instant>>,
    /// How often a claim had to choose again.
    conflicts: AtomicU64,
}

impl Store {
    /// Begins to read; must be called within a runtime. What goes wrong there is not an error of this call: an agent may start
    /// before its API server does. The watches last as long as this node needs them, see [`memory::need`].
    ///
    /// # Errors
    /// [`Error::Unsupported`]: `namespace` is no name.
    pub fn new(api: cluster::Api, settings: Settings) -> Result<Self, Error> {
        let Settings { namespace, node, seed } = settings;
        if !crate::name::is_object_name(&namespace) {
            let text =
                format!("namespace \"{namespace}\" is no valid name: lower-case letters, digits and '-'");
            return Err(Error::Unsupported(text));
        }
        let shared = Arc::new(Shared {
            api: Api::new(api, namespace),
            node,
            jitter: seed.map_or_else(Jitter::fresh, Jitter::seeded),
            cache: Mutex::default(),
            pending: Mutex::default(),
            pending_ended: Notify::new(),
            watches: watch::Sender::default(),
            needed: watch::Sender::default(),
            trouble: watch::Sender::default(),
            lost: Mutex::default(),
            deletions: Mutex::default(),
            before: Mutex::default(),
            lost_entries: Mutex::default(),
            lost_entry: Notify::new(),
            lost_one: Notify::new(),
            reading: Mutex::default(),
            attachments: Mutex::default(),
            whereabouts: Mutex::default(),
            conflicts: AtomicU64::new(0),
        });
        let mut watches = JoinSet::new();
        watches.spawn(follow::<CachedPool>(shared.clone()));
        watches.spawn(follow::<Reservation>(shared.clone()));
        watches.spawn(memory::need::judge(shared.clone()));
        let other_requests = Gate::new(shared.clone());
        let (queues, doubts) = (Mutex::default(), Mutex::default());
        let (turns, waits) = (Turns::default(), Waits::default());
        Ok(Self {
            inner: Arc::new(Inner {
                shared,
                other_requests,
                queues,
                turns,
                waits,
                doubts,
                _watches: watches,
            }),
        })
    }

    /// Waits, in order of arrival, until nobody else works for `attachment`; nobody else does until the turn is dropped.
    pub async fn turn(&self, attachment: &Attachment) -> Turn {
        self.inner.turns.turn(attachment).await
    }

    /// As [`Store::turn`], for somebody who has to be told when the server is away, which those before may find out.
    ///
    /// # Errors
    /// What they found; [`Error::Late`] at the deadline.
    pub async fn turn_unless_away(&self, attachment: &Attachment, deadline: Instant) -> Result<Turn, Error> {
        let Attachment { container_id, ifname } = attachment;
        let late = || Error::Late {
            attempt: format!("waiting for another call for container {container_id} {ifname}"),
        };
        self.inner.shared.unless_away(self.turn(attachment), deadline, late).await
    }

    /// Whether others are at work in a pool; where nothing was written from here nobody was met.
    fn has_rivals(&self, name: &PoolName, subnet: IpNet) -> bool {
        let queues = lock(&self.inner.queues);
        queues.get(&(name.clone(), subnet)).is_some_and(|queue| queue.rivals().are_at_work())
    }

    /// The way for what concerns one pool.
    fn queue(&self, name: &PoolName, subnet: IpNet) -> Arc<Queue> {
        let new = || Arc::new(Queue::new(self.inner.shared.clone(), name.to_string(), subnet));
        let mut queues = lock(&self.inner.queues);
        let queue = queues.entry((name.clone(), subnet)).or_insert_with(new).clone();
        queue.touch();
        queues.retain(|_, queue| Arc::strong_count(queue) > 1 || !queue.is_old());
        queue
    }
}
