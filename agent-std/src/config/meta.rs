//! Consul's rules for metadata of nodes and services.

use std::collections::BTreeMap;

/// Most pairs, longest key, longest value.
const LIMITS: (usize, usize, usize) = (64, 128, 512);

/// Checks all pairs.
///
/// # Errors
/// Consul's sentence about the first bad one, in the order of keys.
pub fn check(meta: &BTreeMap<String, String>) -> Result<(), String> {
    let (pairs, longest_key, longest_value) = LIMITS;
    if meta.len() > pairs {
        return Err(format!("Node metadata cannot contain more than {pairs} key/value pairs"));
    }
    for (key, value) in meta {
        let why = if key.is_empty() {
            "Key cannot be blank".to_owned()
        } else if !key.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_')) {
            "Key contains invalid characters".to_owned()
        } else if key.len() > longest_key {
            format!("Key is too long (limit: {longest_key} characters)")
        } else if key.starts_with("consul-") {
            "Key prefix 'consul-' is reserved for internal use".to_owned()
        } else if value.len() > longest_value {
            format!("Value is too long (limit: {longest_value} characters)")
        } else {
            continue;
        };
        return Err(format!("Couldn't load metadata pair ('{key}', '{value}'): {why}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let check = |key: &str, value: &str| check(&BTreeMap::from([(key.to_owned(), value.to_owned())]));
        assert_eq!(check("rack", "r1"), Ok(()));
        let long = "x".repeat(513);
        for (key, value, why) in [
            ("", "1", "Key cannot be blank"),
            ("a b", "1", "Key contains invalid characters"),
            ("consul-x", "1", "Key prefix 'consul-' is reserved for internal use"),
            (&long[..129], "1", "Key is too long (limit: 128 characters)"),
            ("a", &long, "Value is too long (limit: 512 characters)"),
        ] {
            assert!(check(key, value).unwrap_err().ends_with(&format!("('{key}', '{value}'): {why}")));
        }
    }
}
