//! All that can come out of an [`Agent`](super::Agent), or of a [`Pool`](crate::pool::Pool) alone.

use core::net::SocketAddr;

use super::input::{CheckId, Port, StreamId, Ticket};
use crate::{
    pool::{Member, MemberEvent},
    time::{Duration, Instant},
};

/// One piece of work for the driver. Ask [`Agent::poll_output`](super::Agent::poll_output) again until it says `Wait`.
#[must_use]
#[derive(Clone, Copy, Debug)]
pub enum Output<'a> {
    /// Send the first `len` octets of the poll buffer. A datagram never waits: send it now or drop and count it.
    Transmit {
        /// The socket to send from.
        port: Port,
        /// Destination.
        to: SocketAddr,
        /// Octets in the buffer given to `poll_output`.
        len: usize,
    },
    /// Open a TCP connection, then report `Open` or `Failed` for `id`.
    Connect {
        /// The id to use from now on.
        id: StreamId,
        /// Where to.
        to: Target<'a>,
        /// What for; decides about TLS and the first byte.
        purpose: Purpose<'a>,
        /// Report `Failed` when it takes longer.
        timeout: Duration,
    },
    /// The core has octets to send: call `fill_stream` whenever the socket has room, until it returns 0.
    Writable {
        /// The stream.
        id: StreamId,
    },
    /// Offer again the octets that `handle_stream` did not take.
    Resume {
        /// The stream.
        id: StreamId,
    },
    /// Send what `fill_stream` has given so far, then close. The id is dead.
    Close {
        /// The stream.
        id: StreamId,
    },
    /// Look up `name` and call `handle_resolved`; asked anew at every try, so that moved seeds are found.
    Resolve {
        /// Give back with the answer.
        ticket: Ticket,
        /// Host name, without port.
        name: &'a str,
    },
    /// Run a check that only the host can run, then call `handle_check`.
    RunCheck {
        /// The check.
        id: CheckId,
        /// What to run: for std the index of a script, for a device of a closure.
        check: HostCheck<'a>,
        /// Report critical when it takes longer.
        timeout: Duration,
    },
    /// Something the owner may want to know.
    Event(Event<'a>),
    /// Drained: sleep until then, or until the next input.
    Wait {
        /// The earliest deadline; `None`: nothing is due until an input arrives.
        until: Option<Instant>,
        /// Which deadline it is, for logs and for the thrift counters.
        why: Reason,
    },
}

/// Where a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// An address.
    Address(SocketAddr),
    /// A name that the driver resolves, and a port.
    Name(&'a str, u16),
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// A gossip stream (push/pull, TCP ping): no first byte, never TLS.
    Gossip,
    /// RPC to a server: the driver does TLS if configured, and sends byte 0 (or opens a yamux stream).
    Rpc,
    /// A TCP or HTTP check.
    Check {
        /// The server name when the check wants TLS.
        tls: Option<&'a str>,
        /// Whether TLS must verify the server's certificate.
        verify: bool,
    },
}

/// A check that the host runs; `key` is what the registration gave ([`CheckKind::Host`](crate::local::CheckKind)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostCheck<'a> {
    /// The check's id, for logs.
    pub id: &'a str,
    /// Chooses the script or closure; its meaning is the driver's.
    pub key: u32,
}

/// Something the owner may want to know.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A change in the member table.
    Member(MemberEvent<'a>),
    /// A user event from any member, once.
    User {
        /// Lamport time of the event clock.
        ltime: u64,
        /// Event name.
        name: &'a str,
        /// Payload.
        payload: &'a [u8],
    },
    /// A member answers a query of ours. A datagram that comes twice is told twice.
    Answer {
        /// The query.
        ticket: Ticket,
        /// The member's name.
        from: &'a str,
        /// What it says; `None`: it has nothing to say and confirms the query.
        payload: Option<&'a [u8]>,
    },
    /// The gossip keys have changed: a member asked us to, or our owner did. A driver with a disk keeps them.
    Keys,
    /// A command is finished.
    Finished {
        /// The command.
        ticket: Ticket,
        /// How it went.
        outcome: Outcome,
    },
    /// A service or check changed state or reached the catalog; ask the `local` view for details.
    Local,
    /// Something is wrong in the cluster that somebody should look after.
    Trouble(Trouble<'a>),
    /// Events were dropped because the owner did not poll in time: look at the tables instead.
    Lagged,
}

/// What is wrong. Its `Display` says what, where and what to do.
#[derive(Clone, Copy, Debug)]
pub enum Trouble<'a> {
    /// Two agents have one name. The first keeps it; the second is no member.
    SameName {
        /// The first.
        holder: Member<'a>,
        /// Where the second is.
        address: SocketAddr,
    },
    /// Two agents have one node id, as copied disk images have. Both are members, and the catalog has the first.
    SameId {
        /// The first.
        holder: Member<'a>,
        /// The second's name.
        name: &'a str,
        /// Where the second is.
        address: SocketAddr,
    },
    /// A member answers others and not us, twice in a row. Told once, until it answers us again.
    OneWay {
        /// The member.
        member: Member<'a>,
    },
}

/// How a command went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Ok,
    /// A join: this many members answered (ours counts as none).
    Joined(u16),
    /// It did not work; the text says why.
    Failed(&'static str),
}

/// Why the core wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Nothing is due.
    Idle,
    /// A probe round: next probe, indirect probes, or its end.
    Probe,
    /// Queued gossip.
    Gossip,
    /// Push/pull with a random member, or a stream's deadline.
    Stream,
    /// A suspicion runs out.
    Suspicion,
    /// Reaping and reconnecting.
    Reap,
    /// Joining or leaving.
    Join,
    /// A query of ours is over.
    Query,
    /// A check is due.
    Check,
    /// Anti-entropy or an RPC deadline.
    Rpc,
    /// A DNS look-up runs out.
    Dns,
}

impl Reason {
    /// The earliest deadline, with its reason.
    pub(crate) fn earliest(deadlines: &[Option<(Instant, Reason)>]) -> Option<(Instant, Reason)> {
        deadlines.iter().flatten().min().copied()
    }
}
