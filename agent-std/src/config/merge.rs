//! Laying one configuration over another (config spec §1): scalars are replaced, lists appended, maps and blocks merged
//! key by key.

use serde_json::Value;

/// Lays `over` on top of `base`.
pub(super) fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                match base.get_mut(&key) {
                    Some(below) => merge(below, value),
                    None => drop(base.insert(key, value)),
                }
            }
        }
        (Value::Array(base), Value::Array(over)) => base.extend(over),
        (base, over) => *base = over,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn by_kind() {
        let mut base = json!({"a": 1, "l": [1], "m": {"x": 1, "y": 1}});
        merge(&mut base, json!({"a": 2, "l": [2], "m": {"y": 2, "z": 2}, "n": true}));
        assert_eq!(base, json!({"a": 2, "l": [1, 2], "m": {"x": 1, "y": 2, "z": 2}, "n": true}));
    }
}
