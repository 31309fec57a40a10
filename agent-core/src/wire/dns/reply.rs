//! A DNS reply being written.
//!
//! ```text
//! buffer   | header | question | answers … authority … →   free   ← … additional | room for OPT |
//!                                                     head        tail
//! ```
//!
//! Additional records belong to the answer they explain and are written together with it, so that an answer that does
//! not fit goes with its additional records. They therefore grow from the far end and are moved down in
//! [`Reply::finish`]; nothing points into them, so moving is harmless.

use core::net::IpAddr;

use super::{Edns, HEADER, Query, Rcode, flag, name_len, rtype};

/// Label offsets remembered for compression. The first few names of a reply hold every suffix worth pointing at.
const SEEN: usize = 16;

/// Words of the filter that spares most searches for repeated answers.
const FILTER: usize = 32;

/// Largest offset a compression pointer can name (RFC 1035 §4.1.4).
const MAX_POINTER: usize = 0x3fff;

/// A name in wire form without compression, at most 255 octets.
#[derive(Clone)]
pub struct WireName {
    octets: [u8; 255],
    len: u8,
}

impl WireName {
    /// The name made of dotted texts in a row, e.g. `["n1", "node", "dc1", "consul"]`. `None` when a label is empty or
    /// longer than 63 octets or the whole is longer than 255: such a name cannot be asked for either.
    pub fn new(parts: &[&str]) -> Option<Self> {
        let mut name = WireName { octets: [0; 255], len: 0 };
        for part in parts {
            for label in part.strip_suffix('.').unwrap_or(part).split('.') {
                let len = u8::try_from(label.len()).ok().filter(|len| (1..64).contains(len))?;
                name.push(&[len])?;
                name.push(label.as_bytes())?;
            }
        }
        name.push(&[0])?;
        Some(name)
    }

    /// The wire form.
    pub fn as_octets(&self) -> &[u8] {
        self.octets.get(..usize::from(self.len)).unwrap_or(&[])
    }

    fn push(&mut self, octets: &[u8]) -> Option<()> {
        let end = usize::from(self.len) + octets.len();
        self.octets.get_mut(usize::from(self.len)..end)?.copy_from_slice(octets);
        self.len = end as u8;
        Some(())
    }
}

/// Whose record it is.
#[derive(Clone, Copy)]
pub enum Owner<'a> {
    /// The name asked for, in the asker's spelling.
    Question,
    /// Another name.
    Name(&'a WireName),
}

/// What a record says.
#[derive(Clone, Copy)]
pub enum Data<'a> {
    /// A or AAAA.
    Address(IpAddr),
    /// NS, CNAME or PTR.
    Name(u16, &'a WireName),
    /// SRV (RFC 2782), priority 1 as Consul sends it.
    Srv {
        /// Share among instances of the same priority.
        weight: u16,
        /// Port.
        port: u16,
        /// Where the service is.
        target: &'a WireName,
    },
    /// TXT of one pair, `key=value` quoted as RFC 1464 says. A key that begins with `rfc1035-` stands for its bare
    /// value.
    Pair(&'a str, &'a str),
    /// SOA.
    Soa {
        /// Primary server.
        mname: &'a WireName,
        /// Mailbox.
        rname: &'a WireName,
        /// Serial, refresh, retry, expire, minimum; seconds but for the first.
        numbers: [u32; 5],
    },
}

/// Where a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Answers.
    Answer = 0,
    /// Authority; after the last answer only.
    Authority = 1,
    /// Additional.
    Additional = 2,
}

/// A point to go back to; see [`Reply::rewind`].
#[derive(Clone, Copy)]
pub struct Mark {
    head: usize,
    tail: usize,
    plain: usize,
    seen: usize,
    counts: [u16; 3],
}

/// A reply being written into the caller's buffer.
pub struct Reply<'o, 'q> {
    out: &'o mut [u8],
    query: Query<'q>,
    at: Mark,
    plain_limit: usize,
    seen: [u16; SEEN],
    /// Where the newest SRV target stands: its addresses follow at once. 0 for none.
    target: u16,
    /// One bit per hash of an answer given; never cleared. No bit: not given. A bit: search to be sure.
    given: [u32; FILTER],
    compress: bool,
}

