//! memberlist's own messages (gossip spec §7.1). Each is a type octet and a msgpack map with sorted keys.
//!
//! | type | message | keys |
//! |---|---|---|
//! | 0 | ping | Node, SeqNo, SourceAddr?, SourceNode?, SourcePort? |
//! | 1 | indirect ping | Nack, Node, Port, SeqNo, SourceAddr?, SourceNode?, SourcePort?, Target |
//! | 2 | ack | Payload, SeqNo |
//! | 3 | suspect | From, Incarnation, Node |
//! | 4 | alive | Addr, Incarnation, Meta, Node, Port, Vsn |
//! | 5 | dead | From, Incarnation, Node |
//! | 11 | nack | SeqNo |
//! | 13 | err (streams) | Error |

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    Error, envelope,
    msgpack::{Reader, Writer},
};

/// Type octet of a ping.
pub const PING: u8 = 0;
/// Type octet of an indirect ping.
pub const INDIRECT_PING: u8 = 1;
/// Type octet of an ack.
pub const ACK: u8 = 2;
/// Type octet of a suspect message.
pub const SUSPECT: u8 = 3;
/// Type octet of an alive message.
pub const ALIVE: u8 = 4;
/// Type octet of a dead message.
pub const DEAD: u8 = 5;
/// Type octet of a push/pull.
pub const PUSH_PULL: u8 = 6;
/// Type octet of a nack.
pub const NACK: u8 = 11;
/// Type octet of an error on a stream.
pub const ERR: u8 = 13;

/// Longest name we keep. Newer serf enforces 128; older peers have no limit, and more would only cost memory.
pub const MAX_NAME: usize = 128;

/// One message of a datagram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Message<'a> {
    /// Are you there?
    Ping(Ping<'a>),
    /// Ask somebody else whether they are there.
    IndirectPing(IndirectPing<'a>),
    /// I am here.
    Ack(Ack<'a>),
    /// The one you asked about did not answer me.
    Nack {
        /// The indirect ping's number.
        seq: u32,
    },
    /// Somebody does not answer somebody.
    Suspect(Claim<'a>),
    /// Somebody is there, at this address, with these tags.
    Alive(Alive<'a>),
    /// Somebody is gone.
    Dead(Claim<'a>),
    /// A serf message: its type octet and body.
    User(&'a [u8]),
}

/// Ping. `source` is where the ack shall go; without it, to the datagram's source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ping<'a> {
    /// Whom the sender means; empty: whoever is there.
    pub node: &'a str,
    /// Number to answer with.
    pub seq: u32,
    /// Where the ack goes.
    pub source: Option<SocketAddr>,
    /// The sender's name; may be empty.
    pub source_node: &'a str,
}

/// Indirect ping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IndirectPing<'a> {
    /// The one to ping.
    pub node: &'a str,
    /// Its address; port 0 means our own gossip port.
    pub target: SocketAddr,
    /// Number to answer with.
    pub seq: u32,
    /// Whether the sender understands a nack.
    pub nack: bool,
    /// Where the answer goes.
    pub source: Option<SocketAddr>,
    /// The sender's name; may be empty.
    pub source_node: &'a str,
}

/// Ack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ack<'a> {
    /// The ping's number.
    pub seq: u32,
    /// Serf's coordinate (see [`super::coordinate`]) or empty.
    pub payload: &'a [u8],
}

/// A suspect or dead message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Claim<'a> {
    /// Whom it is about.
    pub node: &'a str,
    /// The incarnation it is about.
    pub incarnation: u32,
    /// Who says so.
    pub from: &'a str,
}

/// An alive message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alive<'a> {
    /// Whom it is about.
    pub node: &'a str,
    /// Its address; port 0 means our own gossip port.
    pub address: SocketAddr,
    /// Its encoded tags.
    pub meta: &'a [u8],
    /// Its incarnation.
    pub incarnation: u32,
    /// Version vector: memberlist min, max, current, delegate min, max, current. `None`: fewer than six octets came.
    pub vsn: Option<[u8; 6]>,
}

/// Reads a message, its type octet first.
pub fn parse(message: &[u8]) -> Result<Message<'_>, Error> {
    let (&kind, body) = message.split_first().ok_or(Error { what: "empty message", at: 0 })?;
    let mut r = Reader::new(body);
    Ok(match kind {
        PING => Message::Ping(parse_ping(&mut r)?),
        INDIRECT_PING => Message::IndirectPing(parse_indirect(&mut r)?),
        ACK => Message::Ack(parse_ack(&mut r)?),
        NACK => Message::Nack { seq: parse_ack(&mut r)?.seq },
        SUSPECT => Message::Suspect(parse_claim(&mut r)?),
        ALIVE => Message::Alive(parse_alive(&mut r)?),
        DEAD => Message::Dead(parse_claim(&mut r)?),
        envelope::USER => Message::User(body),
        _ => return Err(Error { what: "unknown message type", at: 0 }),
    })
}

