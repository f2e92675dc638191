//! Pool documents in files.

use octavia_bridge_ipam::pool::Pool;
use serde_json::Value;

/// Reads a pool's document under the name that it gives itself.
pub(crate) fn pool(input: &[u8]) {
    let document: Value = serde_json::from_slice(input).unwrap_or_default();
    let name = document["metadata"]["name"].as_str().unwrap_or("172.23.0.0-24");
    let Ok(pool) = Pool::parse(name, input) else { return };
    for (address, _) in pool.iter() {
        assert!(pool.subnet().contains(&address), "{address} in {}", pool.subnet());
        assert!(pool.get(address).is_some());
    }
    let written = pool.to_json();
    let again = Pool::parse(name, &written).expect("what is written can be read");
    assert_eq!(again.len(), pool.len());
    // A number of others may change in its last digit each time it is read: they are kept as floating-point numbers.
    if !has_fraction(&document) {
        assert_eq!(String::from_utf8(again.to_json()), String::from_utf8(written));
    }
    let mut emptied = pool.clone();
    assert_eq!(emptied.release(|_, _| true), pool.len());
    assert!(emptied.is_empty());
}

/// Whether a number is not an integer of 64 bits.
fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_fraction),
        Value::Object(fields) => fields.values().any(has_fraction),
        _ => false,
    }
}
