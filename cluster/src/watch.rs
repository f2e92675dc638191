//! Lists and watches one resource, for ever.
//!
//! `kube-runtime` lists, watches, continues a watch where it ended, and lists again if the server no longer knows that version.
//! This module adds pauses after failures, detection of a server that went back (see [`crate::revision`]), and the
//! distinction between a quiet watch and a dead one.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use http::Method;
use kube::core::ApiResource;
use kube::runtime::watcher::{self, Config, Event, watcher};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::api::{Limit, METADATA_LIST, request};
use crate::error::{ApiError, Why};
use crate::item::{Content, Item};
use crate::observe::observed;
use crate::{Api, Backoff, Jitter};

/// The server ends a watch after this many seconds, so that no connection is used for ever.
const WATCH_SECONDS: u32 = 280;
/// First and longest pause before a retry.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Deadline for the request for the server's version.
const PROBE: Duration = Duration::from_secs(10);
/// The server no longer knows the changes after this version: everything has to be listed again.
const EXPIRED: u16 = 410;

/// The objects to watch.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Their resource.
    pub resource: ApiResource,
    /// Their namespace; `None` for objects of the whole cluster or of all namespaces.
    pub namespace: Option<String>,
    /// A field selector, such as `metadata.name=worker-0`.
    pub fields: Option<String>,
    /// A label selector, such as `app=web`.
    pub labels: Option<String>,
    /// How many to ask for at a time.
    pub page: u32,
    /// How long to wait before a kind that the server lacks is looked for again; `None` for as long as after other failures.
    pub absent: Option<Duration>,
    /// Seed of the jitter; `None`: random.
    pub seed: Option<u64>,
}

/// What a watch reports.
#[derive(Debug)]
pub enum Change<T> {
    /// A list of all objects begins. Objects that arrive in other ways from now on may be newer than those of [`Change::Listed`].
    Listing,
    /// The list of all objects.
    Listed {
        /// The objects.
        items: Vec<Item<T>>,
        /// The server went back since the last list: remembered versions are not valid any more.
        went_back: bool,
    },
    /// An object is new or has changed.
    Put(Item<T>),
    /// An object was deleted, in this version.
    Gone(Item<T>),
    /// Changes arrive from now on.
    Begun,
    /// Changes do not arrive, or objects could not be listed. The watch retries.
    Broken(Arc<ApiError>),
}

/// Lists and watches the objects of `selection`, and reports everything to `sink`, until the task ends.
pub async fn follow<T: Content>(api: &Api, selection: &Selection, mut sink: impl FnMut(Change<T>)) {
    let jitter = Arc::new(selection.seed.map_or_else(Jitter::fresh, Jitter::seeded));
    let begun = watch::Sender::new(0);
    let mut following = Following {
        api,
        selection,
        backoff: Backoff::new(PAUSE, LONGEST_PAUSE),
        listed_in: None,
        begun: begun.subscribe(),
        epochs: api.revisions().subscribe(),
        jitter: jitter.clone(),
    };
    let client = observed(api, jitter, begun);
    let objects: kube::Api<Item<T>> = match &selection.namespace {
        Some(namespace) => kube::Api::namespaced_with(client, namespace, &selection.resource),
        None => kube::Api::all_with(client, &selection.resource),
    };
    let mut config = Config::default().timeout(WATCH_SECONDS).page_size(selection.page);
    config.field_selector.clone_from(&selection.fields);
    config.label_selector.clone_from(&selection.labels);
    loop {
        following.run(watcher(objects.clone(), config.clone()), &mut sink).await;
    }
}

struct Following<'a> {
    api: &'a Api,
    selection: &'a Selection,
    backoff: Backoff,
    /// The epoch of the last list.
    listed_in: Option<u64>,
    begun: watch::Receiver<u64>,
    epochs: watch::Receiver<u64>,
    jitter: Arc<Jitter>,
}

