//! Reading the fields of one mapping: each is taken out once, and what is left over at the end is
//! something this program does not know.
//!
//! Values are read as generously as nmstate reads them. Numbers arrive as strings from every
//! kustomization that replaces placeholders, and booleans as strings from JSON patches.

use octavia_bridge_ipam::document::looks_like;
use serde_json::{Map, Value};

use super::problem::Findings;

/// Most entries of a list. A bridge has at most as many ports (`BR_MAX_PORTS`), and nothing else comes near it.
const LONGEST_LIST: usize = 1024;

/// A mapping and where it stands.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    path: String,
    map: Map<String, Value>,
    /// Keys that were looked for in vain.
    missed: Vec<String>,
    findings: &'a Findings,
}

/// Where the entry `key` of the object at `path` stands.
fn below(path: &str, key: &str) -> String {
    match path.chars().last() {
        None => key.to_owned(),
        // After a document's name ("octavia: ").
        Some(' ') => format!("{path}{key}"),
        Some(_) => format!("{path}.{key}"),
    }
}

impl<'a> Fields<'a> {
    /// The mapping at `path`; anything else is a problem. A missing value counts as an empty mapping.
    pub(crate) fn new(path: String, value: Value, findings: &'a Findings) -> Option<Self> {
        match value {
            Value::Object(map) => Some(Self { path, map, missed: Vec::new(), findings }),
            Value::Null => Some(Self { path, map: Map::new(), missed: Vec::new(), findings }),
            other => {
                findings.invalid(
                    path.trim_end_matches([':', ' ']),
                    format!("must be a mapping, not {}", sort(&other)),
                );
                None
            }
        }
    }

