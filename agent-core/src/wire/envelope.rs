//! The layers around messages in a datagram (gossip spec §2), in the order a packet meets them:
//!
//! ```text
//! [label header] [encryption] [CRC] [compression] [compound] message(s)
//! ```
//!
//! Every layer is a lens over the same octets; only decompression copies. A sender uses each layer at most once in this
//! order, but compounds may nest and real receivers recurse, so does [`walk`], to a fixed depth.

use super::{Error, crc, lzw, msgpack::Reader};

/// Type octet of a compound.
pub const COMPOUND: u8 = 7;
/// Type octet of a user (serf) message.
pub const USER: u8 = 8;
/// Type octet of compressed data.
pub const COMPRESS: u8 = 9;
/// Type octet of an encrypted stream frame.
pub const ENCRYPT: u8 = 10;
/// Type octet of a checksummed message.
pub const CRC: u8 = 12;
/// First octet of a label header (newer memberlist).
pub const LABEL: u8 = 244;

/// UDPBufferSize of the reference: what a sender fills a datagram to, before compression.
pub const BUDGET: usize = 1400;
/// The largest conforming datagram: the budget, a compound's head of 2 and a CRC of 5 octets.
pub const MAX_DATAGRAM: usize = BUDGET + 2 + crc::HEADER;
/// Largest payload after decompression that a conforming sender produces.
pub const MAX_PLAIN: usize = BUDGET + 2;
/// Parts per compound: old receivers compute with 8 bits and break at 128.
pub const MAX_PARTS: usize = 127;
/// Compounds in compounds are followed this deep. Real senders nest once at most.
const MAX_DEPTH: u8 = 4;

/// Scratch that [`walk`] needs to decompress `plain` octets.
pub const fn scratch_for(plain: usize) -> usize {
    plain + lzw::inflate_table(plain)
}

/// Splits the label header off: (label, rest). Without a header the label is empty.
pub fn label(data: &mut [u8]) -> Result<(&[u8], &mut [u8]), Error> {
    match data {
        [LABEL, len, ..] => {
            let len = usize::from(*len);
            if len == 0 || data.len() < 2 + len {
                return Err(Error { what: "label cut short", at: 1 });
            }
            let (head, rest) = data.split_at_mut(2 + len);
            Ok((&head[2..], rest))
        }
        [LABEL] => Err(Error { what: "label cut short", at: 1 }),
        _ => Ok((&[], data)),
    }
}

/// Calls `visit` with every message (type octet first, never empty) in the decrypted datagram `data`.
///
/// # Errors
/// The first layer that makes no sense; messages before it were visited.
pub fn walk(data: &[u8], scratch: &mut [u8], visit: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
    let data = match data {
        [CRC, rest @ ..] => {
            let (sum, message) = rest.split_first_chunk::<4>().ok_or(Error { what: "checksum cut short", at: 1 })?;
            if crc::checksum(message) != u32::from_be_bytes(*sum) {
                return Err(Error { what: "checksum wrong", at: 1 });
            }
            message
        }
        _ => data,
    };
    peel(data, scratch, MAX_DEPTH, visit)
}

fn peel(data: &[u8], scratch: &mut [u8], depth: u8, visit: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
    match data {
        [] => Err(Error { what: "empty message", at: 0 }),
        [COMPOUND | COMPRESS, ..] if depth == 0 => Err(Error { what: "layers nested too deep", at: 0 }),
        [COMPOUND, rest @ ..] => {
            let (&count, rest) = rest.split_first().ok_or(Error { what: "compound cut short", at: 1 })?;
            let heads = rest.get(..2 * usize::from(count)).ok_or(Error { what: "compound cut short", at: 2 })?;
            let mut parts = &rest[heads.len()..];
            for head in heads.chunks_exact(2) {
                let len = usize::from(u16::from_be_bytes([head[0], head[1]]));
                let part = parts.get(..len).ok_or(Error { what: "compound part cut short", at: 2 })?;
                parts = &parts[len..];
                // A broken part does not spoil its neighbours.
                let _ = peel(part, scratch, depth - 1, visit);
            }
            Ok(())
        }
        [COMPRESS, rest @ ..] => {
            let packed = compressed(rest)?;
            let room = scratch.len().saturating_sub(2) / 3;
            let (plain, table) = scratch.split_at_mut(room);
            let len = lzw::inflate(packed, table, plain).map_err(|error| Error {
                what: match error {
                    lzw::LzwError::BadCode => "compressed data broken",
                    lzw::LzwError::CutShort => "compressed data cut short",
                    lzw::LzwError::TooLong => "compressed data too long",
                },
                at: 1,
            })?;
            // No sender compresses twice, and a second level would need a second buffer.
            peel(&plain[..len], &mut [], depth - 1, visit)
        }
        message => {
            visit(message);
            Ok(())
        }
    }
}

/// The compressed octets of `{Algo, Buf}` (spec §4).
pub fn compressed(body: &[u8]) -> Result<&[u8], Error> {
    let mut reader = Reader::new(body);
    let (mut algo, mut buf) = (0, None);
    reader.fields(|key, value| {
        match key {
            b"Algo" => algo = value.u8()?,
            b"Buf" => buf = Some(value.raw()?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if algo != 0 {
        return Err(reader.error("unknown compression"));
    }
    buf.ok_or(reader.error("compressed data missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visited(data: &[u8]) -> (Vec<Vec<u8>>, Result<(), Error>) {
        let mut seen = Vec::new();
        let mut scratch = vec![0; scratch_for(MAX_PLAIN)];
        let result = walk(data, &mut scratch, &mut |message| seen.push(message.to_vec()));
        (seen, result)
    }

    #[test]
    fn parts_before_a_cut_are_kept() {
        let (seen, result) = visited(&[7, 2, 0, 2, 0, 9, 11, 0x80, 11]);
        assert_eq!(seen, [vec![11, 0x80]]);
        assert!(result.is_err());
        let (seen, result) = visited(&[7, 2, 0, 0, 0, 2, 11, 0x80]);
        assert_eq!((seen.len(), result), (1, Ok(())));
    }

    #[test]
    fn depth_ends() {
        let mut data = vec![11, 0x80];
        for _ in 0..40 {
            let len = data.len() as u16;
            data.splice(0..0, [7, 1].into_iter().chain(len.to_be_bytes()));
        }
        assert_eq!(visited(&data).0.len(), 0);
    }
}
