//! A document of JSON as Go reads it, into a value that keeps its keys in document order, counting a repeated key at its last
//! place.
//!
//! `serde_json` leaves a repeated key at its first place with the last value. That would lose which of
//! `{"a": 1, "A": 2, "a": 3}` came last, and Go takes the last whatever its case. And it refuses what Go passes: a text with half a
//! surrogate pair or bytes that are not UTF-8 (Go puts U+FFFD in their place), lists within lists where nobody looks, and
//! numbers too large for any type in a field that nobody reads. A DEL would fail for ever on what other plugins take.

mod scan;

use std::collections::HashMap;

use serde_json::{Map, Number, Value};

pub use scan::NotJson;
use scan::Scanner;

/// Values in one document, lists and objects included. A value takes up to 350 bytes of memory and three of text: without a limit,
/// a document of a megabyte would take a hundred. Real ones have a few hundred values.
const MOST_VALUES: usize = 1 << 16;
/// Go's own limit of lists and objects within each other.
const DEEPEST: usize = 10_000;
/// What lies deeper is read as null. No key that anybody asks for is at a tenth of it, and a value must not be so deep that
/// its end overruns the stack.
const DEEPEST_KEPT: usize = 100;

/// Reads one JSON document of at most 65,536 values; anything but blanks after it is an error.
///
/// # Errors
/// It is not JSON, by Go's rules, or has more values.
pub fn read(text: &[u8]) -> Result<Value, NotJson> {
    let mut scanner = Scanner::new(text);
    let mut open: Vec<Open> = Vec::new();
    let mut left = MOST_VALUES;
    loop {
        left =
            left.checked_sub(1).ok_or_else(|| scanner.wrong(&format!("more than {MOST_VALUES} values")))?;
        let mut value = match scanner.first_of_value()? {
            b'{' if !scanner.next_is(b'}') => {
                let key = scanner.key()?;
                open.push(Open::Object(Members::default(), key));
                check_depth(&scanner, open.len())?;
                continue;
            }
            b'{' => Value::Object(Map::new()),
            b'[' if !scanner.next_is(b']') => {
                open.push(Open::List(Vec::new()));
                check_depth(&scanner, open.len())?;
                continue;
            }
            b'[' => Value::Array(Vec::new()),
            b'"' => Value::String(scanner.rest_of_text()?),
            first => scanner.rest_of_scalar(first)?,
        };
        // Whatever ends with this value is a value of what it is in.
        loop {
            let Some(container) = open.last_mut() else { return scanner.end().map(|()| value) };
            if container.takes(&mut scanner, value)? {
                break;
            }
            let depth = open.len();
            let closed = open.pop().map_or(Value::Null, Open::close);
            value = if depth > DEEPEST_KEPT { Value::Null } else { closed };
        }
    }
}

fn check_depth(scanner: &Scanner<'_>, depth: usize) -> Result<(), NotJson> {
    if depth > DEEPEST {
        return Err(scanner.wrong(&format!("lists and objects deeper than {DEEPEST}")));
    }
    Ok(())
}

/// A list or an object whose end was not reached yet.
enum Open {
    List(Vec<Value>),
    /// With the key of the value that comes next.
    Object(Members, String),
}

impl Open {
    /// Adds a value, and reads on to the next one. False at the end.
    fn takes(&mut self, scanner: &mut Scanner<'_>, value: Value) -> Result<bool, NotJson> {
        match self {
            Self::List(items) => {
                items.push(value);
                scanner.goes_on(b']')
            }
            Self::Object(members, key) => {
                members.add(std::mem::take(key), value);
                let goes_on = scanner.goes_on(b'}')?;
                if goes_on {
                    *key = scanner.key()?;
                }
                Ok(goes_on)
            }
        }
    }

    fn close(self) -> Value {
        match self {
            Self::List(items) => Value::Array(items),
            Self::Object(members, _) => Value::Object(members.in_order()),
        }
    }
}

/// Members by key, each with its place. Sorted in the end: moving a repeated key to the end of an ordered map as it comes shifts
/// all others, and a document of some megabytes would take ten seconds.
#[derive(Default)]
struct Members {
    last: HashMap<String, (usize, Value)>,
    places: usize,
}

impl Members {
    fn add(&mut self, key: String, value: Value) {
        // Null leaves an earlier value in force, see `Object::value`.
        if value.is_null() && self.last.contains_key(&key) {
            return;
        }
        self.last.insert(key, (self.places, value));
        self.places += 1;
    }

    fn in_order(self) -> Map<String, Value> {
        let mut members: Vec<(String, (usize, Value))> = self.last.into_iter().collect();
        members.sort_unstable_by_key(|(_, (place, _))| *place);
        members.into_iter().map(|(key, (_, value))| (key, value)).collect()
    }
}

/// A number in the smallest type that has it. What is larger than all of them is of no field that anybody reads.
fn number(text: &str) -> Option<Value> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    if let Ok(whole) = text.parse::<u64>() {
        return Some(whole.into());
    }
    let real: f64 = text.parse().ok()?;
    Number::from_f64(real.clamp(f64::MIN, f64::MAX)).map(Value::Number)
}