    pub(crate) fn findings(&self) -> &'a Findings {
        self.findings
    }

    pub(crate) fn path(&self, key: &str) -> String {
        below(&self.path, key)
    }

    pub(crate) fn invalid(&self, key: &str, text: impl Into<String>) {
        self.findings.invalid(self.path(key), text);
    }

    pub(crate) fn unsupported(&self, key: &str, text: impl Into<String>) {
        self.findings.unsupported(self.path(key), text);
    }

    /// Takes a value out; `null` counts as absent, as it does for nmstate.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        let found = self.map.shift_remove(key);
        if found.is_none() {
            self.missed.push(key.to_owned());
        }
        found.filter(|value| !value.is_null())
    }

    /// Whether the key is absent (or `null`, which is then taken out).
    pub(crate) fn take_if_absent(&mut self, key: &str) -> bool {
        let absent = self.map.get(key).is_none_or(Value::is_null);
        if absent && self.map.shift_remove(key).is_none() {
            self.missed.push(key.to_owned());
        }
        absent
    }

    /// Says that a key is missing, if it is. To be called before it is read: then a wrong value is one problem, not two.
    pub(crate) fn needs(&mut self, key: &str) {
        if self.take_if_absent(key) {
            self.invalid(key, "missing");
        }
    }

    pub(crate) fn text(&mut self, key: &str) -> Option<String> {
        let value = self.take(key)?;
        self.good(key, text(value))
    }

    /// A link's name, unchecked.
    pub(crate) fn name(&mut self, key: &str) -> Option<String> {
        let value = self.take(key)?;
        self.good(key, name(value))
    }

    fn good(&self, key: &str, read: Result<String, String>) -> Option<String> {
        read.map_err(|why| self.invalid(key, why)).ok()
    }

    /// Parses a text, wording the problem as `what`.
    pub(crate) fn parsed<T: std::str::FromStr>(&mut self, key: &str, what: &str) -> Option<T> {
        let text = self.text(key)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.invalid(key, format!("{text:?} is not a {what}"));
        }
        value
    }

    pub(crate) fn boolean(&mut self, key: &str) -> Option<bool> {
        let value = self.take(key)?;
        let word = match &value {
            Value::Bool(on) => return Some(*on),
            Value::String(word) => word.to_ascii_lowercase(),
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        match word.as_str() {
            "true" | "yes" | "on" | "y" | "1" => Some(true),
            "false" | "no" | "off" | "n" | "0" => Some(false),
            _ => {
                self.invalid(key, format!("must be true or false, not {value}"));
                None
            }
        }
    }

    /// A whole number within bounds, also written as a string.
    pub(crate) fn number(&mut self, key: &str, least: i64, most: i64) -> Option<i64> {
        let value = self.take(key)?;
        let number = match &value {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a fraction was excluded, and bounds are checked below"
            )]
            Value::Number(number) => number
                .as_i64()
                // YAML 1.1 readers take 024 for a float.
                .or_else(|| number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 1e15).map(|n| n as i64)),
            Value::String(text) => whole(text.trim()),
            _ => None,
        };
        match number {
            Some(number) if (least..=most).contains(&number) => Some(number),
            Some(number) => {
                self.invalid(key, format!("{number} is out of bounds, {least} to {most} are allowed"));
                None
            }
            None => {
                self.invalid(key, format!("must be a whole number, not {value}"));
                None
            }
        }
    }

    /// As [`Self::number`], for types that hold every value within the bounds.
    pub(crate) fn number_as<T: TryFrom<i64>>(&mut self, key: &str, least: i64, most: i64) -> Option<T> {
        self.number(key, least, most).and_then(|number| T::try_from(number).ok())
    }

    /// Takes a flag that may only be `false`.
    pub(crate) fn only_false(&mut self, key: &str, remedy: &str) {
        if self.boolean(key) == Some(true) {
            self.unsupported(key, format!("true: not supported; {remedy}"));
        }
    }

    /// Takes a flag that may only be `true`.
    pub(crate) fn only_true(&mut self, key: &str, remedy: &str) {
        if self.boolean(key) == Some(false) {
            self.unsupported(key, format!("false: not supported; {remedy}"));
        }
    }

    /// Takes a text or number that may only be this one.
    pub(crate) fn only_word(&mut self, key: &str, word: &str, remedy: &str) {
        if let Some(text) = self.text(key).filter(|text| !text.eq_ignore_ascii_case(word)) {
            self.unsupported(key, format!("{text}: not supported, only {word} is; {remedy}"));
        }
    }

    /// Takes a list, mapping or text that may only be empty, or have only empty values.
    pub(crate) fn only_empty(&mut self, key: &str, remedy: &str) {
        if self.take(key).is_some_and(|value| !is_empty(&value)) {
            self.unsupported(key, format!("not supported; {remedy}"));
        }
    }

    pub(crate) fn object(&mut self, key: &str) -> Option<Self> {
        let value = self.take(key)?;
        Self::new(self.path(key), value, self.findings)
    }

    /// The entries of a list with the path of each. A list of too many is a problem, and has none.
    pub(crate) fn list(&mut self, key: &str) -> Option<Vec<(String, Value)>> {
        match self.take(key)? {
            Value::Array(items) if items.len() > LONGEST_LIST => {
                let text = format!("{} entries, and at most {LONGEST_LIST} are allowed", items.len());
                self.invalid(key, text);
                None
            }
            Value::Array(items) => {
                let path = self.path(key);
                Some(items.into_iter().enumerate().map(|(n, item)| (format!("{path}[{n}]"), item)).collect())
            }
            other => {
                self.invalid(key, format!("must be a list, not {}", sort(&other)));
                None
            }
        }
    }

    /// Says of everything not taken out that it is not supported.
    pub(crate) fn finish(self) {
        for (key, value) in &self.map {
            if value.is_null() {
                continue;
            }
            let text = match self.missed.iter().find(|missed| looks_like(key, missed)) {
                Some(missed) => format!("not supported; perhaps {missed} is meant"),
                None => "not supported".to_owned(),
            };
            self.findings.unsupported(below(&self.path, key), text);
        }
    }
}

fn text(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        // A name or a description that looks like a number.
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("must be a text, not {}", sort(&other))),
    }
}

/// A link's name, unchecked.
///
/// # Errors
/// Why the value is not a name. YAML reads `1.10` or `1e3` as a fraction, and the text as written is lost.
pub(crate) fn name(value: Value) -> Result<String, String> {
    match value {
        Value::Number(number) if number.is_f64() => Err(format!(
            "a text is needed, and without quotes this is the number {number}: write it in quotes"
        )),
        other => text(other),
    }
}

/// A whole number as YAML may have it; kubectl's readers pass over `_` behind its beginning.
fn whole(text: &str) -> Option<i64> {
    if text.starts_with('_') {
        return None;
    }
    let text = text.replace('_', "");
    let digits = text.strip_prefix(['+', '-']).unwrap_or(&text).to_ascii_lowercase();
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(rest) = digits.strip_prefix(prefix) {
            let number = i64::from_str_radix(rest, radix).ok().filter(|number| *number >= 0)?;
            return Some(if text.starts_with('-') { -number } else { number });
        }
    }
    text.parse().ok()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

pub(crate) fn sort(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}
