//! A reservation as the cache keeps it.

use octavia_bridge_cluster as cluster;
use serde::Deserialize;

use super::object::{Object, RESERVATION, RESERVATIONS, Raw};
use crate::kubernetes::memory::cache::Merge;
use crate::pool::Allocation;
use crate::texts::Texts;

/// Annotations of reservations: the schema has no field for these, and whereabouts leaves annotations alone.
pub(crate) const NODE: &str = "octavia-bridge/node";
/// `metadata.uid` of the pod.
pub(crate) const POD_UID: &str = "octavia-bridge/pod-uid";

/// A reservation. There may be thousands, so its fields, in the order of [`ReservationFields`], are one piece of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation(Texts<6>);

/// What a reservation says. Absent fields are empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReservationFields<'a> {
    /// `metadata.uid`.
    pub uid: &'a str,
    /// `namespace/name` of the pod.
    pub podref: &'a str,
    /// Its interface.
    pub ifname: &'a str,
    /// Container id of the sandbox; whereabouts writes none.
    pub container: &'a str,
    /// The node whose agent wrote it; whereabouts writes none.
    pub node: &'a str,
    /// `metadata.uid` of the pod; whereabouts writes none.
    pub pod_uid: &'a str,
    /// `metadata.creationTimestamp`.
    pub created: &'a str,
}

impl From<ReservationFields<'_>> for Reservation {
    fn from(
        ReservationFields { uid, podref, ifname, container, node, pod_uid, created }: ReservationFields<'_>,
    ) -> Self {
        Self(Texts::new([uid, podref, ifname, container, node, pod_uid], created))
    }
}

impl Reservation {
    /// [`ReservationFields::uid`].
    pub fn uid(&self) -> &str {
        self.0.get(0)
    }

    /// [`ReservationFields::podref`].
    pub fn podref(&self) -> &str {
        self.0.get(1)
    }

    /// [`ReservationFields::ifname`].
    pub fn ifname(&self) -> &str {
        self.0.get(2)
    }

    /// [`ReservationFields::container`].
    pub fn container(&self) -> &str {
        self.0.get(3)
    }

    /// [`ReservationFields::node`].
    pub fn node(&self) -> &str {
        self.0.get(4)
    }

    /// [`ReservationFields::pod_uid`].
    pub fn pod_uid(&self) -> &str {
        self.0.get(5)
    }

    /// [`ReservationFields::created`].
    pub fn created(&self) -> &str {
        self.0.get(6)
    }

    /// Whether it is this very attachment's.
    pub(crate) fn is_of(&self, container: &str, ifname: &str) -> bool {
        self.container() == container && self.ifname() == ifname
    }

    /// Whether it can be the reservation that belongs to `entry`: fields that its writer left out say nothing.
    pub(crate) fn goes_with(&self, entry: &Allocation) -> bool {
        let same = |mine: &str, theirs: &str| mine.is_empty() || mine == theirs;
        self.podref() == entry.podref()
            && same(self.container(), entry.id())
            && entry.ifname().is_none_or(|ifname| same(self.ifname(), ifname))
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Spec {
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
        ReservationFields { uid, ..ReservationFields::default() }.into()
    }
}

impl cluster::Content for Reservation {
    fn read(text: &str) -> serde_json::Result<Self> {
        let raw: Raw<'_> = serde_json::from_str(text)?;
        // Its name alone takes the address: whatever else is wrong in it, nobody gets that.
        let spec: Spec = raw.spec.and_then(|spec| serde_json::from_str(spec.get()).ok()).unwrap_or_default();
        let annotation = |key| {
            let annotations = raw.metadata.annotations.as_ref()?;
            annotations.get(key)?.as_str()
        };
        let fields = ReservationFields {
            uid: &raw.metadata.uid,
            podref: spec.podref.as_deref().unwrap_or_default(),
            ifname: spec.ifname.as_deref().unwrap_or_default(),
            container: spec.containerid.as_deref().unwrap_or_default(),
            node: annotation(NODE).unwrap_or_default(),
            pod_uid: annotation(POD_UID).unwrap_or_default(),
            created: &raw.metadata.creation_timestamp,
        };
        Ok(fields.into())
    }
}
