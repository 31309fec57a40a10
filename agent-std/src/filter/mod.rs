//! Boolean expressions of `?filter=` (http spec §1.4): `Service.Port == 80 and "v1" in Service.Tags`.
//!
//! [`Filter::new`] parses an expression and checks its selectors against the [`Shape`] of what will be filtered, so that
//! a misspelt field is an error and not an empty answer. [`Filter::matches`] then judges values by their JSON form.

mod parse;
pub mod shape;

use regex::Regex;
use serde::Serialize;
use serde_json::Value;

pub use shape::Shape;

/// 8 KiB: longer expressions are refused; nobody types them.
const MAX_OCTETS: usize = 8 << 10;

/// An expression cannot be used. The texts are the reference's where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The text makes no sense from some place on.
    #[error("1:{} ({offset}): no match found, expected: {expected}", offset + 1)]
    Syntax {
        /// Octets before that place.
        offset: usize,
        /// What could stand there.
        expected: &'static str,
    },
    /// No such field.
    #[error("Selector {0:?} is not valid")]
    Selector(String),
    /// The field's type does not know the operator.
    #[error("Invalid match operator {operator:?} for selector {selector:?}")]
    Operator {
        /// The operator.
        operator: &'static str,
        /// The field.
        selector: String,
    },
    /// The value is not of the field's type, or not a regular expression.
    #[error("value {value:?} for selector {selector:?}: {what}")]
    Value {
        /// The value.
        value: String,
        /// The field.
        selector: String,
        /// What is wrong with it.
        what: String,
    },
    /// Longer or deeper than any sensible one.
    #[error("the filter is too long or nested too deep")]
    TooLong,
}

/// A parsed expression.
#[derive(Clone, Debug)]
pub struct Filter(Node);

#[derive(Clone, Debug)]
enum Node {
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Test { path: Vec<String>, test: Test, negated: bool },
}

#[derive(Clone, Debug)]
enum Test {
    Equal(Value),
    Empty,
    /// The field contains this: an element of a list, a key of a map, a piece of text.
    Has(Value),
    Matches(Regex),
}

impl Filter {
    /// Parses `text` for values of `shape`.
    ///
    /// # Errors
    /// When it is no expression, or asks for fields that are not there.
    pub fn new(text: &str, shape: &Shape) -> Result<Self, FilterError> {
        if text.len() > MAX_OCTETS {
            return Err(FilterError::TooLong);
        }
        parse::expression(text, shape).map(Filter)
    }

    /// Whether `value` satisfies the expression.
    pub fn matches<T: Serialize>(&self, value: &T) -> bool {
        serde_json::to_value(value).is_ok_and(|value| self.0.holds(&value))
    }
}

impl Node {
    fn holds(&self, value: &Value) -> bool {
        match self {
            Node::And(a, b) => a.holds(value) && b.holds(value),
            Node::Or(a, b) => a.holds(value) || b.holds(value),
            Node::Not(a) => !a.holds(value),
            Node::Test { path, test, negated } => reach(Some(value), path, test, *negated),
        }
    }
}

/// Follows `path`; through a list any element will do, as in the reference.
fn reach(value: Option<&Value>, path: &[String], test: &Test, negated: bool) -> bool {
    match (value, path) {
        (Some(Value::Array(items)), [_, ..]) => items.iter().any(|item| reach(Some(item), path, test, negated)),
        (Some(Value::Object(map)), [first, rest @ ..]) => reach(map.get(first), rest, test, negated),
        // What is not there equals nothing, contains nothing and is empty.
        (value, _) => test.holds(value.unwrap_or(&Value::Null)) != negated,
    }
}

impl Test {
    fn holds(&self, value: &Value) -> bool {
        match (self, value) {
            (Test::Equal(wanted), Value::Null) => is_zero(wanted),
            (Test::Equal(wanted), value) => wanted == value,
            (Test::Empty, value) => match value {
                Value::Null => true,
                Value::Array(items) => items.is_empty(),
                Value::Object(map) => map.is_empty(),
                Value::String(text) => text.is_empty(),
                _ => false,
            },
            (Test::Has(wanted), Value::Array(items)) => items.contains(wanted),
            (Test::Has(Value::String(wanted)), Value::Object(map)) => map.contains_key(wanted),
            (Test::Has(Value::String(wanted)), Value::String(text)) => text.contains(wanted),
            (Test::Matches(wanted), Value::String(text)) => wanted.is_match(text),
            (Test::Has(_) | Test::Matches(_), _) => false,
        }
    }
}

/// Zero fields are left out of the JSON form, so what is missing equals zero.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests;
