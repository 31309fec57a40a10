//! AES-GCM of datagrams and streams (gossip spec §5).
//!
//! Payload: version (1 octet) | nonce (12) | ciphertext | tag (16). A datagram is opened in place once its tag is
//! right. A stream may be megabytes long with the tag at its very end, so [`StreamOpener`] decrypts and authenticates as
//! it goes, and its caller stages what it reads until [`StreamOpener::finish`] says that the tag was right.
//!
//! GCM is counter mode plus GHASH (NIST SP 800-38D). Both are built here from the `aes` and `ghash` crates, because no
//! AEAD interface hands out octets before the tag. One loop over "encrypt these counter blocks" serves all key sizes.

use aes::{
    Aes128, Aes192, Aes256, Block,
    cipher::{BlockEncrypt, KeyInit, generic_array::GenericArray},
};
use ghash::{GHash, universal_hash::UniversalHash};

/// Octets around the ciphertext of version 1: version, nonce, tag.
pub const OVERHEAD: usize = 1 + NONCE + TAG;
/// Octets of a nonce.
pub const NONCE: usize = 12;
/// Octets of a tag.
pub const TAG: usize = 16;
/// Version written: no padding.
const VERSION: u8 = 1;
/// Blocks of key stream made at a time: what AES-NI keeps in flight, and 128 octets of stack.
const BATCH: usize = 8;

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

/// An expanded key.
enum Cipher {
    Aes128(Aes128),
    Aes192(Aes192),
    Aes256(Aes256),
}

impl Cipher {
    fn new(key: &Key) -> Self {
        let octets = key.as_octets();
        match octets.len() {
            16 => Cipher::Aes128(Aes128::new(GenericArray::from_slice(octets))),
            24 => Cipher::Aes192(Aes192::new(GenericArray::from_slice(octets))),
            // `Key::new` admits nothing else.
            _ => Cipher::Aes256(Aes256::new(GenericArray::from_slice(&key.octets))),
        }
    }

    fn encrypt(&self, blocks: &mut [Block]) {
        match self {
            Cipher::Aes128(cipher) => cipher.encrypt_blocks(blocks),
            Cipher::Aes192(cipher) => cipher.encrypt_blocks(blocks),
            Cipher::Aes256(cipher) => cipher.encrypt_blocks(blocks),
        }
    }

    /// GHASH keyed with the encryption of the zero block.
    fn ghash(&self) -> GHash {
        let mut zero = [Block::default()];
        self.encrypt(&mut zero);
        GHash::new(&zero[0])
    }

    /// XORs `data` with the key stream of `nonce`, beginning `offset` octets into the message.
    fn apply(&self, nonce: &[u8; NONCE], offset: usize, data: &mut [u8]) {
        let mut done = 0;
        while done < data.len() {
            let at = offset + done;
            let skip = at % 16;
            let wanted = (data.len() - done + skip).div_ceil(16).min(BATCH);
            let mut blocks = [Block::default(); BATCH];
            for (i, block) in blocks.iter_mut().take(wanted).enumerate() {
                // Counter 1 belongs to the tag, the message starts at 2.
                *block = counter_block(nonce, ((at / 16 + i) as u32).wrapping_add(2));
            }
            self.encrypt(&mut blocks[..wanted]);
            let stream = blocks[..wanted].iter().flatten().skip(skip);
            let rest = &mut data[done..];
            done += rest.len().min(wanted * 16 - skip);
            rest.iter_mut().zip(stream).for_each(|(octet, key)| *octet ^= key);
        }
    }

    /// The mask of the tag.
    fn tag_mask(&self, nonce: &[u8; NONCE]) -> Block {
        let mut mask = [counter_block(nonce, 1)];
        self.encrypt(&mut mask);
        mask[0]
    }
}

fn counter_block(nonce: &[u8; NONCE], counter: u32) -> Block {
    let mut block = Block::default();
    block[..NONCE].copy_from_slice(nonce);
    block[NONCE..].copy_from_slice(&counter.to_be_bytes());
    block
}

/// GHASH over additional data and then ciphertext that comes in pieces.
#[derive(Clone)]
struct Authenticator {
    ghash: GHash,
    partial: Block,
    filled: usize,
    additional: u64,
    length: u64,
}

