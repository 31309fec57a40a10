//! AES-GCM of datagrams and streams (gossip spec §5).

/// A gossip key of 16, 24 or 32 octets. Its `Debug` shows nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key {
    octets: [u8; 32],
    len: u8,
}

impl Key {
    /// A key from its octets; `None` unless there are 16, 24 or 32.
    pub fn new(octets: &[u8]) -> Option<Self> {
        if !matches!(octets.len(), 16 | 24 | 32) {
            return None;
        }
        let mut key = Key { octets: [0; 32], len: octets.len() as u8 };
        key.octets[..octets.len()].copy_from_slice(octets);
        Some(key)
    }

    /// The key's octets.
    pub fn as_octets(&self) -> &[u8] {
        &self.octets[..usize::from(self.len)]
    }
}

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key(..)")
    }
}
