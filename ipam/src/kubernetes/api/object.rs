//! The two kinds of objects as the API writes them.
//!
//! A pool of 5,000 addresses is a megabyte of text, most of a third of it the server's own `managedFields`. So objects
//! are read straight into what is kept of them, one at a time, and what is wrong in one says nothing about the others.

use std::borrow::Cow;

use ipnet::IpNet;
use kube::core::{ApiResource, GroupVersionKind};
use octavia_bridge_cluster::{self as cluster, Item};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::pool::{API_VERSION, Allocation, KIND};
use crate::request::Owner;
use crate::wire::Sandbox;

use super::reservation::{NODE, POD_UID, Reservation};

/// The plural by which the API knows pools.
pub(crate) const POOLS: &str = "ippools";
/// The plural by which the API knows reservations.
pub(crate) const RESERVATIONS: &str = "overlappingrangeipreservations";
/// `kind` of every reservation.
pub(crate) const RESERVATION: &str = "OverlappingRangeIPReservation";
/// `kind` of an object of which only the metadata were asked for.
pub(crate) const METADATA: &str = "PartialObjectMetadata";

/// What the API says of every object.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata<'a> {
    #[serde(borrow)]
    pub(crate) name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) uid: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) resource_version: Cow<'a, str>,
    #[serde(default)]
    pub(crate) generation: Option<u64>,
    #[serde(borrow, default)]
    pub(crate) creation_timestamp: Cow<'a, str>,
    #[serde(default)]
    pub(crate) annotations: Option<Map<String, Value>>,
}

/// A `resourceVersion`: a number as text, greater for later versions of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u64);

/// An object, of which only the metadata are read at once.
#[derive(Deserialize)]
pub(crate) struct Raw<'a> {
    #[serde(borrow, default)]
    pub(crate) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) metadata: Metadata<'a>,
    #[serde(borrow)]
    pub(crate) spec: Option<&'a RawValue>,
}

/// An object of either kind, as the cache keeps it.
pub(crate) trait Object: cluster::Content {
    /// The plural by which the API knows the kind.
    const PLURAL: &'static str;
    /// How many to ask for at a time. Of pools only the metadata are listed, but the server reads them whole.
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
pub(crate) struct Stored<T> {
    pub(crate) name: String,
    pub(crate) version: Version,
    /// How often the server had gone back when it was asked.
    pub(crate) epoch: u64,
    pub(crate) object: T,
}

impl<T: Object> Stored<T> {
    /// # Errors
    /// The version is not a number.
    pub(crate) fn of(item: Item<T>) -> serde_json::Result<Self> {
        let version = item.version().parse().map(Version).map_err(|_| {
            let text = format!("metadata.resourceVersion \"{}\" is not a number", item.version());
            serde::de::Error::custom(text)
        })?;
        let (name, uid) = (item.name().to_owned(), item.uid().to_owned());
        let object = item.content.unwrap_or_else(|why| T::unreadable(&uid, &why));
        Ok(Self { name, version, epoch: 0, object })
    }
}

/// A pool that does not exist yet, with its first entries.
pub(crate) fn new_pool(name: &str, subnet: IpNet, entries: &[(u128, &Allocation)]) -> Value {
    let allocations: Map<String, Value> =
        entries.iter().map(|(offset, entry)| (offset.to_string(), json!(entry))).collect();
    let spec = json!({ "range": subnet.to_string(), "allocations": allocations });
    json!({ "apiVersion": API_VERSION, "kind": KIND, "metadata": { "name": name }, "spec": spec })
}

/// Who reserves, and what whereabouts' fields do not say of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer<'a> {
    pub(crate) owner: &'a Owner,
    pub(crate) podref: &'a str,
    pub(crate) pod_uid: Option<&'a str>,
    pub(crate) node: &'a str,
    /// What is known of other sandboxes of the same pod.
    pub(crate) sandboxes: &'a [Sandbox],
}

impl Writer<'_> {
    /// Whether it is this very attachment's.
    pub(crate) fn owns(&self, seen: &Reservation) -> bool {
        seen.is_of(&self.owner.container_id, &self.owner.ifname)
    }

    /// Whether a sandbox of the same pod had it that is gone, or nobody knows which of them it was.
    pub(crate) fn may_take(&self, seen: &Reservation) -> bool {
        let is_gone =
            |sandbox: &&Sandbox| !sandbox.alive && sandbox.attachment.container_id == seen.container();
        seen.podref() == self.podref
            && (seen.ifname().is_empty() || seen.ifname() == self.owner.ifname)
            && (seen.container().is_empty() || self.sandboxes.iter().any(|sandbox| is_gone(&sandbox)))
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
    pub(crate) fn reservation(&self, name: &str) -> Value {
        let mut annotations = self.annotations();
        annotations.retain(|_, value| !value.is_null());
        let metadata = json!({ "name": name, "annotations": annotations });
        json!({ "apiVersion": API_VERSION, "kind": RESERVATION, "metadata": metadata, "spec": self.spec() })
    }

    /// A merge patch that makes an existing reservation, as it was seen, this writer's.
    pub(crate) fn takeover(&self, uid: &str, version: Version) -> Value {
        let metadata = json!({
            "uid": uid, "resourceVersion": version.0.to_string(), "annotations": self.annotations(),
        });
        json!({ "metadata": metadata, "spec": self.spec() })
    }
}

/// Deletes the object only as it was seen.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Preconditions<'a> {
    pub(crate) uid: &'a str,
    pub(crate) resource_version: String,
}
