//! The pool document as JSON text, read straight into its typed form.
//!
//! A pool may hold 60,000 entries and is read on every ADD and DEL, so there is no tree of JSON values in
//! between. Members that the schema does not name are kept aside and written back.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use super::{API_VERSION, Allocation, KIND, Pool};

pub(super) struct Document {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) metadata: Map<String, Value>,
    pub(super) spec: Spec,
    pub(super) extra: Map<String, Value>,
}

pub(super) struct Spec {
    pub(super) range: String,
    pub(super) allocations: Entries,
    pub(super) extra: Map<String, Value>,
}

/// Allocations by their keys.
#[derive(Default)]
pub(super) struct Entries {
    pub(super) by_offset: BTreeMap<u128, Arc<Allocation>>,
    /// A key that is no number, or not as it is to be written, or a second one of the same number.
    pub(super) wrong: Option<String>,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an IPPool object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
                let (mut api_version, mut kind, mut metadata, mut spec) = (None, None, None, None);
                let mut extra = Map::new();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "apiVersion" => api_version = Some(map.next_value()?),
                        "kind" => kind = Some(map.next_value()?),
                        "metadata" => metadata = Some(map.next_value()?),
                        // Two specs would be two opinions on what is in use.
                        "spec" if spec.is_some() => return Err(Error::duplicate_field("spec")),
                        "spec" => spec = Some(map.next_value()?),
                        _ => drop(extra.insert(key, map.next_value()?)),
                    }
                }
                Ok(Document {
                    api_version: api_version.ok_or_else(|| Error::missing_field("apiVersion"))?,
                    kind: kind.ok_or_else(|| Error::missing_field("kind"))?,
                    metadata: metadata.ok_or_else(|| Error::missing_field("metadata"))?,
                    spec: spec.ok_or_else(|| Error::missing_field("spec"))?,
                    extra,
                })
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

impl<'de> Deserialize<'de> for Spec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Spec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the spec of an IPPool")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Spec, A::Error> {
                let (mut range, mut allocations, mut extra) = (None, None, Map::new());
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "range" => range = Some(map.next_value()?),
                        "allocations" if allocations.is_some() => {
                            return Err(Error::duplicate_field("allocations"));
                        }
                        "allocations" => allocations = Some(map.next_value()?),
                        _ => drop(extra.insert(key, map.next_value()?)),
                    }
                }
                Ok(Spec {
                    range: range.ok_or_else(|| Error::missing_field("range"))?,
                    allocations: allocations.ok_or_else(|| Error::missing_field("allocations"))?,
                    extra,
                })
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from offset to allocation")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Entries::default();
                while let Some((key, allocation)) = map.next_entry::<String, Allocation>()? {
                    match offset(&key) {
                        Some(offset) if !entries.by_offset.contains_key(&offset) => {
                            entries.by_offset.insert(offset, Arc::new(allocation));
                        }
                        _ => entries.wrong = entries.wrong.or(Some(key)),
                    }
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// The number that a key is. "030" and "+30" would be second spellings of one address.
fn offset(key: &str) -> Option<u128> {
    let is_plain = key == "0" || key.starts_with(|first: char| matches!(first, '1'..='9'));
    if is_plain { key.parse().ok() } else { None }
}

impl<'de> Deserialize<'de> for Allocation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Allocation;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an allocation with id, podref and ifname")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Allocation, A::Error> {
                let (mut id, mut podref, mut ifname) = (None::<String>, None::<String>, None::<String>);
                let mut extra: Option<Box<Map<String, Value>>> = None;
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "id" => id = Some(map.next_value()?),
                        // Clusters upgraded from whereabouts 0.3 have entries without a pod.
                        "podref" => podref = map.next_value()?,
                        "ifname" => ifname = map.next_value()?,
                        _ => drop(extra.get_or_insert_default().insert(key, map.next_value()?)),
                    }
                }
                let id = id.ok_or_else(|| Error::missing_field("id"))?;
                let (podref, ifname) = (podref.unwrap_or_default(), ifname.unwrap_or_default());
                let mut allocation = Allocation::new(&id, &podref, &ifname);
                allocation.extra = extra;
                Ok(allocation)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

impl Serialize for Pool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("apiVersion", API_VERSION)?;
        map.serialize_entry("kind", KIND)?;
        map.serialize_entry("metadata", &self.metadata)?;
        map.serialize_entry("spec", &SpecOf(self))?;
        for (key, value) in &self.extra {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

struct SpecOf<'a>(&'a Pool);

impl Serialize for SpecOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("range", &self.0.subnet.to_string())?;
        map.serialize_entry("allocations", &EntriesOf(self.0))?;
        for (key, value) in &self.0.spec_extra {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

struct EntriesOf<'a>(&'a Pool);

impl Serialize for EntriesOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.allocations.iter().map(|(offset, entry)| (offset, &**entry)))
    }
}

impl Serialize for Allocation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", self.id())?;
        map.serialize_entry("podref", self.podref())?;
        if let Some(ifname) = self.ifname() {
            map.serialize_entry("ifname", ifname)?;
        }
        for (key, value) in self.extra.iter().flat_map(|extra| extra.iter()) {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}
