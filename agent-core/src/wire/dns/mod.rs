//! DNS messages (RFC 1035, EDNS0 of RFC 6891): a query taken apart, a reply put together.
//!
//! [`Query::parse`] checks a whole query once and says how one that makes no sense is to be answered. [`Reply`] writes
//! records into the caller's buffer, compresses names and takes back what does not fit. Which records an answer holds
//! is decided in [`crate::dns`].

mod reply;

pub use reply::{Data, Mark, Owner, Reply, Scope, Section, WireName};

/// Octets of the fixed header.
pub const HEADER: usize = 12;

/// Record types (IANA registry "Resource Record (RR) TYPEs").
pub mod rtype {
    #![allow(missing_docs)]
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const OPT: u16 = 41;
    pub const AXFR: u16 = 252;
    pub const ANY: u16 = 255;
}

/// Header flags (RFC 1035 §4.1.1).
pub mod flag {
    /// This is a reply.
    pub const QR: u16 = 0x8000;
    /// The four bits of the operation.
    pub const OPCODE: u16 = 0x7800;
    /// The answer is authoritative.
    pub const AA: u16 = 0x0400;
    /// The answer was cut.
    pub const TC: u16 = 0x0200;
    /// The asker wants recursion.
    pub const RD: u16 = 0x0100;
    /// We offer recursion.
    pub const RA: u16 = 0x0080;
    /// The asker does not want DNSSEC checks; copied.
    pub const CD: u16 = 0x0010;
}

/// Response codes (RFC 1035 §4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rcode {
    /// The name exists.
    NoError = 0,
    /// The query makes no sense.
    FormErr = 1,
    /// We could not find out.
    ServFail = 2,
    /// The name does not exist.
    NxDomain = 3,
    /// We do not do that.
    NotImp = 4,
    /// Not our zone.
    Refused = 5,
}

/// EDNS0 of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns<'q> {
    /// UDP payload size the asker takes, as written; below 512 means 512.
    pub udp_size: u16,
    /// Data of the client-subnet option (RFC 7871): family, source length, scope length, address.
    pub subnet: Option<&'q [u8]>,
}

/// A query that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'q> {
    /// Copied into the reply.
    pub id: u16,
    /// The flags a reply copies: RD and CD.
    pub flags: u16,
    /// The question's octets: name, type, class.
    pub question: &'q [u8],
    /// Type asked for, see [`rtype`].
    pub rtype: u16,
    /// EDNS0, if the asker speaks it.
    pub edns: Option<Edns<'q>>,
}

/// A query that cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswerable {
    /// Too short to have an id, or itself a reply: say nothing.
    Silence,
    /// Answer with these twelve octets.
    Header([u8; HEADER]),
}

impl<'q> Query<'q> {
    /// Takes a query apart (dns spec §3 for the refusals).
    ///
    /// A name in the question must be written out: no resolver compresses the first name of a message, so a pointer
    /// there is an attack or garbage.
    pub fn parse(data: &'q [u8]) -> Result<Self, Unanswerable> {
        let Some((header, body)) = data.split_first_chunk::<HEADER>() else {
            return Err(Unanswerable::Silence);
        };
        let word = |index: usize| u16::from_be_bytes([header[2 * index], header[2 * index + 1]]);
        let (id, flags) = (word(0), word(1));
        if flags & flag::QR != 0 {
            return Err(Unanswerable::Silence);
        }
        let refuse = |opcode: u16, rcode: Rcode| {
            let mut reply = [0; HEADER];
            reply[..2].copy_from_slice(&id.to_be_bytes());
            let flags = flag::QR | opcode | flags & (flag::RD | flag::CD) | rcode as u16;
            reply[2..4].copy_from_slice(&flags.to_be_bytes());
            Err(Unanswerable::Header(reply))
        };
        if flags & flag::OPCODE != 0 {
            return refuse(flags & flag::OPCODE, Rcode::NotImp);
        }
        // One question; transfers and signatures bring at most one or two further records.
        if word(2) != 1 || word(3) > 1 || word(4) > 1 || word(5) > 2 {
            return refuse(0, Rcode::FormErr);
        }
        if body.is_empty() {
            return refuse(0, Rcode::Refused);
        }
        let records = usize::from(word(3) + word(4) + word(5));
        let Some((question, edns)) = body_of(body, records) else {
            return refuse(0, Rcode::FormErr);
        };
        let rtype = match question {
            [.., high, low, _, _] => u16::from_be_bytes([*high, *low]),
            _ => return refuse(0, Rcode::FormErr),
        };
        Ok(Query { id, flags: flags & (flag::RD | flag::CD), question, rtype, edns })
    }

    /// The labels of the question's name, as spelled by the asker.
    pub fn labels(&self) -> impl Iterator<Item = &'q [u8]> + use<'q> {
        labels(self.question)
    }
}

/// The question's octets and EDNS0; `None` when something is cut off.
fn body_of(body: &[u8], records: usize) -> Option<(&[u8], Option<Edns<'_>>)> {
    let mut at = 0;
    loop {
        match usize::from(*body.get(at)?) {
            0 => break,
            len @ 1..=63 => at += 1 + len,
            _ => return None,
        }
    }
    // RFC 1035 §2.3.4: a name has at most 255 octets, its end included.
    if at >= 255 {
        return None;
    }
    let question = body.get(..at + 5)?;
    let mut rest = body.get(at + 5..)?;
    let mut edns = None;
    for _ in 0..records {
        let root = *rest.first()? == 0;
        let (fixed, tail) = rest.get(name_len(rest)?..)?.split_first_chunk::<10>()?;
        let data = tail.get(..usize::from(u16::from_be_bytes([fixed[8], fixed[9]])))?;
        rest = tail.get(data.len()..)?;
        if root && u16::from_be_bytes([fixed[0], fixed[1]]) == rtype::OPT {
            edns = Some(Edns { udp_size: u16::from_be_bytes([fixed[2], fixed[3]]), subnet: subnet(data)? });
        }
    }
    Some((question, edns))
}

