//! Harness shared by the cross-crate tests.
//!
//! ```text
//! cluster   real Consul agents and ours, from configuration file to "everybody is alive"
//! serf      real Serf agents, a pool without a catalog
//! subject   where our own binary comes from, and which agent a scenario is about
//! http      an agent's HTTP API as JSON
//! dns       one DNS question to an agent
//! doors     the core's doors for bytes, for hostile ones
//! process   a running program: log, signals, certain end
//! proxy     a network between servers that can be cut, without privileges
//! clock     a process's wall clock, set by a test
//! peers     where the real agents' programs come from
//! qemu      emulated boards
//! ether     an Ethernet switch for them that loses, delays and cuts
//! hostile   bytes that mean harm, and who throws them
//! ports     loopback addresses and ports that nobody uses
//! scenario  what an agent must do among real ones, whichever program it is
//! sim       clusters of the core in virtual time
//! wait      wait for a condition, with a bound
//! ```
//!
//! Everything runs on 127.0.0.0/8, every agent of a cluster on its own address and all on the same ports. A test that
//! needs a real peer installs it or fails; none is skipped.

pub mod bench;
pub mod clock;
pub mod cluster;
pub mod dns;
pub mod doors;
pub mod ether;
pub mod hostile;
pub mod http;
pub mod peers;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod qemu;
pub mod scenario;
pub mod serf;
pub mod sim;
pub mod subject;
pub mod wait;

use std::{error::Error, time::Duration};

/// Errors of the harness end a test; nothing tells them apart.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How long a "nothing happens" test watches: `short` in CI, `long` where `LICTOR_LONG` is set (`cargo xtask test
/// --long`).
pub fn watch_time(short: Duration, long: Duration) -> Duration {
    if std::env::var_os("LICTOR_LONG").is_some() { long } else { short }
}

/// How often a test repeats: `short` in CI, `long` where `LICTOR_LONG` is set.
pub fn repetitions(short: u32, long: u32) -> u32 {
    if std::env::var_os("LICTOR_LONG").is_some() { long } else { short }
}
