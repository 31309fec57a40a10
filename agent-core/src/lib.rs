#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
//! A Lictor agent as one state machine: no heap, no I/O, no clock, no sockets.
//!
//! A driver hands in octets, time and wishes, and does the work that comes out: send this datagram, open that connection,
//! wake me then. The same code runs on a 64 KB microcontroller and on a server; only the lent memory differs.
//!
//! ```text
//!        driver (tokio, embassy, a simulator): sockets, clock, TLS, scripts
//!   handle_* │ command                                      ▲ poll_output
//! ┌──────────▼──────────────────────────────────────────────┴───────────┐
//! │ agent   the one door: streams by owner, deadlines merged            │
//! │ ┌─────────────────────┐ ┌────────────────┐ ┌──────────┐ ┌─────────┐ │
//! │ │ pool                │ │ local          │ │ rpc      │ │ dns     │ │
//! │ │  serf   events,     │ │  services and  │ │  servers │ │ respond │ │
//! │ │   queries, intents  │ │  checks; sync  ├─►  session ◄─┤ asks a  │ │
//! │ │  membership   SWIM  │ │  with catalog  │ │  calls   │ │directory│ │
//! │ └─────────────────────┘ └───────▲────────┘ └──────────┘ └─────────┘ │
//! │                          checks: ttl, tcp, http, host               │
//! ├─────────────────────────────────────────────────────────────────────┤
//! │ wire    octets of peers: gossip, push/pull, serf, rpc, dns          │
//! │ memory  lent slices, packed text     time, rand  given, never taken │
//! └─────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Begin with [`agent::Agent`]; what goes in is in `agent/input.rs`, what comes out in `agent/output.rs`. A plain serf
//! agent, or a server's WAN side, is a [`pool::Pool`] alone. [`lictor_memory!`] declares the memory of a device.

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