/// Octets of the name at the start of `data`, its pointer not followed.
fn name_len(data: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match usize::from(*data.get(at)?) {
            0 => return Some(at + 1),
            len @ 1..=63 => at += 1 + len,
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

/// The client-subnet option among EDNS options; `None` when they are malformed.
fn subnet(mut options: &[u8]) -> Option<Option<&[u8]>> {
    /// Option code of RFC 7871.
    const CLIENT_SUBNET: u16 = 8;
    let mut found = None;
    while !options.is_empty() {
        let (fixed, tail) = options.split_first_chunk::<4>()?;
        let data = tail.get(..usize::from(u16::from_be_bytes([fixed[2], fixed[3]])))?;
        options = tail.get(data.len()..)?;
        // Family, two lengths, and at most an IPv6 address.
        if u16::from_be_bytes([fixed[0], fixed[1]]) == CLIENT_SUBNET && (4..=20).contains(&data.len()) {
            found = Some(data);
        }
    }
    Some(found)
}

/// The labels of an uncompressed name. Ends at the root, a pointer or the end of the octets.
pub(crate) fn labels(mut name: &[u8]) -> impl Iterator<Item = &[u8]> {
    core::iter::from_fn(move || {
        let (&len, rest) = name.split_first()?;
        let label = rest.get(..usize::from(len)).filter(|_| (1..64).contains(&len))?;
        name = rest.get(label.len()..)?;
        Some(label)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Header flags and counts, then `web.consul A IN`, then whatever.
    fn query(flags: u16, counts: [u16; 4], tail: &[u8]) -> Vec<u8> {
        let mut out = vec![0x12, 0x34];
        out.extend(flags.to_be_bytes());
        out.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
        out.extend(b"\x03web\x06consul\0\0\x01\0\x01");
        out.extend(tail);
        out
    }

    fn rcode(result: Result<Query<'_>, Unanswerable>) -> u8 {
        match result {
            Err(Unanswerable::Header(header)) => header[3] & 0x0f,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn a_query_is_taken_apart() {
        let opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\x0b\0\x08\0\x07\0\x01\x18\0\x0a\0\0";
        let data = query(0x0110, [1, 0, 0, 1], opt);
        let parsed = Query::parse(&data).unwrap();
        assert_eq!((parsed.id, parsed.flags, parsed.rtype), (0x1234, 0x0110, rtype::A));
        assert!(parsed.labels().eq([&b"web"[..], b"consul"]));
        let edns = parsed.edns.unwrap();
        assert_eq!((edns.udp_size, edns.subnet), (1232, Some(&[0, 1, 24, 0, 10, 0, 0][..])));
    }

    #[test]
    fn refusals_are_those_of_the_spec() {
        assert_eq!(Query::parse(&[0; 11]), Err(Unanswerable::Silence));
        assert_eq!(Query::parse(&query(0x8100, [1, 0, 0, 0], b"")), Err(Unanswerable::Silence));
        assert_eq!(rcode(Query::parse(&query(0x1000, [1, 0, 0, 0], b""))), 4);
        assert_eq!(rcode(Query::parse(&query(0x2800, [1, 0, 0, 0], b""))), 4);
        assert_eq!(rcode(Query::parse(&query(0x0100, [2, 0, 0, 0], b""))), 1);
        assert_eq!(rcode(Query::parse(&query(0x0100, [0, 0, 0, 0], b""))), 1);
        assert_eq!(rcode(Query::parse(&query(0x0100, [1, 0, 0, 3], b""))), 1);
        assert_eq!(rcode(Query::parse(&query(0x0100, [1, 0, 0, 0], b"")[..12])), 5);
        match Query::parse(&query(0x1100, [1, 0, 0, 0], b"")) {
            Err(Unanswerable::Header(header)) => assert_eq!(header, [0x12, 0x34, 0x91, 4, 0, 0, 0, 0, 0, 0, 0, 0]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_truncation_and_every_pointer_is_refused() {
        let data = query(0x0100, [1, 0, 0, 1], b"\0\0\x29\x04\xd0\0\0\0\0\0\x04\0\x0a\0\0");
        assert!(Query::parse(&data).is_ok());
        for len in 13..data.len() {
            assert_eq!(rcode(Query::parse(&data[..len])), 1, "cut at {len}");
        }
        // A question that points at itself, and a record owner that does.
        let mut looped = query(0x0100, [1, 0, 0, 0], b"");
        looped.splice(12.., *b"\xc0\x0c\0\x01\0\x01");
        assert_eq!(rcode(Query::parse(&looped)), 1);
        let owner = query(0x0100, [1, 0, 0, 1], b"\xc0\x1c\0\x01\0\x01\0\0\0\0\0\0");
        assert_eq!(Query::parse(&owner).unwrap().edns, None);
        // 255 octets are the limit of a name.
        let mut long = query(0x0100, [1, 0, 0, 0], b"")[..12].to_vec();
        for _ in 0..4 {
            long.push(63);
            long.extend([b'a'; 63]);
        }
        long.extend(b"\0\0\x01\0\x01");
        assert_eq!(rcode(Query::parse(&long)), 1);
    }
}
