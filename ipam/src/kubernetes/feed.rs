//! Keeping the cache: one reading of all objects of a kind, then what changes, for ever.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::AsyncBufReadExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::answer::{Event, Head, Page};
use super::cache::Cached;
use super::error::{ApiError, Why};
use super::object::{POOLS, Version};
use super::{Shared, lock};

/// A watch that has said nothing for so long is begun anew. That is no fault: a server sends a bookmark a minute, but none
/// for a kind of which it has not seen a change since its start (apiserver's cacher.go). Yet what lies between may keep a
/// connection alive that leads nowhere, and only another watch tells.
const QUIET: Duration = Duration::from_secs(90);
/// First and longest pause before a failed reading or watch is begun again.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A watch that ends sooner than this was no use.
const SHORT: Duration = Duration::from_secs(1);
/// So long a cache without a watch is as good as one with: watches end and begin again.
const STALE: Duration = Duration::from_secs(3);
/// Room for a line that is kept, in bytes: a pool's may be a megabyte, and is not the rule.
const LINE: usize = 64 << 10;
/// The server has forgotten what came after our version: everything has to be read anew.
const EXPIRED: u16 = 410;

/// How one kind of objects is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Feed {
    /// All objects were read once.
    read: bool,
    /// Since when changes do not arrive, and why.
    broken: Option<(Instant, Arc<ApiError>)>,
}

/// How the cache stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Feeds {
    pools: Feed,
    reservations: Feed,
}

/// What a cache is worth.
#[derive(Debug)]
pub(super) enum Worth {
    /// It says what the API says, but for the time a change takes to arrive.
    Fresh,
    /// Changes have not arrived for some seconds, for this reason.
    Stale(Arc<ApiError>),
    /// Nothing was read yet, for this reason if one is known.
    Nothing(Option<Arc<ApiError>>),
}

impl Feeds {
    pub(super) fn worth(&self) -> Worth {
        let both = [&self.pools, &self.reservations];
        if both.iter().any(|feed| !feed.read) {
            return Worth::Nothing(both.iter().find_map(|feed| Some(feed.broken.as_ref()?.1.clone())));
        }
        let broken = both.iter().filter_map(|feed| feed.broken.as_ref());
        match broken.filter(|(since, _)| since.elapsed() >= STALE).min_by_key(|(since, _)| *since) {
            Some((_, error)) => Worth::Stale(error.clone()),
            None => Worth::Fresh,
        }
    }

    fn of(&mut self, plural: &str) -> &mut Feed {
        if plural == POOLS { &mut self.pools } else { &mut self.reservations }
    }
}

/// Reads and watches one kind of objects until the task is ended.
pub(super) async fn follow<T: Cached + Send>(shared: Arc<Shared>) {
    let mut version = None;
    let mut failures = 0;
    loop {
        let begun = Instant::now();
        let ended = match version {
            None => read_all::<T>(&shared).await.map(Some),
            Some(from) => watch_from::<T>(&shared, from).await,
        };
        match ended {
            Ok(next) => {
                // Having read all, watch at once; after a watch that was none, not quite at once.
                failures = if version.is_none() || begun.elapsed() >= SHORT { 0 } else { failures + 1 };
                version = next;
            }
            Err(error) => {
                failures += 1;
                tell(&shared.feeds, T::PLURAL, error);
            }
        }
        if failures > 0 {
            let longest = (PAUSE * 2_u32.pow(failures.min(10))).min(LONGEST_PAUSE);
            let sides = usize::try_from(longest.as_millis()).unwrap_or(1).max(1);
            sleep(longest / 2 + Duration::from_millis(shared.dice.roll(sides) as u64 / 2)).await;
        }
    }
}

/// Notes that changes do not arrive. Said once, not at every try.
fn tell(feeds: &watch::Sender<Feeds>, plural: &'static str, error: ApiError) {
    feeds.send_modify(|feeds| {
        let feed = feeds.of(plural);
        let since = feed.broken.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        if feed.broken.is_none() {
            tracing::warn!("{error}: {}", error.why);
        }
        feed.broken = Some((since, Arc::new(error)));
    });
}

fn well(feeds: &watch::Sender<Feeds>, plural: &'static str) {
    feeds.send_if_modified(|feeds| {
        let feed = feeds.of(plural);
        let recovered = feed.broken.take().is_some();
        if recovered {
            tracing::info!("changes of {plural} arrive again");
        }
        !std::mem::replace(&mut feed.read, true) || recovered
    });
}

/// Reads all objects; the version from which to watch.
async fn read_all<T: Cached>(shared: &Shared) -> Result<Version, ApiError> {
    let mut names = BTreeSet::new();
    let mut next = String::new();
    loop {
        let page: Page<T> = shared.api.list(&next).await?;
        names.extend(page.items.iter().map(|item| item.name.clone()));
        let mut cache = lock(&shared.cache);
        let part = T::part(&mut cache);
        page.items.into_iter().for_each(|item| part.put(item));
        if page.next.is_empty() {
            let ended = part.listed(page.version, &names);
            drop(cache);
            ended.into_iter().for_each(|(name, object)| object.ended(&name, shared));
            well(&shared.feeds, T::PLURAL);
            return Ok(page.version);
        }
        next = page.next;
    }
}

/// Takes in what changes until the watch ends. Returns from where to go on, `None` for a new reading.
async fn watch_from<T: Cached>(shared: &Shared, from: Version) -> Result<Option<Version>, ApiError> {
    let mut lines = match shared.api.watch::<T>(from).await {
        Ok(lines) => pin!(lines),
        Err(error) if error.code() == Some(EXPIRED) => return Ok(None),
        Err(error) => return Err(error),
    };
    well(&shared.feeds, T::PLURAL);
    let failed = |why| shared.api.failed::<T>("watch", "", why);
    let mut version = from;
    let mut line = Vec::new();
    loop {
        line.clear();
        line.shrink_to(LINE);
        match timeout(QUIET, lines.read_until(b'\n', &mut line)).await {
            Ok(Ok(1..)) => shared.api.heard(),
            // Ended, cut as every load balancer does to connections it finds old, or quiet: the next one tells whether the
            // server is well.
            Ok(Ok(0) | Err(_)) | Err(_) => return Ok(Some(version)),
        }
        let unreadable = |error| failed(Why::Unreadable(error));
        let text = std::str::from_utf8(&line).map_err(serde::de::Error::custom).map_err(unreadable)?;
        match Event::read(text).map_err(unreadable)? {
            Event::Put(head, object) => {
                version = head.version;
                let known = T::part(&mut lock(&shared.cache)).version(&head.name);
                if known.is_none_or(|known| known < version) {
                    let stored = T::read(object).map_err(unreadable)?;
                    T::part(&mut lock(&shared.cache)).put(stored);
                }
            }
            Event::Deleted(Head { name, version: end }) => {
                version = end;
                let ended = T::part(&mut lock(&shared.cache)).ended(&name, end);
                ended.into_iter().for_each(|object| object.ended(&name, shared));
            }
            Event::Bookmark(mark) => version = mark,
            Event::Failed { code: EXPIRED, .. } => return Ok(None),
            Event::Failed { code, message } => {
                return Err(failed(Why::Refused { code, message, retry_after: None }));
            }
        }
    }
}
