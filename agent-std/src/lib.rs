//! Lictor on an operating system: drivers, servers, HTTP, DNS and the command line around `agent-core`.

pub mod raft;