impl Following<'_> {
    /// Passes on the events of kube-runtime until a new list is needed.
    async fn run<T: Content>(
        &mut self,
        events: impl Stream<Item = watcher::Result<Event<Item<T>>>>,
        sink: &mut impl FnMut(Change<T>),
    ) {
        let mut events = pin!(events);
        let mut items = Vec::new();
        let epoch = *self.epochs.borrow_and_update();
        loop {
            let event = tokio::select! {
                biased;
                // Lists belong to the new epoch from now on.
                _ = self.epochs.changed() => return,
                event = events.next() => event,
                _ = self.begun.changed() => {
                    self.backoff.reset();
                    sink(Change::Begun);
                    self.probe().await;
                    continue;
                }
            };
            match event {
                Some(Ok(Event::Init)) => {
                    items.clear();
                    sink(Change::Listing);
                }
                Some(Ok(Event::InitApply(item))) => {
                    self.api.revisions().saw_text(&self.selection.resource.plural, item.version());
                    items.push(item);
                }
                Some(Ok(Event::InitDone)) => {
                    self.backoff.reset();
                    let went_back = self.listed_in.replace(epoch).is_some_and(|listed| listed != epoch);
                    sink(Change::Listed { items: std::mem::take(&mut items), went_back });
                }
                Some(Ok(Event::Apply(item))) => {
                    self.api.revisions().saw_text(&self.selection.resource.plural, item.version());
                    sink(Change::Put(item));
                }
                Some(Ok(Event::Delete(item))) => {
                    self.api.revisions().saw_text(&self.selection.resource.plural, item.version());
                    sink(Change::Gone(item));
                }
                Some(Err(error)) => {
                    let Some(Failure { error, relist }) = self.failure(error) else { continue };
                    let absent = self.selection.absent.filter(|_| error.is_absent());
                    let pause = absent.map(|pause| self.jitter.spread(pause));
                    sink(Change::Broken(Arc::new(error)));
                    sleep(pause.unwrap_or_else(|| self.backoff.next(&self.jitter))).await;
                    if relist {
                        return;
                    }
                }
                None => return,
            }
        }
    }

    /// The meaning of an error of kube-runtime; `None` if kube-runtime recovers from it by itself.
    fn failure(&self, error: watcher::Error) -> Option<Failure> {
        let (attempt, why, relist) = match error {
            watcher::Error::InitialListFailed(error) => ("list", Why::from(error), false),
            watcher::Error::WatchStartFailed(error) => {
                let why = Why::from(error);
                // kube-runtime would ask for the same version for ever.
                let unknown = matches!(why, Why::Refused { code: EXPIRED | 504, .. });
                ("watch", why, unknown)
            }
            watcher::Error::WatchError(status) if status.code == EXPIRED => return None,
            // The server cannot continue at that version, for whatever reason.
            watcher::Error::WatchError(status) => ("watch", Why::from(*status), true),
            watcher::Error::WatchFailed(error) => ("watch", Why::from(error), false),
            watcher::Error::NoResourceVersion => {
                let why = serde::de::Error::custom("metadata.resourceVersion is missing");
                ("watch", Why::Unreadable(why), true)
            }
        };
        Some(Failure { error: self.api.failed(attempt, self.object(), why), relist })
    }

    fn object(&self) -> String {
        let plural = &self.selection.resource.plural;
        match (&self.selection.namespace, &self.selection.fields) {
            (Some(namespace), _) => format!("{plural} in {namespace}"),
            (None, Some(fields)) => format!("{plural} with {fields}"),
            (None, None) => plural.clone(),
        }
    }

    /// Asks for the server's version. Not for a selection by fields, for which the server may have to read all objects: the other
    /// watches ask.
    async fn probe(&self) {
        #[derive(Deserialize)]
        struct List {
            metadata: Metadata,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata {
            resource_version: String,
        }
        if self.selection.fields.is_some() {
            return;
        }
        let ApiResource { group, api_version, plural, .. } = &self.selection.resource;
        let root = if group.is_empty() { "api" } else { "apis" };
        let namespace = self.selection.namespace.as_ref().map(|namespace| format!("/namespaces/{namespace}"));
        let path = format!("/{root}/{api_version}{}/{plural}?limit=1", namespace.unwrap_or_default());
        let mut request = request(Method::GET, &path);
        request.headers_mut().insert(http::header::ACCEPT, METADATA_LIST);
        let highest = self.api.revisions().highest(plural);
        let read = |text: &str| serde_json::from_str::<List>(text);
        match self.api.send("list", self.object(), request, Limit::of(PROBE), read).await {
            Ok(List { metadata }) => {
                if let Ok(now) = metadata.resource_version.parse() {
                    self.api.revisions().note(plural, now, highest);
                }
            }
            // The next watch asks again.
            Err(error) => tracing::debug!("{}", error.in_words()),
        }
    }
}

struct Failure {
    error: ApiError,
    /// kube-runtime has to start with a new list.
    relist: bool,
}
