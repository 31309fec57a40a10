//! The push/pull exchange on a stream (gossip spec §6, §9.4).
//!
//! ```text
//! 06 {Join, Nodes, UserStateLen}   Nodes × {Addr, Incarnation, Meta, Name, Port, State, Vsn}   UserStateLen octets
//! user state = 02 {EventLTime, Events, LTime, LeftMembers, QueryLTime, StatusLTimes}
//! ```
//!
//! A remote state may be megabytes long, so [`Parser`] takes it in any pieces, gathers one value at a time in a record
//! buffer that the caller lends, and hands out each part as soon as it is whole. Nothing else is kept.

use core::net::SocketAddr;

use super::{
    Error,
    gossip::{self, Record},
    msgpack::{Reader, Writer},
    serf,
};

/// State of a member on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Answers.
    Alive,
    /// Accused.
    Suspect,
    /// Gone.
    Dead,
    /// Gone by its own wish.
    Left,
}

impl NodeState {
    fn from_wire(state: i64) -> Option<Self> {
        Some(match state {
            0 => NodeState::Alive,
            1 => NodeState::Suspect,
            2 => NodeState::Dead,
            3 => NodeState::Left,
            _ => return None,
        })
    }
}

/// One member in a push/pull.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its address; port 0 means our own gossip port.
    pub address: SocketAddr,
    /// Its encoded tags.
    pub meta: &'a [u8],
    /// Its incarnation.
    pub incarnation: u32,
    /// Its state.
    pub state: NodeState,
    /// Version vector; `None` when fewer than six octets came.
    pub vsn: Option<[u8; 6]>,
}

impl<'a> Node<'a> {
    /// Reads one node map.
    pub fn parse(r: &mut Reader<'a>) -> Result<Self, Error> {
        let (mut record, mut state) = (Record::default(), Some(NodeState::Alive));
        r.fields(|key, r| match key {
            b"Name" => record.name(r),
            b"State" => {
                state = NodeState::from_wire(r.int()?);
                Ok(true)
            }
            _ => record.field(key, r),
        })?;
        Ok(Node {
            name: record.name,
            address: record.address().ok_or(r.error("bad address"))?,
            meta: record.meta,
            incarnation: record.incarnation,
            state: state.ok_or(r.error("unknown member state"))?,
            vsn: record.vsn,
        })
    }

    /// Writes the map.
    pub fn emit(&self, w: &mut Writer<'_>) {
        w.map(7);
        gossip::emit_front(w, self.address.ip(), self.incarnation, self.meta);
        w.text("Name");
        w.text(self.name);
        w.text("Port");
        w.uint(self.address.port().into());
        w.text("State");
        w.uint(self.state as u64);
        gossip::emit_vsn(w, self.vsn);
    }
}

/// The map in front.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The dialler has just started and wants to be told of as a joiner.
    pub join: bool,
    /// Node maps that follow.
    pub nodes: u32,
    /// Octets of user state after them.
    pub user_state_len: u32,
}

/// Nodes that newer peers accept at most.
const MAX_NODES: u32 = 1 << 20;
/// Octets of user state that newer peers accept at most.
const MAX_USER_STATE: u32 = 20 << 20;

