//! The two kinds of objects as the API writes them.
//!
//! A pool of 5,000 addresses is a megabyte of text, most of a third of it the server's own `managedFields`. So objects
//! are read straight into what is kept of them, one at a time, and what is wrong in one says nothing about the others.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use kube::core::{ApiResource, GroupVersionKind};
use octavia_bridge_cluster::{self as cluster, Item};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::pool::{API_VERSION, Allocation, KIND, Pool};
use crate::request::Owner;
use crate::wire::Sandbox;

use super::cache::Merge;
use super::change::Change;

/// The plural by which the API knows pools.
pub(super) const POOLS: &str = "ippools";
/// The plural by which the API knows reservations.
pub(super) const RESERVATIONS: &str = "overlappingrangeipreservations";
/// `kind` of every reservation.
const RESERVATION: &str = "OverlappingRangeIPReservation";
/// `kind` of an object of which only the metadata were asked for.
const METADATA: &str = "PartialObjectMetadata";

/// Annotations of reservations: the schema has no field for these, and whereabouts leaves annotations alone.
const NODE: &str = "octavia-bridge/node";
const POD_UID: &str = "octavia-bridge/pod-uid";

/// What the API says of every object.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    uid: Cow<'a, str>,
    #[serde(borrow, default)]
    resource_version: Cow<'a, str>,
    #[serde(default)]
    generation: Option<u64>,
    #[serde(borrow, default)]
    creation_timestamp: Cow<'a, str>,
    #[serde(default)]
    annotations: Option<Map<String, Value>>,
}

/// A `resourceVersion`: a number as text, greater for later versions of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u64);

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
}

/// An object of either kind, as the cache keeps it.
pub(super) trait Object: cluster::Content {
    /// The plural by which the API knows the kind.
    const PLURAL: &'static str;
    /// How many to ask for at a time: pools may be large.
    const PAGE: u32;
    /// `kind` of the objects.
    const KIND: &'static str;

    /// What is kept of an object that cannot be read: it is there, and takes its name.
    fn unreadable(uid: &str, why: &str) -> Self;

    fn resource() -> ApiResource {
        let (group, version) = API_VERSION.split_once('/').unwrap_or_default();
        let kind = GroupVersionKind::gvk(group, version, Self::KIND);
        ApiResource::from_gvk_with_plural(&kind, Self::PLURAL)
    }

    /// Reads one object; only what has no name or version is an error.
    fn stored(text: &str) -> serde_json::Result<Stored<Self>> {
        Item::<Self>::read(text).and_then(Stored::of)
    }
}

/// An object with its name and version.
#[derive(Debug)]
pub(super) struct Stored<T> {
    pub(super) name: String,
    pub(super) version: Version,
    /// How often the server had gone back when it was asked.
    pub(super) epoch: u64,
    pub(super) object: T,
}

impl<T: Object> Stored<T> {
    /// # Errors
    /// The version is not a number.
    pub(super) fn of(item: Item<T>) -> serde_json::Result<Self> {
        let version = item.version().parse().map(Version).map_err(|_| {
            let text = format!("metadata.resourceVersion \"{}\" is not a number", item.version());
            serde::de::Error::custom(text)
        })?;
        let (name, uid) = (item.name().to_owned(), item.uid().to_owned());
        let object = item.content.unwrap_or_else(|why| T::unreadable(&uid, &why));
        Ok(Self { name, version, epoch: 0, object })
    }
}

/// A pool as the cache keeps it: its metadata, which are watched, and what is known of its content, which is read when it is
/// needed.
#[derive(Debug, Clone)]
pub(super) struct CachedPool {
    pub(super) uid: Box<str>,
    /// `metadata.generation`, by which the server counts the changes of a spec.
    pub(super) generation: Option<u64>,
    /// Its content was read at least once.
    pub(super) was_read: bool,
    pub(super) known: Option<Known>,
}

