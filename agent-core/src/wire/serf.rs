//! Serf's messages (gossip spec §9.1): a type octet and a msgpack map inside memberlist's user message (type 8).
//!
//! | type | message | keys |
//! |---|---|---|
//! | 0 | leave intent | LTime, Node, Prune |
//! | 1 | join intent | LTime, Node |
//! | 2 | push/pull user state | see [`super::push_pull`] |
//! | 3 | user event | CC, LTime, Name, Payload |
//! | 4 | query | Addr, Filters, Flags, ID, LTime, Name, Payload, Port, RelayFactor, SourceNode, Timeout |
//! | 5 | query response | Flags, From, ID, LTime, Payload |
//! | 6 | conflict response (in a payload) | a member, or nil |
//! | 7 | key request (in a payload) | Key |
//! | 8 | key response (in a payload) | Keys, Message, PrimaryKey, Result |
//! | 9 | relay | {DestAddr {IP, Port, Zone}, DestName}, then a complete message |

use core::net::SocketAddr;

use super::{
    Error,
    gossip::{emit_ip, ip, name},
    msgpack::{Reader, Writer},
    push_pull::Clocks,
};

/// Type octet of a leave intent.
pub const LEAVE: u8 = 0;
/// Type octet of a join intent.
pub const JOIN: u8 = 1;
/// Type octet of a push/pull's user state.
pub const PUSH_PULL: u8 = 2;
/// Type octet of a user event.
pub const USER_EVENT: u8 = 3;
/// Type octet of a query.
pub const QUERY: u8 = 4;
/// Type octet of a query response.
pub const QUERY_RESPONSE: u8 = 5;
/// Type octet of a conflict response.
pub const CONFLICT_RESPONSE: u8 = 6;
/// Type octet of a key request.
pub const KEY_REQUEST: u8 = 7;
/// Type octet of a key response.
pub const KEY_RESPONSE: u8 = 8;
/// Type octet of a relay.
pub const RELAY: u8 = 9;

/// The asker wants an ack.
pub const FLAG_ACK: u32 = 1;
/// Do not gossip the query on.
pub const FLAG_NO_BROADCAST: u32 = 2;

/// Hard cap of the reference on an encoded user event.
pub const MAX_EVENT: usize = 9216;
/// Largest encoded query.
pub const MAX_QUERY: usize = 1024;
/// Largest encoded response.
pub const MAX_RESPONSE: usize = 1024;

/// One serf message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SerfMessage<'a> {
    /// A member will leave, or is made to.
    Leave(Intent<'a>),
    /// A member joined.
    Join(Intent<'a>),
    /// Something for the application.
    UserEvent(UserEvent<'a>),
    /// A question to everybody.
    Query(Query<'a>),
    /// An answer or ack.
    QueryResponse(QueryResponse<'a>),
    /// A message to pass on.
    Relay(Relay<'a>),
}

/// A join or leave intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent<'a> {
    /// Lamport time of the wish.
    pub ltime: u64,
    /// Whom it is about.
    pub node: &'a str,
    /// Erase the member too (leave only).
    pub prune: bool,
}

/// A user event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserEvent<'a> {
    /// Applications may coalesce.
    pub coalesce: bool,
    /// Lamport time of the event clock.
    pub ltime: u64,
    /// Name.
    pub name: &'a str,
    /// Payload.
    pub payload: &'a [u8],
}

/// A query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Query<'a> {
    /// Where answers go.
    pub address: SocketAddr,
    /// Filters, still encoded: a list of octet strings.
    pub filters: Filters<'a>,
    /// [`FLAG_ACK`], [`FLAG_NO_BROADCAST`].
    pub flags: u32,
    /// Tells queries of one Lamport time apart.
    pub id: u32,
    /// Lamport time of the query clock.
    pub ltime: u64,
    /// Name; internal ones begin with `_serf_`.
    pub name: &'a str,
    /// Payload.
    pub payload: &'a [u8],
    /// Members that shall relay each answer.
    pub relay_factor: u8,
    /// The asker's name; old peers leave it out.
    pub source_node: &'a str,
    /// Answers are wanted this long, in nanoseconds.
    pub timeout_ns: u64,
}

/// A query's filters, still encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filters<'a>(&'a [u8]);

/// One filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter<'a> {
    /// Only these members: an encoded list of names.
    Nodes(&'a [u8]),
    /// Only members whose tag matches a regular expression.
    Tag {
        /// The tag.
        tag: &'a str,
        /// The expression, unanchored.
        expr: &'a str,
    },
    /// Something newer; nobody who does not know it may answer.
    Unknown,
}

impl<'a> Filters<'a> {
    /// No filters.
    pub const NONE: Filters<'static> = Filters(&[0xc0]);

    /// The filters in order; a broken one reads as unknown.
    pub fn iter(self) -> impl Iterator<Item = Filter<'a>> {
        let mut r = Reader::new(self.0);
        let mut left = r.array().unwrap_or(0);
        core::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let filter = r.raw().unwrap_or(&[]);
            Some(parse_filter(filter).unwrap_or(Filter::Unknown))
        })
    }

    /// The encoded list.
    pub fn as_octets(self) -> &'a [u8] {
        self.0
    }
}

