//! Texts as values, and what is wrong with one in words for its author.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::{Error, Spanned};

/// Most scalars, lists and mappings of a text: ten times what the most links and routes take that are allowed.
const MOST_NODES: usize = 100_000;
/// Most bytes of all scalars, those that aliases repeat counted each time: twice what a file may have.
const MOST_TEXT: usize = 8 << 20;
/// Most bytes of text that anchors may hold ready for their aliases.
const MOST_ANCHORED: usize = 1 << 20;

/// The documents of a text.
///
/// # Errors
/// Why it has none: it is not YAML, or costs too much. One line, with the place.
pub(crate) fn documents(yaml: &str) -> Result<Vec<Value>, String> {
    // A link may be called `y`, `on`, `007` or `1_0`. Where a boolean or number is wanted, such a text is taken for one.
    let options = serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
        budget: budget(),
    };
    let trees: Vec<Tree> =
        serde_saphyr::from_multiple_with_options(yaml, options).map_err(|error| in_words(&error))?;
    Ok(trees.into_iter().map(|tree| tree.value(yaml)).collect())
}

/// A value that knows where its parts stand.
#[derive(Debug)]
enum Tree {
    Scalar(Value),
    List(Vec<Spanned<Tree>>),
    Mapping(Vec<(String, Spanned<Tree>)>),
}

impl Tree {
    fn value(self, yaml: &str) -> Value {
        match self {
            Self::Scalar(value) => value,
            Self::List(items) => items.into_iter().map(|item| as_written(item, yaml)).collect(),
            Self::Mapping(entries) => {
                entries.into_iter().map(|(key, item)| (key, as_written(item, yaml))).collect()
            }
        }
    }
}

/// With a whole number as a text if it is not written in plain decimal: a link may be called `0x10` or `+7`.
fn as_written(item: Spanned<Tree>, yaml: &str) -> Value {
    let span = item.defined.span();
    let value = item.value.value(yaml);
    if let Value::Number(number) = &value
        && !number.is_f64()
        && let (Some(start), Some(length)) = (span.byte_offset(), span.byte_len())
        && let (Ok(start), Ok(length)) = (usize::try_from(start), usize::try_from(length))
        && let Some(written) = start.checked_add(length).and_then(|end| yaml.get(start..end))
    {
        let written = written.trim();
        let is_one_word = written.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-".contains(&byte));
        if is_one_word && !written.is_empty() && written != number.to_string() {
            return Value::String(written.to_owned());
        }
    }
    value
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Mapping(entries))
    }
}

/// What a text may cost. Aliases make much of few bytes.
fn budget() -> Option<serde_saphyr::Budget> {
    serde_saphyr::budget! {
        max_nodes: MOST_NODES,
        max_total_scalar_bytes: MOST_TEXT,
        max_recorded_anchor_events: MOST_NODES,
        max_recorded_anchor_bytes: MOST_ANCHORED,
    }
}

fn in_words(error: &Error) -> String {
    let error = error.without_snippet();
    let place = match error.location() {
        Some(place) => format!("line {}, column {}: ", place.line(), place.column()),
        None => String::new(),
    };
    // Where an alias is used, what is wrong may be with what it stands for.
    let cause = if let Error::AliasError { error, .. } = error { error.without_snippet() } else { error };
    match cause {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("not YAML: {place}the key {key} stands twice in one mapping; remove one")
        }
        Error::UnknownAnchor { .. } => {
            format!(
                "not YAML: {place}no anchor has the name of this alias; put a text that begins with * in quotes"
            )
        }
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            format!("{place}an alias stands within what it stands for; write the values in its place")
        }
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => format!(
            "{place}too large: at most {MOST_NODES} values and {MOST_TEXT} bytes of text, aliases written out; \
             split it into several files"
        ),
        Error::ExternalMessage { msg, .. } => format!("not YAML: {place}{msg}{}", remedy(msg)),
        other => {
            let text = other.to_string();
            let text = text.lines().next().unwrap_or_default();
            // It repeats the place.
            let what = text.strip_prefix("error: line ").and_then(|rest| rest.split_once(": "));
            format!("not YAML: {place}{}", what.map_or(text, |(_, what)| what))
        }
    }
}

/// What would be right, where a frequent mistake is behind the parser's words.
fn remedy(said: &str) -> &'static str {
    match said {
        _ if said.contains("tab") => "; indent with spaces",
        _ if said.contains("mapping values are not allowed") => "; put a value with a colon in quotes",
        _ if said.contains("recursion limit") => "; nest less deeply",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_one_line_with_its_place() {
        for (text, said) in [
            (
                "interfaces: [{name: a, name: b}]",
                "not YAML: line 1, column 24: the key name stands twice in one mapping; remove one",
            ),
            ("interfaces:\n- name: a\n\ttype: vlan\n", "; indent with spaces"),
            (
                "&a [*a]",
                "line 1, column 5: an alias stands within what it stands for; write the values in its place",
            ),
            ("a: *b", "not YAML: line 1, column 4: no anchor has the name of this alias"),
            (
                "a: b: c",
                "not YAML: line 1, column 5: mapping values are not allowed in this context; put a value with a colon",
            ),
            ("interfaces: [{name: a", "not YAML: line 1, column 14: unclosed bracket '{'"),
            (&"[".repeat(10_000), "; nest less deeply"),
            ("\0", "not YAML: line 1, column 1: unexpected character"),
        ] {
            let problem = documents(text).unwrap_err();
            assert!(problem.contains(said) && problem.lines().count() == 1, "{said:?} is not in {problem:?}");
        }
    }
}
