//! One gossip pool: membership and the serf layer above it, and nothing else.
//!
//! A pool knows nothing of services, checks, DNS or RPC. An agent holds one for the LAN; a server runs a second for
//! the WAN.

use core::net::SocketAddr;

use crate::{
    agent::{CommandError, Outcome, Reason, StreamId, StreamInput, Target, Ticket},
    config::PoolConfig,
    time::{Duration, Instant},
};

mod memory;
mod view;

pub use memory::PoolRegions;
pub use view::{Member, MemberChange, MemberEvent, MemberStatus};

/// One piece of work of a pool for whoever drives it; a subset of [`crate::agent::Output`].
#[must_use]
#[derive(Clone, Copy, Debug)]
pub enum PoolOutput<'a> {
    /// Send the first `len` octets of the poll buffer.
    Transmit { to: SocketAddr, len: usize },
    /// Open a gossip connection.
    Connect { id: StreamId, to: Target<'a>, timeout: Duration },
    /// Octets to send are ready.
    Writable { id: StreamId },
    /// Offer again what was not taken.
    Resume { id: StreamId },
    /// Send what was filled, then close; the id is dead.
    Close { id: StreamId },
    /// Look up a seed's name.
    Resolve { ticket: Ticket, name: &'a str },
    /// A change in the member table.
    Member(MemberEvent<'a>),
    /// A user event.
    User { ltime: u64, name: &'a str, payload: &'a [u8] },
    /// A command is finished.
    Finished { ticket: Ticket, outcome: Outcome },
    /// Events were dropped.
    Lagged,
    /// Drained.
    Wait { until: Option<Instant>, why: Reason },
}

/// Membership and serf layer of one pool.
pub struct Pool<'m> {
    _config: &'m PoolConfig<'m>,
}
