//! Lictor on an operating system: drivers, servers, HTTP, DNS and the command line around `agent-core`.

pub mod filter;
pub mod leader;
pub mod model;
pub mod raft;
pub mod rpc;
pub mod state;
pub mod text;
