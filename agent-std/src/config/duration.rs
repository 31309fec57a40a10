//! Go's durations: `1h2m3.5s`, `300ms`, `-1.5h` (config spec §5).

use std::time::Duration;

use serde::Deserialize;

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
            RawDuration::Text(text) if text.is_empty() => Ok(Duration::ZERO),
            RawDuration::Text(text) => parse(text).map_err(|why| format!("{name}: invalid duration: {text:?}: {why}")),
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
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, after) = rest.split_at(digits(rest));
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let scale: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            _ => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        // 18 digits are more than 292 years in the smallest unit; more can only overflow.
        if whole.len() > 18 {
            return Err(invalid());
        }
        nanos += whole.bytes().fold(0, |sum, digit| sum * 10 + u128::from(digit - b'0')) * scale;
        let mut part = scale;
        for digit in fraction.bytes().take(18) {
            part /= 10;
            nanos += u128::from(digit - b'0') * part;
        }
        if nanos > i64::MAX as u128 {
            return Err(invalid());
        }
        rest = after;
    }
    match u64::try_from(nanos) {
        Ok(nanos) if !negative || nanos == 0 => Ok(Duration::from_nanos(nanos)),
        _ => Err(format!("{text:?} is negative")),
    }
}

/// Go's text for a duration: `1h2m3.5s`, `300ms`, `0s`.
pub fn format(span: Duration) -> String {
    let nanos = span.as_nanos();
    let decimal = |value: u128, scale: u128, unit: &str| {
        let (whole, rest) = (value / scale, value % scale);
        if rest == 0 {
            return format!("{whole}{unit}");
        }
        let width = scale.ilog10() as usize;
        format!("{whole}.{}{unit}", format!("{rest:0width$}").trim_end_matches('0'))
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => decimal(nanos, 1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(nanos, 1_000_000, "ms"),
        _ => {
            let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
            let seconds = decimal(rest, 1_000_000_000, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn go_texts() {
        for (text, nanos) in [
            ("0", 0),
            ("5s", 5_000_000_000),
            ("1h2m3.5s", 3_723_500_000_000),
            ("300ms", 300_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("10us", 10_000),
            ("1µs", 1_000),
            ("+1ns", 1),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn go_errors() {
        for (text, why) in [
            ("xyz", "time: invalid duration \"xyz\""),
            ("", "time: invalid duration \"\""),
            (".s", "time: invalid duration \".s\""),
            ("5", "time: missing unit in duration \"5\""),
            ("5q", "time: unknown unit \"q\" in duration \"5q\""),
            ("9999999999h", "time: invalid duration \"9999999999h\""),
            ("-1s", "\"-1s\" is negative"),
        ] {
            assert_eq!(parse(text), Err(why.to_owned()));
        }
    }

    #[test]
    fn formatting_is_gos() {
        for (nanos, text) in [
            (0, "0s"),
            (15, "15ns"),
            (1_100, "1.1µs"),
            (200_000_000, "200ms"),
            (72 * 3_600_000_000_000, "72h0m0s"),
            (61_500_000_000, "1m1.5s"),
        ] {
            assert_eq!(format(Duration::from_nanos(nanos)), text);
        }
    }

    proptest! {
        #[test]
        fn there_and_back(nanos in 0..i64::MAX as u64) {
            let span = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(span)), Ok(span));
        }

        #[test]
        fn any_text_is_survived(text in ".{0,24}|[-+.0-9hmsnuµ]{0,40}") {
            let _ = parse(&text);
        }
    }
}
