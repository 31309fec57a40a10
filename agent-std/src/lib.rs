//! Lictor on an operating system: drivers, servers, HTTP, DNS and the command line around `agent-core`.

pub mod agent;
pub mod archive;
pub mod cli;
pub mod config;
pub mod connections;
pub mod definition;
pub mod dns;
pub mod driver;
pub mod filter;
pub mod http;
pub mod leader;
pub mod model;
pub mod raft;
pub mod rpc;
pub mod shutdown;
pub mod state;
pub mod text;
pub mod whole_file;
