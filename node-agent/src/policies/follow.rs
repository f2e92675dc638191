//! Knowing the objects of a kind: one reading of all, then what changes, for ever.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt;
use kube::core::WatchEvent;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::api::{Api, Error};
use super::chance;
use super::objects::{Kind, Object};

/// A watch that has said nothing for so long is begun anew. That is no fault: a server sends a bookmark a minute, but none
/// for a kind of which it has not seen a change since its start. Yet the connection may lead nowhere by now.
const QUIET: Duration = Duration::from_secs(90);
/// First and longest pause before what failed is tried again.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A watch that ends sooner than this was no use.
const SHORT: Duration = Duration::from_secs(1);
/// Pause before a kind that the server lacks is looked for again.
const ABSENT: Duration = Duration::from_secs(60);
/// The server has forgotten what came after our version: everything has to be read anew.
const EXPIRED: u16 = 410;

/// What is known of a kind.
#[derive(Debug)]
pub(super) struct Known<T> {
    /// By name; `None` until they were read once. They stay while the server is away.
    pub(super) objects: Option<BTreeMap<String, T>>,
    /// The server has no such kind.
    pub(super) absent: bool,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { objects: None, absent: false }
    }
}

/// Reads and watches those of a kind that `selection` selects, until the task is ended.
pub(super) async fn follow<T>(api: &Api, kind: Kind, selection: &str, known: &watch::Sender<Known<T>>)
where
    T: Object + Clone + DeserializeOwned,
{
    let mut version: Option<String> = None;
    let mut failures = 0;
    let mut told = String::new();
    loop {
        let begun = Instant::now();
        let ended = match &version {
            None => read_all(api, kind, selection, known).await.map(Some),
            Some(from) => watch(api, kind, selection, from, known).await,
        };
        match ended {
            Ok(next) => {
                if !told.is_empty() {
                    tracing::info!("changes of {} arrive again", kind.plural());
                    told.clear();
                }
                failures = if version.is_none() || begun.elapsed() >= SHORT { 0 } else { failures + 1 };
                version = next;
            }
            Err(error) if error.is_absent() => {
                if told.is_empty() {
                    let every = ABSENT.as_secs();
                    tracing::info!("the API server has no {}; looking again every {every} s", kind.plural());
                    told = error.to_string();
                }
                // Those that were known stay: a server that has just started may not know its kinds yet.
                known.send_modify(|known| known.absent = true);
                version = None;
                sleep(chance::spread(ABSENT)).await;
                continue;
            }
            Err(error) => {
                failures += 1;
                if told.is_empty() {
                    tracing::warn!("{error}");
                    told = error.to_string();
                }
            }
        }
        if failures > 0 {
            sleep(chance::spread((PAUSE * 2_u32.pow(failures.min(10))).min(LONGEST_PAUSE))).await;
        }
    }
}

/// Reads all; the version from which to watch.
async fn read_all<T>(
    api: &Api,
    kind: Kind,
    selection: &str,
    known: &watch::Sender<Known<T>>,
) -> Result<String, Error>
where
    T: Object + DeserializeOwned,
{
    let page = api.list::<T>(kind, selection).await?;
    let objects = page.items.into_iter().map(|object| (object.metadata().name.clone(), object)).collect();
    known.send_replace(Known { objects: Some(objects), absent: false });
    Ok(page.metadata.resource_version)
}

/// Takes in what changes until the watch ends. Returns from where to go on, `None` for a new reading.
async fn watch<T>(
    api: &Api,
    kind: Kind,
    selection: &str,
    from: &str,
    known: &watch::Sender<Known<T>>,
) -> Result<Option<String>, Error>
where
    T: Object + Clone + DeserializeOwned,
{
    let mut events = match api.watch::<T>(kind, selection, from).await {
        Ok(events) => pin!(events),
        Err(error) if error.code() == Some(EXPIRED) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut version = from.to_owned();
    loop {
        // A connection that is silent for too long or breaks is made anew, and that tells whether the server is well.
        let Ok(Ok(Some(event))) = timeout(QUIET, events.try_next()).await else { return Ok(Some(version)) };
        let mut change = |object: &T, put: Option<T>| {
            version.clone_from(&object.metadata().resource_version);
            known.send_modify(|known| {
                let objects = known.objects.get_or_insert_default();
                match put {
                    Some(object) => objects.insert(object.metadata().name.clone(), object),
                    None => objects.remove(&object.metadata().name),
                };
            });
        };
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => change(&object, Some(object.clone())),
            WatchEvent::Deleted(object) => change(&object, None),
            WatchEvent::Bookmark(mark) => version = mark.metadata.resource_version,
            // Expired, as a rule; all others end the watch as well.
            WatchEvent::Error(status) => {
                if status.code != EXPIRED {
                    tracing::warn!("watch {}: {} {}", kind.plural(), status.code, status.message);
                }
                return Ok(None);
            }
        }
    }
}