impl Authenticator {
    fn new(cipher: &Cipher, additional: &[&[u8]]) -> Self {
        let mut auth =
            Authenticator { ghash: cipher.ghash(), partial: Block::default(), filled: 0, additional: 0, length: 0 };
        for piece in additional {
            auth.absorb(piece);
            auth.additional += piece.len() as u64;
        }
        auth.pad();
        auth
    }

    fn update(&mut self, ciphertext: &[u8]) {
        self.absorb(ciphertext);
        self.length += ciphertext.len() as u64;
    }

    fn absorb(&mut self, mut data: &[u8]) {
        if self.filled > 0 {
            let taken = data.len().min(16 - self.filled);
            self.partial[self.filled..self.filled + taken].copy_from_slice(&data[..taken]);
            self.filled += taken;
            data = &data[taken..];
            if self.filled < 16 {
                return;
            }
            self.pad();
        }
        let whole = data.len() / 16 * 16;
        self.ghash.update_padded(&data[..whole]);
        let rest = &data[whole..];
        self.partial[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    fn pad(&mut self) {
        if self.filled > 0 {
            self.partial[self.filled..].fill(0);
            self.ghash.update(&[self.partial]);
            self.filled = 0;
        }
    }

    fn tag(mut self, cipher: &Cipher, nonce: &[u8; NONCE]) -> [u8; TAG] {
        self.pad();
        let mut lengths = Block::default();
        lengths[..8].copy_from_slice(&(self.additional * 8).to_be_bytes());
        lengths[8..].copy_from_slice(&(self.length * 8).to_be_bytes());
        self.ghash.update(&[lengths]);
        let (hash, mask) = (self.ghash.finalize(), cipher.tag_mask(nonce));
        core::array::from_fn(|i| hash[i] ^ mask[i])
    }
}

/// Equality in the same time wherever the difference is.
fn same_tag(a: &[u8; TAG], b: &[u8]) -> bool {
    b.len() == TAG && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

/// Nonces that never repeat under a key: 8 octets from the seed of this start, then a counter of 4 octets, after whose
/// end the prefix moves on. Two starts clash with a chance of about n²/2⁶⁵.
#[derive(Clone, Debug)]
pub struct Nonces {
    prefix: u64,
    counter: u32,
}

impl Nonces {
    /// Nonces of one start. The seed must be fresh entropy.
    pub fn new(seed: &[u8; 32]) -> Self {
        // The seed also feeds the choices, which anybody may observe: the prefix goes through a cipher keyed with it.
        let key = Key { octets: *seed, len: 32 };
        let mut block = [counter_block(b"lictor nonce", 0)];
        Cipher::new(&key).encrypt(&mut block);
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&block[0][..8]);
        Nonces { prefix: u64::from_be_bytes(prefix), counter: 0 }
    }

    /// A nonce not used before.
    pub fn fresh(&mut self) -> [u8; NONCE] {
        let mut nonce = [0; NONCE];
        nonce[..8].copy_from_slice(&self.prefix.to_be_bytes());
        nonce[8..].copy_from_slice(&self.counter.to_be_bytes());
        self.counter = self.counter.wrapping_add(1);
        if self.counter == 0 {
            self.prefix = self.prefix.wrapping_add(1);
        }
        nonce
    }
}

/// Encrypts the message at `buf[1 + NONCE..1 + NONCE + len]` in place and writes version, nonce and tag around it.
/// Returns the payload's length, or `None` when `buf` is too short.
pub fn seal(key: &Key, nonce: [u8; NONCE], additional: &[u8], buf: &mut [u8], len: usize) -> Option<usize> {
    let total = len + OVERHEAD;
    let (head, rest) = buf.get_mut(..total)?.split_at_mut(1 + NONCE);
    let (text, tag) = rest.split_at_mut(len);
    head[0] = VERSION;
    head[1..].copy_from_slice(&nonce);
    let cipher = Cipher::new(key);
    cipher.apply(&nonce, 0, text);
    let mut auth = Authenticator::new(&cipher, &[additional]);
    auth.update(text);
    tag.copy_from_slice(&auth.tag(&cipher, &nonce));
    Some(total)
}

/// Decrypts a payload in place with the first key that fits. Returns the key's place in `keys` and the message; without
/// a fitting key the payload is unchanged.
pub fn open<'a>(keys: &[Key], additional: &[&[u8]], payload: &'a mut [u8]) -> Option<(usize, &'a mut [u8])> {
    if payload.len() < OVERHEAD || payload[0] > VERSION {
        return None;
    }
    let padded = payload[0] == 0;
    let (head, rest) = payload.split_at_mut(1 + NONCE);
    let (text, tag) = rest.split_at_mut(rest.len() - TAG);
    let mut nonce = [0; NONCE];
    nonce.copy_from_slice(&head[1..]);
    for (i, key) in keys.iter().enumerate() {
        let cipher = Cipher::new(key);
        let mut auth = Authenticator::new(&cipher, additional);
        auth.update(text);
        if same_tag(&auth.tag(&cipher, &nonce), tag) {
            cipher.apply(&nonce, 0, text);
            let len = if padded { unpadded(text)? } else { text.len() };
            return Some((i, &mut text[..len]));
        }
    }
    None
}

/// Length without PKCS#7 padding. Like the reference, only the last octet is looked at.
fn unpadded(text: &[u8]) -> Option<usize> {
    let pad = usize::from(*text.last()?);
    text.len().checked_sub(pad).filter(|_| (1..=16).contains(&pad))
}

/// Decrypts a stream frame as it arrives. The cipher is expanded anew for each piece, so that a waiting stream costs a
/// hundred octets instead of a key schedule.
#[derive(Clone)]
pub struct StreamOpener {
    key: Key,
    nonce: [u8; NONCE],
    auth: Authenticator,
}

impl StreamOpener {
    /// Chooses, among `keys`, the one whose decryption of `first` (the first ciphertext, at least 8 octets) looks like the
    /// beginning of a gossip message. `additional` is the frame's head and the label.
    pub fn new(keys: &[Key], nonce: [u8; NONCE], additional: &[&[u8]], first: &[u8]) -> Option<(usize, Self)> {
        let mut probe = [0; 8];
        keys.iter().enumerate().find_map(|(i, key)| {
            probe.copy_from_slice(first.get(..8)?);
            let cipher = Cipher::new(key);
            cipher.apply(&nonce, 0, &mut probe);
            looks_like_message(&probe)
                .then(|| (i, StreamOpener { key: *key, nonce, auth: Authenticator::new(&cipher, additional) }))
        })
    }

