//! Gossip keys: the first one sends, all of them receive (gossip spec §5).

use heapless::Vec;

use crate::wire::crypt::Key;

/// Keys held at most. A rotation needs two; more are left over from unfinished rotations.
pub const MAX_KEYS: usize = 4;

/// Why a key request was refused; the text goes to the operator who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyError {
    /// 16, 24 or 32 octets are a key.
    Size,
    /// The key is not installed.
    Unknown,
    /// The primary key cannot be removed.
    Primary,
    /// No room for another.
    Full,
}

impl KeyError {
    pub fn as_str(self) -> &'static str {
        match self {
            KeyError::Size => "key size must be 16, 24 or 32 bytes",
            KeyError::Unknown => "requested key is not in the keyring",
            KeyError::Primary => "removing the primary key is not allowed",
            KeyError::Full => "this agent's keyring is full; remove old keys first",
        }
    }
}

/// The keys of a pool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keyring {
    keys: Vec<Key, MAX_KEYS>,
}

impl Keyring {
    /// A ring with `keys`, duplicates left out; `None` when there are too many.
    pub fn new(keys: &[Key]) -> Option<Self> {
        let mut ring = Keyring::default();
        for key in keys {
            if !ring.keys.contains(key) {
                ring.keys.push(*key).ok()?;
            }
        }
        Some(ring)
    }

    /// All keys, the primary first.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The key that sends; `None` without encryption.
    pub fn primary(&self) -> Option<&Key> {
        self.keys.first()
    }

    /// Adds a key that only receives.
    pub fn install(&mut self, octets: &[u8]) -> Result<(), KeyError> {
        let key = Key::new(octets).ok_or(KeyError::Size)?;
        if self.keys.contains(&key) {
            return Ok(());
        }
        self.keys.push(key).map_err(|_| KeyError::Full)
    }

    /// Makes an installed key the primary.
    pub fn use_key(&mut self, octets: &[u8]) -> Result<(), KeyError> {
        let at = self.find(octets).ok_or(KeyError::Unknown)?;
        self.keys[..=at].rotate_right(1);
        Ok(())
    }

    /// Takes a key out; one that is not there is no error, as in the reference.
    pub fn remove(&mut self, octets: &[u8]) -> Result<(), KeyError> {
        match self.find(octets) {
            Some(0) => Err(KeyError::Primary),
            Some(at) => {
                self.keys.remove(at);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn find(&self, octets: &[u8]) -> Option<usize> {
        self.keys.iter().position(|key| key.as_octets() == octets)
    }
}

/// Octets of the base64 text of a 32 octet key.
pub(crate) const BASE64: usize = 44;

/// The base64 text of a key (RFC 4648 §4), as key lists show it.
pub(crate) fn base64<'a>(key: &Key, out: &'a mut [u8; BASE64]) -> &'a str {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut len = 0;
    for group in key.as_octets().chunks(3) {
        let bits = group.iter().fold(0u32, |acc, &octet| (acc << 8) | u32::from(octet)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            out[len] = if digit <= group.len() { DIGITS[(bits >> (18 - 6 * digit)) as usize & 63] } else { b'=' };
            len += 1;
        }
    }
    core::str::from_utf8(&out[..len]).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_from_start_to_end() {
        let (old, new) = (Key::new(&[1; 16]).unwrap(), Key::new(&[2; 32]).unwrap());
        let mut ring = Keyring::new(&[old, old]).unwrap();
        assert_eq!(ring.use_key(new.as_octets()), Err(KeyError::Unknown));
        assert_eq!(ring.install(&[0; 5]), Err(KeyError::Size));
        ring.install(new.as_octets()).unwrap();
        assert_eq!(ring.keys(), [old, new]);
        ring.use_key(new.as_octets()).unwrap();
        assert_eq!(ring.keys(), [new, old]);
        assert_eq!(ring.remove(new.as_octets()), Err(KeyError::Primary));
        ring.remove(old.as_octets()).unwrap();
        assert_eq!(ring.keys(), [new]);
    }

    #[test]
    fn base64_of_all_key_sizes() {
        let mut out = [0; BASE64];
        let key = |n: usize| Key::new(&(0..n as u8).collect::<Vec<_, 32>>()).unwrap();
        assert_eq!(base64(&key(16), &mut out), "AAECAwQFBgcICQoLDA0ODw==");
        assert_eq!(base64(&key(24), &mut out), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX");
        assert_eq!(base64(&key(32), &mut out), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    }
}
