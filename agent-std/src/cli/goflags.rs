//! Go's flag syntax in, clap's out. The only place that knows how Go reads flags (cli spec §1).
//!
//! `-x`, `--x`, `-x=v`, `--x=v`, `-x v`; booleans only as `-x` or `-x=false`; the first plain argument (or `--`, or a
//! lone `-`) ends the flags. What comes out is always `--x=v` for every flag, then `--`, then the plain arguments, so
//! that clap can neither misread a value nor take a plain argument for a flag.

use clap::{Arg, Command};

/// The value names that stand for unsigned and signed numbers; others are free text.
pub const UINT: &str = "uint";
/// See [`UINT`].
pub const INT: &str = "int";

/// Why Go's flag package would have refused the arguments; the texts are its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// `-h`, `-help` or `--help`: not an error, but the end of parsing.
    #[error("flag: help requested")]
    Help,
    /// `---x` or `-=x`.
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    /// No such flag.
    #[error("flag provided but not defined: -{0}")]
    Unknown(String),
    /// A flag that takes a value stood last.
    #[error("flag needs an argument: -{0}")]
    NeedsArgument(String),
    /// Not one of Go's words for true and false.
    #[error("invalid boolean value {value:?} for -{name}: parse error")]
    Boolean {
        /// The flag.
        name: String,
        /// What was given.
        value: String,
    },
    /// Not a number, or out of range.
    #[error("invalid value {value:?} for flag -{name}: {why}")]
    Number {
        /// The flag.
        name: String,
        /// What was given.
        value: String,
        /// Go's reason.
        why: &'static str,
    },
}

/// Rewrites Go-style `args` (without the program and command names) for `command`, whose long flags are the known ones.
///
/// # Errors
/// As Go's flag package would; the first problem wins.
pub fn to_clap(command: &Command, args: &[String]) -> Result<Vec<String>, FlagError> {
    let mut converted = Vec::with_capacity(args.len() + 1);
    let mut rest = args.iter();
    let mut plain = Vec::new();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            break;
        }
        let Some(body) = arg.strip_prefix('-').filter(|body| !body.is_empty()) else {
            plain.push(arg.clone());
            break;
        };
        let body = body.strip_prefix('-').unwrap_or(body);
        if body.is_empty() || body.starts_with(['-', '=']) {
            return Err(FlagError::Syntax(arg.clone()));
        }
        let (name, given) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        let Some(flag) = command.get_arguments().find(|flag| flag.get_long() == Some(name)) else {
            let help = name == "help" || name == "h";
            return Err(if help { FlagError::Help } else { FlagError::Unknown(name.to_owned()) });
        };
        let value = if is_switch(flag) {
            let value = given.unwrap_or_else(|| "true".to_owned());
            match parse_bool(&value) {
                Some(on) => on.to_string(),
                None => return Err(FlagError::Boolean { name: name.to_owned(), value }),
            }
        } else {
            let value = given.or_else(|| rest.next().cloned());
            checked_number(flag, value.ok_or_else(|| FlagError::NeedsArgument(name.to_owned()))?)?
        };
        converted.push(format!("--{name}={value}"));
    }
    converted.push("--".to_owned());
    converted.extend(plain);
    converted.extend(rest.cloned());
    Ok(converted)
}

/// True when `flag` is a boolean: it may stand without a value.
pub fn is_switch(flag: &Arg) -> bool {
    flag.get_num_args().is_some_and(|count| count.min_values() == 0)
}

/// The kind of value shown in usage texts.
pub fn kind(flag: &Arg) -> &str {
    flag.get_value_names().and_then(|names| names.first()).map_or("value", |name| name.as_str())
}

