//! The pools of a cluster: whereabouts' own objects in the Kubernetes API, written by one agent per node.
//!
//! An address in use is an entry in its subnet's `IPPool` and, unless overlapping pools do not matter, an
//! `OverlappingRangeIPReservation` that bears its name. Both are whereabouts' to the byte, so both programs can serve
//! one cluster.
//!
//! # Why no address has two owners
//!
//! Nothing is decided by what is remembered. The memory ([`cache`], kept by two watches and by every reply to our own
//! requests) only says what to try; whether it holds is decided by the server, which does two things for one writer
//! alone: it makes an object of a new name, and it carries out a patch whose tests hold. So no lease is needed, and
//! nothing is listed.
//!
//! Of pools only the metadata are watched, because each change of a pool would bring all of it to all agents. Its content is
//! read when it is needed. Whether what is remembered is all there is, its generation tells, which the server counts up with
//! each change of the spec. Where other agents have changed it since, the reservations, which are watched whole, still say which
//! addresses are in use; so a claim reads first only what they cannot tell (see [`keep_up`]).
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
//! A claim reads an overlapping pool first that was changed: its entries may have no reservation.
//!
//! One hole remains, in whereabouts: the DEL that follows such an error deletes the reservation by name, without looking
//! whose it is. Ours is made anew as soon as its end is seen, see [`Store::reassert`]. Between agents there is no hole,
//! because each counts the entries of overlapping pools, too.
//!
//! # Why nothing is lost
//!
//! A request may be carried out and its reply be lost. Before anything is asked again, the object is read: what is
//! ours already is done. What a failed claim has written, or may have, is handed to the caller as [`Residue`] and taken
//! back by [`Store::undo`]; what cannot be taken back now goes with a later [`Store::release`].

mod api;
mod cache;
mod carry;
mod change;
mod claim;
mod error;
mod feed;
#[doc(hidden)]
pub mod fuzzing;
mod holding;
mod keep_up;
mod keyed;
mod lane;
mod lookup;
mod mend;
mod name;
mod object;
mod patience;
mod plan;
mod release;
mod reserve;
mod status;
mod view;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use ipnet::IpNet;
use octavia_bridge_cluster::{self as cluster, ApiError, Jitter, lock};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::name::PoolName;
use crate::pool::Pool;
use crate::wire::Attachment;

pub use claim::{Claimed, Refused, Residue};
pub use error::Error;
pub use holding::{Entry, Holding};
pub use keyed::Turn;
pub use mend::Mended;
pub use object::Reservation;
pub use status::{PoolFill, PoolStatus, Watching};

use api::Api;
use cache::{Cache, Cached};
use feed::{Feeds, Worth, follow};
use keep_up::Attachments;
use keyed::Keyed;
use lane::{Gate, Lane};
use object::CachedPool;
use patience::Patience;
use view::Flights;

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
    stray: Gate,
    lanes: Mutex<HashMap<String, Arc<Lane>>>,
    turns: Keyed,
    /// What failed claims may have written, for their release.
    doubts: Mutex<HashMap<Attachment, Residue>>,
    _feeds: JoinSet<()>,
}

