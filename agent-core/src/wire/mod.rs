//! Bytes of peers, read and written. One file per message family; no state, no policy.
//!
//! Three verbs everywhere: `parse` turns octets into a small borrowed value and never panics, `emit` writes a value
//! into a [`msgpack::Writer`], and `len` says how many octets `emit` will write. Lengths that a peer claims are checked
//! against the octets that are there before anything is done with them.
//!
//! Be exact in what we send (go-msgpack's sorted keys and raw family, byte for byte) and lenient in what real peers
//! send (either key order, every integer width, unknown keys, nil for zero).

pub mod coordinate;
pub mod crc;
pub mod crypt;
pub mod dns;
pub mod envelope;
pub mod gossip;
pub mod ip;
pub mod lzw;
pub mod msgpack;
pub mod push_pull;
pub mod rpc;
pub mod serf;
pub mod tags;

/// A peer's bytes do not say anything we can use. `Copy`, so that counting it costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// What was wrong, in a few words, e.g. `"integer out of range"`.
    pub what: &'static str,
    /// Offset, in octets from the start of the slice being parsed, where it was noticed.
    pub at: usize,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} at octet {}", self.what, self.at)
    }
}

impl core::error::Error for Error {}