    /// Decrypts the next piece in place.
    pub fn update(&mut self, piece: &mut [u8]) {
        let offset = self.auth.length as usize;
        self.auth.update(piece);
        Cipher::new(&self.key).apply(&self.nonce, offset, piece);
    }

    /// True when everything read so far came from somebody who has the key.
    pub fn finish(self, tag: &[u8]) -> bool {
        same_tag(&self.auth.tag(&Cipher::new(&self.key), &self.nonce), tag)
    }
}

/// The plaintext of a stream begins with a type octet and a msgpack map with short keys (spec §11.2, "Key choice").
fn looks_like_message(start: &[u8; 8]) -> bool {
    matches!(start[0], 0 | 2 | 6 | 8 | 9 | 13) && start[1] & 0xf0 == 0x80 && start[2] & 0xe0 == 0xa0
}

/// Encrypts a stream frame piece by piece; the frame's head with the length is the caller's.
#[derive(Clone)]
pub struct StreamSealer {
    key: Key,
    nonce: [u8; NONCE],
    auth: Authenticator,
}

impl core::fmt::Debug for StreamSealer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("StreamSealer(..)")
    }
}

impl StreamSealer {
    /// A sealer for one frame. Write version octet 1 and the nonce before the first piece.
    pub fn new(key: &Key, nonce: [u8; NONCE], additional: &[&[u8]]) -> Self {
        StreamSealer { key: *key, nonce, auth: Authenticator::new(&Cipher::new(key), additional) }
    }

    /// Version octet and nonce.
    pub fn head(&self) -> [u8; 1 + NONCE] {
        let mut head = [VERSION; 1 + NONCE];
        head[1..].copy_from_slice(&self.nonce);
        head
    }