/// Go's words for true and false.
pub fn parse_bool(word: &str) -> Option<bool> {
    match word {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// `value` as a decimal number when `flag` wants one, unchanged otherwise.
fn checked_number(flag: &Arg, value: String) -> Result<String, FlagError> {
    let signed = match kind(flag) {
        UINT => false,
        INT => true,
        _ => return Ok(value),
    };
    let refuse = |why| {
        let name = flag.get_long().unwrap_or_default().to_owned();
        Err(FlagError::Number { name, value: value.clone(), why })
    };
    let (negative, digits) = match value.as_bytes().first() {
        Some(b'-') if signed => (true, &value[1..]),
        Some(b'+') if signed => (false, &value[1..]),
        _ => (false, value.as_str()),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return refuse("parse error");
    }
    match u64::from_str_radix(digits, radix) {
        Ok(number) if !signed => Ok(number.to_string()),
        Ok(number) => match i64::try_from(if negative { -i128::from(number) } else { i128::from(number) }) {
            Ok(number) => Ok(number.to_string()),
            Err(_) => refuse("value out of range"),
        },
        Err(_) => refuse("value out of range"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cli::flags;

    fn command() -> Command {
        Command::new("t")
            .arg(flags::switch("on", ""))
            .arg(flags::text("name", "string", ""))
            .arg(flags::text("n", UINT, ""))
    }

    fn convert(args: &[&str]) -> Result<Vec<String>, FlagError> {
        to_clap(&command(), &args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn every_spelling_means_the_same() {
        for args in [&["-name=v", "x"][..], &["--name=v", "x"], &["-name", "v", "x"], &["--name", "v", "x"]] {
            assert_eq!(convert(args).unwrap(), ["--name=v", "--", "x"], "{args:?}");
        }
        assert_eq!(convert(&["-name="]).unwrap(), ["--name=", "--"]);
        assert_eq!(convert(&["-name", "-on"]).unwrap(), ["--name=-on", "--"], "a value may look like a flag");
        assert_eq!(convert(&["-name=a=b"]).unwrap(), ["--name=a=b", "--"]);
    }

    #[test]
    fn booleans_never_take_the_next_argument() {
        assert_eq!(convert(&["-on", "false"]).unwrap(), ["--on=true", "--", "false"]);
        assert_eq!(convert(&["-on=F"]).unwrap(), ["--on=false", "--"]);
        let text = convert(&["-on=maybe"]).unwrap_err().to_string();
        assert_eq!(text, "invalid boolean value \"maybe\" for -on: parse error");
    }

    #[test]
    fn flags_end_at_the_first_plain_argument() {
        assert_eq!(convert(&["a", "-on"]).unwrap(), ["--", "a", "-on"]);
        assert_eq!(convert(&["-on", "-", "-name"]).unwrap(), ["--on=true", "--", "-", "-name"]);
        assert_eq!(convert(&["-on", "--", "-name"]).unwrap(), ["--on=true", "--", "-name"]);
        assert_eq!(convert(&["", "-on"]).unwrap(), ["--", "", "-on"]);
    }

    #[test]
    fn errors_are_gos() {
        let text = |args: &[&str]| convert(args).unwrap_err().to_string();
        assert_eq!(text(&["-nope"]), "flag provided but not defined: -nope");
        assert_eq!(text(&["--nope=1"]), "flag provided but not defined: -nope");
        assert_eq!(text(&["---x"]), "bad flag syntax: ---x");
        assert_eq!(text(&["-=3"]), "bad flag syntax: -=3");
        assert_eq!(text(&["-name"]), "flag needs an argument: -name");
        assert_eq!(text(&["-n=zz"]), "invalid value \"zz\" for flag -n: parse error");
        assert_eq!(text(&["-n=99999999999999999999"]), {
            "invalid value \"99999999999999999999\" for flag -n: value out of range"
        });
        assert_eq!(convert(&["-h"]), Err(FlagError::Help));
        assert_eq!(convert(&["-on", "--help"]), Err(FlagError::Help));
    }

    #[test]
    fn numbers_follow_gos_prefixes() {
        for (given, want) in [("0x10", "16"), ("010", "8"), ("0b11", "3"), ("42", "42"), ("0", "0")] {
            assert_eq!(convert(&["-n", given]).unwrap()[0], format!("--n={want}"));
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_out_is_clean_for_clap(args in proptest::collection::vec("[-=a-z0-9]{0,6}|-on|-name|-n|--", 0..8)) {
            if let Ok(converted) = to_clap(&command(), &args) {
                let line = std::iter::once("t".to_owned()).chain(converted.iter().cloned());
                let parsed = command().arg(flags::arguments()).try_get_matches_from(line);
                prop_assert!(parsed.is_ok(), "{converted:?}: {:?}", parsed.err());
                // Nothing after the first plain argument is lost or changed.
                let split = converted.iter().position(|arg| arg == "--").expect("always present");
                prop_assert!(args.ends_with(&converted[split + 1..]));
            }
        }
    }
}
