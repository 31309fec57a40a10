//! Answers: status, body, and the headers Consul's clients look at (http spec §1, §1.1).

use bytes::Bytes;
use serde::Serialize;

use crate::{http::local::LocalError, model::QueryMeta, rpc::RpcError};

/// What a handler gives back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// HTTP status; 0 means 200.
    pub status: u16,
    /// The body before indenting.
    pub body: Body,
    /// Index headers.
    pub meta: Option<QueryMeta>,
    /// `X-Consul-Effective-Consistency`.
    pub consistency: Option<&'static str>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
}

/// A body and its type.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// Plain text.
    Text(String),
    /// JSON, compact.
    Json(Vec<u8>),
    /// Octets with a type of their own.
    Raw(&'static str, Bytes),
}

impl Reply {
    /// 200 with nothing.
    pub fn empty() -> Self {
        Reply::default()
    }

    /// 200 with JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(octets) => Reply { body: Body::Json(octets), ..Reply::default() },
            // Only a map with keys that are no text could fail, and we have none.
            Err(error) => HttpError::new(500, error.to_string()).into(),
        }
    }

    /// The same with the index headers of a read.
    pub fn read<T: Serialize + ?Sized>(value: &T, meta: &QueryMeta) -> Self {
        Reply { meta: Some(meta.clone()), ..Reply::json(value) }
    }

    /// Plain text.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Reply { status, body: Body::Text(text.into()), ..Reply::default() }
    }

    /// With another status.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// With one header more.
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// An answer that is an error: a status and a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status} {text}")]
pub struct HttpError {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub text: String,
    /// The index headers are sent all the same, as for a reply that knows nothing.
    pub indexed: bool,
}

impl HttpError {
    /// Any status.
    pub fn new(status: u16, text: impl Into<String>) -> Self {
        HttpError { status, text: text.into(), indexed: false }
    }

    /// 400.
    pub fn bad(text: impl Into<String>) -> Self {
        HttpError::new(400, text)
    }
}

impl From<HttpError> for Reply {
    fn from(error: HttpError) -> Self {
        let meta = error.indexed.then(QueryMeta::default);
        Reply { meta, ..Reply::text(error.status, error.text) }
    }
}

impl From<RpcError> for HttpError {
    fn from(error: RpcError) -> Self {
        let text = error.to_string();
        let status = match () {
            () if text.contains("Permission denied") || text.contains("ACL not found") => 403,
            () if text.contains("rate limit exceeded") || text.contains("RPC rate limit") => 429,
            () => 500,
        };
        HttpError::new(status, text)
    }
}

impl From<LocalError> for HttpError {
    fn from(error: LocalError) -> Self {
        HttpError::new(500, error.to_string())
    }
}

/// A handler's result.
pub type Result = std::result::Result<Reply, HttpError>;

/// JSON as Go writes it: `<`, `>`, `&` and the two line separators are escaped; indented by four blanks with a final
/// line feed when asked for.
pub fn render(compact: &[u8], indent: bool) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(compact.len());
    let mut rest = compact;
    while let Some((&octet, tail)) = rest.split_first() {
        // These characters stand only inside strings, where an escape means the same.
        let (text, width): (&[u8], usize) = match octet {
            b'<' => (br"\u003c", 1),
            b'>' => (br"\u003e", 1),
            b'&' => (br"\u0026", 1),
            0xe2 if rest.starts_with("\u{2028}".as_bytes()) => (br"\u2028", 3),
            0xe2 if rest.starts_with("\u{2029}".as_bytes()) => (br"\u2029", 3),
            _ => {
                escaped.push(octet);
                rest = tail;
                continue;
            }
        };
        escaped.extend_from_slice(text);
        rest = &rest[width..];
    }
    if indent { indented(&escaped) } else { escaped }
}

/// Indents without decoding, so that numbers and escapes stay as they are.
fn indented(compact: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(compact.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', depth * 4));
    };
    for (at, &octet) in compact.iter().enumerate() {
        if in_string {
            out.push(octet);
            in_string = escaped || octet != b'"';
            escaped = !escaped && octet == b'\\';
            continue;
        }
        match octet {
            b'"' => {
                in_string = true;
                out.push(octet);
            }
            b'{' | b'[' => {
                out.push(octet);
                if !matches!(compact.get(at + 1), Some(b'}' | b']')) {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                if !matches!(at.checked_sub(1).and_then(|at| compact.get(at)), Some(b'{' | b'[')) {
                    depth = depth.saturating_sub(1);
                    line(&mut out, depth);
                }
                out.push(octet);
            }
            b',' => {
                out.push(octet);
                line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            _ => out.push(octet),
        }
    }
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn gos_json() {
        let text = |value: &Value, indent| String::from_utf8(render(value.to_string().as_bytes(), indent)).unwrap();
        assert_eq!(text(&json!({"a": "<&>\u{2028}"}), false), r#"{"a":"\u003c\u0026\u003e\u2028"}"#);
        let value = json!({"a": [1, {"b": {}}], "c": [], "d": "x:{\"],"});
        let pretty = "{\n    \"a\": [\n        1,\n        {\n            \"b\": {}\n        }\n    ],\n    \"c\": [],\n    \"d\": \"x:{\\\"],\"\n}\n";
        assert_eq!(text(&value, true), pretty);
    }

    #[test]
    fn rpc_errors_choose_the_status() {
        let status = |text: &str| HttpError::from(RpcError::endpoint(text)).status;
        assert_eq!(status("rpc error making call: Permission denied"), 403);
        assert_eq!(status("ACL not found"), 403);
        assert_eq!(status("Must provide node"), 500);
        assert_eq!(HttpError::from(RpcError::NoLeader), HttpError::new(500, "No cluster leader"));
    }

    proptest! {
        #[test]
        fn the_value_stays_the_same(text in ".{0,20}", indent: bool) {
            let value = json!({"k": [text, {}, [], null]});
            let rendered = render(value.to_string().as_bytes(), indent);
            prop_assert_eq!(serde_json::from_slice::<Value>(&rendered).unwrap(), value);
        }
    }
}