/// What the tasks of a store have in common.
struct Shared {
    api: Api,
    node: String,
    dice: Jitter,
    cache: Mutex<Cache>,
    /// Always locked after the cache.
    flights: Mutex<Flights>,
    /// Word that a flight has ended.
    landed: Notify,
    feeds: watch::Sender<Feeds>,
    /// The last finding that the server is away, until it answers.
    trouble: watch::Sender<Option<(Instant, Arc<ApiError>)>>,
    /// Reservations of this node that somebody else has deleted, by name, and word that there is one.
    lost: Mutex<BTreeMap<String, Reservation>>,
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
    /// Begins to read and to watch; must be called within a runtime. What goes wrong there is no error of this call: an
    /// agent may start before its API server does.
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
            dice: seed.map_or_else(Jitter::fresh, Jitter::seeded),
            cache: Mutex::default(),
            flights: Mutex::default(),
            landed: Notify::new(),
            feeds: watch::Sender::default(),
            trouble: watch::Sender::default(),
            lost: Mutex::default(),
            before: Mutex::default(),
            lost_entries: Mutex::default(),
            lost_entry: Notify::new(),
            lost_one: Notify::new(),
            reading: Mutex::default(),
            attachments: Mutex::default(),
            whereabouts: Mutex::default(),
            conflicts: AtomicU64::new(0),
        });
        let mut feeds = JoinSet::new();
        feeds.spawn(follow::<CachedPool>(shared.clone()));
        feeds.spawn(follow::<Reservation>(shared.clone()));
        let stray = Gate::new(shared.clone());
        let (lanes, turns, doubts) = (Mutex::default(), Keyed::default(), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { shared, stray, lanes, turns, doubts, _feeds: feeds }) })
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

    /// Waits until all was read once. If changes have not arrived since, pools have to be read before use; the reason is
    /// returned.
    async fn ready(&self, patience: &Patience) -> Result<Option<Arc<ApiError>>, Error> {
        let mut feeds = self.inner.shared.feeds.subscribe();
        let until = patience.silence();
        loop {
            let cause = match feeds.borrow_and_update().worth() {
                Worth::Fresh => return Ok(None),
                Worth::Stale(cause) => return Ok(Some(cause)),
                Worth::Nothing(cause) => cause,
            };
            // A server that is away may come; one that refuses will not change its mind soon.
            let passing = cause.as_ref().is_none_or(|cause| cause.is_passing());
            if !passing || timeout_at(until, feeds.changed()).await.is_err() {
                let late = || Error::Late { attempt: "the first reading of all pools".into() };
                return Err(cause.map_or_else(late, Error::Api));
            }
        }
    }

    /// The way for what concerns one pool.
    fn lane(&self, name: &PoolName, subnet: IpNet) -> Arc<Lane> {
        let lane = || Arc::new(Lane::new(self.inner.shared.clone(), name.to_string(), subnet));
        lock(&self.inner.lanes).entry(name.to_string()).or_insert_with(lane).clone()
    }

    /// Reads pools and reservations again.
    async fn read_all(
        &self,
        pools: &[String],
        reservations: &[String],
        patience: &Patience,
    ) -> Result<(), Error> {
        for name in pools {
            self.inner.shared.read_pool(name, patience).await?;
        }
        for name in reservations {
            self.inner.shared.read_again::<Reservation>(name, patience).await?;
        }
        Ok(())
    }
}

impl Shared {
    /// Reads a pool, unless somebody asks for it from now on before this one's turn has come.
    async fn read_pool(&self, name: &str, patience: &Patience) -> Result<(), Error> {
        let wanted = Instant::now();
        let reading = lock(&self.reading).entry(name.to_owned()).or_default().clone();
        let late = || Error::Late {
            attempt: format!("waiting for others to read {}", self.api.describe::<CachedPool>(name)),
        };
        let _turn = match reading.try_lock() {
            Ok(turn) => turn,
            Err(_) => self.unless_away(reading.lock(), patience.deadline(), late).await?,
        };
        let asked = lock(&self.cache).pools.get(name).and_then(|pool| Some(pool.known.as_ref()?.asked));
        if asked.is_some_and(|asked| asked > wanted) {
            return Ok(());
        }
        self.read_again::<CachedPool>(name, patience).await
    }

    /// Takes in an object as it is now, asking as often as it takes while there is time. That a server can be read does
    /// not say that it can be written to: `patience` with its writing is not restored.
    async fn read_again<T: Cached>(&self, name: &str, patience: &Patience) -> Result<(), Error> {
        let mut patience = patience.clone();
        loop {
            let (known, sure) = {
                let mut cache = lock(&self.cache);
                let part = T::part(&mut cache);
                (part.version(name), part.sure_version(name))
            };
            let sent = Instant::now();
            match self.api.get::<T>(name, patience.request()).await {
                Ok(found) => {
                    // No object ever gets an older version, unless the server went back.
                    if let (Some(stored), Some(sure)) = (&found, sure) {
                        self.api.cluster().revisions().is_at(T::PLURAL, stored.version.0, sure.0);
                    }
                    let ended = match found {
                        Some(mut stored) => {
                            stored.object.asked_at(sent);
                            T::part(&mut lock(&self.cache)).put(stored);
                            None
                        }
                        None => T::part(&mut lock(&self.cache)).missing(name, known),
                    };
                    ended.into_iter().for_each(|object| object.ended(name, self));
                    return Ok(());
                }
                Err(error) => match patience.pause(sent, &error, &self.dice) {
                    Some(pause) => sleep(pause).await,
                    None => return Err(self.given_up(error)),
                },
            }
        }
    }
}
