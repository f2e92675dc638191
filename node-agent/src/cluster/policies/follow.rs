//! The objects of a resource, as one watch reports them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use octavia_bridge_cluster::{self as cluster, Api, ApiError, Change, Content, Item, Selection};
use tokio::sync::watch;

use super::objects::{Object, Resource};

/// Objects asked for at a time: a policy of ten interfaces is a few kilobytes.
const PAGE: u32 = 500;
/// Pause before a kind that the server lacks is looked for again.
const ABSENT: Duration = Duration::from_secs(60);

/// What is known of a resource.
#[derive(Debug)]
pub(super) struct Known<T> {
    /// By name; `None` until they were read once. They stay while the server is away.
    pub(super) objects: Option<BTreeMap<String, T>>,
    /// The server has no such resource.
    pub(super) absent: bool,
    /// Why changes do not arrive.
    pub(super) trouble: Option<Arc<ApiError>>,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { objects: None, absent: false, trouble: None }
    }
}

/// Which objects of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Which {
    All,
    /// That of this name.
    Named(String),
    /// Those with this label and value.
    Labelled(&'static str, String),
}

/// Reads and watches objects of a kind until the task is ended.
pub(super) async fn follow<T: Object + Content>(
    api: &Api,
    resource: Resource,
    which: Which,
    known: &watch::Sender<Known<T>>,
) {
    let (fields, labels) = match which {
        Which::All => (None, None),
        Which::Named(name) => (Some(format!("metadata.name={name}")), None),
        Which::Labelled(label, value) => (None, Some(format!("{label}={value}"))),
    };
    let selection = Selection {
        resource: resource.resource(),
        namespace: None,
        fields,
        labels,
        page: PAGE,
        absent: Some(ABSENT),
        seed: None,
    };
    cluster::follow::<T>(api, &selection, |change| take_in(resource, known, change)).await;
}

fn take_in<T: Object>(resource: Resource, known: &watch::Sender<Known<T>>, change: Change<T>) {
    let plural = resource.plural();
    match change {
        Change::Listing => {}
        Change::Listed { items, .. } => {
            well(known, plural);
            let objects = {
                let before = known.borrow();
                items.into_iter().filter_map(|item| named(plural, item, before.objects.as_ref())).collect()
            };
            known.send_replace(Known { objects: Some(objects), absent: false, trouble: None });
        }
        Change::Put(item) => known.send_modify(|known| {
            let new = named(plural, item, known.objects.as_ref());
            known.objects.get_or_insert_default().extend(new);
        }),
        Change::Gone(item) => known.send_modify(|known| {
            known.objects.get_or_insert_default().remove(item.name());
        }),
        Change::Begun => well(known, plural),
        Change::Broken(error) => known.send_modify(|known| {
            if error.is_absent() {
                if !known.absent {
                    let every = ABSENT.as_secs();
                    tracing::info!("the API server has no {plural}; checking again every {every} s");
                }
                // Those that were known stay: a server that has just started may not know its kinds yet.
                known.absent = true;
            } else if known.trouble.is_none() {
                tracing::warn!("{}", error.in_words());
            }
            known.trouble = Some(error);
        }),
    }
}

/// Changes arrive.
fn well<T>(known: &watch::Sender<Known<T>>, plural: &str) {
    known.send_if_modified(|known| {
        let recovered = known.trouble.take().is_some();
        if recovered {
            tracing::info!("the watch of {plural} works again");
        }
        recovered
    });
}

/// The object by its name. One of which nothing can be read is left out. What is wrong with one is said once.
fn named<T: Object>(
    plural: &str,
    item: Item<T>,
    before: Option<&BTreeMap<String, T>>,
) -> Option<(String, T)> {
    let name = item.name().to_owned();
    match item.content {
        Ok(object) => {
            let said = before.and_then(|before| before.get(&name)?.unreadable());
            if let Some(why) = object.unreadable()
                && said != Some(why)
            {
                tracing::error!("{plural} {name} cannot be read: {why}");
            }
            Some((name, object))
        }
        Err(why) => {
            tracing::error!("{plural} {name} cannot be read and is ignored: {why}");
            None
        }
    }
}
