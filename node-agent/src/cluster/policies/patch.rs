//! Merge patches (RFC 7396) that make something what it shall be: what is no longer in it has to be named.

use serde_json::{Map, Value};

/// The patch that makes `new` of `old`.
pub(super) fn replacing(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return new.clone() };
    let mut patch: Map<String, Value> =
        old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null)).collect();
    for (key, value) in new {
        patch.insert(key.clone(), replacing(old.get(key).unwrap_or(&Value::Null), value));
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_gone_is_named_and_lists_are_whole() {
        let old = json!({"interfaces": [{"name": "a"}], "routes": {"config": [], "running": []}, "x": 1});
        let new = json!({"interfaces": [{"name": "b"}], "routes": {"config": []}});
        let patch =
            json!({"interfaces": [{"name": "b"}], "routes": {"config": [], "running": null}, "x": null});
        assert_eq!(replacing(&old, &new), patch);
        assert_eq!(replacing(&Value::Null, &new), new);
        assert_eq!(replacing(&json!({"3": 1}), &json!({"4": 0})), json!({"3": null, "4": 0}));
    }
}