impl<'o, 'q> Reply<'o, 'q> {
    /// A reply to `query`, still without records. `out` is the size limit; `None` when not even the question fits.
    ///
    /// `plain_limit` is a second limit on what the reply would measure *without* compression, the EDNS record not
    /// counted (dns spec §6).
    pub fn new(query: &Query<'q>, plain_limit: usize, compress: bool, out: &'o mut [u8]) -> Option<Self> {
        let head = HEADER + query.question.len();
        let tail = out.len().checked_sub(query.edns.as_ref().map_or(0, opt_len)).filter(|&tail| tail >= head)?;
        out.get_mut(HEADER..head)?.copy_from_slice(query.question);
        let at = Mark { head, tail, plain: head, seen: 0, counts: [0; 3] };
        let mut reply =
            Reply { out, query: *query, at, plain_limit, seen: [0; SEEN], target: 0, given: [0; FILTER], compress };
        let mut offset = HEADER;
        for label in query.labels() {
            reply.remember(offset);
            offset += 1 + label.len();
        }
        Some(reply)
    }

    /// Where the reply stands.
    pub fn mark(&self) -> Mark {
        self.at
    }

    /// Takes back everything written since `mark`.
    pub fn rewind(&mut self, mark: Mark) {
        self.at = mark;
        self.target = 0;
    }

    /// Records in a section.
    pub fn count(&self, section: Section) -> u16 {
        self.at.counts[section as usize]
    }

    /// Appends a record. `false`, and nothing changed, when it does not fit.
    pub fn push(&mut self, section: Section, owner: Owner<'_>, ttl: u32, data: Data<'_>) -> bool {
        let before = self.at;
        let fits = self.record(section, owner, ttl, data).is_some();
        // The first answer is kept even if it is too long without compression.
        let first = section == Section::Answer && before.counts == [0; 3];
        if !fits || (self.at.plain > self.plain_limit && !first) {
            self.rewind(before);
            return false;
        }
        self.at.counts[section as usize] += 1;
        if section == Section::Answer {
            self.remember_answer(data);
        }
        if section == Section::Additional {
            let len = self.at.head - before.head;
            self.at.tail -= len;
            self.out.copy_within(before.head..self.at.head, self.at.tail);
            self.at.head = before.head;
            self.at.seen = before.seen;
        }
        true
    }

    /// Whether an answer already gives this address.
    pub fn has_address(&self, address: IpAddr) -> bool {
        if !self.may_have(hash_of(address)) {
            return false;
        }
        match address {
            IpAddr::V4(v4) => self.answers().any(|(kind, _, data)| kind == rtype::A && data == v4.octets()),
            IpAddr::V6(v6) => self.answers().any(|(kind, _, data)| kind == rtype::AAAA && data == v6.octets()),
        }
    }

    /// Whether an answer already gives this target and port.
    pub fn has_srv(&self, port: u16, target: &WireName) -> bool {
        // Layout: priority, weight, port, target.
        self.may_have(hash(target.as_octets(), port.into()))
            && self.answers().any(|(kind, at, data)| {
                kind == rtype::SRV
                    && data.get(4..6) == Some(&port.to_be_bytes())
                    && self.is_at(at + 6, target.as_octets())
            })
    }

    /// Whether an answer already gives this target, with whatever port.
    pub fn has_target(&self, target: &WireName) -> bool {
        self.may_have(hash(target.as_octets(), NO_PORT))
            && self.answers().any(|(kind, at, _)| kind == rtype::SRV && self.is_at(at + 6, target.as_octets()))
    }

    /// Writes the header and the EDNS record, and gives the length of the reply.
    ///
    /// `flags` are those beyond QR and the copied ones; `subnet_scope` answers a client-subnet option.
    pub fn finish(mut self, flags: u16, rcode: Rcode, subnet_scope: Scope) -> usize {
        let end = self.out.len() - self.query.edns.as_ref().map_or(0, opt_len);
        self.out.copy_within(self.at.tail..end, self.at.head);
        self.at.head += end - self.at.tail;
        self.at.tail = self.out.len();
        if let Some(edns) = self.query.edns {
            self.at.counts[Section::Additional as usize] += 1;
            // The room was set aside by `new`; root owner, class is the size, no extended code, version 0, no flags.
            let _ = self.bytes(&[0, 0, rtype::OPT as u8]);
            let _ = self.bytes(&edns.udp_size.to_be_bytes());
            let _ = self.bytes(&[0; 4]);
            let option = edns.subnet.map_or(0, |data| 4 + data.len() as u8);
            let _ = self.bytes(&[0, option]);
            if let Some([family0, family1, source, _, address @ ..]) = edns.subnet {
                let scope = if subnet_scope == Scope::Source { *source } else { 0 };
                let _ = self.bytes(&[0, 8, 0, option - 4, *family0, *family1, *source, scope]);
                let _ = self.bytes(address);
            }
        }
        let counts = [1, self.at.counts[0], self.at.counts[1], self.at.counts[2]];
        let flags = flag::QR | self.query.flags | flags | rcode as u16;
        for (slot, word) in self.out.chunks_exact_mut(2).zip([self.query.id, flags].into_iter().chain(counts)) {
            slot.copy_from_slice(&word.to_be_bytes());
        }
        self.at.head
    }