fn parse_filter(filter: &[u8]) -> Option<Filter<'_>> {
    let (&kind, body) = filter.split_first()?;
    let mut r = Reader::new(body);
    match kind {
        0 => Some(Filter::Nodes(body)),
        1 => {
            let (mut tag, mut expr) = ("", "");
            r.fields(|key, r| {
                match key {
                    b"Expr" => expr = r.text()?,
                    b"Tag" => tag = r.text()?,
                    _ => return Ok(false),
                }
                Ok(true)
            })
            .ok()?;
            Some(Filter::Tag { tag, expr })
        }
        _ => None,
    }
}

/// The names of a [`Filter::Nodes`].
pub fn filter_names(list: &[u8]) -> impl Iterator<Item = &str> {
    let mut r = Reader::new(list);
    let mut left = r.array().unwrap_or(0);
    core::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        r.text().ok()
    })
}

/// An answer to a query, or an ack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryResponse<'a> {
    /// [`FLAG_ACK`]: an ack.
    pub flags: u32,
    /// Who answers.
    pub from: &'a str,
    /// The query's id.
    pub id: u32,
    /// The query's Lamport time.
    pub ltime: u64,
    /// The answer; an ack has none.
    pub payload: &'a [u8],
}

/// A message to pass on to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relay<'a> {
    /// To whom.
    pub to: SocketAddr,
    /// Its name; may be empty.
    pub name: &'a str,
    /// The complete message, its type octet first.
    pub message: &'a [u8],
}

/// Reads a message, its type octet first.
pub fn parse(message: &[u8]) -> Result<SerfMessage<'_>, Error> {
    let (&kind, body) = message.split_first().ok_or(Error { what: "empty serf message", at: 0 })?;
    let mut r = Reader::new(body);
    Ok(match kind {
        LEAVE => SerfMessage::Leave(parse_intent(&mut r)?),
        JOIN => SerfMessage::Join(parse_intent(&mut r)?),
        USER_EVENT => SerfMessage::UserEvent(UserEvent::parse(&mut r)?),
        QUERY => SerfMessage::Query(parse_query(&mut r)?),
        QUERY_RESPONSE => SerfMessage::QueryResponse(parse_response(&mut r)?),
        RELAY => SerfMessage::Relay(parse_relay(&mut r)?),
        _ => return Err(Error { what: "unknown serf message", at: 0 }),
    })
}

