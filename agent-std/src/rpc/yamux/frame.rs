//! The 12-octet header, big-endian:
//!
//! | octets | meaning |
//! |---|---|
//! | 1 | version: 0 |
//! | 1 | type: [`Kind`] |
//! | 2 | flags: [`SYN`], [`ACK`], [`FIN`], [`RST`] |
//! | 4 | stream; 0 for pings and go-aways |
//! | 4 | data: octets that follow; window: octets added; ping: any value; go-away: reason |

/// Opens a stream, or asks for a pong.
pub(super) const SYN: u16 = 1;
/// Confirms a stream, or is a pong.
pub(super) const ACK: u16 = 2;
/// Nothing more will be sent on the stream.
pub(super) const FIN: u16 = 4;
/// The stream is dead.
pub(super) const RST: u16 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data = 0,
    Window = 1,
    Ping = 2,
    GoAway = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: Kind,
    pub flags: u16,
    pub stream: u32,
    pub length: u32,
}

impl Header {
    pub const LEN: usize = 12;

    /// `None`: another version or type; what follows it cannot be found.
    pub fn parse(&[version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3]: &[u8; Self::LEN]) -> Option<Self> {
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::Window,
            2 => Kind::Ping,
            3 => Kind::GoAway,
            _ => return None,
        };
        (version == 0).then_some(Header {
            kind,
            flags: u16::from_be_bytes([f0, f1]),
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }

    pub fn emit(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[1] = self.kind as u8;
        out[2..4].copy_from_slice(&self.flags.to_be_bytes());
        out[4..8].copy_from_slice(&self.stream.to_be_bytes());
        out[8..].copy_from_slice(&self.length.to_be_bytes());
        out
    }
}
