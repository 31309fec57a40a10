//! The agent's own calls to servers: anti-entropy, coordinates, look-ups for names. Nobody else's.
//!
//! One plain connection, opened on demand, one call at a time, kept while it is in use (rpc spec §9 "Connection plan").
//! `servers.rs` chooses whom, `session.rs` is the connection and the call on it, `calls.rs` names what can be asked.
//! The driver writes the first byte and does TLS; octets of calls are [`crate::wire::rpc`]'s.

mod calls;
mod servers;
mod session;

#[cfg(test)]
pub(crate) mod fake;

pub(crate) use calls::Task;
pub(crate) use servers::{Servers, rpc_address};
pub(crate) use session::{Arrival, DIAL, Session};
