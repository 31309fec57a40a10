#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
//! A Lictor agent as one state machine: no heap, no I/O, no clock, no sockets.

// First, so that its macros are known below.
#[macro_use]
mod fmt;

pub mod agent;
pub mod checks;
pub mod config;
pub mod dns;
pub mod local;
pub mod membership;
pub mod memory;
pub mod pool;
pub mod rand;
pub mod rpc;
pub mod serf;
pub mod time;
pub mod wire;
