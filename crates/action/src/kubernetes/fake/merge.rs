//! The three kinds of patches.

use serde_json::{Map, Value, json};

use super::super::object::merge_key;

/// RFC 7386.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        patch.clone_into(target);
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().map(|object| object.remove(key));
        } else {
            merge(&mut target[key.as_str()], value);
        }
    }
}

/// Kubernetes' own: lists of named entries are merged by name.
pub(super) fn strategic(target: &mut Value, patch: &Map<String, Value>) -> Result<(), String> {
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            *target =
                Value::Object(patch.iter().filter(|(key, _)| *key != "$patch").map(|(key, value)| (key.clone(), value.clone())).collect());
            return Ok(());
        }
        Some("delete") => {
            *target = json!({});
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => return Err(format!("Unknown patch type: {other}")),
    }
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        match value {
            Value::Null => {
                target.as_object_mut().map(|object| object.remove(key));
            }
            // Where there was nothing, or something else, the new value is taken as it is.
            Value::Object(_) if !target[key.as_str()].is_object() => target[key.as_str()] = plain(value),
            Value::Array(_) if !target[key.as_str()].is_array() => target[key.as_str()] = plain(value),
            Value::Object(deeper) => strategic(&mut target[key.as_str()], deeper)?,
            Value::Array(entries)
                if merge_key(key).is_some_and(|by| entries.iter().any(|entry| !entry[by].is_null() || !entry["$patch"].is_null())) =>
            {
                let by = merge_key(key).unwrap_or_default();
                let mut list = target[key.as_str()].as_array().cloned().unwrap_or_default();
                merge_entries(&mut list, entries, by)?;
                target[key.as_str()] = Value::Array(list);
            }
            other => target[key.as_str()] = other.clone(),
        }
    }
    Ok(())
}

/// Without the words that only say how to merge.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let said = object.iter().filter(|(key, _)| !key.starts_with('$'));
            Value::Object(said.map(|(key, value)| (key.clone(), plain(value))).collect())
        }
        Value::Array(list) => Value::Array(list.iter().filter(|entry| entry["$patch"].is_null()).map(plain).collect()),
        other => other.clone(),
    }
}

fn merge_entries(list: &mut Vec<Value>, entries: &[Value], by: &str) -> Result<(), String> {
    if entries.iter().any(|entry| entry["$patch"] == "replace") {
        *list = entries.iter().filter(|entry| entry["$patch"].is_null()).cloned().collect();
        return Ok(());
    }
    for entry in entries {
        let name = &entry[by];
        if name.is_null() {
            return Err(format!("map: {entry} does not contain declared merge key: {by}"));
        }
        let at = list.iter().position(|other| other[by] == *name);
        match (at, entry["$patch"] == "delete", entry.as_object()) {
            (Some(at), true, _) => {
                list.remove(at);
            }
            (Some(at), false, Some(entry)) => strategic(&mut list[at], entry)?,
            (None, false, _) => list.push(entry.clone()),
            _ => {}
        }
    }
    Ok(())
}

/// RFC 6902.
pub(super) fn json_patch(target: &mut Value, operations: &[Value]) -> Result<(), String> {
    for operation in operations {
        let (op, path) = (operation["op"].as_str().unwrap_or_default(), operation["path"].as_str().unwrap_or_default());
        let (parent, last) = path.rsplit_once('/').ok_or_else(|| format!("{path:?} is no path"))?;
        let last = last.replace("~1", "/").replace("~0", "~");
        let value = operation["value"].clone();
        let missing = || format!("{op} operation does not apply: doc is missing path: {path:?}: missing value");
        if op == "test" {
            if target.pointer(path) != Some(&value) {
                return Err(format!("testing value {path} failed: test failed"));
            }
            continue;
        }
        match (target.pointer_mut(parent).ok_or_else(missing)?, op) {
            (Value::Object(object), "add") => {
                object.insert(last, value);
            }
            (Value::Object(object), "replace") => *object.get_mut(&last).ok_or_else(missing)? = value,
            (Value::Object(object), "remove") => {
                object.remove(&last).ok_or_else(missing)?;
            }
            (Value::Array(list), "add") if last == "-" => list.push(value),
            (Value::Array(list), _) => {
                let at: usize = last.parse().map_err(|_| missing())?;
                match op {
                    "add" if at <= list.len() => list.insert(at, value),
                    "replace" if at < list.len() => list[at] = value,
                    "remove" if at < list.len() => {
                        list.remove(at);
                    }
                    _ => return Err(missing()),
                }
            }
            _ => return Err(missing()),
        }
    }
    Ok(())
}
