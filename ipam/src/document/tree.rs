//! A JSON value that keeps its keys in document order, counting a repeated key at its last place.
//!
//! `serde_json` leaves a repeated key at its first place with the last value. That would lose which of
//! `{"a": 1, "A": 2, "a": 3}` came last, and Go takes the last whatever its case.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Values in one document, lists and objects included. A value takes up to 350 bytes of memory and three of text: without a limit,
/// a document of a megabyte would take a hundred. Real ones have a few hundred values.
const MOST_VALUES: usize = 1 << 16;

/// Reads one JSON document of at most 65,536 values; anything but blanks after it is an error.
pub fn read(text: &[u8]) -> Result<Value, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = Tree(&Cell::new(MOST_VALUES)).deserialize(&mut json)?;
    json.end().map(|()| value)
}

/// One value, and how many more the document may have.
#[derive(Clone, Copy)]
struct Tree<'a>(&'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.0.get().checked_sub(1);
        self.0.set(left.ok_or_else(|| D::Error::custom(format!("more than {MOST_VALUES} values")))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("number out of range"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        // Sorted in the end: moving a repeated key to the end of an ordered map as it comes shifts all
        // others, and a document of some megabytes would take ten seconds.
        let mut last: HashMap<String, (usize, Value)> = HashMap::new();
        let mut place = 0;
        while let Some(key) = access.next_key::<String>()? {
            let value = access.next_value_seed(self)?;
            // Null leaves an earlier value in force, see `Object::value`.
            if value.is_null() && last.contains_key(&key) {
                continue;
            }
            last.insert(key, (place, value));
            place += 1;
        }
        let mut members: Vec<(String, (usize, Value))> = last.into_iter().collect();
        members.sort_unstable_by_key(|(_, (place, _))| *place);
        let map: Map<String, Value> = members.into_iter().map(|(key, (_, value))| (key, value)).collect();
        Ok(Value::Object(map))
    }
}
