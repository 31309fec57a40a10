//! Checked pieces of a file: the header every data file begins with, and the frames after it.
//!
//! | file header, 28 octets | size | meaning |
//! |---|---|---|
//! | magic | 4 | `LRFT` |
//! | format | 1 | [`FORMAT`]; a reader refuses newer ones |
//! | kind | 1 | [`FileKind`], append only |
//! | reserved | 2 | zero |
//! | owner | 8 | raft id of the server that wrote the file |
//! | sequence | 8 | number of the file's first frame |
//! | crc | 4 | CRC-32 of all before |
//!
//! | frame | size | meaning |
//! |---|---|---|
//! | length | 4 | octets of the body |
//! | crc | 4 | CRC-32 of length, sequence and body |
//! | sequence | 8 | one more than the frame before, so that a lost or repeated frame shows |
//! | body | length | |
//!
//! All numbers are little-endian. Every octet is covered by a checksum: no flipped bit goes unnoticed.

/// Format version of every file and frame body.
pub(super) const FORMAT: u8 = 1;
const MAGIC: [u8; 4] = *b"LRFT";
/// Octets of the file header.
pub(super) const HEADER: usize = 28;
/// Octets before a frame's body.
pub(super) const FRAME_HEAD: usize = 16;
/// Largest frame body: one batch of entries, far above what a batch may hold (see `node::MAX_BATCH_OCTETS`).
pub(super) const MAX_BODY: usize = 64 << 20;

/// What a file holds. Append only: numbers are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum FileKind {
    Log = 1,
    Snapshot = 2,
    Mark = 3,
}

/// The first 28 octets of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) kind: FileKind,
    pub(super) owner: u64,
    pub(super) sequence: u64,
}

/// Why octets are not a header or a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    /// Fewer octets than announced.
    Short,
    /// A length that no writer makes.
    Length,
    Checksum,
    Magic,
    Kind,
    /// Whole and checked, but of a format this program does not know.
    Newer(u8),
}

impl Bad {
    pub(super) fn what(self) -> &'static str {
        match self {
            Bad::Short => "ends early",
            Bad::Length => "impossible length",
            Bad::Checksum => "checksum does not match",
            Bad::Magic => "is not a raft file of this program",
            Bad::Kind => "is of another kind than its name says",
            Bad::Newer(_) => "was written by a newer program",
        }
    }
}

impl FileHeader {
    pub(super) fn emit(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..4].copy_from_slice(&MAGIC);
        out[4] = FORMAT;
        out[5] = self.kind as u8;
        out[8..16].copy_from_slice(&self.owner.to_le_bytes());
        out[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        let crc = crc32fast::hash(&out[..24]);
        out[24..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn parse(bytes: &[u8], kind: FileKind) -> Result<Self, Bad> {
        let head: &[u8; HEADER] = bytes.first_chunk().ok_or(Bad::Short)?;
        if crc32fast::hash(&head[..24]) != u32_at(head, 24) {
            return Err(if head[..4] == MAGIC { Bad::Checksum } else { Bad::Magic });
        }
        if head[..4] != MAGIC {
            return Err(Bad::Magic);
        }
        if head[4] > FORMAT {
            return Err(Bad::Newer(head[4]));
        }
        if head[5] != kind as u8 {
            return Err(Bad::Kind);
        }
        Ok(Self { kind, owner: u64_at(head, 8), sequence: u64_at(head, 16) })
    }
}

/// One checked frame within a longer run of bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) sequence: u64,
    pub(super) body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Octets of the frame in the file.
    pub(super) fn len(&self) -> usize {
        FRAME_HEAD + self.body.len()
    }

    /// Appends a frame to `out`.
    pub(super) fn emit(out: &mut Vec<u8>, sequence: u64, body: &[u8]) {
        let length = (body.len() as u32).to_le_bytes();
        let sequence = sequence.to_le_bytes();
        out.extend_from_slice(&length);
        out.extend_from_slice(&checksum(length, sequence, body).to_le_bytes());
        out.extend_from_slice(&sequence);
        out.extend_from_slice(body);
    }

    /// The frame at the beginning of `bytes`.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Bad> {
        let head: &[u8; FRAME_HEAD] = bytes.first_chunk().ok_or(Bad::Short)?;
        let length = frame_length(head)?;
        let body = bytes.get(FRAME_HEAD..FRAME_HEAD + length).ok_or(Bad::Short)?;
        frame_check(head, body)
    }
}

/// The body's length as a frame's head claims it, not yet checked.
pub(super) fn frame_length(head: &[u8; FRAME_HEAD]) -> Result<usize, Bad> {
    let length = u32_at(head, 0) as usize;
    if length > MAX_BODY { Err(Bad::Length) } else { Ok(length) }
}

/// Head and body together.
pub(super) fn frame_check<'a>(head: &[u8; FRAME_HEAD], body: &'a [u8]) -> Result<Frame<'a>, Bad> {
    let sequence = u64_at(head, 8);
    let length = (body.len() as u32).to_le_bytes();
    if checksum(length, sequence.to_le_bytes(), body) != u32_at(head, 4) {
        return Err(Bad::Checksum);
    }
    Ok(Frame { sequence, body })
}

fn checksum(length: [u8; 4], sequence: [u8; 8], body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&length);
    crc.update(&sequence);
    crc.update(body);
    crc.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four octets of a fixed-size head"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight octets of a fixed-size head"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_a_header_shows() {
        let header = FileHeader { kind: FileKind::Log, owner: 7, sequence: 9 };
        let good = header.emit();
        assert_eq!(FileHeader::parse(&good, FileKind::Log), Ok(header));
        assert_eq!(FileHeader::parse(&good, FileKind::Snapshot), Err(Bad::Kind));
        for bit in 0..HEADER * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(FileHeader::parse(&bytes, FileKind::Log).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_frame_shows() {
        let mut good = Vec::new();
        Frame::emit(&mut good, 3, b"hello");
        assert_eq!(Frame::parse(&good), Ok(Frame { sequence: 3, body: b"hello" }));
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Frame::parse(&bytes).is_err(), "bit {bit}");
        }
        for end in 0..good.len() {
            assert!(Frame::parse(&good[..end]).is_err(), "cut at {end}");
        }
    }
}
