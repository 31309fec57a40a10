//! TCP exchanges: which are open, what they are for, and the small messages on them (gossip spec §6).
//!
//! A stream begins in its slot's `head` buffer. A message that fits there whole (ping, ack, error) is opened like a
//! datagram. Anything longer can only be a push/pull and goes through [`super::exchange`] piece by piece, one at a time.

use core::net::SocketAddr;

use super::{Pool, exchange::Progress, lifecycle::JoinEnd, memory::NOWHERE, stats::count};
use crate::{
    agent::{Output, Owner, Purpose, StreamId, StreamInput, Target, Ticket},
    membership::members::MemberId,
    time::{Instant, earliest},
    wire::{
        crypt::{self, StreamSealer},
        envelope,
        gossip::{self, Ack, Message, Ping, emit_err},
        msgpack::Writer,
    },
};

/// Octets in which ping, ack and error fit with all their layers: a ping of 64 octet names, compressed to more than its
/// size, encrypted and labelled.
const HEAD: usize = 256;

/// What a stream is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Role {
    /// Nobody's.
    #[default]
    Free,
    /// Somebody came to us.
    Accepted,
    /// We dialled for a push/pull with a member.
    PushPull,
    /// We dialled for a push/pull with a failed member.
    Reconnect,
    /// We dialled to join; the ticket says for which command.
    Join,
    /// We dialled to tell a server that we have left.
    Leave,
    /// We dialled to ping; the number says for which probe.
    Ping,
}

/// How far a stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Waiting for the connection.
    #[default]
    Connecting,
    /// Sending what the head buffer holds.
    SendHead,
    /// Sending the image of our state.
    SendImage,
    /// Gathering the beginning of a message.
    Reading,
    /// The beginning shows a push/pull, and another one is being read: later.
    Waiting,
    /// The push/pull is being read.
    Exchange,
}

/// One TCP exchange. Full: new ones are refused.
#[derive(Clone, Debug)]
pub struct StreamSlot {
    head: [u8; HEAD],
    head_len: u16,
    generation: u16,
    pub(super) role: Role,
    phase: Phase,
    /// Bits of what to tell the driver.
    wishes: u8,
    /// Our state goes out with `Join` set.
    pub(super) join: bool,
    /// The stream holds one of the two images.
    pub(super) holds_image: bool,
    /// Close once all is sent.
    last_words: bool,
    /// Ticket or probe number.
    pub(super) number: u32,
    /// The member pinged.
    member: MemberId,
    /// Octets handed to the driver.
    sent: u32,
    pub(super) peer: SocketAddr,
    deadline: Instant,
    sealer: Option<StreamSealer>,
}

const WISH_CONNECT: u8 = 1;
const WISH_WRITE: u8 = 2;
const WISH_RESUME: u8 = 4;
const WISH_CLOSE: u8 = 8;

impl StreamSlot {
    /// A free slot; all zero bits but the absent sealer's octets, which have no value.
    pub const EMPTY: StreamSlot = StreamSlot {
        head: [0; HEAD],
        head_len: 0,
        generation: 0,
        role: Role::Free,
        phase: Phase::Connecting,
        wishes: 0,
        join: false,
        holds_image: false,
        last_words: false,
        number: 0,
        member: MemberId::SELF,
        sent: 0,
        peer: NOWHERE,
        deadline: Instant::ZERO,
        sealer: None,
    };
}

/// Something to tell the driver about a stream.
pub(super) struct Wish {
    id: StreamId,
    wish: u8,
}

impl Wish {
    pub fn output<'p>(&self, pool: &'p Pool<'_>) -> Output<'p> {
        let id = self.id;
        match self.wish {
            WISH_CONNECT => {
                let to = Target::Address(pool.streams[usize::from(id.slot)].peer);
                Output::Connect { id, to, purpose: Purpose::Gossip, timeout: pool.config.timing.tcp_timeout }
            }
            WISH_WRITE => Output::Writable { id },
            WISH_RESUME => Output::Resume { id },
            _ => Output::Close { id },
        }
    }
}

