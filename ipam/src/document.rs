//! JSON read as Go's `encoding/json` would read it into a struct.
//!
//! Network configurations in the field were written against plugins in Go, so their keys come in any
//! case, twice, or as `null`. The rules kept here: keys match case-insensitively, of several equal keys
//! the last in the document wins, `null` is as if the key were not written, unknown keys pass but can be
//! listed, and a value of the wrong JSON type is an error that names the field.

mod near_miss;
mod tree;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

pub use near_miss::looks_like;
pub use tree::{NotJson, read};

/// How many characters of a wrong value an error repeats.
const VALUE_SHOWN: usize = 80;
/// How many characters of a field's path an error repeats. A key may be as long as the document.
const FIELD_SHOWN: usize = 160;

/// A field of the configuration that cannot be used as written.
///
/// Displays as one line: the field's path, its value (cut when long), and what would be right, as in
/// `ipam.range_start: "bogus" is no IP address; write one like 172.23.0.30`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub struct FieldError {
    /// Path of the field from the root of the document, e.g. `ipam.ipRanges[1].range`.
    pub field: String,
    /// The offending value as JSON text; empty when the field is missing.
    pub value: String,
    /// What is wrong and what to write instead; continues the sentence that the value begins.
    pub remedy: String,
}

impl FieldError {
    /// An error about a string value, shown in double quotes.
    pub fn text(field: impl Into<String>, value: &str, remedy: impl Into<String>) -> Self {
        Self::json(field, &Value::from(value), remedy)
    }

    /// An error about any JSON value.
    pub fn json(field: impl Into<String>, value: &Value, remedy: impl Into<String>) -> Self {
        Self { field: field.into(), value: value.to_string(), remedy: remedy.into() }
    }

    /// An error about a field that is not there; `remedy` stands alone after the field's path.
    pub fn missing(field: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { field: field.into(), value: String::new(), remedy: remedy.into() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = cut(&self.field, FIELD_SHOWN);
        match self.value.as_str() {
            "" => write!(f, "{field}: ")?,
            value => write!(f, "{field}: {} ", cut(value, VALUE_SHOWN))?,
        }
        f.write_str(&self.remedy)
    }
}

/// The first `most` characters of `text`, with a sign where some are missing.
fn cut(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// A JSON object and its path in the document, e.g. `ipam.ipRanges[1]`.
///
/// Each lookup marks the key as known; [`Object::unknown`] lists what is left over.
#[derive(Debug)]
pub struct Object<'a> {
    path: String,
    members: Vec<Member<'a>>,
}

#[derive(Debug)]
struct Member<'a> {
    key: &'a str,
    value: &'a Value,
    asked: bool,
    /// The object it was taken over from, see [`Object::fill_from`].
    origin: Option<String>,
}

impl<'a> Object<'a> {
    /// The root of a document, which must be an object. Its members' paths have no prefix.
    pub fn root(value: &'a Value) -> Result<Self, FieldError> {
        Self::at(String::new(), value)
    }

    /// An object found at `path`, for callers that hold a part of a document only.
    pub fn at(path: String, value: &'a Value) -> Result<Self, FieldError> {
        let Value::Object(map) = value else {
            let path = if path.is_empty() { "network configuration".to_owned() } else { path };
            return Err(FieldError::json(path, value, "is not an object; write {\"key\": value, …}"));
        };
        let member =
            |(key, value): (&'a String, &'a Value)| Member { key, value, asked: false, origin: None };
        let members = map.iter().map(member).collect();
        Ok(Self { path, members })
    }

    /// Path of this object; empty for the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Path of the member `key`, whether it exists or not. One that was taken over from another object has that
    /// object's path, a colon, and its key.
    pub fn path_of(&self, key: &str) -> String {
        let origin = self.in_force(key).and_then(|member| member.origin.as_deref());
        self.path_with(origin, key)
    }

    fn path_with(&self, origin: Option<&str>, key: &str) -> String {
        match origin {
            Some(origin) => format!("{origin}: {key}"),
            None if self.path.is_empty() => key.to_owned(),
            None => format!("{}.{key}", self.path),
        }
    }