/// An address of 4 or 16 octets; a v4-mapped one counts as v4.
pub fn ip(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(Ipv4Addr::from(v4).into());
    }
    let v6 = Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?);
    Some(v6.to_canonical())
}

/// The raw value of an address, 4 or 16 octets.
pub fn emit_ip(w: &mut Writer<'_>, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => w.raw(&v4.octets()),
        IpAddr::V6(v6) => w.raw(&v6.octets()),
    }
}

/// A name of a member: short enough to keep, and text.
pub(super) fn name<'a>(r: &mut Reader<'a>) -> Result<&'a str, Error> {
    let start = *r;
    let name = r.text()?;
    if name.len() > MAX_NAME { Err(start.error("name too long")) } else { Ok(name) }
}

/// The three keys that say where an answer goes.
#[derive(Default)]
struct Source<'a> {
    ip: Option<IpAddr>,
    port: u16,
    node: &'a str,
}

impl<'a> Source<'a> {
    fn field(&mut self, key: &[u8], r: &mut Reader<'a>) -> Result<bool, Error> {
        match key {
            b"SourceAddr" => self.ip = ip(r.raw()?),
            b"SourcePort" => self.port = r.u16()?,
            b"SourceNode" => self.node = name(r)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn address(&self) -> Option<SocketAddr> {
        self.ip.filter(|_| self.port != 0).map(|ip| SocketAddr::new(ip, self.port))
    }
}

fn parse_ping<'a>(r: &mut Reader<'a>) -> Result<Ping<'a>, Error> {
    let (mut node, mut seq, mut source) = ("", 0, Source::default());
    r.fields(|key, r| {
        match key {
            b"Node" => node = name(r)?,
            b"SeqNo" => seq = r.u32()?,
            _ => return source.field(key, r),
        }
        Ok(true)
    })?;
    Ok(Ping { node, seq, source: source.address(), source_node: source.node })
}

fn parse_indirect<'a>(r: &mut Reader<'a>) -> Result<IndirectPing<'a>, Error> {
    let (mut node, mut seq, mut source) = ("", 0, Source::default());
    let (mut nack, mut port, mut target) = (false, 0, None);
    r.fields(|key, r| {
        match key {
            b"Nack" => nack = r.bool()?,
            b"Node" => node = name(r)?,
            b"Port" => port = r.u16()?,
            b"SeqNo" => seq = r.u32()?,
            b"Target" => target = ip(r.raw()?),
            _ => return source.field(key, r),
        }
        Ok(true)
    })?;
    let target = SocketAddr::new(target.ok_or(r.error("bad address"))?, port);
    Ok(IndirectPing { node, target, seq, nack, source: source.address(), source_node: source.node })
}

fn parse_ack<'a>(r: &mut Reader<'a>) -> Result<Ack<'a>, Error> {
    let mut ack = Ack { seq: 0, payload: &[] };
    r.fields(|key, r| {
        match key {
            b"SeqNo" => ack.seq = r.u32()?,
            b"Payload" => ack.payload = r.raw()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(ack)
}

fn parse_claim<'a>(r: &mut Reader<'a>) -> Result<Claim<'a>, Error> {
    let mut claim = Claim { node: "", incarnation: 0, from: "" };
    r.fields(|key, r| {
        match key {
            b"Incarnation" => claim.incarnation = r.u32()?,
            b"Node" => claim.node = name(r)?,
            b"From" => claim.from = name(r)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(claim)
}

fn parse_alive<'a>(r: &mut Reader<'a>) -> Result<Alive<'a>, Error> {
    let mut record = Record::default();
    r.fields(|key, r| if key == b"Node" { record.name(r) } else { record.field(key, r) })?;
    let address = record.address().ok_or(r.error("bad address"))?;
    Ok(Alive { node: record.name, address, meta: record.meta, incarnation: record.incarnation, vsn: record.vsn })
}

/// What an alive message and a push/pull node state have in common.
#[derive(Default)]
pub(super) struct Record<'a> {
    pub name: &'a str,
    pub ip: Option<IpAddr>,
    pub port: u16,
    pub meta: &'a [u8],
    pub incarnation: u32,
    pub vsn: Option<[u8; 6]>,
}

impl<'a> Record<'a> {
    pub fn name(&mut self, r: &mut Reader<'a>) -> Result<bool, Error> {
        self.name = name(r)?;
        Ok(true)
    }