/// What is known of a pool's content. It may be out of date: then it says what to try, and nothing else.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// The version it was read in, or that of the last change that this agent made.
    pub(super) version: Version,
    /// The generation that this is, unless changes of others are missing in it.
    pub(super) generation: Option<u64>,
    /// Not before this moment the server was asked for it.
    pub(super) asked: Instant,
    /// When it is to be read again, once it is known to be out of date.
    pub(super) again: Option<Instant>,
    /// Bytes of the object as JSON, which is how the server stores it.
    pub(super) size: usize,
    pub(super) content: Content,
    /// Addresses whose reservation has ended since, each after its entry.
    freed: BTreeSet<IpAddr>,
}

impl CachedPool {
    /// What is known of its content.
    pub(super) fn content(&self) -> Option<&Content> {
        self.known.as_ref().map(|known| &known.content)
    }

    /// The pool as far as it is known, unless it is damaged.
    pub(super) fn sound(&self) -> Option<&Arc<Pool>> {
        match self.content()? {
            Content::Sound(pool) => Some(pool),
            Content::Corrupt { .. } => None,
        }
    }

    /// Whether what is known of its content is all there is, as far as changes have been told.
    pub(super) fn is_current(&self) -> bool {
        let known = self.known.as_ref().and_then(|known| known.generation);
        known.is_some() && known == self.generation
    }

    /// The reservation of an address has ended. Its entry went before it, so that it is not in the way of a choice.
    pub(super) fn free(&mut self, address: IpAddr) {
        if let Some(known) = &mut self.known {
            known.freed.insert(address);
        }
        self.settle();
    }

    /// This agent's changes made this version of this generation.
    pub(super) fn advance<'a>(
        &mut self,
        version: Version,
        generation: Option<u64>,
        changes: impl Iterator<Item = (IpAddr, &'a Change)>,
    ) {
        let Some(known) = self.known.as_mut().filter(|known| known.version < version) else { return };
        known.version = version;
        // With a change of somebody else in between, the generation went further.
        let next = known.generation.map(|before| before + 1);
        known.generation = next.filter(|next| Some(*next) == generation);
        if let Content::Sound(pool) = &mut known.content {
            let pool = Arc::make_mut(pool);
            for (address, change) in changes {
                let before = pool.get(address).map_or(0, Allocation::size);
                let now = change.after();
                known.size = (known.size + now.map_or(0, Allocation::size)).saturating_sub(before);
                known.freed.remove(&address);
                pool.set(address, now.cloned());
            }
        }
        self.settle();
    }

    /// Leaves out of what is out of date the entries that have ended.
    fn settle(&mut self) {
        if self.is_current() {
            return;
        }
        let Some(known) = &mut self.known else { return };
        let freed = std::mem::take(&mut known.freed);
        if let (Content::Sound(pool), false) = (&mut known.content, freed.is_empty()) {
            let pool = Arc::make_mut(pool);
            for address in freed {
                pool.set(address, None);
            }
        }
    }
}

impl Merge for CachedPool {
    fn succeed(&mut self, earlier: Self) {
        if self.known.is_none() && self.uid == earlier.uid {
            (self.known, self.was_read) = (earlier.known, earlier.was_read);
            self.settle();
        }
    }

    fn complete(&mut self, seen: Self) {
        // Of the same version what was read is more than what was made of an answer.
        let version = |pool: &Self| pool.known.as_ref().map(|known| known.version);
        if self.uid == seen.uid && seen.known.is_some() && version(&seen) >= version(self) {
            (self.known, self.was_read) = (seen.known, true);
        }
    }

    fn doubt(&mut self) {
        if let Some(known) = &mut self.known {
            known.generation = None;
        }
    }