fn parse_intent<'a>(r: &mut Reader<'a>) -> Result<Intent<'a>, Error> {
    let mut intent = Intent { ltime: 0, node: "", prune: false };
    r.fields(|key, r| {
        match key {
            b"LTime" => intent.ltime = r.uint()?,
            b"Node" => intent.node = name(r)?,
            b"Prune" => intent.prune = r.bool()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(intent)
}

impl Intent<'_> {
    /// Writes a leave intent.
    pub fn emit_leave(&self, w: &mut Writer<'_>) {
        w.byte(LEAVE);
        w.map(3);
        self.emit_front(w);
        w.text("Prune");
        w.bool(self.prune);
    }

    /// Writes a join intent.
    pub fn emit_join(&self, w: &mut Writer<'_>) {
        w.byte(JOIN);
        w.map(2);
        self.emit_front(w);
    }

    fn emit_front(&self, w: &mut Writer<'_>) {
        w.text("LTime");
        w.uint(self.ltime);
        w.text("Node");
        w.text(self.node);
    }
}

impl<'a> UserEvent<'a> {
    fn parse(r: &mut Reader<'a>) -> Result<Self, Error> {
        let mut event = UserEvent { coalesce: false, ltime: 0, name: "", payload: &[] };
        r.fields(|key, r| {
            match key {
                b"CC" => event.coalesce = r.bool()?,
                b"LTime" => event.ltime = r.uint()?,
                b"Name" => event.name = r.text()?,
                b"Payload" => event.payload = r.raw()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(event)
    }

    /// Writes the message.
    pub fn emit(&self, w: &mut Writer<'_>) {
        w.byte(USER_EVENT);
        w.map(4);
        w.text("CC");
        w.bool(self.coalesce);
        w.text("LTime");
        w.uint(self.ltime);
        w.text("Name");
        w.text(self.name);
        w.text("Payload");
        w.raw(self.payload);
    }
}

/// The events in one slot of a push/pull's event buffer: `{Events: [{Name, Payload}…], LTime}`.
#[derive(Clone, Copy, Debug)]
pub struct Events<'a> {
    /// Their Lamport time.
    pub ltime: u64,
    list: &'a [u8],
}

impl<'a> Events<'a> {
    /// Reads a slot's map.
    pub fn parse(slot: &'a [u8]) -> Result<Self, Error> {
        let mut events = Events { ltime: 0, list: &[0xc0] };
        Reader::new(slot).fields(|key, r| {
            match key {
                b"LTime" => events.ltime = r.uint()?,
                b"Events" => events.list = r.skip()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(events)
    }

    /// Writes the slot of the `events` of one Lamport time.
    pub fn emit<'e>(w: &mut Writer<'_>, ltime: u64, events: impl ExactSizeIterator<Item = UserEvent<'e>>) {
        w.map(2);
        w.text("Events");
        w.array(events.len());
        for event in events {
            w.map(2);
            w.text("Name");
            w.text(event.name);
            w.text("Payload");
            w.raw(event.payload);
        }
        w.text("LTime");
        w.uint(ltime);
    }

    /// The events; stops at a broken one.
    pub fn iter(self) -> impl Iterator<Item = UserEvent<'a>> {
        let mut r = Reader::new(self.list);
        let mut left = r.array().unwrap_or(0);
        core::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let event = UserEvent::parse(&mut r).ok()?;
            Some(UserEvent { ltime: self.ltime, ..event })
        })
    }
}

fn parse_query<'a>(r: &mut Reader<'a>) -> Result<Query<'a>, Error> {
    let (mut from, mut port, mut filters) = (None, 0, Filters::NONE);
    let (mut flags, mut id, mut ltime, mut relay_factor, mut timeout_ns) = (0, 0, 0, 0, 0);
    let (mut query_name, mut payload, mut source_node) = ("", &[][..], "");
    r.fields(|key, r| {
        match key {
            b"Addr" => from = ip(r.raw()?),
            b"Filters" => filters = Filters(r.skip()?),
            b"Flags" => flags = r.u32()?,
            b"ID" => id = r.u32()?,
            b"LTime" => ltime = r.uint()?,
            b"Name" => query_name = r.text()?,
            b"Payload" => payload = r.raw()?,
            b"Port" => port = r.u16()?,
            b"RelayFactor" => relay_factor = r.u8()?,
            b"SourceNode" => source_node = name(r)?,
            // A negative timeout has passed already.
            b"Timeout" => timeout_ns = r.int()?.max(0) as u64,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let address = SocketAddr::new(from.ok_or(r.error("bad address"))?, port);
    Ok(Query { address, filters, flags, id, ltime, name: query_name, payload, relay_factor, source_node, timeout_ns })
}

impl Query<'_> {
    /// Writes the message.
    pub fn emit(&self, w: &mut Writer<'_>) {
        w.byte(QUERY);
        w.map(11);
        w.text("Addr");
        emit_ip(w, self.address.ip());
        w.text("Filters");
        w.octets(self.filters.0);
        w.text("Flags");
        w.uint(self.flags.into());
        w.text("ID");
        w.uint(self.id.into());
        w.text("LTime");
        w.uint(self.ltime);
        w.text("Name");
        w.text(self.name);
        w.text("Payload");
        if self.payload.is_empty() {
            w.nil()
        } else {
            w.raw(self.payload)
        }
        w.text("Port");
        w.uint(self.address.port().into());
        w.text("RelayFactor");
        w.uint(self.relay_factor.into());
        w.text("SourceNode");
        w.text(self.source_node);
        w.text("Timeout");
        w.uint(self.timeout_ns);
    }
}

fn parse_response<'a>(r: &mut Reader<'a>) -> Result<QueryResponse<'a>, Error> {
    let mut response = QueryResponse { flags: 0, from: "", id: 0, ltime: 0, payload: &[] };
    r.fields(|key, r| {
        match key {
            b"Flags" => response.flags = r.u32()?,
            b"From" => response.from = name(r)?,
            b"ID" => response.id = r.u32()?,
            b"LTime" => response.ltime = r.uint()?,
            b"Payload" => response.payload = r.raw()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(response)
}

impl QueryResponse<'_> {
    /// Writes the message.
    pub fn emit(&self, w: &mut Writer<'_>) {
        w.byte(QUERY_RESPONSE);
        w.map(5);
        w.text("Flags");
        w.uint(self.flags.into());
        w.text("From");
        w.text(self.from);
        w.text("ID");
        w.uint(self.id.into());
        w.text("LTime");
        w.uint(self.ltime);
        w.text("Payload");
        if self.payload.is_empty() { w.nil() } else { w.raw(self.payload) }
    }
}

fn parse_relay<'a>(r: &mut Reader<'a>) -> Result<Relay<'a>, Error> {
    let (mut to, mut port, mut dest) = (None, 0, "");
    r.fields(|key, r| {
        match key {
            b"DestAddr" => r.fields(|key, r| {
                match key {
                    b"IP" => to = ip(r.raw()?),
                    b"Port" => port = r.u16()?,
                    _ => return Ok(false),
                }
                Ok(true)
            })?,
            b"DestName" => dest = name(r)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let to = SocketAddr::new(to.ok_or(r.error("bad address"))?, port);
    Ok(Relay { to, name: dest, message: r.rest() })
}

impl Relay<'_> {
    /// Writes the message.
    pub fn emit(&self, w: &mut Writer<'_>) {
        w.byte(RELAY);
        w.map(2);
        w.text("DestAddr");
        w.map(3);
        w.text("IP");
        emit_ip(w, self.to.ip());
        w.text("Port");
        w.uint(self.to.port().into());
        w.text("Zone");
        w.text("");
        w.text("DestName");
        w.text(self.name);
        w.octets(self.message);
    }
}

/// The key in a key request's payload (type octet 7); empty for a list request.
pub fn parse_key_request(payload: &[u8]) -> Result<&[u8], Error> {
    let Some((&KEY_REQUEST, body)) = payload.split_first() else {
        return Err(Error { what: "not a key request", at: 0 });
    };
    let (mut r, mut key_octets) = (Reader::new(body), &[][..]);
    r.fields(|key, r| {
        if key == b"Key" {
            key_octets = r.raw()?;
        }
        Ok(key == b"Key")
    })?;
    Ok(key_octets)
}

/// Writes a key request; a request to list them has an empty key.
pub fn emit_key_request(w: &mut Writer<'_>, key: &[u8]) {
    w.byte(KEY_REQUEST);
    w.map(1);
    w.text("Key");
    w.raw(key);
}

/// Writes a key response. `keys` are base64 texts; nil when the request was not to list them.
pub fn emit_key_response(w: &mut Writer<'_>, keys: Option<&[&str]>, message: &str, primary: &str, result: bool) {
    w.byte(KEY_RESPONSE);
    w.map(4);
    w.text("Keys");
    match keys {
        Some(keys) => {
            w.array(keys.len());
            keys.iter().for_each(|key| w.text(key));
        }
        None => w.nil(),
    }
    w.text("Message");
    w.text(message);
    w.text("PrimaryKey");
    w.text(primary);
    w.text("Result");
    w.bool(result);
}

/// The user state that an agent sends in a push/pull. Of the event buffer it has the used slots only: real agents send
/// their 512 with nil between them, and accept fewer (gossip spec §9.4).
#[derive(Clone, Copy, Debug)]
pub struct UserState {
    /// Our clocks.
    pub clocks: Clocks,
}

impl UserState {
    /// Writes all up to the `events` slots of the event buffer, which the caller writes next.
    pub fn emit_front(&self, w: &mut Writer<'_>, events: usize) {
        w.byte(PUSH_PULL);
        w.map(6);
        w.text("EventLTime");
        w.uint(self.clocks.event);
        w.text("Events");
        w.array(events);
    }

    /// Writes what follows them, up to the names of `left` left members, which the caller writes next.
    pub fn emit_left(&self, w: &mut Writer<'_>, left: usize) {
        w.text("LTime");
        w.uint(self.clocks.member);
        w.text("LeftMembers");
        w.array(left);
    }

    /// Writes what follows them, up to the `members` pairs of name and Lamport time, which the caller writes next.
    pub fn emit_statuses(&self, w: &mut Writer<'_>, members: usize) {
        w.text("QueryLTime");
        w.uint(self.clocks.query);
        w.text("StatusLTimes");
        w.map(members);
    }
}