    pub fn field(&mut self, key: &[u8], r: &mut Reader<'a>) -> Result<bool, Error> {
        match key {
            b"Addr" => self.ip = ip(r.raw()?),
            b"Incarnation" => self.incarnation = r.u32()?,
            b"Meta" => {
                let start = *r;
                self.meta = r.raw()?;
                if self.meta.len() > super::tags::MAX_META {
                    return Err(start.error("meta too long"));
                }
            }
            b"Port" => self.port = r.u16()?,
            b"Vsn" => self.vsn = vsn(r)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub fn address(&self) -> Option<SocketAddr> {
        self.ip.map(|ip| SocketAddr::new(ip, self.port))
    }
}

/// A version vector: raw octets, or a list as some encoders write octets.
fn vsn(r: &mut Reader<'_>) -> Result<Option<[u8; 6]>, Error> {
    if r.peek()? == super::msgpack::Kind::Array {
        let len = r.array()?;
        let mut vsn = [0; 6];
        for i in 0..len {
            let octet = r.u8()?;
            if let Some(place) = vsn.get_mut(i) {
                *place = octet;
            }
        }
        return Ok((len >= 6).then_some(vsn));
    }
    Ok(r.raw()?.first_chunk::<6>().copied())
}

fn emit_source(w: &mut Writer<'_>, source: Option<SocketAddr>, node: &str) {
    if let Some(source) = source {
        w.text("SourceAddr");
        emit_ip(w, source.ip());
    }
    if !node.is_empty() {
        w.text("SourceNode");
        w.text(node);
    }
    if let Some(source) = source {
        w.text("SourcePort");
        w.uint(source.port().into());
    }
}

fn source_keys(source: Option<SocketAddr>, node: &str) -> usize {
    2 * usize::from(source.is_some()) + usize::from(!node.is_empty())
}

impl Ping<'_> {
    /// Writes the message.
    pub fn emit(&self, w: &mut Writer<'_>) {
        w.byte(PING);
        w.map(2 + source_keys(self.source, self.source_node));
        w.text("Node");
        w.text(self.node);
        w.text("SeqNo");
        w.uint(self.seq.into());
        emit_source(w, self.source, self.source_node);
    }
}

impl IndirectPing<'_> {
    /// Writes the message.
    pub fn emit(&self, w: &mut Writer<'_>) {
        w.byte(INDIRECT_PING);
        w.map(5 + source_keys(self.source, self.source_node));
        w.text("Nack");
        w.bool(self.nack);
        w.text("Node");
        w.text(self.node);
        w.text("Port");
        w.uint(self.target.port().into());
        w.text("SeqNo");
        w.uint(self.seq.into());
        emit_source(w, self.source, self.source_node);
        w.text("Target");
        emit_ip(w, self.target.ip());
    }
}

impl Ack<'_> {
    /// Writes the message. No payload is nil, as Go writes it.
    pub fn emit(&self, w: &mut Writer<'_>) {
        w.byte(ACK);
        w.map(2);
        w.text("Payload");
        if self.payload.is_empty() {
            w.nil()
        } else {
            w.raw(self.payload)
        }
        w.text("SeqNo");
        w.uint(self.seq.into());
    }
}

/// Writes a nack.
pub fn emit_nack(w: &mut Writer<'_>, seq: u32) {
    w.byte(NACK);
    w.map(1);
    w.text("SeqNo");
    w.uint(seq.into());
}

/// Writes an error for a stream.
pub fn emit_err(w: &mut Writer<'_>, error: &str) {
    w.byte(ERR);
    w.map(1);
    w.text("Error");
    w.text(error);
}

impl Claim<'_> {
    /// Writes the message as `kind`: [`SUSPECT`] or [`DEAD`].
    pub fn emit(&self, w: &mut Writer<'_>, kind: u8) {
        w.byte(kind);
        w.map(3);
        w.text("From");
        w.text(self.from);
        w.text("Incarnation");
        w.uint(self.incarnation.into());
        w.text("Node");
        w.text(self.node);
    }
}

impl Alive<'_> {
    /// Writes the message. A missing version vector is nil.
    pub fn emit(&self, w: &mut Writer<'_>) {
        w.byte(ALIVE);
        w.map(6);
        emit_front(w, self.address.ip(), self.incarnation, self.meta);
        w.text("Node");
        w.text(self.node);
        w.text("Port");
        w.uint(self.address.port().into());
        emit_vsn(w, self.vsn);
    }
}

pub(super) fn emit_front(w: &mut Writer<'_>, ip: IpAddr, incarnation: u32, meta: &[u8]) {
    w.text("Addr");
    emit_ip(w, ip);
    w.text("Incarnation");
    w.uint(incarnation.into());
    w.text("Meta");
    w.raw(meta);
}

pub(super) fn emit_vsn(w: &mut Writer<'_>, vsn: Option<[u8; 6]>) {
    w.text("Vsn");
    match vsn {
        Some(vsn) => w.raw(&vsn),
        None => w.nil(),
    }
}
