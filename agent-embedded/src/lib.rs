#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
//! Drives [`agent_core`] on a microcontroller: embassy-net's sockets in, the same sockets out, no heap.
//!
//! ```text
//!              ┌── udp ── gossip, spare and DNS socket ─┐
//!  embassy-net ┤                                        ├── Link ── agent_core::Agent
//!              └── tcp ── one future per socket ────────┘     └──── the firmware: commands, views
//! ```
//!
//! A firmware makes an [`Agent`](agent_core::agent::Agent), wraps it in a `Link`, and awaits `run` in a task. All
//! futures of the agent and the firmware's use of the link must be on one executor: the agent is borrowed for the
//! length of a call and never across an await.
//!
//! - [`provision`]: what makes one board different from the next, kept in flash
//! - [`identity`]: from those settings to the agent's configuration
//! - `Host`: the firmware's side: checks that only it can run, events it wants to see
//! - `Link`: commands and views for the firmware

#[cfg(feature = "net")]
mod clock;
#[cfg(feature = "net")]
mod driver;
#[cfg(feature = "net")]
mod fmt;
pub mod identity;
#[cfg(feature = "net")]
mod link;
pub mod provision;
#[cfg(feature = "net")]
mod tcp;
#[cfg(feature = "net")]
mod udp;

/// The core, for firmware that wants the very version the driver was made for.
pub use agent_core as core;
#[cfg(feature = "net")]
pub use clock::now;
#[cfg(feature = "net")]
pub use driver::{Buffers, Host, OUTPUT, SOCKETS, run};
#[cfg(feature = "net")]
pub use link::{Counters, Link};
