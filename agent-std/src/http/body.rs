//! JSON bodies as Go decodes them: names match in any case, unknown ones are refused, what follows the first value is
//! ignored (http spec §1).

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::reply::HttpError;

/// The first JSON value of a body.
///
/// # Errors
/// Go's sentence for what is no JSON.
pub fn value(octets: &[u8]) -> Result<Value, HttpError> {
    let failed = |why: &str| HttpError::bad(format!("Request decode failed: {why}"));
    match serde_json::Deserializer::from_slice(octets).into_iter::<Value>().next() {
        None => Err(failed("EOF")),
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) if error.is_eof() => Err(failed("unexpected EOF")),
        Some(Err(error)) => Err(failed(&error.to_string())),
    }
}

/// Decodes `octets` into `T`. `known` shows every name in its right spelling: a member that is an object (or a list of
/// one object) is looked into, any other is taken as it is.
///
/// # Errors
/// Go's sentences, with status 400.
pub fn decode<T: DeserializeOwned>(octets: &[u8], known: &Value, strict: bool) -> Result<T, HttpError> {
    let failed = |why: String| HttpError::bad(format!("Request decode failed: {why}"));
    let mut value = value(octets)?;
    // Go decodes null into nothing: all fields stay zero.
    if value.is_null() && known.is_object() {
        value = Value::Object(Map::new());
    }
    respell(&mut value, known, strict).map_err(|name| failed(format!("json: unknown field {name:?}")))?;
    serde_json::from_value(value).map_err(|error| failed(error.to_string()))
}

/// Gives names their right spelling and drops nulls, which mean "not given" in Go. The error is an unknown name.
fn respell(value: &mut Value, known: &Value, strict: bool) -> Result<(), String> {
    match (value, known) {
        (Value::Object(map), Value::Object(names)) => {
            let mut renamed = Map::new();
            for (name, mut inner) in std::mem::take(map) {
                match names.iter().find(|(known, _)| known.eq_ignore_ascii_case(&name)) {
                    Some((_, _)) if inner.is_null() => {}
                    Some((right, below)) => {
                        respell(&mut inner, below, strict)?;
                        renamed.insert(right.clone(), inner);
                    }
                    None if strict => return Err(name),
                    None => {}
                }
            }
            *map = renamed;
            Ok(())
        }
        (Value::Array(items), Value::Array(known)) if !known.is_empty() => {
            items.iter_mut().try_for_each(|item| respell(item, &known[0], strict))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn gos_rules() {
        let known = json!({"Node": 0, "Check": {"Name": 0}, "Checks": [{"Name": 0}], "Meta": 0});
        let decode = |text: &str| decode::<Value>(text.as_bytes(), &known, true).map_err(|error| error.text);
        assert_eq!(
            decode(r#"{"node": "n", "CHECK": {"name": "c"}, "checks": [{"nAme": 1}], "Meta": {"x": 1}} rest"#),
            Ok(json!({"Node": "n", "Check": {"Name": "c"}, "Checks": [{"Name": 1}], "Meta": {"x": 1}}))
        );
        assert_eq!(decode(""), Err("Request decode failed: EOF".into()));
        assert_eq!(decode("{"), Err("Request decode failed: unexpected EOF".into()));
        assert_eq!(decode(r#"{"Nod": 1}"#), Err("Request decode failed: json: unknown field \"Nod\"".into()));
        assert_eq!(decode(r#"{"Check": {"x": 1}}"#), Err("Request decode failed: json: unknown field \"x\"".into()));
        assert_eq!(decode(r#"{"Node": null}"#), Ok(json!({})));
    }
}
