//! Patches as a server carries them out.

use serde_json::Value;

/// RFC 6902, as far as it is used; a test for null holds of what is absent, too. `None` if it cannot be done.
pub(super) fn apply(object: &Value, operations: &Value) -> Option<Value> {
    let mut object = object.clone();
    for operation in operations.as_array()? {
        let (path, value) = (operation["path"].as_str()?, &operation["value"]);
        let (parent, member) = path.rsplit_once('/')?;
        let there = object.pointer(path);
        match operation["op"].as_str()? {
            "test" if there.unwrap_or(&Value::Null) == value => {}
            "add" => {
                drop(object.pointer_mut(parent)?.as_object_mut()?.insert(member.to_owned(), value.clone()));
            }
            "remove" => drop(object.pointer_mut(parent)?.as_object_mut()?.remove(member)?),
            _ => return None,
        }
    }
    Some(object)
}

/// RFC 7396.
pub(super) fn merge(mut object: Value, part: &Value) -> Value {
    let Some(members) = part.as_object() else { return part.clone() };
    for (name, value) in members {
        if value.is_null() {
            object.as_object_mut().map(|object| object.remove(name));
        } else {
            object[name] = merge(object[name].take(), value);
        }
    }
    object
}
