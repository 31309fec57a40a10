//! Percent-encoding as Go's `net/url` does it: paths and query strings, both ways (http spec §1).

/// A percent sign that is not followed by two hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid URL escape")]
pub struct BadEscape;

/// `text` for a query string: letters, digits and `-_.~` stay, a blank becomes `+`.
pub fn escape_query(text: &str) -> String {
    escape(text, |octet| matches!(octet, b'-' | b'_' | b'.' | b'~'), true)
}

/// `text` for a path: slashes stay too.
pub fn escape_path(text: &str) -> String {
    let plain = |octet| {
        matches!(octet, b'-' | b'_' | b'.' | b'~' | b'/' | b'$' | b'&' | b'+' | b',' | b':' | b';' | b'=' | b'@')
    };
    escape(text, plain, false)
}

fn escape(text: &str, plain: impl Fn(u8) -> bool, plus: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b' ' if plus => out.push('+'),
            _ if octet.is_ascii_alphanumeric() || plain(octet) => out.push(char::from(octet)),
            _ => out.push_str(&format!("%{octet:02X}")),
        }
    }
    out
}

/// Decodes `%xx`, and `+` as a blank when `plus`. Octets that are no UTF-8 become U+FFFD.
///
/// # Errors
/// A percent sign without two hexadecimal digits.
pub fn unescape(text: &str, plus: bool) -> Result<String, BadEscape> {
    if !text.contains(['%', '+']) {
        return Ok(text.to_owned());
    }
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16)).ok_or(BadEscape);
                let (high, low) = (digit()?, digit()?);
                // Two hexadecimal digits are at most 255.
                (high * 16 + low) as u8
            }
            b'+' if plus => b' ',
            _ => octet,
        });
    }
    Ok(match String::from_utf8(octets) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn go_examples() {
        assert_eq!(escape_query("a b/ä&"), "a+b%2F%C3%A4%26");
        assert_eq!(escape_path("a b/c?d"), "a%20b/c%3Fd");
        assert_eq!(unescape("a+b%2f", true), Ok("a b/".to_owned()));
        assert_eq!(unescape("a+b", false), Ok("a+b".to_owned()));
        assert_eq!(unescape("%zz", true), Err(BadEscape));
        assert_eq!(unescape("%4", true), Err(BadEscape));
        assert_eq!(unescape("%ff", true), Ok("\u{fffd}".to_owned()));
    }

    proptest! {
        #[test]
        fn there_and_back(text in any::<String>()) {
            prop_assert_eq!(unescape(&escape_query(&text), true), Ok(text.clone()));
            prop_assert_eq!(unescape(&escape_path(&text), false), Ok(text));
        }

        #[test]
        fn any_text_is_survived(text in "[%+a-f0-9ä]{0,20}") {
            let _ = unescape(&text, true);
        }
    }
}