impl Pool<'_> {
    /// Somebody connected. `None`: close the connection, there is no room.
    pub fn handle_accept(&mut self, now: Instant, from: SocketAddr) -> Option<StreamId> {
        let at = self.open_slot(now, Role::Accepted, from)?;
        self.streams[at].phase = Phase::Reading;
        Some(self.stream_id(at))
    }

    /// Something happened on a stream. Returns the octets taken; fewer than given: offer the rest after `Resume`.
    pub fn handle_stream(&mut self, now: Instant, id: StreamId, input: StreamInput<'_>) -> usize {
        let Some(at) = self.slot_of(id) else {
            // An event of a stream that is over.
            return if let StreamInput::Data(data) = input { data.len() } else { 0 };
        };
        let taken = match input {
            StreamInput::Open => {
                self.on_open(now, at);
                0
            }
            StreamInput::Data(data) => self.on_data(now, at, data),
            StreamInput::Eof | StreamInput::Failed => {
                // The other side may end before our `Close` is carried out, and may stop sending before it has heard all.
                let sending = matches!(self.streams[at].phase, Phase::SendHead | Phase::SendImage);
                if input == StreamInput::Failed || !sending {
                    self.fail_stream(now, at);
                }
                0
            }
        };
        self.wake_waiting(now);
        taken
    }

    /// Writes the next octets to send into `out`, as many as there are or fit.
    pub fn fill_stream(&mut self, now: Instant, id: StreamId, out: &mut [u8]) -> usize {
        let Some(at) = self.slot_of(id) else { return 0 };
        let filled = match self.streams[at].phase {
            Phase::SendHead => {
                let slot = &mut self.streams[at];
                let rest = &slot.head[slot.sent as usize..usize::from(slot.head_len)];
                let len = rest.len().min(out.len());
                out[..len].copy_from_slice(&rest[..len]);
                slot.sent += len as u32;
                (len, slot.sent as usize == usize::from(slot.head_len))
            }
            Phase::SendImage => self.fill_image(at, out),
            _ => return 0,
        };
        if filled.1 {
            self.on_all_sent(now, at);
        }
        filled.0
    }

    /// Dials a member to ping it over TCP.
    pub(super) fn dial_ping(&mut self, now: Instant, to: SocketAddr, member: MemberId, seq: u32, end: Instant) {
        if let Some(at) = self.open_slot(now, Role::Ping, to) {
            let slot = &mut self.streams[at];
            (slot.member, slot.number, slot.deadline, slot.wishes) = (member, seq, end, WISH_CONNECT);
        }
    }

    /// Dials for a push/pull.
    pub(super) fn dial_exchange(
        &mut self,
        now: Instant,
        to: SocketAddr,
        role: Role,
        join: bool,
        ticket: Option<Ticket>,
    ) -> bool {
        let Some(at) = self.open_slot(now, role, to) else { return false };
        let slot = &mut self.streams[at];
        (slot.join, slot.wishes) = (join, WISH_CONNECT);
        slot.number = ticket.map_or(0, |ticket| ticket.0);
        true
    }

    /// Ends exchanges that take too long.
    pub(super) fn on_stream_time(&mut self, now: Instant) {
        for at in 0..self.streams.len() {
            let slot = &self.streams[at];
            if slot.role != Role::Free && slot.wishes & WISH_CLOSE == 0 && slot.deadline <= now {
                self.fail_stream(now, at);
            }
        }
        self.wake_waiting(now);
    }

    pub(super) fn stream_deadline(&self) -> Option<Instant> {
        let open = self.streams.iter().filter(|slot| slot.role != Role::Free && slot.wishes & WISH_CLOSE == 0);
        earliest(&mut open.map(|slot| slot.deadline))
    }

    pub(super) fn next_stream_wish(&mut self) -> Option<Wish> {
        let at = self.streams.iter().position(|slot| slot.wishes != 0)?;
        let id = self.stream_id(at);
        let slot = &mut self.streams[at];
        // A stream that is to be closed wants nothing else any more.
        let wish = if slot.wishes & WISH_CLOSE != 0 { WISH_CLOSE } else { 1 << slot.wishes.trailing_zeros() };
        slot.wishes &= !wish;
        if wish == WISH_CLOSE {
            let generation = slot.generation.wrapping_add(1);
            *slot = StreamSlot { generation, ..StreamSlot::EMPTY };
        }
        Some(Wish { id, wish })
    }

    fn stream_id(&self, at: usize) -> StreamId {
        StreamId { owner: Owner::Pool, slot: at as u16, generation: self.streams[at].generation }
    }

    fn slot_of(&self, id: StreamId) -> Option<usize> {
        let slot = self.streams.get(usize::from(id.slot))?;
        let current = id.owner == Owner::Pool && slot.generation == id.generation && slot.role != Role::Free;
        (current && slot.wishes & WISH_CLOSE == 0).then_some(usize::from(id.slot))
    }

    fn open_slot(&mut self, now: Instant, role: Role, peer: SocketAddr) -> Option<usize> {
        let Some(at) = self.streams.iter().position(|slot| slot.role == Role::Free) else {
            count(&mut self.stats.streams_refused);
            return None;
        };
        let generation = self.streams[at].generation;
        let deadline = now + self.config.timing.tcp_timeout;
        self.streams[at] = StreamSlot { generation, role, peer, deadline, ..StreamSlot::EMPTY };
        Some(at)
    }

    fn on_open(&mut self, now: Instant, at: usize) {
        let slot = &self.streams[at];
        match slot.role {
            Role::Ping => {
                let (seq, member) = (slot.number, slot.member);
                let mut name = [0; gossip::MAX_NAME];
                let node = super::probe::copy_name(self.members.name(member), &mut name);
                let source = self.config.advertise_in_pings.then_some(self.config.advertise);
                let source_node = if source.is_some() { self.config.name } else { "" };
                self.say(now, at, false, &|w| Ping { node, seq, source, source_node }.emit(w));
            }
            Role::Free | Role::Accepted => {}
            _ => self.send_image(at),
        }
    }

    /// Begins to send our state; the stream's `join` says how.
    fn send_image(&mut self, at: usize) {
        let join = self.streams[at].join;
        self.hold_image(join);
        let sealer = self.new_sealer(self.image_len(join));
        let slot = &mut self.streams[at];
        slot.holds_image = true;
        slot.sealer = sealer;
        slot.sent = 0;
        slot.phase = Phase::SendImage;
        slot.wishes |= WISH_WRITE;
    }

    /// A sealer for a frame with `len` octets of plaintext, or `None` without encryption.
    fn new_sealer(&mut self, len: usize) -> Option<StreamSealer> {
        let key = *self.keyring.primary().filter(|_| self.config.verify_outgoing)?;
        let head = frame_head(len);
        Some(StreamSealer::new(&key, self.nonces.fresh(), &[&head, self.config.label.as_bytes()]))
    }

    fn fill_image(&mut self, at: usize, out: &mut [u8]) -> (usize, bool) {
        let label = self.config.label.as_bytes();
        let slot = &mut self.streams[at];
        let body = super::exchange::image_octets(self.image, &self.images, slot.join);
        // What goes in front is short, so it is made anew for every piece.
        let mut front = [0; 2 + super::transmit::MAX_LABEL + FRAME_HEAD + 1 + crypt::NONCE];
        let mut writer = Writer::new(&mut front);
        if !label.is_empty() {
            writer.octets(&[envelope::LABEL, label.len() as u8]);
            writer.octets(label);
        }
        if let Some(sealer) = &slot.sealer {
            writer.octets(&frame_head(body.len()));
            writer.octets(&sealer.head());
        }
        let front_len = writer.len();
        let tag_len = if slot.sealer.is_some() { crypt::TAG } else { 0 };
        let total = front_len + body.len() + tag_len;
        let mut filled = 0;
        while filled < out.len() && (slot.sent as usize) < total {
            let sent = slot.sent as usize;
            let room = &mut out[filled..];
            let len = if sent < front_len {
                copy(&front[sent..front_len], room)
            } else if sent < front_len + body.len() {
                let len = copy(&body[sent - front_len..], room);
                if let Some(sealer) = &mut slot.sealer {
                    sealer.update(&mut room[..len]);
                }
                len
            } else {
                let tag = slot.sealer.clone().map(StreamSealer::finish).unwrap_or_default();
                copy(&tag[sent - front_len - body.len()..], room)
            };
            slot.sent += len as u32;
            filled += len;
        }
        (filled, slot.sent as usize == total)
    }

    /// Sends one small message, then closes the stream if it is the last.
    fn say(&mut self, now: Instant, at: usize, last: bool, emit: &dyn Fn(&mut Writer<'_>)) {
        let label = self.config.label.as_bytes();
        let plain_len = Writer::measure(emit);
        let key = self.keyring.primary().filter(|_| self.config.verify_outgoing);
        let slot = &mut self.streams[at];
        let front = if label.is_empty() { 0 } else { 2 + label.len() };
        let mut writer = Writer::new(&mut slot.head);
        if front > 0 {
            writer.octets(&[envelope::LABEL, label.len() as u8]);
            writer.octets(label);
        }
        let frame = match key {
            Some(_) => frame_head(plain_len),
            None => [0; FRAME_HEAD],
        };
        if key.is_some() {
            writer.octets(&frame);
            writer.octets(&[0; 1 + crypt::NONCE]);
        }
        emit(&mut writer);
        let mut len = writer.len();
        if let Some(key) = key {
            len += crypt::TAG;
            let nonce = self.nonces.fresh();
            let mut sealer = StreamSealer::new(key, nonce, &[&frame, label]);
            let body = front + FRAME_HEAD;
            if let Some(sealed) = slot.head.get_mut(body..len) {
                sealed[..1 + crypt::NONCE].copy_from_slice(&sealer.head());
                let (text, tag) = sealed[1 + crypt::NONCE..].split_at_mut(plain_len);
                sealer.update(text);
                tag.copy_from_slice(&sealer.finish());
            }
        }
        if len > HEAD {
            return self.fail_stream(now, at);
        }
        slot.head_len = len as u16;
        slot.sent = 0;
        slot.last_words = last;
        slot.phase = Phase::SendHead;
        slot.wishes |= WISH_WRITE;
    }

    fn on_all_sent(&mut self, now: Instant, at: usize) {
        self.drop_image(at);
        let slot = &mut self.streams[at];
        if slot.last_words || slot.role == Role::Accepted {
            return self.close_stream(at);
        }
        slot.head_len = 0;
        slot.sent = 0;
        slot.sealer = None;
        slot.phase = Phase::Reading;
        slot.deadline = now + self.config.timing.tcp_timeout;
    }

    fn on_data(&mut self, now: Instant, at: usize, data: &[u8]) -> usize {
        match self.streams[at].phase {
            Phase::Reading => {
                let slot = &mut self.streams[at];
                let start = usize::from(slot.head_len);
                let taken = copy(data, &mut slot.head[start..]);
                slot.head_len += taken as u16;
                self.look_at_head(now, at);
                // What did not fit the head goes on to the exchange that the head began.
                let slot = &self.streams[at];
                let going_on = slot.phase == Phase::Exchange && slot.wishes & WISH_CLOSE == 0;
                if going_on && taken < data.len() { taken + self.on_data(now, at, &data[taken..]) } else { taken }
            }
            Phase::Exchange => {
                self.on_exchange_data(now, at, data);
                data.len()
            }
            Phase::Waiting => 0,
            // Nobody says anything before we have said what we wanted; what comes now is not for us.
            Phase::Connecting | Phase::SendHead | Phase::SendImage => data.len(),
        }
    }

    fn on_exchange_data(&mut self, now: Instant, at: usize, data: &[u8]) {
        match self.read_exchange(data) {
            Progress::More => {}
            Progress::Broken => self.fail_stream(now, at),
            Progress::Done => self.on_exchange_done(now, at),
        }
    }

    fn on_exchange_done(&mut self, now: Instant, at: usize) {
        let accepted = self.streams[at].role == Role::Accepted;
        if accepted {
            // The reply is what we knew before, and says whether it answers a join (spec §6).
            let join = self.exchange_is_join();
            self.streams[at].join = join;
            self.send_image(at);
        }
        let slot = &self.streams[at];
        self.spoken_to = (slot.role == Role::Join).then_some(slot.peer);
        let merged = self.commit_exchange(now, accepted);
        self.spoken_to = None;
        self.end_exchange();
        if !accepted {
            let slot = &self.streams[at];
            let (role, ticket, peer) = (slot.role, Ticket(slot.number), slot.peer);
            self.close_stream(at);
            self.join.met_server |= self.members.serves_at(peer);
            match role {
                Role::Join => self.on_join_end(now, ticket, merged),
                Role::Leave => self.on_leave_told(now),
                Role::PushPull | Role::Reconnect => {}
                Role::Free | Role::Accepted | Role::Ping => debug_assert!(false, "{peer} had no exchange"),
            }
        }
    }

    /// Tries to make sense of the beginning of a message.
    fn look_at_head(&mut self, now: Instant, at: usize) {
        let len = usize::from(self.streams[at].head_len);
        let mut copy = self.streams[at].head;
        let Ok((label, message)) = envelope::label(&mut copy[..len]) else {
            // Two octets and a label at least; more may come.
            if len > 2 + super::transmit::MAX_LABEL {
                self.fail_stream(now, at);
            }
            return;
        };
        if message.is_empty() {
            return;
        }
        if label != self.config.label.as_bytes() {
            count(&mut self.stats.foreign_label);
            return self.fail_stream(now, at);
        }
        let front = len - message.len();
        if message[0] == envelope::ENCRYPT {
            return self.look_at_frame(now, at, front, &mut copy[..len]);
        }
        if self.is_encrypted() && self.config.verify_incoming {
            count(&mut self.stats.undecryptable);
            return self.say(now, at, true, &|w| {
                emit_err(w, "Encryption is configured but remote state is not encrypted");
            });
        }
        self.look_at_message(now, at, message);
    }

    /// The head begins with an encrypted frame: open it here if all of it can be here.
    fn look_at_frame(&mut self, now: Instant, at: usize, front: usize, head: &mut [u8]) {
        let frame = &mut head[front..];
        let Some(frame_head) = frame.first_chunk::<FRAME_HEAD>().copied() else { return };
        if !self.is_encrypted() {
            return self.say(now, at, true, &|w| {
                emit_err(w, "Remote state is encrypted and encryption is not configured");
            });
        }
        let len = u32::from_be_bytes([frame_head[1], frame_head[2], frame_head[3], frame_head[4]]) as usize;
        if !(crypt::OVERHEAD..=MAX_FRAME).contains(&len) {
            count(&mut self.stats.malformed);
            return self.fail_stream(now, at);
        }
        if front + FRAME_HEAD + len > HEAD {
            return self.begin_exchange(now, at);
        }
        let Some(payload) = frame.get_mut(FRAME_HEAD..FRAME_HEAD + len) else { return };
        let additional = [&frame_head[..], self.config.label.as_bytes()];
        match crypt::open(self.keyring.keys(), &additional, payload) {
            Some((_, message)) => self.look_at_message(now, at, message),
            None => {
                count(&mut self.stats.undecryptable);
                self.fail_stream(now, at);
            }
        }
    }

    /// `message` is the plain beginning of a message.
    fn look_at_message(&mut self, now: Instant, at: usize, message: &[u8]) {
        if message.first() == Some(&gossip::PUSH_PULL) {
            return self.begin_exchange(now, at);
        }
        let scratch = core::mem::take(&mut self.datagram);
        let message = match message.first() {
            Some(&envelope::COMPRESS) => inflated(message, scratch),
            _ => Some(message),
        };
        let whole = message.is_some_and(|message| self.on_small_message(now, at, message));
        self.datagram = scratch;
        if !whole && usize::from(self.streams[at].head_len) == HEAD {
            self.begin_exchange(now, at);
        }
    }

    /// Handles a message that is whole; false when it is not, or can only be a push/pull.
    fn on_small_message(&mut self, now: Instant, at: usize, message: &[u8]) -> bool {
        match message.first() {
            Some(&gossip::PUSH_PULL) => {
                self.begin_exchange(now, at);
                return true;
            }
            Some(&gossip::ERR) => {
                self.fail_stream(now, at);
                return true;
            }
            _ => {}
        }
        match (gossip::parse(message), self.streams[at].role) {
            (Ok(Message::Ping(ping)), Role::Accepted) => {
                if ping.node.is_empty() || ping.node == self.config.name {
                    let seq = ping.seq;
                    self.say(now, at, true, &|w| Ack { seq, payload: &[] }.emit(w));
                } else {
                    self.close_stream(at);
                }
            }
            (Ok(Message::Ack(ack)), Role::Ping) => {
                if ack.seq == self.streams[at].number {
                    self.on_tcp_pong(ack.seq);
                }
                self.close_stream(at);
            }
            (Ok(Message::User(_)), Role::Accepted) => self.close_stream(at),
            (Ok(_), _) => self.fail_stream(now, at),
            (Err(_), _) => return false,
        }
        true
    }

    /// A long message: a push/pull, if it is anything. Only one is read at a time.
    fn begin_exchange(&mut self, now: Instant, at: usize) {
        if matches!(self.streams[at].role, Role::Ping | Role::Free) {
            return self.fail_stream(now, at);
        }
        if !self.start_reading(at) {
            self.streams[at].phase = Phase::Waiting;
            return;
        }
        self.streams[at].phase = Phase::Exchange;
        // The head has what was read so far, label included.
        let len = usize::from(self.streams[at].head_len);
        let head = self.streams[at].head;
        let front = self.label_len();
        self.on_exchange_data(now, at, &head[front..len]);
    }

    /// Another stream's turn to be read, if one waits and nothing is being read.
    fn wake_waiting(&mut self, now: Instant) {
        let waits = |slot: &StreamSlot| slot.phase == Phase::Waiting && slot.wishes & WISH_CLOSE == 0;
        while self.is_idle() {
            let Some(at) = self.streams.iter().position(waits) else { return };
            self.streams[at].wishes |= WISH_RESUME;
            self.begin_exchange(now, at);
        }
    }

    /// Ends a stream that went wrong.
    fn fail_stream(&mut self, now: Instant, at: usize) {
        let slot = &self.streams[at];
        let (role, ticket) = (slot.role, Ticket(slot.number));
        count(&mut self.stats.streams_failed);
        self.close_stream(at);
        match role {
            Role::Join => self.on_join_end(now, ticket, JoinEnd::Failed),
            Role::Leave => self.on_leave_told(now),
            _ => {}
        }
    }

    fn close_stream(&mut self, at: usize) {
        self.drop_image(at);
        let was_read = self.is_reading(at);
        self.streams[at].wishes |= WISH_CLOSE;
        if was_read {
            self.end_exchange();
        }
    }
}

/// Octets in front of an encrypted frame: type and length.
pub(super) const FRAME_HEAD: usize = 5;
/// Longest encrypted frame, as in the reference.
const MAX_FRAME: usize = 20 << 20;

/// The head of an encrypted frame with `plain` octets of plaintext.
fn frame_head(plain: usize) -> [u8; FRAME_HEAD] {
    let len = ((plain + crypt::OVERHEAD) as u32).to_be_bytes();
    [envelope::ENCRYPT, len[0], len[1], len[2], len[3]]
}

/// A compressed message that is whole and small, decompressed.
fn inflated<'s>(message: &[u8], scratch: &'s mut [u8]) -> Option<&'s [u8]> {
    let packed = envelope::compressed(&message[1..]).ok()?;
    let room = scratch.len().saturating_sub(2) / 3;
    let (plain, table) = scratch.split_at_mut(room);
    let len = crate::wire::lzw::inflate(packed, table, plain).ok()?;
    Some(&plain[..len])
}

fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let len = from.len().min(to.len());
    to[..len].copy_from_slice(&from[..len]);
    len
}