    /// Writes one record at `head`; the caller goes back when it does not fit.
    fn record(&mut self, section: Section, owner: Owner<'_>, ttl: u32, data: Data<'_>) -> Option<()> {
        // Additional records are moved later, so their names must not be pointed at.
        let keep = section != Section::Additional;
        match owner {
            Owner::Question if self.compress => {
                self.bytes(&[0xc0, HEADER as u8])?;
                self.at.plain += self.query.question.len() - 4 - 2;
            }
            Owner::Question => {
                let question = self.query.question;
                self.bytes(question.get(..question.len() - 4)?)?;
            }
            Owner::Name(name) => self.name(name, keep)?,
        }
        let kind = match data {
            Data::Address(IpAddr::V4(_)) => rtype::A,
            Data::Address(IpAddr::V6(_)) => rtype::AAAA,
            Data::Name(kind, _) => kind,
            Data::Srv { .. } => rtype::SRV,
            Data::Pair(..) => rtype::TXT,
            Data::Soa { .. } => rtype::SOA,
        };
        self.bytes(&kind.to_be_bytes())?;
        // Class IN, whatever was asked (dns spec §2).
        self.bytes(&[0, 1])?;
        self.bytes(&ttl.to_be_bytes())?;
        self.bytes(&[0, 0])?;
        let start = self.at.head;
        match data {
            Data::Address(IpAddr::V4(v4)) => self.bytes(&v4.octets())?,
            Data::Address(IpAddr::V6(v6)) => self.bytes(&v6.octets())?,
            Data::Name(_, name) => self.name(name, keep)?,
            Data::Srv { weight, port, target } => {
                self.bytes(&[0, 1])?;
                self.bytes(&weight.to_be_bytes())?;
                self.bytes(&port.to_be_bytes())?;
                // Not compressed (RFC 2782), but others may point at it.
                self.target =
                    u16::try_from(self.at.head).ok().filter(|&at| usize::from(at) <= MAX_POINTER).unwrap_or(0);
                self.bytes(target.as_octets())?;
            }
            Data::Pair(key, value) => self.pair(key, value)?,
            Data::Soa { mname, rname, numbers } => {
                self.name(mname, keep)?;
                self.name(rname, keep)?;
                for number in numbers {
                    self.bytes(&number.to_be_bytes())?;
                }
            }
        }
        let len = u16::try_from(self.at.head - start).ok()?;
        self.out.get_mut(start - 2..start)?.copy_from_slice(&len.to_be_bytes());
        Some(())
    }

    fn remember_answer(&mut self, data: Data<'_>) {
        match data {
            Data::Address(address) => self.give(hash_of(address)),
            Data::Srv { port, target, .. } => {
                self.give(hash(target.as_octets(), port.into()));
                self.give(hash(target.as_octets(), NO_PORT));
            }
            _ => {}
        }
    }

    fn give(&mut self, hash: u32) {
        self.given[hash as usize / 32 % FILTER] |= 1 << (hash % 32);
    }

