//! The memory a pool borrows.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::{
    config::ConfigError,
    membership::{BroadcastSlot, MemberSlot},
    pool::{Queues, lifecycle, stream::StreamSlot},
    serf::{EventSlot, IntentSlot, SeenSlot},
    time::Instant,
    wire::{envelope, lzw, push_pull},
};

/// The memory of one pool. Lengths are the limits; each field says what happens when it is full. A static of all the
/// `EMPTY` slots lies in .bss.
#[derive(Debug)]
pub struct PoolRegions<'m> {
    /// Known members including ourselves, at most 65,534. Full: the longest dead is forgotten, then a server displaces a
    /// random other, everybody else is refused; and each push/pull may replace one at random, so that the table is a
    /// changing sample.
    pub members: &'m mut [MemberSlot],
    /// Name → member. A power of two, at least twice the members.
    pub index: &'m mut [u16],
    /// Names and tags. Full: the member is refused.
    pub text: &'m mut [u8],
    /// Queued gossip. Full: the most-sent message is dropped.
    pub broadcasts: &'m mut [BroadcastSlot],
    /// The octets of queued gossip, at least [`OUTBOX_MIN`].
    pub outbox: &'m mut [u8],
    /// Packets for one address, names of seeds. Full: the packet is dropped.
    pub mail: &'m mut [u8],
    /// Work for the next poll. Full: the packet, event or join is dropped or refused.
    pub queues: &'m mut Queues,
    /// Pings under way for others. Full: the request is answered "no" at once.
    pub relays: &'m mut [RelaySlot],
    /// User events and queries seen, half each. Full: the earliest is forgotten, and nothing as early counts as new.
    pub seen: &'m mut [SeenSlot],
    /// Recent user events. Full: the oldest is forgotten, one that was delivered if there is any.
    pub events: &'m mut [EventSlot],
    /// Their names and payloads, 512 octets for one at most. Full: as above. An event longer than all of it is lost.
    pub event_text: &'m mut [u8],
    /// Intents about members not known yet. Full: the earliest is forgotten, and nothing as early counts as new.
    pub intents: &'m mut [IntentSlot],
    /// TCP exchanges open at once. Full: new ones are refused.
    pub streams: &'m mut [StreamSlot],
    /// LZW of the one push/pull being read, at least [`INFLATE_MIN`] octets. A second push/pull waits by back-pressure.
    pub inflate: &'m mut [u8],
    /// LZW and plaintext of one datagram, at least [`DATAGRAM_MIN`] octets.
    pub datagram: &'m mut [u8],
    /// What is wanted of the push/pull being read, committed when its end proves it true. Half full: only servers and
    /// members that are known already are taken.
    pub stage: &'m mut [u8],
    /// Our own push/pull state, in two halves. What does not fit is left out, ourselves last.
    pub image: &'m mut [u8],
    /// Scratch for compressing, [`DEFLATE`] octets, or none: then nothing is compressed.
    pub deflate: &'m mut [u8],
}

/// Smallest outbox: the largest alive message.
pub const OUTBOX_MIN: usize = 768;
/// Smallest text of events: the longest that agents send unless told otherwise.
pub const EVENT_TEXT_MIN: usize = lifecycle::EVENT_LIMIT + 8;
/// Octets of `inflate`.
pub const INFLATE_MIN: usize = lzw::INFLATER_MEMORY + push_pull::RECORD;
/// Octets of `datagram` that hold what conforming senders send.
pub const DATAGRAM_MIN: usize = envelope::scratch_for(envelope::MAX_PLAIN);
/// Octets of `deflate` when it is used.
#[cfg(feature = "compress")]
pub const DEFLATE: usize = lzw::DEFLATE_MEMORY;
/// Octets of `deflate` when it is used: this build cannot compress.
#[cfg(not(feature = "compress"))]
pub const DEFLATE: usize = 0;
/// Smallest image: two states of ourselves alone, with a client's tags. Longer names and tags need more.
pub const IMAGE_MIN: usize = 2 * 448;

impl PoolRegions<'_> {
    /// Checks every limit once, so that nothing has to later.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let fits = [
            ("members", (2..usize::from(u16::MAX)).contains(&self.members.len())),
            ("index", self.index.len().is_power_of_two() && self.index.len() >= 2 * self.members.len()),
            ("text", self.text.len() >= 768),
            ("broadcasts", !self.broadcasts.is_empty() && self.broadcasts.len() < usize::from(u16::MAX)),
            ("outbox", self.outbox.len() >= OUTBOX_MIN),
            ("mail", self.mail.len() >= 256),
            ("seen", self.seen.len() >= 2),
            ("events", !self.events.is_empty()),
            ("event_text", self.event_text.len() >= EVENT_TEXT_MIN),
            ("streams", !self.streams.is_empty() && self.streams.len() < usize::from(u16::MAX)),
            ("inflate", self.inflate.len() >= INFLATE_MIN),
            ("datagram", self.datagram.len() >= DATAGRAM_MIN),
            ("stage", self.stage.len() >= push_pull::RECORD),
            ("image", self.image.len() >= IMAGE_MIN),
        ];
        match fits.iter().find(|(_, fits)| !fits) {
            Some(&(region, _)) => Err(ConfigError::Region(region)),
            None => Ok(()),
        }
    }
}

/// A ping under way for somebody else.
#[derive(Clone, Copy, Debug)]
pub struct RelaySlot {
    pub(crate) used: bool,
    pub(crate) nack: bool,
    pub(crate) ours: u32,
    pub(crate) theirs: u32,
    pub(crate) to: SocketAddr,
    pub(crate) deadline: Instant,
}

impl RelaySlot {
    /// A free slot; all zero bits.
    pub const EMPTY: RelaySlot =
        RelaySlot { used: false, nack: false, ours: 0, theirs: 0, to: NOWHERE, deadline: Instant::ZERO };
}

/// An address of all zero bits.
pub(crate) const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
