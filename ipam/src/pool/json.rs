//! The pool document as JSON text, read straight into its typed form.
//!
//! A pool may hold 60,000 entries and is read on every ADD and DEL, so there is no tree of JSON values in
//! between. Members that the schema does not name are kept aside and written back.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
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
    /// Ascending.
    pub(super) by_offset: Vec<(u128, Allocation)>,
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
                let Entries { mut by_offset, mut wrong } = Entries::default();
                let (mut key, mut entry) = (String::new(), EntryTexts::default());
                while map.next_key_seed(Text(&mut key))?.is_some() {
                    let allocation = map.next_value_seed(&mut entry)?;
                    match offset(&key) {
                        Some(offset) => by_offset.push((offset, allocation)),
                        None => wrong = wrong.or(Some(key.clone())),
                    }
                }
                // The server's are sorted as texts.
                if !by_offset.is_sorted_by_key(|(offset, _)| *offset) {
                    by_offset.sort_unstable_by_key(|(offset, _)| *offset);
                }
                let twice = by_offset.windows(2).find(|two| two[0].0 == two[1].0);
                let wrong = wrong.or(twice.map(|two| two[0].0.to_string()));
                Ok(Entries { by_offset, wrong })
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

/// Reads a text into memory that is there already.
struct Text<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Text<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Text<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.clear();
        self.0.push_str(text);
        Ok(())
    }
}

/// The same of one that may be null, which is empty.
struct TextOrNull<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for TextOrNull<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for TextOrNull<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or null")
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.0.clear();
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        Text(self.0).deserialize(deserializer)
    }
}

/// The texts of an entry while it is read. The next entry uses the memory again.
#[derive(Default)]
struct EntryTexts {
    key: String,
    id: String,
    podref: String,
    ifname: String,
}

impl<'de> DeserializeSeed<'de> for &mut EntryTexts {
    type Value = Allocation;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Allocation, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut EntryTexts {
    type Value = Allocation;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an allocation with id, podref and ifname")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Allocation, A::Error> {
        let EntryTexts { key, id, podref, ifname } = self;
        // Clusters upgraded from whereabouts 0.3 have entries without a pod.
        podref.clear();
        ifname.clear();
        let (mut has_id, mut extra) = (false, None);
        while map.next_key_seed(Text(key))?.is_some() {
            match key.as_str() {
                "id" => {
                    map.next_value_seed(Text(id))?;
                    has_id = true;
                }
                "podref" => map.next_value_seed(TextOrNull(podref))?,
                "ifname" => map.next_value_seed(TextOrNull(ifname))?,
                _ => drop(extra.get_or_insert_with(Map::new).insert(key.clone(), map.next_value()?)),
            }
        }
        if !has_id {
            return Err(Error::missing_field("id"));
        }
        let mut allocation = Allocation::new(id, podref, ifname);
        allocation.extra = extra.map(Arc::new);
        Ok(allocation)
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
        serializer.collect_map(self.0.allocations.iter().map(|(offset, entry)| (offset, entry)))
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
