//! What a catalog record says, as one number: two records are the same when their digests are.
//!
//! Anti-entropy compares every field of a service or check (rpc spec §7 step 6). A device cannot hold the server's copy,
//! so each leaf (path, value) is hashed as it passes and the hashes are added up: the order of the keys does not matter,
//! and fields left out, nil or zero add nothing, as Go's decoder would have it. Entries of real maps (`Meta`) count even
//! with an empty value. The hash is FNV-1a with a final mix; it guards against drift, not against forgery.

use super::reply::{Node, Reply};
use crate::checks::Health;

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// Digest of one catalog record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// All compared fields but the ones below.
    pub fields: u64,
    /// Tags of a service (they may be the catalog's to choose) or output of a check (its sync may be deferred).
    pub apart: u64,
}

/// One leaf being hashed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf(u64);

impl Leaf {
    /// `path` tells the leaf's place in its record.
    pub(super) fn new(path: u32) -> Self {
        Leaf((OFFSET ^ u64::from(path)).wrapping_mul(PRIME))
    }

    pub(super) fn octets(&mut self, octets: &[u8]) {
        for &octet in octets {
            self.0 = (self.0 ^ u64::from(octet)).wrapping_mul(PRIME);
        }
    }

    /// The finished hash, mixed so that sums do not cancel.
    pub(super) fn finish(self) -> u64 {
        let mut hash = self.0 ^ (self.0 >> 32);
        hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
        hash ^ (hash >> 32)
    }
}

/// The path of `key` below `path`. Keys of one record are hashed octet by octet, so a cut key has its own path too.
pub(super) fn step(path: u32, octet: u8) -> u32 {
    (path ^ u32::from(octet)).wrapping_mul(0x0100_0193)
}

/// The path of a whole key below `path`.
pub(super) fn below(path: u32, key: &[u8]) -> u32 {
    key.iter().fold(path.wrapping_add(0x811c_9dc5), |path, &octet| step(path, octet))
}

fn text_leaf(path: u32, value: &str) -> u64 {
    let mut leaf = Leaf::new(path);
    leaf.octets(value.as_bytes());
    leaf.finish()
}

/// The digest of a service record: the msgpack map that Catalog.Register carries under `Service`.
pub fn record_digest(record: &[u8]) -> Digest {
    Reply::digest_of(Node::Service, record)
}

/// The digest of a check from its constant fields (a msgpack map), its state and its output.
pub fn check_digest(record: &[u8], health: Health, output: &str) -> Digest {
    let mut digest = Reply::digest_of(Node::Check, record);
    digest.fields = digest.fields.wrapping_add(text_leaf(below(0, b"Status"), health.as_str()));
    if !output.is_empty() {
        digest.apart = text_leaf(below(0, b"Output"), output);
    }
    digest
}

/// The digest of a node's own fields.
pub fn node_digest(id: &str, tagged_addresses: &[(&str, &str)], meta: &[(&str, &str)]) -> Digest {
    let mut fields = 0u64;
    if !id.is_empty() {
        fields = text_leaf(below(0, b"ID"), id);
    }
    for (name, pairs) in [(&b"TaggedAddresses"[..], tagged_addresses), (b"Meta", meta)] {
        for (key, value) in pairs {
            fields = fields.wrapping_add(text_leaf(below(below(0, name), key.as_bytes()), value));
        }
    }
    Digest { fields, apart: 0 }
}
