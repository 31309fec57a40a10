//! Lictor on an operating system: drivers, servers, HTTP, DNS and the command line around `agent-core`.

pub mod agent;
pub mod cli;
pub mod config;
pub mod definition;
pub mod http;
pub mod shutdown;
