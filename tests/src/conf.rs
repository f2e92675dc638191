//! Network configurations to start from.

use serde_json::{Value, json};

/// Octavia's management network: the network attachment of the `OpenStack` documentation, on the `file` store.
/// Version 0.3.1, addresses 172.23.0.30 to .70, a route to 172.24.0.0/16 by 172.23.0.150.
pub fn octavia() -> Value {
    parse(include_str!("../fixtures/octavia.json"))
}

/// [`octavia`] with other or additional keys.
pub fn octavia_with(changes: Value) -> Value {
    with(octavia(), changes)
}

/// A bridge without addresses, version 1.0.0.
pub fn layer2() -> Value {
    json!({"cniVersion": "1.0.0", "name": "octavia", "type": "octavia-bridge", "bridge": "octbr"})
}

/// [`layer2`] with other or additional keys.
pub fn layer2_with(changes: Value) -> Value {
    with(layer2(), changes)
}

/// [`layer2`], version 1.1.0, with an `ipam` block of ours on the `file` store.
pub fn with_ipam(ipam: Value) -> Value {
    let block = with(json!({"type": "whereabouts", "datastore": "file"}), ipam);
    layer2_with(json!({"cniVersion": "1.1.0", "ipam": block}))
}

/// `base` with `changes` laid over it: objects are merged, everything else is replaced.
pub fn with(mut base: Value, changes: Value) -> Value {
    match (&mut base, changes) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new {
                let merged = with(old.get(&key).cloned().unwrap_or(Value::Null), value);
                old.insert(key, merged);
            }
        }
        (_, new) => return new,
    }
    base
}

/// `base` without the key at a path such as `/ipam/routes`.
pub fn without(mut base: Value, path: &str) -> Value {
    let (parent, key) = path.rsplit_once('/').unwrap_or_default();
    let parent = base.pointer_mut(parent).and_then(Value::as_object_mut);
    let removed = parent.and_then(|object| object.shift_remove(key));
    assert!(removed.is_some(), "{path} is not in {base}");
    base
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("fixture: {e}"))
}
