//! What is remembered of the objects: it says what to try, and never what is so.

pub(crate) mod attachments;
pub(crate) mod cache;
pub(crate) mod deletions;
pub(crate) mod keep_up;
pub(crate) mod need;
pub(crate) mod pending;
pub(crate) mod pool;
pub(crate) mod view;
pub(crate) mod watch;

use std::sync::Arc;
use std::time::Duration;

use octavia_bridge_cluster::ApiError;
use octavia_bridge_cluster::api::TROUBLE;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

use super::api::reservation::Reservation;
use super::error::Error;
use super::write::deadline::Deadline;
use super::{Shared, Store, lock};
use cache::Cached;
use pool::CachedPool;
use watch::Freshness;

impl Store {
    /// Waits until all was read, and has it watched from now on, for as long as the node needs that. If changes have not arrived
    /// since, pools have to be read before use; the reason is returned.
    pub(crate) async fn ready(&self, within: &Deadline) -> Result<Option<Arc<ApiError>>, Error> {
        self.inner.shared.need();
        self.read(within).await
    }

    /// As [`Store::ready`], where the node may not need it.
    pub(crate) async fn read(&self, within: &Deadline) -> Result<Option<Arc<ApiError>>, Error> {
        let mut watches = self.inner.shared.watches.subscribe();
        let silence = within.silence();
        loop {
            let cause = match watches.borrow_and_update().freshness() {
                Freshness::Fresh => return Ok(None),
                Freshness::Stale(cause) => return Ok(Some(cause)),
                Freshness::Nothing(cause) => cause,
            };
            // A server that is away may come; one that refuses will not change its mind soon.
            let passing = cause.as_ref().is_none_or(|cause| cause.is_passing());
            let mut until = silence;
            if cause.is_none() {
                // A long list is waited for as long as pages of it come.
                let heard = self.inner.shared.api.cluster().last_heard();
                until = until.max(heard + TROUBLE).min(within.deadline());
            }
            if !passing || Instant::now() >= until {
                let late = || Error::Late { attempt: "the first reading of all pools".into() };
                return Err(cause.map_or_else(late, Error::Api));
            }
            timeout_at(until, watches.changed()).await.ok();
        }
    }

    /// Reads pools and reservations again.
    pub(crate) async fn read_all(
        &self,
        pools: &[String],
        reservations: &[String],
        within: &Deadline,
    ) -> Result<(), Error> {
        for name in pools {
            self.inner.shared.read_pool(name, within).await?;
        }
        for name in reservations {
            self.inner.shared.read_again::<Reservation>(name, within).await?;
        }
        Ok(())
    }
}

/// A part in the reading of one pool, until dropped.
struct Reading<'a> {
    shared: &'a Shared,
    name: &'a str,
    mutex: Arc<Mutex<()>>,
}

impl<'a> Reading<'a> {
    fn of(shared: &'a Shared, name: &'a str) -> Self {
        let mutex = lock(&shared.reading).entry(name.to_owned()).or_default().clone();
        Self { shared, name, mutex }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut reading = lock(&self.shared.reading);
        drop(std::mem::take(&mut self.mutex));
        // Those who wait hold the mutex, too.
        if reading.get(self.name).is_some_and(|mutex| Arc::strong_count(mutex) == 1) {
            reading.remove(self.name);
        }
    }
}

impl Shared {
    /// Reads a pool. If another caller sends a request for it after this call, its answer serves this one as well.
    pub(crate) async fn read_pool(&self, name: &str, within: &Deadline) -> Result<(), Error> {
        let wanted = Instant::now();
        let mut within = within.clone();
        let late = || Error::Late {
            attempt: format!("waiting for others to read {}", self.api.describe::<CachedPool>(name)),
        };
        loop {
            let reading = Reading::of(self, name);
            let turn = match reading.mutex.try_lock() {
                Ok(turn) => turn,
                Err(_) => self.unless_away(reading.mutex.lock(), within.deadline(), late).await?,
            };
            let asked = lock(&self.cache).pools.get(name).and_then(|pool| Some(pool.known.as_ref()?.asked));
            if asked.is_some_and(|asked| asked > wanted) {
                return Ok(());
            }
            let Some(pause) = self.read_once::<CachedPool>(name, &mut within).await? else { return Ok(()) };
            // The server may ask one caller for a long pause, and another has less time.
            drop(turn);
            drop(reading);
            sleep(pause).await;
        }
    }

    /// Takes in an object as it is now, asking as often as it takes while there is time. That a server can be read does
    /// not say that it can be written to: the caller's own `within` does not change.
    pub(crate) async fn read_again<T: Cached>(&self, name: &str, within: &Deadline) -> Result<(), Error> {
        let mut within = within.clone();
        while let Some(pause) = self.read_once::<T>(name, &mut within).await? {
            sleep(pause).await;
        }
        Ok(())
    }

    /// Asks for an object once. Returns how long to wait before it has to be asked for again.
    async fn read_once<T: Cached>(
        &self,
        name: &str,
        within: &mut Deadline,
    ) -> Result<Option<Duration>, Error> {
        let (known, sure) = {
            let mut cache = lock(&self.cache);
            let part = T::part(&mut cache);
            (part.version(name), part.sure_version(name))
        };
        let (sent, epoch) = (Instant::now(), self.api.epoch());
        match self.api.get::<T>(name, within.request()).await {
            Ok(found) => {
                // No object ever gets an older version, unless the server went back.
                if let (Some(stored), Some(sure)) = (&found, sure) {
                    self.api.cluster().revisions().note(T::PLURAL, stored.version.0, sure.0);
                }
                if self.api.epoch() != epoch {
                    // The answer may be from before.
                    return Ok(Some(Duration::ZERO));
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
                Ok(None)
            }
            Err(error) => match within.pause(sent, &error, &self.jitter) {
                Some(pause) => Ok(Some(pause)),
                None => Err(self.given_up(error)),
            },
        }
    }
}
