//! What a command may touch: its streams, its environment and our name. Tests pass buffers instead.

use std::io::{Read, Write};

use super::product::Product;

/// A command's surroundings.
pub struct Context<'a> {
    /// The name we were started under.
    pub product: Product,
    /// Standard input.
    pub input: &'a mut dyn Read,
    /// Standard output.
    pub out: &'a mut dyn Write,
    /// Standard error.
    pub err: &'a mut dyn Write,
    /// Looks an environment variable up.
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

impl Context<'_> {
    /// Writes `line` and a line feed to standard output. A reader that has gone away is not an error: it wanted no more.
    pub fn say(&mut self, line: &str) {
        let _ = writeln!(self.out, "{line}");
    }

    /// Writes `line` and a line feed to standard error.
    pub fn complain(&mut self, line: &str) {
        let _ = writeln!(self.err, "{line}");
    }

    /// The value of an environment variable; an empty one counts as absent, as in Consul.
    pub fn env(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.is_empty())
    }
}

/// Why a command did not succeed. Whoever dispatches the command prints it.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// A sentence for standard error; exit code 1.
    Text(String),
    /// A sentence and the command's usage on standard error; exit code 1.
    Usage(String),
    /// Everything was said already; this exit code.
    Code(u8),
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Failure::Text(text)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        Failure::Text(text.to_owned())
    }
}

/// The result of a command.
pub type Outcome = Result<(), Failure>;

/// The one plain argument a command expects, or Consul's complaint.
///
/// # Errors
/// `missing` when there is none, "Too many arguments" when there are several.
pub fn single(args: &[String], missing: &str) -> Result<String, Failure> {
    match args {
        [] => Err(missing.into()),
        [one] => Ok(one.clone()),
        more => Err(too_many(1, more.len())),
    }
}

/// Refuses plain arguments.
///
/// # Errors
/// "Too many arguments" when there are any.
pub fn none(args: &[String]) -> Outcome {
    if args.is_empty() { Ok(()) } else { Err(too_many(0, args.len())) }
}

/// Consul's sentence for surplus arguments.
pub fn too_many(expected: usize, got: usize) -> Failure {
    Failure::Text(format!("Too many arguments (expected {expected}, got {got})"))
}
