//! One DNS question to an agent, over UDP, with a decoder of its own: ours is what is being tested.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use crate::Result;

/// Types of records the tests ask for (RFC 1035 §3.2.2, RFC 2782).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// IPv4 address.
    A = 1,
    /// Service location.
    Srv = 33,
}

/// What an answer's record says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Record {
    /// IPv4 address.
    A(Ipv4Addr),
    /// Port and host name of a service.
    Srv(u16, String),
    /// Another type, by number.
    Other(u16),
}

/// An answer: its code (0: no error, 3: no such name) and the records of its answer section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// RCODE.
    pub code: u8,
    /// Answer section, in order of arrival.
    pub records: Vec<Record>,
}

/// Asks `server` for `name`, without a dot at its end.
///
/// # Errors
///
/// When there is no answer within 3 s or it cannot be read.
pub fn ask(server: SocketAddr, name: &str, kind: Kind) -> Result<Answer> {
    ask_within(server, name, kind, Duration::from_secs(3))
}

/// Asks like [`ask`], for somebody who may not be there yet.
///
/// # Errors
///
/// When there is no answer within `limit` or it cannot be read.
pub fn ask_within(server: SocketAddr, name: &str, kind: Kind, limit: Duration) -> Result<Answer> {
    const ID: [u8; 2] = [0x4c, 0x69];
    let mut question = Vec::from(ID);
    // Recursion desired, one question.
    question.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        question.push(u8::try_from(label.len())?);
        question.extend(label.bytes());
    }
    question.push(0);
    question.extend((kind as u16).to_be_bytes());
    question.extend([0, 1]);

    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(limit))?;
    socket.connect(server)?;
    socket.send(&question)?;
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).map_err(|error| format!("DNS {name} at {server}: {error}"))?;
    let message = &buffer[..length];
    if !message.starts_with(&ID) {
        return Err("an answer to another question".into());
    }
    parse(message).ok_or_else(|| format!("DNS {name} at {server}: cannot read {message:02x?}").into())
}

fn parse(message: &[u8]) -> Option<Answer> {
    let code = message.get(3)? & 15;
    let count = number(message, 6)?;
    // Our one question.
    let mut at = skip_name(message, 12)? + 4;
    let mut records = Vec::new();
    for _ in 0..count {
        at = skip_name(message, at)?;
        let (kind, length) = (number(message, at)?, number(message, at + 8)?);
        let data = at + 10;
        records.push(match kind {
            1 => Record::A(Ipv4Addr::from(<[u8; 4]>::try_from(message.get(data..data + 4)?).ok()?)),
            33 => Record::Srv(number(message, data + 4)?, name(message, data + 6)?),
            other => Record::Other(other),
        });
        at = data + usize::from(length);
    }
    Some(Answer { code, records })
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?))
}

/// The place behind the name at `at`.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

/// The name at `at`, its pointers followed, without a dot at its end.
fn name(message: &[u8], mut at: usize) -> Option<String> {
    let mut labels = Vec::new();
    // A name has at most 127 labels; more steps are a loop of pointers.
    for _ in 0..256 {
        match *message.get(at)? {
            0 => return Some(labels.join(".")),
            length if length >= 0xc0 => at = usize::from(number(message, at)? & 0x3fff),
            length => {
                let end = at + 1 + usize::from(length);
                labels.push(String::from_utf8_lossy(message.get(at + 1..end)?).into_owned());
                at = end;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compressed_service_record_is_read_and_every_cut_is_refused() {
        let mut message = vec![0x4c, 0x69, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
        message.extend(b"\x03web\x06consul\x00\x00\x21\x00\x01");
        message.extend(b"\xc0\x0c\x00\x21\x00\x01\x00\x00\x00\x00\x00\x0b\x00\x01\x00\x01\x1f\x90\x02n1\xc0\x10");
        let answer = parse(&message).unwrap();
        assert_eq!(answer, Answer { code: 0, records: vec![Record::Srv(8080, "n1.consul".into())] });
        for cut in 0..message.len() {
            assert_eq!(parse(&message[..cut]), None, "{cut}");
        }
    }
}
