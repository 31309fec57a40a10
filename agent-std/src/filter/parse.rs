//! ```text
//! or      = and { "or" and }
//! and     = not { "and" not }
//! not     = "not" not | "(" or ")" | test
//! test    = selector ( "==" | "!=" | "contains" | "not contains" | "matches" | "not matches" ) value
//!         | selector "is" [ "not" ] "empty"
//!         | value [ "not" ] "in" selector
//! ```

use regex::Regex;
use serde_json::Value;

use super::{FilterError, Node, Shape, Test};

/// Nested deeper than this is refused.
const MAX_DEPTH: u32 = 64;
const OPERATORS: &str = r#""!=", "==", "contains", "in", "is", "matches", "not" or [ \t\r\n]"#;
const OPERANDS: &str = r#""(", "\"", "`", "not", [a-zA-Z] or [0-9]"#;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A bare word: keyword, selector or value.
    Word(String),
    /// Quoted text: always a value.
    Quoted(String),
    Equal,
    NotEqual,
    Open,
    Close,
}

struct Parser<'a> {
    tokens: Vec<(usize, Token)>,
    next: usize,
    end: usize,
    depth: u32,
    shape: &'a Shape,
}

pub(super) fn expression(text: &str, shape: &Shape) -> Result<Node, FilterError> {
    let mut parser = Parser { tokens: tokens(text)?, next: 0, end: text.len(), depth: 0, shape };
    let node = parser.or()?;
    if parser.next < parser.tokens.len() {
        return Err(parser.error(r#""and", "or", EOF or [ \t\r\n]"#));
    }
    Ok(node)
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, FilterError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let offset = text.len() - rest.len();
        let Some(first) = rest.chars().next() else { return Ok(tokens) };
        let fail = |expected| FilterError::Syntax { offset, expected };
        let (token, len) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '=' if rest.starts_with("==") => (Token::Equal, 2),
            '!' if rest.starts_with("!=") => (Token::NotEqual, 2),
            '"' => {
                let len = quoted(rest).ok_or(fail("\"\\\"\""))?;
                let inner = serde_json::from_str(&rest[..len]).map_err(|_| fail("a quoted value"))?;
                (Token::Quoted(inner), len)
            }
            '`' => {
                let len = rest[1..].find('`').ok_or(fail("\"`\""))?;
                (Token::Quoted(rest[1..=len].to_owned()), len + 2)
            }
            _ => {
                let len = word(rest);
                if len == 0 {
                    return Err(fail(OPERANDS));
                }
                (Token::Word(rest[..len].to_owned()), len)
            }
        };
        tokens.push((offset, token));
        rest = &rest[len..];
    }
}

