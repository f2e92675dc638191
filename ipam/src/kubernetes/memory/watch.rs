//! Keeping the cache: one reading of all objects of a kind, then what changes, for as long as this node needs it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use octavia_bridge_cluster::{self as cluster, ApiError, Change, Item};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::cache::{Cached, Unlisted};
use super::need::Need;
use crate::kubernetes::api::object::{POOLS, Stored, Version};
use crate::kubernetes::write::deadline::Deadline;
use crate::kubernetes::{Shared, lock};

/// How long it may take to find out whether an object is there that came in while all were listed.
const DOUBT: Duration = Duration::from_secs(10);
/// So long a cache without a watch is as good as one with: watches end and begin again.
const STALE: Duration = Duration::from_secs(3);

/// How one kind of objects is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch {
    /// All objects were read once.
    read: bool,
    /// Since when changes do not arrive, and why.
    broken: Option<(Instant, Arc<ApiError>)>,
}

/// How the cache stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watches {
    pools: Watch,
    reservations: Watch,
}

/// What a cache is worth.
#[derive(Debug)]
pub(crate) enum Freshness {
    /// It says what the API says, but for the time a change takes to arrive.
    Fresh,
    /// Changes have not arrived for some seconds, for this reason.
    Stale(Arc<ApiError>),
    /// Nothing was read yet, for this reason if one is known.
    Nothing(Option<Arc<ApiError>>),
}

impl Watches {
    /// Whether all objects of both kinds were read once.
    pub(crate) fn are_read(&self) -> bool {
        self.pools.read && self.reservations.read
    }

    pub(crate) fn freshness(&self) -> Freshness {
        let both = [&self.pools, &self.reservations];
        if both.iter().any(|watch_of| !watch_of.read) {
            return Freshness::Nothing(
                both.iter().find_map(|watch_of| Some(watch_of.broken.as_ref()?.1.clone())),
            );
        }
        let broken = both.iter().filter_map(|watch_of| watch_of.broken.as_ref());
        match broken.filter(|(since, _)| since.elapsed() >= STALE).min_by_key(|(since, _)| *since) {
            Some((_, error)) => Freshness::Stale(error.clone()),
            None => Freshness::Fresh,
        }
    }

    fn of(&mut self, plural: &str) -> &mut Watch {
        if plural == POOLS { &mut self.pools } else { &mut self.reservations }
    }
}

/// Reads and watches one kind of objects while this node needs them, until the task is ended.
pub(crate) async fn follow<T: Cached>(shared: Arc<Shared>) {
    let mut needed = shared.needed.subscribe();
    let mut ended = shared.needed.subscribe();
    // The sender is the shared part's own.
    while needed.wait_for(|need| *need != Need::Nothing).await.is_ok() {
        tokio::select! {
            () = follow_now::<T>(&shared) => {}
            _ = ended.wait_for(|need| *need == Need::Nothing) => {}
        }
        T::part(&mut lock(&shared.cache)).forget();
        shared.watches.send_modify(|watches| *watches.of(T::PLURAL) = Watch::default());
    }
}

async fn follow_now<T: Cached>(shared: &Shared) {
    let (doubt, doubts) = mpsc::unbounded_channel();
    let selection = shared.api.selection::<T>(shared.jitter.roll(usize::MAX) as u64);
    let followed = cluster::follow::<T>(shared.api.cluster(), &selection, |change| {
        for name in take_in(shared, change) {
            // The receiver goes with this task.
            doubt.send(name).ok();
        }
    });
    tokio::join!(followed, resolve::<T>(shared, doubts));
}

/// Takes in what a watch tells. Returns the names of objects that have to be asked for.
fn take_in<T: Cached>(shared: &Shared, change: Change<T>) -> Vec<String> {
    match change {
        Change::Listing => {
            let mut cache = lock(&shared.cache);
            let part = T::part(&mut cache);
            if part.begin_listing(shared.api.epoch()) {
                T::went_back(part, shared);
            }
        }
        Change::Listed { items, went_back } => {
            let epoch = shared.api.epoch();
            let names: BTreeSet<String> = items.iter().map(|item| item.name().to_owned()).collect();
            let items: Vec<Stored<T>> = items.into_iter().map(|item| stored(item, epoch)).collect();
            let mut cache = lock(&shared.cache);
            let part = T::part(&mut cache);
            let older =
                items.iter().find_map(|item| Some((item.version, part.went_back(&item.name, item.version)?)));
            if let Some((now, before)) = older
                && shared.api.cluster().revisions().note(T::PLURAL, now.0, before.0)
            {
                // All is listed again, and replaces what is remembered.
                return Vec::new();
            }
            for stored in items {
                T::seen(&stored.object, shared);
                part.put(stored);
            }
            let Unlisted { ended, mut doubtful } = part.end_listing(&names);
            drop(cache);
            if went_back {
                doubtful.extend(T::listed_again(shared));
            }
            for (name, object) in ended {
                object.ended(&name, shared);
            }
            well(&shared.watches, T::PLURAL);
            return doubtful;
        }
        Change::Put(item) => {
            let epoch = shared.api.epoch();
            let stored = stored(item, epoch);
            T::seen(&stored.object, shared);
            T::part(&mut lock(&shared.cache)).put(stored);
        }
        Change::Gone(item) => {
            let Stored { name, version, .. } = stored(item, 0);
            let ended = T::part(&mut lock(&shared.cache)).ended(&name, version);
            if let Some(object) = ended {
                object.ended(&name, shared);
            }
        }
        Change::Begun => well(&shared.watches, T::PLURAL),
        Change::Broken(error) => tell(&shared.watches, T::PLURAL, error),
    }
    Vec::new()
}

/// An object with the version that every server gives it.
fn stored<T: Cached>(item: Item<T>, epoch: u64) -> Stored<T> {
    let (name, uid) = (item.name().to_owned(), item.uid().to_owned());
    let mut stored = Stored::of(item).unwrap_or_else(|error| {
        let object = T::unreadable(&uid, &error.to_string());
        Stored { name, version: Version(0), epoch, object }
    });
    stored.epoch = epoch;
    stored
}

/// Asks for objects of which nobody knows whether a list from before or from after them leaves them out.
async fn resolve<T: Cached>(shared: &Shared, mut doubts: mpsc::UnboundedReceiver<String>) {
    while let Some(name) = doubts.recv().await {
        while shared.read_again::<T>(&name, &Deadline::until(Instant::now() + DOUBT)).await.is_err() {
            sleep(shared.jitter.spread(DOUBT)).await;
        }
        T::was_read_again(&name, shared);
    }
}

/// Notes that changes do not arrive. Said once, not at every try.
fn tell(watches: &watch::Sender<Watches>, plural: &'static str, error: Arc<ApiError>) {
    watches.send_modify(|watches| {
        let watch_of = watches.of(plural);
        let since = watch_of.broken.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        if watch_of.broken.is_none() {
            tracing::warn!("{}", error.in_words());
        }
        watch_of.broken = Some((since, error));
    });
}

fn well(watches: &watch::Sender<Watches>, plural: &'static str) {
    watches.send_if_modified(|watches| {
        let watch_of = watches.of(plural);
        let recovered = watch_of.broken.take().is_some();
        if recovered {
            tracing::info!("changes of {plural} arrive again");
        }
        !std::mem::replace(&mut watch_of.read, true) || recovered
    });
}