impl Header {
    fn parse(r: &mut Reader<'_>) -> Result<Self, Error> {
        let mut header = Header::default();
        r.fields(|key, r| {
            match key {
                b"Join" => header.join = r.bool()?,
                b"Nodes" => header.nodes = r.u32()?,
                b"UserStateLen" => header.user_state_len = r.u32()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if header.nodes > MAX_NODES || header.user_state_len > MAX_USER_STATE {
            return Err(r.error("push/pull larger than anybody sends"));
        }
        Ok(header)
    }

    /// Writes the type octet and the map.
    pub fn emit(&self, w: &mut Writer<'_>) {
        w.byte(gossip::PUSH_PULL);
        w.map(3);
        w.text("Join");
        w.bool(self.join);
        w.text("Nodes");
        w.uint(self.nodes.into());
        w.text("UserStateLen");
        w.uint(self.user_state_len.into());
    }
}

/// The clocks of a user state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// Member clock.
    pub member: u64,
    /// Event clock.
    pub event: u64,
    /// Query clock.
    pub query: u64,
}

/// A part of a push/pull, handed out as soon as it is whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part<'a> {
    /// The header.
    Header(Header),
    /// A node, or the error that its map is. A broken or oversized record does not end the exchange.
    Node(Result<Node<'a>, Error>),
    /// One of the clocks; the others are zero.
    Clock(Clocks),
    /// A name in LeftMembers.
    Left(&'a str),
    /// An entry of StatusLTimes.
    Status {
        /// The member.
        node: &'a str,
        /// When its status last changed.
        ltime: u64,
    },
    /// A used slot of the event buffer, as its map; see [`serf::Events`].
    Events(&'a [u8]),
}

/// Where a [`Parser`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In the header map.
    Header,
    /// In a node map.
    Node,
    /// At the type octet of the user state.
    UserType,
    /// In the head of the user state's map.
    UserMap,
    /// In one of its keys.
    Key,
    /// In a value that is read whole.
    Value(UserKey),
    /// In the head of a list or map whose elements are handed out one by one.
    Head(UserKey),
    /// In such an element.
    Element(UserKey),
    /// Behind the user state's map.
    Rest,
    /// Behind everything.
    Done,
    /// Behind an error; nothing makes sense any more.
    Broken,
}

/// Keys of the user state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UserKey {
    EventLTime,
    Events,
    LTime,
    LeftMembers,
    QueryLTime,
    StatusLTimes,
    Unknown,
}

/// Octets of record buffer that every real record fits in: 722 of a node, 512 of an event and its frame.
pub const RECORD: usize = 1024;

/// Parses what follows the type octet 6, in any pieces.
#[derive(Clone, Debug)]
pub struct Parser {
    at: At,
    nodes_left: u32,
    keys_left: u32,
    elements_left: u32,
    user_left: u32,
    scan: Scanner,
    /// Octets of the value under way; more than the record buffer holds once it is oversized.
    len: usize,
}

impl Default for Parser {
    fn default() -> Self {
        Parser::new()
    }
}

impl Parser {
    /// A parser in front of the header map.
    pub const fn new() -> Self {
        Parser {
            at: At::Header,
            nodes_left: 0,
            keys_left: 0,
            elements_left: 0,
            user_left: 0,
            scan: Scanner::new(1),
            len: 0,
        }
    }

    /// True when header, nodes and user state are all read.
    pub fn is_done(&self) -> bool {
        self.at == At::Done
    }

    /// Takes octets, using `record` (the same memory at every call, [`RECORD`] octets or more) to gather values.
    /// Octets after the end are ignored.
    ///
    /// # Errors
    /// The state is broken beyond its records; nothing more can be read.
    pub fn push(&mut self, record: &mut [u8], mut data: &[u8], sink: &mut dyn FnMut(Part<'_>)) -> Result<(), Error> {
        while !data.is_empty() && self.at != At::Done {
            // Which octets count against the user state's length is decided before they are read.
            let in_user_state = !matches!(self.at, At::Header | At::Node);
            let limit = if in_user_state { self.user_left as usize } else { usize::MAX };
            if limit == 0 {
                return Err(Error { what: "user state shorter than its contents", at: 0 });
            }
            let taken = match self.step(record, &data[..data.len().min(limit)], sink) {
                Ok(taken) => taken,
                Err(error) => {
                    self.at = At::Broken;
                    return Err(error);
                }
            };
            data = &data[taken..];
            if in_user_state {
                self.user_left -= taken as u32;
                if self.at == At::Rest && self.user_left == 0 {
                    self.at = At::Done;
                }
            }
        }
        Ok(())
    }

    /// Reads at least one octet of `piece` and returns how many.
    fn step(&mut self, record: &mut [u8], piece: &[u8], sink: &mut dyn FnMut(Part<'_>)) -> Result<usize, Error> {
        match self.at {
            At::UserType if piece[0] == serf::PUSH_PULL => {
                self.enter(At::UserMap);
                return Ok(1);
            }
            At::UserType => return Err(Error { what: "user state of another kind", at: 0 }),
            At::Broken => return Err(Error { what: "read on after an error", at: 0 }),
            At::Rest | At::Done => return Ok(piece.len()),
            _ => {}
        }
        let head_only = matches!(self.at, At::UserMap | At::Head(_));
        let (taken, whole) = self.scan.push(piece, head_only)?;
        if let Some(room) = record.get_mut(self.len..self.len + taken) {
            room.copy_from_slice(&piece[..taken]);
        }
        self.len += taken;
        if whole {
            let value = record.get(..self.len);
            let next = self.value(value, sink)?;
            self.enter(next);
        }
        Ok(taken)
    }

    fn enter(&mut self, at: At) {
        self.at = at;
        self.len = 0;
        // An entry of StatusLTimes is a name and a number.
        self.scan = Scanner::new(if at == At::Element(UserKey::StatusLTimes) { 2 } else { 1 });
    }

    /// A value is whole (`None`: it was longer than the record buffer). Says what comes next.
    fn value(&mut self, value: Option<&[u8]>, sink: &mut dyn FnMut(Part<'_>)) -> Result<At, Error> {
        const OVERSIZED: Error = Error { what: "record too long", at: 0 };
        let reader = value.map(Reader::new);
        Ok(match self.at {
            At::Header => {
                let header = Header::parse(&mut reader.ok_or(OVERSIZED)?)?;
                sink(Part::Header(header));
                self.nodes_left = header.nodes;
                self.user_left = header.user_state_len;
                self.next_node()
            }
            At::Node => {
                sink(Part::Node(reader.ok_or(OVERSIZED).and_then(|mut r| Node::parse(&mut r))));
                self.nodes_left -= 1;
                self.next_node()
            }
            At::UserMap => {
                self.keys_left = count(value.ok_or(OVERSIZED)?)? / 2;
                self.next_key()
            }
            At::Key => {
                let key = match reader.ok_or(OVERSIZED)?.raw()? {
                    b"EventLTime" => UserKey::EventLTime,
                    b"Events" => UserKey::Events,
                    b"LTime" => UserKey::LTime,
                    b"LeftMembers" => UserKey::LeftMembers,
                    b"QueryLTime" => UserKey::QueryLTime,
                    b"StatusLTimes" => UserKey::StatusLTimes,
                    _ => UserKey::Unknown,
                };
                match key {
                    UserKey::Events | UserKey::LeftMembers | UserKey::StatusLTimes => At::Head(key),
                    _ => At::Value(key),
                }
            }
            At::Value(key) => {
                if key != UserKey::Unknown {
                    let ltime = reader.ok_or(OVERSIZED)?.uint()?;
                    let mut clocks = Clocks::default();
                    match key {
                        UserKey::EventLTime => clocks.event = ltime,
                        UserKey::QueryLTime => clocks.query = ltime,
                        _ => clocks.member = ltime,
                    }
                    sink(Part::Clock(clocks));
                }
                self.next_key()
            }
            At::Head(key) => {
                let values = count(value.ok_or(OVERSIZED)?)?;
                self.elements_left = if key == UserKey::StatusLTimes { values / 2 } else { values };
                self.next_element(key)
            }
            At::Element(key) => {
                if let Some(mut r) = reader {
                    element(key, &mut r, sink);
                }
                self.elements_left -= 1;
                self.next_element(key)
            }
            at @ (At::UserType | At::Rest | At::Done | At::Broken) => at,
        })
    }

    fn next_node(&self) -> At {
        match (self.nodes_left, self.user_left) {
            (0, 0) => At::Done,
            (0, _) => At::UserType,
            _ => At::Node,
        }
    }

    fn next_key(&mut self) -> At {
        match self.keys_left.checked_sub(1) {
            Some(left) => {
                self.keys_left = left;
                At::Key
            }
            None => At::Rest,
        }
    }

    fn next_element(&mut self, key: UserKey) -> At {
        if self.elements_left > 0 { At::Element(key) } else { self.next_key() }
    }
}

/// Hands out one element of a list or map; a broken one is passed over.
fn element(key: UserKey, r: &mut Reader<'_>, sink: &mut dyn FnMut(Part<'_>)) {
    match key {
        UserKey::LeftMembers => {
            if let Ok(node) = gossip::name(r) {
                sink(Part::Left(node));
            }
        }
        UserKey::StatusLTimes => {
            if let (Ok(node), Ok(ltime)) = (gossip::name(r), r.uint()) {
                sink(Part::Status { node, ltime });
            }
        }
        _ => {
            if r.rest() != [0xc0] {
                sink(Part::Events(r.rest()));
            }
        }
    }
}

/// Values announced by a container's head; nil is an empty container.
fn count(head: &[u8]) -> Result<u32, Error> {
    let mut scan = Scanner::new(1);
    scan.push(head, true)?;
    if scan.is_container || head == [0xc0] {
        Ok(scan.pending)
    } else {
        Err(Error { what: "list or map expected", at: 0 })
    }
}

/// Finds where values end without looking at them: a counter of values to come and of octets to step over.
#[derive(Clone, Debug)]
struct Scanner {
    pending: u32,
    body: u64,
    /// Octets of the current head still to come, and what they have said so far.
    head_left: u8,
    head: u64,
    unit: Unit,
    is_container: bool,
}

/// What the number in a head counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// Octets, and one more for an extension's type.
    Octets(u8),
    /// Values: 1 per element, 2 per entry.
    Values(u8),
}

impl Scanner {
    const fn new(values: u32) -> Self {
        Scanner { pending: values, body: 0, head_left: 0, head: 0, unit: Unit::Octets(0), is_container: false }
    }

    /// Returns the octets taken and whether the values, or the head alone, are whole.
    fn push(&mut self, piece: &[u8], head_only: bool) -> Result<(usize, bool), Error> {
        let mut taken = 0;
        while let Some(&byte) = piece.get(taken) {
            if self.body > 0 {
                let step = self.body.min((piece.len() - taken) as u64);
                self.body -= step;
                taken += step as usize;
            } else if self.head_left > 0 {
                taken += 1;
                self.head = (self.head << 8) | u64::from(byte);
                self.head_left -= 1;
                if self.head_left == 0 {
                    self.head_done()?;
                }
            } else {
                taken += 1;
                self.begin(byte)?;
            }
            if self.head_left == 0 && (head_only || (self.body == 0 && self.pending == 0)) {
                return Ok((taken, true));
            }
        }
        Ok((taken, false))
    }

    fn begin(&mut self, byte: u8) -> Result<(), Error> {
        self.pending -= 1;
        let (head_left, head, unit) = match byte {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (0, 0, Unit::Octets(0)),
            0xa0..=0xbf => (0, u64::from(byte & 0x1f), Unit::Octets(0)),
            0xc4..=0xc6 => (1 << (byte - 0xc4), 0, Unit::Octets(0)),
            0xd9..=0xdb => (1 << (byte - 0xd9), 0, Unit::Octets(0)),
            0xc7..=0xc9 => (1 << (byte - 0xc7), 0, Unit::Octets(1)),
            0xd4..=0xd8 => (0, 1 << (byte - 0xd4), Unit::Octets(1)),
            0xca => (0, 4, Unit::Octets(0)),
            0xcb => (0, 8, Unit::Octets(0)),
            0xcc..=0xcf => (0, 1 << (byte - 0xcc), Unit::Octets(0)),
            0xd0..=0xd3 => (0, 1 << (byte - 0xd0), Unit::Octets(0)),
            0x90..=0x9f => (0, u64::from(byte & 0x0f), Unit::Values(1)),
            0x80..=0x8f => (0, u64::from(byte & 0x0f), Unit::Values(2)),
            0xdc | 0xdd => (2 << (byte - 0xdc), 0, Unit::Values(1)),
            0xde | 0xdf => (2 << (byte - 0xde), 0, Unit::Values(2)),
            0xc1 => return Err(Error { what: "reserved msgpack byte", at: 0 }),
        };
        (self.head_left, self.head, self.unit) = (head_left, head, unit);
        if head_left == 0 { self.head_done() } else { Ok(()) }
    }

    fn head_done(&mut self) -> Result<(), Error> {
        match self.unit {
            Unit::Octets(extra) => self.body = self.head + u64::from(extra),
            Unit::Values(each) => {
                self.is_container = true;
                self.pending = u32::try_from(self.head)
                    .ok()
                    .and_then(|n| n.checked_mul(each.into()))
                    .and_then(|n| n.checked_add(self.pending))
                    .ok_or(Error { what: "too many values", at: 0 })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Vec<u8> {
        let node = Node {
            name: "n1",
            address: "10.0.0.1:8301".parse().unwrap(),
            meta: b"\xff\x80",
            incarnation: 3,
            state: NodeState::Left,
            vsn: Some([1, 5, 2, 2, 5, 4]),
        };
        let state = serf::UserState { clocks: Clocks { member: 300, event: 2, query: 1 } };
        let statuses = [("n1", 7u64), ("n2", 0)];
        let user = |w: &mut Writer<'_>| {
            state.emit_front(w, 1);
            w.map(1);
            w.text("LTime");
            w.uint(1);
            state.emit_left(w, 1);
            w.text("n1");
            state.emit_statuses(w, 2);
            for (name, ltime) in statuses {
                w.text(name);
                w.uint(ltime);
            }
        };
        let header = Header { join: true, nodes: 1, user_state_len: Writer::measure(user) as u32 };
        let emit = |w: &mut Writer<'_>| {
            header.emit(w);
            node.emit(w);
            user(w);
        };
        let mut out = vec![0; Writer::measure(emit)];
        emit(&mut Writer::new(&mut out));
        out
    }

    fn parts(data: &[u8], piece: usize, room: usize) -> (Vec<String>, bool) {
        let (mut parser, mut record, mut seen) = (Parser::new(), vec![0; room], Vec::new());
        for piece in data.chunks(piece) {
            if parser.push(&mut record, piece, &mut |part| seen.push(format!("{part:?}"))).is_err() {
                return (seen, false);
            }
        }
        (seen, parser.is_done())
    }

    #[test]
    fn any_pieces_give_the_same_parts() {
        let data = &example()[1..];
        let (whole, done) = parts(data, data.len(), RECORD);
        assert!(done);
        assert_eq!(whole.len(), 1 + 1 + 3 + 1 + 1 + 2, "{whole:?}");
        for piece in 1..40 {
            assert_eq!(parts(data, piece, RECORD), (whole.clone(), true));
        }
        for len in 0..data.len() {
            assert!(!parts(&data[..len], 5, RECORD).1);
        }
    }

    #[test]
    fn an_oversized_record_is_passed_over() {
        let (seen, done) = parts(&example()[1..], 9, 40);
        assert!(done);
        assert!(seen[1].contains("record too long"), "{seen:?}");
    }

    #[test]
    fn flipped_octets_are_survived() {
        let data = &example()[1..];
        for i in 0..data.len() {
            for bit in 0..8 {
                let mut bad = data.to_vec();
                bad[i] ^= 1 << bit;
                let _ = parts(&bad, 7, RECORD);
            }
        }
    }
}