    fn asked_at(&mut self, sent: Instant) {
        if let Some(known) = &mut self.known {
            known.asked = sent;
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    Sound(Arc<Pool>),
    /// Not what its name says, and who may need it nevertheless.
    Corrupt {
        why: Arc<str>,
        containers: Arc<HashSet<String>>,
    },
}

impl Object for CachedPool {
    const PLURAL: &'static str = POOLS;
    const PAGE: u32 = 8;
    const KIND: &'static str = KIND;

    fn unreadable(uid: &str, why: &str) -> Self {
        let content = Content::Corrupt { why: why.into(), containers: Arc::default() };
        let known = Some(Known::new(Version(0), None, 0, content));
        Self { uid: uid.into(), generation: None, was_read: true, known }
    }
}

impl Known {
    fn new(version: Version, generation: Option<u64>, size: usize, content: Content) -> Self {
        let asked = Instant::now();
        Self { version, generation, asked, again: None, size, content, freed: BTreeSet::new() }
    }
}

impl cluster::Content for CachedPool {
    /// A pool of 1,000 entries has 143 KB: each change would bring them to each agent.
    const METADATA: bool = true;

    /// Reads a pool, or, where the server was asked for no more, its metadata.
    fn read(text: &str) -> serde_json::Result<Self> {
        let raw: Raw<'_> = serde_json::from_str(text)?;
        let Metadata { generation, .. } = raw.metadata;
        let uid: Box<str> = raw.metadata.uid.as_ref().into();
        if raw.kind == METADATA || raw.kind.is_empty() && raw.spec.is_none() {
            return Ok(Self { uid, generation, was_read: false, known: None });
        }
        let name = raw.metadata.name.into_owned();
        let version = Version(raw.metadata.resource_version.parse().unwrap_or(0));
        let spec = raw.spec.map_or("null", RawValue::get);
        let content = match Pool::parse_spec(&name, spec) {
            Ok(pool) => Content::Sound(Arc::new(pool)),
            Err(error) => {
                let why = error.to_string().into();
                Content::Corrupt { why, containers: Arc::new(containers(spec)) }
            }
        };
        let known = Some(Known::new(version, generation, text.len(), content));
        Ok(Self { uid, generation, was_read: true, known })
    }
}

/// The container ids that can be made out in a spec that is no pool's.
fn containers(spec: &str) -> HashSet<String> {
    let spec: Value = serde_json::from_str(spec).unwrap_or_default();
    let entries = spec["allocations"].as_object().into_iter().flat_map(Map::values);
    entries.filter_map(|entry| entry["id"].as_str().map(str::to_owned)).collect()
}

/// A reservation as the cache keeps it. Absent fields are empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `namespace/name` of the pod.
    pub podref: Box<str>,
    /// Its interface.
    pub ifname: Box<str>,
    /// Container id of the sandbox; whereabouts writes none.
    pub container: Box<str>,
    /// The node whose agent wrote it; whereabouts writes none.
    pub node: Box<str>,
    /// `metadata.uid` of the pod; whereabouts writes none.
    pub pod_uid: Box<str>,
    /// `metadata.creationTimestamp`.
    pub created: Box<str>,
}

impl Reservation {
    /// Whether it is this very attachment's.
    pub(super) fn is_of(&self, container: &str, ifname: &str) -> bool {
        *self.container == *container && *self.ifname == *ifname
    }