    /// Takes the members of `other` over that are empty here: absent, null, false, 0, or an empty text, list or
    /// object, as Go programs tell whether a field was set. Those called as in `except` are left out. Returns the
    /// paths of what was taken over.
    pub fn fill_from(&mut self, other: &Object<'a>, except: &[&str]) -> Vec<String> {
        let is_wanted = |member: &&Member<'a>| {
            let own = self.in_force(member.key);
            !is_empty(member.value)
                && !except.iter().any(|key| same_key(member.key, key))
                && own.is_none_or(|own| is_empty(own.value))
        };
        let take_over =
            |member: &Member<'a>| Member { origin: Some(other.path.clone()), asked: false, ..*member };
        let taken: Vec<Member<'a>> = other.members.iter().filter(is_wanted).map(take_over).collect();
        let names = taken.iter().map(|member| format!("{}: {}", other.path, member.key)).collect();
        self.members.extend(taken);
        names
    }

    /// The member that counts among those called `key`: the last that is not null.
    fn in_force(&self, key: &str) -> Option<&Member<'a>> {
        self.members.iter().rfind(|member| same_key(member.key, key) && !member.value.is_null())
    }

    /// The member `key` as it stands, `None` if absent or null.
    pub fn value(&mut self, key: &str) -> Option<&'a Value> {
        let mut found = None;
        for member in self.members.iter_mut().filter(|m| same_key(m.key, key)) {
            member.asked = true;
            // Go leaves a field alone when it meets null, so an earlier value stays in force.
            if !member.value.is_null() {
                found = Some(member.value);
            }
        }
        found
    }

    /// Whether `key` is there with a value other than null.
    pub fn present(&mut self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// The string at `key`.
    pub fn string(&mut self, key: &str) -> Result<Option<&'a str>, FieldError> {
        self.element(key).map(|e| e.string()).transpose()
    }

    /// The boolean at `key`.
    pub fn bool(&mut self, key: &str) -> Result<Option<bool>, FieldError> {
        self.element(key).map(|e| e.bool()).transpose()
    }

    /// The whole number at `key`; `1.0` and `1e3` are errors, as in Go.
    pub fn int(&mut self, key: &str) -> Result<Option<i64>, FieldError> {
        self.element(key).map(|e| e.int()).transpose()
    }

    /// The object at `key`. Its own leftovers are listed by its own [`Object::unknown`].
    pub fn object(&mut self, key: &str) -> Result<Option<Object<'a>>, FieldError> {
        self.element(key).map(|e| e.object()).transpose()
    }

    /// The elements of the list at `key`; absent, null and `[]` are all the empty list, as in Go.
    pub fn list(&mut self, key: &str) -> Result<Vec<Element<'a>>, FieldError> {
        let Some(found) = self.element(key) else { return Ok(Vec::new()) };
        let Value::Array(items) = found.value else {
            return Err(found.wrong("is not a list; write it in brackets, […]"));
        };
        let place = |(i, value)| Element { path: format!("{}[{i}]", found.path), value };
        Ok(items.iter().enumerate().map(place).collect())
    }

    /// The list of strings at `key`; absent is empty.
    pub fn strings(&mut self, key: &str) -> Result<Vec<&'a str>, FieldError> {
        self.list(key)?.iter().map(Element::string).collect()
    }

    /// Paths of the keys that nobody has asked for so far, in document order.
    pub fn unknown(&self) -> Vec<String> {
        self.members.iter().filter(|m| !m.asked).map(|m| self.path_with(m.origin.as_deref(), m.key)).collect()
    }

    fn element(&mut self, key: &str) -> Option<Element<'a>> {
        let value = self.value(key)?;
        Some(Element { path: self.path_of(key), value })
    }
}

/// One value of a document and its path, e.g. `ipam.exclude[0]`.
#[derive(Debug, Clone)]
pub struct Element<'a> {
    path: String,
    value: &'a Value,
}

impl<'a> Element<'a> {
    /// Path of this value.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value as it stands.
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// The value as a string.
    pub fn string(&self) -> Result<&'a str, FieldError> {
        self.value.as_str().ok_or_else(|| self.wrong("is not a string; write it in double quotes"))
    }

    /// The value as a boolean.
    pub fn bool(&self) -> Result<bool, FieldError> {
        self.value.as_bool().ok_or_else(|| self.wrong("is not a boolean; write true or false without quotes"))
    }

    /// The value as a whole number.
    pub fn int(&self) -> Result<i64, FieldError> {
        let remedy = "is not a whole number; write digits only, without quotes or fraction";
        self.value.as_i64().ok_or_else(|| self.wrong(remedy))
    }

    /// The value as an object.
    pub fn object(&self) -> Result<Object<'a>, FieldError> {
        Object::at(self.path.clone(), self.value)
    }

    /// An error about this value.
    pub fn wrong(&self, remedy: impl Into<String>) -> FieldError {
        FieldError::json(&self.path, self.value, remedy)
    }
}

/// Whether a Go program would take the field for one that was not set.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(is_empty),
    }
}

/// Go compares keys under Unicode simple folding. All our keys are ASCII, and two letters outside ASCII
/// fold into it: the Kelvin sign and the long s.
fn same_key(written: &str, key: &str) -> bool {
    let fold = |c: char| match c {
        '\u{212a}' => 'k',
        '\u{17f}' => 's',
        other => other.to_ascii_lowercase(),
    };
    written.chars().map(fold).eq(key.chars().map(fold))
}