    fn may_have(&self, hash: u32) -> bool {
        self.given[hash as usize / 32 % FILTER] & (1 << (hash % 32)) != 0
    }

    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at.head + bytes.len();
        self.out.get_mut(self.at.head..end).filter(|_| end <= self.at.tail)?.copy_from_slice(bytes);
        self.at.head = end;
        self.at.plain += bytes.len();
        Some(())
    }

    /// A name, pointing at the longest suffix that is already in the reply.
    fn name(&mut self, name: &WireName, keep: bool) -> Option<()> {
        let octets = name.as_octets();
        let mut at = 0;
        while self.compress && octets.get(at).is_some_and(|&len| len != 0) {
            let suffix = octets.get(at..)?;
            let seen = self.seen.get(..self.at.seen)?.iter().copied();
            // Offset 0 is the header, which is no name.
            let mut known = [self.target].into_iter().chain(seen).filter(|&at| at != 0);
            if let Some(known) = known.find(|&at| self.is_at(usize::from(at), suffix)) {
                self.bytes(&(0xc000 | known).to_be_bytes())?;
                self.at.plain += suffix.len() - 2;
                return Some(());
            }
            let label = suffix.get(..1 + usize::from(*suffix.first()?))?;
            if keep {
                self.remember(self.at.head);
            }
            self.bytes(label)?;
            at += label.len();
        }
        self.bytes(octets.get(at..)?)
    }

    fn remember(&mut self, offset: usize) {
        if offset <= MAX_POINTER
            && let Some(slot) = self.seen.get_mut(self.at.seen)
        {
            *slot = offset as u16;
            self.at.seen += 1;
        }
    }

    /// Whether the name at `at` is `name`, spelled alike. Our pointers go backwards, so this ends.
    fn is_at(&self, mut at: usize, mut name: &[u8]) -> bool {
        loop {
            let Some(&len) = self.out.get(at) else { return false };
            if len >= 0xc0 {
                let Some(&low) = self.out.get(at + 1) else { return false };
                let target = usize::from(u16::from_be_bytes([len & 0x3f, low]));
                if target >= at {
                    return false;
                }
                at = target;
                continue;
            }
            let end = 1 + usize::from(len);
            match (self.out.get(at..at + end), name.get(..end)) {
                (Some(ours), Some(theirs)) if ours == theirs => {}
                _ => return false,
            }
            if len == 0 {
                return true;
            }
            at += end;
            name = &name[end..];
        }
    }

    /// The answers so far: type, offset of the data, data.
    fn answers(&self) -> impl Iterator<Item = (u16, usize, &[u8])> {
        let mut at = HEADER + self.query.question.len();
        (0..self.at.counts[0]).map_while(move |_| {
            at += name_len(self.out.get(at..)?)?;
            let fixed = self.out.get(at..at + 10)?;
            let start = at + 10;
            at = start + usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
            Some((u16::from_be_bytes([fixed[0], fixed[1]]), start, self.out.get(start..at)?))
        })
    }

    /// The character-strings of a TXT pair; more than 255 octets go on in the next string.
    fn pair(&mut self, key: &str, value: &str) -> Option<()> {
        const BARE: &[u8] = b"rfc1035-";
        let bare = key.as_bytes().get(..BARE.len()).is_some_and(|start| start.eq_ignore_ascii_case(BARE));
        let mut text = Strings { length_at: self.at.head, len: 0 };
        self.bytes(&[0])?;
        if bare {
            return value.bytes().try_for_each(|octet| text.push(self, octet));
        }
        let inner = key.trim_matches(' ');
        let lead = key.len() - key.trim_start_matches(' ').len();
        for (at, octet) in key.bytes().enumerate() {
            let outer_blank = octet == b' ' && (at < lead || at >= lead + inner.len());
            if outer_blank || matches!(octet, b'=' | b'`') {
                text.push(self, b'`')?;
            }
            text.push(self, octet)?;
        }
        text.push(self, b'=')?;
        for octet in value.bytes() {
            if octet == b'`' {
                text.push(self, b'`')?;
            }
            text.push(self, octet)?;
        }
        Some(())
    }
}

/// What the client-subnet option of a reply claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The answer is the same for everybody.
    World,
    /// The answer holds for the asker's subnet.
    Source,
}

/// The character-string being written.
struct Strings {
    length_at: usize,
    len: u8,
}

impl Strings {
    fn push(&mut self, reply: &mut Reply<'_, '_>, octet: u8) -> Option<()> {
        if self.len == u8::MAX {
            *self = Strings { length_at: reply.at.head, len: 0 };
            reply.bytes(&[0])?;
        }
        reply.bytes(&[octet])?;
        self.len += 1;
        *reply.out.get_mut(self.length_at)? = self.len;
        Some(())
    }
}

/// In place of a port: the target alone.
const NO_PORT: u32 = u32::MAX;

/// FNV-1a, the top bits mixed into the lower ones that choose the filter's bit.
fn hash(octets: &[u8], port: u32) -> u32 {
    let basis = 0x811c_9dc5 ^ port;
    let hash = octets.iter().fold(basis, |hash, &octet| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193));
    hash ^ hash >> 16
}

fn hash_of(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(v4) => hash(&v4.octets(), NO_PORT),
        IpAddr::V6(v6) => hash(&v6.octets(), NO_PORT),
    }
}

/// Octets of the EDNS record that answers `edns`.
fn opt_len(edns: &Edns<'_>) -> usize {
    11 + edns.subnet.map_or(0, |data| 4 + data.len())
}