/// Octets of a text in double quotes.
fn quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, octet) in text.bytes().enumerate().skip(1) {
        match octet {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Octets of a bare word, with bracketed keys such as `Meta["a b"]`.
fn word(text: &str) -> usize {
    let mut len = 0;
    while let Some(c) = text[len..].chars().next() {
        if c == '[' {
            let Some(close) = quoted(&text[len + 1..]).filter(|n| text[len + 1 + n..].starts_with(']')) else { break };
            len += 1 + close + 1;
        } else if c.is_alphanumeric() || "._-/:".contains(c) {
            len += c.len_utf8();
        } else {
            break;
        }
    }
    len
}

impl Parser<'_> {
    fn error(&self, expected: &'static str) -> FilterError {
        let offset = self.tokens.get(self.next).map_or(self.end, |(offset, _)| *offset);
        FilterError::Syntax { offset, expected }
    }

    fn take(&mut self) -> Option<Token> {
        let (_, token) = self.tokens.get(self.next)?.clone();
        self.next += 1;
        Some(token)
    }

    fn word(&mut self, word: &str) -> bool {
        let is = matches!(self.tokens.get(self.next), Some((_, Token::Word(next))) if next == word);
        self.next += usize::from(is);
        is
    }

    fn or(&mut self) -> Result<Node, FilterError> {
        let mut node = self.and()?;
        while self.word("or") {
            node = Node::Or(Box::new(node), Box::new(self.and()?));
        }
        Ok(node)
    }

    fn and(&mut self) -> Result<Node, FilterError> {
        let mut node = self.not()?;
        while self.word("and") {
            node = Node::And(Box::new(node), Box::new(self.not()?));
        }
        Ok(node)
    }

    fn not(&mut self) -> Result<Node, FilterError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(FilterError::TooLong);
        }
        let node = if self.word("not") {
            Node::Not(Box::new(self.not()?))
        } else if let Some((_, Token::Open)) = self.tokens.get(self.next) {
            self.next += 1;
            let node = self.or()?;
            if self.tokens.get(self.next).map(|(_, token)| token) != Some(&Token::Close) {
                return Err(self.error(r#"")""#));
            }
            self.next += 1;
            node
        } else {
            self.test()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn test(&mut self) -> Result<Node, FilterError> {
        let first = match self.tokens.get(self.next) {
            Some((_, token @ (Token::Word(_) | Token::Quoted(_)))) => token.clone(),
            _ => return Err(self.error(OPERANDS)),
        };
        self.next += 1;
        let before = self.next;
        let negated = self.word("not");
        if self.word("in") {
            let value = text_of(first);
            let Some(Token::Word(selector)) = self.take() else {
                self.next = self.next.saturating_sub(1).max(before);
                return Err(self.error("[a-zA-Z]"));
            };
            return self.build(&selector, "in", value, negated);
        }
        let Token::Word(selector) = first else { return Err(self.error("\"in\" or \"not\"")) };
        if self.word("contains") {
            let value = self.value()?;
            return self.build(&selector, "in", value, negated);
        }
        if self.word("matches") {
            let value = self.value()?;
            return self.build(&selector, "matches", value, negated);
        }
        if negated {
            return Err(self.error("\"contains\", \"in\" or \"matches\""));
        }
        if self.word("is") {
            let negated = self.word("not");
            if !self.word("empty") {
                return Err(self.error("\"empty\" or \"not\""));
            }
            return self.build(&selector, "empty", String::new(), negated);
        }
        match self.tokens.get(self.next) {
            Some((_, operator @ (Token::Equal | Token::NotEqual))) => {
                let negated = *operator == Token::NotEqual;
                self.next += 1;
                let value = self.value()?;
                self.build(&selector, "==", value, negated)
            }
            _ => Err(self.error(OPERATORS)),
        }
    }

    fn value(&mut self) -> Result<String, FilterError> {
        match self.tokens.get(self.next) {
            Some((_, Token::Word(_) | Token::Quoted(_))) => Ok(self.take().map(text_of).unwrap_or_default()),
            _ => Err(self.error("a value")),
        }
    }

    fn build(&self, selector: &str, operator: &'static str, value: String, negated: bool) -> Result<Node, FilterError> {
        let no_selector = || FilterError::Selector(selector.to_owned());
        let path = path(selector).ok_or_else(no_selector)?;
        let shape = self.shape.at(&path).ok_or_else(no_selector)?;
        let no_operator = || FilterError::Operator { operator, selector: selector.to_owned() };
        let test = match (operator, shape) {
            ("==", Shape::Text | Shape::Number | Shape::Bool) => Test::Equal(typed(value, shape, selector)?),
            ("empty", Shape::Text | Shape::List(_) | Shape::Map(_)) => Test::Empty,
            ("in", Shape::Text | Shape::Map(_)) => Test::Has(Value::String(value)),
            ("in", Shape::List(inner)) => Test::Has(typed(value, inner, selector)?),
            ("matches", Shape::Text) => Test::Matches(Regex::new(&value).map_err(|error| FilterError::Value {
                value,
                selector: selector.to_owned(),
                what: error.to_string(),
            })?),
            _ => return Err(no_operator()),
        };
        Ok(Node::Test { path, test, negated })
    }
}

fn text_of(token: Token) -> String {
    match token {
        Token::Word(text) | Token::Quoted(text) => text,
        Token::Equal | Token::NotEqual | Token::Open | Token::Close => String::new(),
    }
}

fn typed(value: String, shape: &Shape, selector: &str) -> Result<Value, FilterError> {
    let wrong = |what: &str| FilterError::Value { value: value.clone(), selector: selector.into(), what: what.into() };
    Ok(match shape {
        Shape::Number => value.parse::<i64>().map(Value::from).map_err(|_| wrong("not a whole number"))?,
        Shape::Bool => value.parse::<bool>().map(Value::from).map_err(|_| wrong("not true or false"))?,
        _ => Value::String(value),
    })
}

/// `A.B["c d"]` in pieces.
fn path(selector: &str) -> Option<Vec<String>> {
    let mut pieces = Vec::new();
    let mut rest = selector;
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('[') {
            let len = quoted(tail)?;
            pieces.push(serde_json::from_str(&tail[..len]).ok()?);
            rest = tail[len..].strip_prefix(']')?;
        } else {
            let len = rest.find(['.', '[']).unwrap_or(rest.len());
            if len == 0 {
                return None;
            }
            pieces.push(rest[..len].to_owned());
            rest = &rest[len..];
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
    }
    Some(pieces)
}
