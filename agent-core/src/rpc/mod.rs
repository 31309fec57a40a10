//! The agent's own calls to servers.

#[cfg(test)]
pub(crate) mod fake;