    /// Whether it can be the reservation that belongs to `entry`: fields that its writer left out say nothing.
    pub(super) fn goes_with(&self, entry: &Allocation) -> bool {
        let same = |mine: &str, theirs: &str| mine.is_empty() || mine == theirs;
        *self.podref == *entry.podref
            && same(&self.container, &entry.id)
            && entry.ifname.as_deref().is_none_or(|ifname| same(&self.ifname, ifname))
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ReservationSpec {
    podref: Option<String>,
    ifname: Option<String>,
    containerid: Option<String>,
}

// What is watched of a reservation is the whole of it: metadata that also said whose it is would be longer.
impl Merge for Reservation {}

impl Object for Reservation {
    const PLURAL: &'static str = RESERVATIONS;
    const PAGE: u32 = 500;
    const KIND: &'static str = RESERVATION;

    fn unreadable(uid: &str, _why: &str) -> Self {
        let none = || Box::from("");
        let (podref, ifname, container) = (none(), none(), none());
        Self { uid: uid.into(), podref, ifname, container, node: none(), pod_uid: none(), created: none() }
    }
}

impl cluster::Content for Reservation {
    fn read(text: &str) -> serde_json::Result<Self> {
        let raw: Raw<'_> = serde_json::from_str(text)?;
        // Its name alone takes the address: whatever else is wrong in it, nobody gets that.
        let spec: ReservationSpec =
            raw.spec.and_then(|spec| serde_json::from_str(spec.get()).ok()).unwrap_or_default();
        let annotation = |key| {
            let annotations = raw.metadata.annotations.as_ref()?;
            annotations.get(key)?.as_str().map(Box::from)
        };
        Ok(Self {
            uid: raw.metadata.uid.as_ref().into(),
            podref: spec.podref.unwrap_or_default().into(),
            ifname: spec.ifname.unwrap_or_default().into(),
            container: spec.containerid.unwrap_or_default().into(),
            node: annotation(NODE).unwrap_or_default(),
            pod_uid: annotation(POD_UID).unwrap_or_default(),
            created: raw.metadata.creation_timestamp.as_ref().into(),
        })
    }
}

/// A pool that does not exist yet, with its first entries.
pub(super) fn new_pool(name: &str, subnet: IpNet, entries: &[(u128, &Allocation)]) -> Value {
    let allocations: Map<String, Value> =
        entries.iter().map(|(offset, entry)| (offset.to_string(), json!(entry))).collect();
    let spec = json!({ "range": subnet.to_string(), "allocations": allocations });
    json!({ "apiVersion": API_VERSION, "kind": KIND, "metadata": { "name": name }, "spec": spec })
}

/// Who reserves, and what whereabouts' fields do not say of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct By<'a> {
    pub(super) owner: &'a Owner,
    pub(super) podref: &'a str,
    pub(super) pod_uid: Option<&'a str>,
    pub(super) node: &'a str,
    /// What is known of other sandboxes of the same pod.
    pub(super) sandboxes: &'a [Sandbox],
}

impl By<'_> {
    /// Whether it is this very attachment's.
    pub(super) fn has(&self, seen: &Reservation) -> bool {
        seen.is_of(&self.owner.container_id, &self.owner.ifname)
    }

    /// Whether a sandbox of the same pod had it that is gone, or nobody knows which of them it was.
    pub(super) fn may_take(&self, seen: &Reservation) -> bool {
        let is_gone =
            |sandbox: &&Sandbox| !sandbox.alive && *sandbox.attachment.container_id == *seen.container;
        *seen.podref == *self.podref
            && (seen.ifname.is_empty() || *seen.ifname == self.owner.ifname)
            && (seen.container.is_empty() || self.sandboxes.iter().any(|sandbox| is_gone(&sandbox)))
    }

    fn annotations(&self) -> Map<String, Value> {
        let mut annotations = Map::new();
        annotations.insert(NODE.to_owned(), self.node.into());
        // An earlier sandbox' pod was another one.
        annotations.insert(POD_UID.to_owned(), self.pod_uid.map_or(Value::Null, Value::from));
        annotations
    }

    fn spec(&self) -> Value {
        json!({ "podref": self.podref, "ifname": self.owner.ifname, "containerid": self.owner.container_id })
    }

    /// A reservation that does not exist yet.
    pub(super) fn reservation(&self, name: &str) -> Value {
        let mut annotations = self.annotations();
        annotations.retain(|_, value| !value.is_null());
        let metadata = json!({ "name": name, "annotations": annotations });
        json!({ "apiVersion": API_VERSION, "kind": RESERVATION, "metadata": metadata, "spec": self.spec() })
    }

    /// A merge patch that makes an existing reservation, as it was seen, this writer's.
    pub(super) fn takeover(&self, uid: &str, version: Version) -> Value {
        let metadata = json!({
            "uid": uid, "resourceVersion": version.0.to_string(), "annotations": self.annotations(),
        });
        json!({ "metadata": metadata, "spec": self.spec() })
    }
}

/// Deletes the object only as it was seen.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Preconditions<'a> {
    pub(super) uid: &'a str,
    pub(super) resource_version: String,
}
