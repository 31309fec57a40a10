//! Durations as settings: Go's text, never negative (config spec §5).

use std::time::Duration;

use serde::Deserialize;

use crate::text;

/// A duration as written: Go's text, or a number of nanoseconds where the HTTP API allows it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum RawDuration {
    /// Not given.
    #[default]
    Absent,
    /// `"10s"`.
    Text(String),
    /// Nanoseconds.
    Nanos(i64),
}

impl RawDuration {
    /// The duration; zero when absent or empty. `name` is the key, for the error.
    ///
    /// # Errors
    /// Consul's sentence for a text Go does not understand, or for a negative span.
    pub fn resolve(&self, name: &str) -> Result<Duration, String> {
        match self {
            RawDuration::Absent => Ok(Duration::ZERO),
            RawDuration::Text(given) if given.is_empty() => Ok(Duration::ZERO),
            RawDuration::Text(given) => {
                parse(given).map_err(|why| format!("{name}: invalid duration: {given:?}: {why}"))
            }
            RawDuration::Nanos(nanos) => match u64::try_from(*nanos) {
                Ok(nanos) => Ok(Duration::from_nanos(nanos)),
                Err(_) => Err(format!("{name}: invalid duration: {nanos} is negative")),
            },
        }
    }
}

/// Reads Go's duration text. Negative spans, which no setting of ours can use, are refused.
///
/// # Errors
/// Go's own sentence, which quotes the text.
pub fn parse(text: &str) -> Result<Duration, String> {
    let nanos = text::parse_duration(text).map_err(|error| error.to_string())?;
    match u64::try_from(nanos.0) {
        Ok(nanos) => Ok(Duration::from_nanos(nanos)),
        Err(_) => Err(format!("{text:?} is negative")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form() {
        let resolve = |json: &str| serde_json::from_str::<RawDuration>(json).unwrap().resolve("k");
        assert_eq!(resolve("\"1m\""), Ok(Duration::from_secs(60)));
        assert_eq!(resolve("1000"), Ok(Duration::from_micros(1)));
        assert_eq!(resolve("\"\""), Ok(Duration::ZERO));
        assert_eq!(RawDuration::default().resolve("k"), Ok(Duration::ZERO));
        assert_eq!(
            resolve("\"5\""),
            Err("k: invalid duration: \"5\": time: missing unit in duration \"5\"".to_owned())
        );
        assert_eq!(resolve("\"-1s\""), Err("k: invalid duration: \"-1s\": \"-1s\" is negative".to_owned()));
        assert!(resolve("-5").is_err());
    }
}
