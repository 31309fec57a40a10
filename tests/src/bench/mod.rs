//! Measurements of our agent beside the real Consul, in one run, as a table of ratios.
//!
//! What is measured is the agents' doing only in part: the machine's state decides the rest. Both sides therefore take
//! turns or run at the same time, and a reader judges the ratio, never a figure alone.

pub mod catalog;
pub mod failover;
pub mod idle;
pub mod kv;
pub mod loss;
pub mod proc;
pub mod start;
pub mod table;
pub mod watch;

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{Result, subject::Kind};

/// Both sides, in the order of the table's columns.
pub const SIDES: [Kind; 2] = [Kind::Lictor, Kind::Consul];

/// How long and how often is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Seconds that an idle cluster is watched.
    pub idle: Duration,
    /// Time that a load runs.
    pub load: Duration,
    /// Rounds of what is quickly done.
    pub rounds: usize,
    /// Nodes of the large catalog.
    pub nodes: usize,
    /// Reads that wait for one key.
    pub watchers: usize,
}

impl Plan {
    /// Enough to see a change of a half: about a minute.
    pub const QUICK: Plan =
        Plan { idle: Duration::from_secs(20), load: Duration::from_secs(3), rounds: 1, nodes: 1000, watchers: 1000 };
    /// About five minutes.
    pub const FULL: Plan =
        Plan { idle: Duration::from_secs(60), load: Duration::from_secs(10), rounds: 5, nodes: 10_000, watchers: 5000 };
}

/// Looks every millisecond until `look` succeeds; returns how long that took since `since`.
///
/// # Errors
///
/// The last look's, when `limit` has passed.
fn measured(since: Instant, limit: Duration, mut look: impl FnMut() -> Result<()>) -> Result<Duration> {
    loop {
        match look() {
            Ok(()) => return Ok(since.elapsed()),
            Err(error) if since.elapsed() >= limit => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}
