//! Keys that are probably another one, misspelt.
//!
//! Unknown keys pass, as in Go. But where a key that decides to what a pod is attached is missing, and one that looks like it
//! is there, the default would take its place: `brigde` would put the pod into another bridge.

use super::{FieldError, Object, same_key};

/// In letters: how long a key has to be for two mistakes to be told from another word.
const LONG: usize = 6;

impl Object<'_> {
    /// An error about the first key nobody has asked for that looks like one of `keys` which is not written at all. To be called
    /// when all known keys have been asked for.
    pub fn near_miss(&self, keys: &[&str]) -> Result<(), FieldError> {
        for key in keys {
            if self.members.iter().any(|member| same_key(member.key, key)) {
                continue;
            }
            if let Some(written) = self.members.iter().find(|m| !m.asked && looks_like(m.key, key)) {
                let path = self.path_with(written.origin.as_deref(), written.key);
                let remedy = format!("unknown key, and {key:?} is missing; write {key:?}, or remove the key");
                return Err(FieldError::missing(path, remedy));
            }
        }
        Ok(())
    }
}

/// Whether two keys or names differ by a letter or two: left out, added, replaced, or exchanged with its neighbour. Case, '_' and '-' are
/// no difference, so that `rangeStart` looks like `range_start`.
pub fn looks_like(written: &str, key: &str) -> bool {
    let (written, key) = (letters(written), letters(key));
    let allowed = if key.len() < LONG { 1 } else { 2 };
    written.len().abs_diff(key.len()) <= allowed && distance(&written, &key) <= allowed
}

fn letters(text: &str) -> Vec<char> {
    text.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect()
}

/// The optimal string alignment distance. Keys are as short as `key`, so the table is small.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut before_last = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let mut least = (last[j + 1] + 1).min(row[j] + 1).min(last[j] + usize::from(a != b));
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                let exchanged: &Vec<usize> = &before_last;
                least = least.min(exchanged[j - 1] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn misses(text: &Value, asked: &[&str], keys: &[&str]) -> Option<String> {
        let mut object = Object::root(text).unwrap();
        for key in asked {
            object.present(key);
        }
        object.near_miss(keys).err().map(|error| error.to_string())
    }

    #[test]
    fn a_slip_of_the_pen_is_told_from_another_word() {
        for written in ["brigde", "bridg", "bridgee", "Birdge", "brdige", "b_ridge", "brideg"] {
            assert!(looks_like(written, "bridge"), "{written}");
        }
        for written in ["bridgeName", "ridges2", "master", "", "br"] {
            assert!(!looks_like(written, "bridge"), "{written}");
        }
        assert!(looks_like("rangeStart", "range_start"));
        assert!(looks_like("ipma", "ipam") && looks_like("vlans", "vlan"));
        assert!(!looks_like("vlanId", "vlan") && !looks_like("type", "ipam") && !looks_like("name", "ipam"));
    }

    #[test]
    fn only_a_missing_key_is_missed_and_only_an_unknown_one_is_near() {
        let keys = ["bridge", "mtu"];
        let found = misses(&json!({"name": "n", "brigde": "octbr"}), &["name"], &keys).unwrap();
        assert_eq!(
            found,
            "brigde: unknown key, and \"bridge\" is missing; write \"bridge\", or remove the key"
        );
        assert_eq!(misses(&json!({"brigde": "a", "bridge": "b"}), &["bridge"], &keys), None);
        assert_eq!(misses(&json!({"brigde": "a", "bridge": null}), &["bridge"], &keys), None);
        assert_eq!(misses(&json!({"mut": 1}), &["mut"], &keys), None);
        assert_eq!(misses(&json!({"x": 1, "y": 2}), &[], &keys), None);
    }
}