    /// Encrypts the next piece in place.
    pub fn update(&mut self, piece: &mut [u8]) {
        let offset = self.auth.length as usize;
        Cipher::new(&self.key).apply(&self.nonce, offset, piece);
        self.auth.update(piece);
    }

    /// The tag to write after the last piece.
    pub fn finish(self) -> [u8; TAG] {
        self.auth.tag(&Cipher::new(&self.key), &self.nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NIST SP 800-38D test case 4's key, nonce and data (the GCM specification's own example, AES-128).
    #[test]
    fn gcm_example_of_the_standard() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
        };
        let key = Key::new(&hex("feffe9928665731c6d6a8f9467308308")).unwrap();
        let nonce: [u8; 12] = hex("cafebabefacedbaddecaf888").try_into().unwrap();
        let plain = hex(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        );
        let additional = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let mut buf = vec![0; 13];
        buf.extend_from_slice(&plain);
        buf.resize(plain.len() + OVERHEAD, 0);
        let len = seal(&key, nonce, &additional, &mut buf, plain.len()).unwrap();
        assert_eq!(buf[len - 16..], hex("5bc94fbc3221a5db94fae95ae7121a47")[..]);
        let other = Key::new(&[1; 32]).unwrap();
        let (used, text) = open(&[other, key], &[&additional], &mut buf).unwrap();
        assert_eq!((used, &text[..]), (1, &plain[..]));
    }

    #[test]
    fn a_stream_in_any_pieces_is_the_same_frame() {
        for len in [16, 24, 32] {
            let key = Key::new(&vec![len as u8; len]).unwrap();
            let plain: Vec<u8> = b"\x06\x83\xa4Join".iter().copied().chain((0..500u32).map(|i| i as u8)).collect();
            let mut whole = vec![0; 13];
            whole.extend_from_slice(&plain);
            whole.resize(plain.len() + OVERHEAD, 0);
            seal(&key, [9; 12], b"headlabel", &mut whole, plain.len()).unwrap();
            for piece in [1, 7, 16, 61, 600] {
                let mut sealer = StreamSealer::new(&key, [9; 12], &[b"head", b"label"]);
                let mut frame = sealer.head().to_vec();
                for part in plain.chunks(piece) {
                    let mut part = part.to_vec();
                    sealer.update(&mut part);
                    frame.extend(part);
                }
                frame.extend(sealer.finish());
                assert_eq!(frame, whole);
                let text = &frame[13..frame.len() - 16];
                let (_, mut opener) = StreamOpener::new(&[key], [9; 12], &[b"head", b"label"], text).unwrap();
                let mut read = Vec::new();
                for part in text.chunks(piece) {
                    let mut part = part.to_vec();
                    opener.update(&mut part);
                    read.extend(part);
                }
                assert_eq!(read, plain);
                assert!(opener.clone().finish(&frame[frame.len() - 16..]));
                assert!(!opener.finish(&[0; 16]));
            }
        }
    }

    #[test]
    fn a_changed_octet_opens_nothing_and_changes_nothing() {
        let key = Key::new(&[5; 16]).unwrap();
        let mut sealed = [0u8; OVERHEAD + 4];
        sealed[13..17].copy_from_slice(b"ping");
        seal(&key, [1; 12], b"", &mut sealed, 4).unwrap();
        for i in 0..sealed.len() {
            let mut bad = sealed;
            bad[i] ^= 0x10;
            let before = bad;
            assert!(open(&[key], &[b""], &mut bad).is_none(), "octet {i}");
            assert_eq!(bad, before);
        }
        for len in 0..sealed.len() {
            assert!(open(&[key], &[b""], &mut sealed[..len].to_vec()).is_none());
        }
    }

    #[test]
    fn nonces_differ_between_starts_and_go_on_after_the_counter() {
        let (mut a, mut b) = (Nonces::new(&[1; 32]), Nonces::new(&[2; 32]));
        assert_ne!(a.fresh(), b.fresh());
        a.counter = u32::MAX;
        let (last, next) = (a.fresh(), a.fresh());
        assert_ne!(last[..8], next[..8]);
    }
}
