//! All that can go into an [`Agent`](super::Agent) besides time and datagrams.

use crate::checks::Health;

/// Which of the agent's doors a datagram or connection came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// LAN gossip, Consul's 8301.
    Gossip,
    /// DNS, Consul's 8600.
    Dns,
}

/// One TCP exchange. The core hands these out; the generation makes a late event of an old socket harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    pub(crate) owner: Owner,
    pub(crate) slot: u16,
    pub(crate) generation: u16,
}

/// Which part of the agent a stream belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// The gossip pool.
    Pool,
    /// Checks, own RPC and DNS over TCP.
    Agent,
}

/// What happened on a TCP stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamInput<'a> {
    /// The connection asked for by `Connect` stands.
    Open,
    /// Octets arrived.
    Data(&'a [u8]),
    /// The other side finished sending.
    Eof,
    /// Connecting failed, timed out, or the connection broke. The id is dead.
    Failed,
}

/// Ties a later [`Event::Finished`](super::Event::Finished) or address look-up to its cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub(crate) u32);

/// Names a check of this agent while it is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CheckId {
    pub(crate) slot: u16,
    pub(crate) generation: u8,
}

/// A wish of the agent's owner. Every command is answered by a [`Ticket`] at once; those that take time also by
/// [`Event::Finished`](super::Event::Finished).
#[derive(Clone, Copy, Debug)]
pub enum Command<'a> {
    /// Push/pull with `seed` (`host`, `host:port`, `ip` or `ip:port`); finishes when the exchange is over.
    Join {
        /// Address or name, resolved by the driver at every try.
        seed: &'a str,
        /// Skip user events older than the exchange (Consul always does).
        ignore_old: bool,
    },
    /// Leave gracefully: intent, dead, push/pull. Finishes when the process may stop.
    Leave,
    /// Make a failed member count as left (`force-leave`), or erase it with `prune`.
    ForceLeave {
        /// The member's name.
        node: &'a str,
        /// Erase it from everybody's list at once.
        prune: bool,
    },
    /// Replace our tags and tell everybody. Encoded `Meta` is at most 512 octets.
    SetTags(&'a [(&'a str, &'a str)]),
    /// Fire a user event to all members.
    UserEvent {
        /// Event name.
        name: &'a str,
        /// Payload; name and payload together at most 512 octets.
        payload: &'a [u8],
        /// Ask applications to coalesce.
        coalesce: bool,
    },
    /// Ask all members, ourselves included; each says [`Event::Answer`](super::Event::Answer) until it is finished.
    Query {
        /// Query name; `_serf_list-keys` and its like are answered by every agent.
        name: &'a str,
        /// Payload; the encoded query has at most 1024 octets.
        payload: &'a [u8],
        /// Members that have nothing to say confirm it.
        ack: bool,
        /// Each answer is sent once more by way of so many other members, at most 5, so that it arrives where datagrams get
        /// lost.
        relay_factor: u8,
    },
    /// Register or replace a service.
    Register(&'a crate::local::ServiceDef<'a>),
    /// Remove a service and its checks.
    Deregister {
        /// Service id.
        id: &'a str,
    },
    /// Register or replace a check.
    RegisterCheck(&'a crate::local::CheckDef<'a>),
    /// Remove a check.
    DeregisterCheck {
        /// Check id.
        id: &'a str,
    },
    /// Set the state of a TTL check (`/v1/agent/check/pass|warn|fail|update`).
    UpdateTtl {
        /// Check id.
        id: &'a str,
        /// New state.
        health: Health,
        /// Note or output.
        output: &'a str,
    },
    /// Compare everything with the catalog now (full anti-entropy).
    Sync,
}

/// Why a command was refused. Nothing was changed unless a variant says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// A table named by the text is full; free something or give it more memory.
    Full(&'static str),
    /// The argument can never work; the text says why.
    Invalid(&'static str),
    /// No service, check or member has that name.
    Unknown,
    /// The agent is leaving or has left.
    Leaving,
}

impl core::fmt::Display for CommandError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            CommandError::Full(region) => write!(f, "no room left in {region}"),
            CommandError::Invalid(why) => f.write_str(why),
            CommandError::Unknown => f.write_str("no such name"),
            CommandError::Leaving => f.write_str("the agent is leaving"),
        }
    }
}

impl core::error::Error for CommandError {}
