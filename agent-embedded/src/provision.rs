//! What makes one board different from the next: name, network, keys, seeds; kept in a flash page of their own.
//!
//! One firmware image then serves every board: whoever sets a board up writes this page (with a programmer, or with
//! QEMU's loader) and never builds. The page is read in place; names and keys stay in flash.
//!
//! | offset | octets | meaning |
//! |---|---|---|
//! | 0 | 4 | `lctr` |
//! | 4 | 4 | CRC-32 (IEEE) of all that follows, little endian |
//! | 8 | 1 | format version: 2, or 1 for pages without `serf_only` |
//! | 9 | 1 | kind, 1: settings of a board. Append only |
//! | 10 | 2 | octets of the body, little endian |
//! | 12 | … | body: [`Settings`] in postcard's format, then `serf_only` |
//!
//! Postcard does not describe itself: a field is never moved, and a new one means a new format version, stands behind
//! all others, and has a default for pages of the versions before.

use core::net::Ipv4Addr;

use agent_core::wire::crc;
use heapless::Vec;
use serde::{Deserialize, Serialize};

/// Octets in front of the body.
pub const HEADER: usize = 12;
/// Where the checksummed part begins.
const SUMMED: usize = 8;
/// Largest image: one flash page of the smallest board.
pub const MAX_IMAGE: usize = 1024;

const MAGIC: [u8; 4] = *b"lctr";
const VERSION: u8 = 2;
/// The first version that says whether the pool is plain Serf's.
const VERSION_SERF_ONLY: u8 = 2;
const KIND_SETTINGS: u8 = 1;

/// What makes one board different from the next. Holds secrets, so it has no `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings<'a> {
    /// Node name; empty: made from the MAC address.
    pub node_name: &'a str,
    /// Node id, a UUID; empty: made from the MAC address.
    pub node_id: &'a str,
    /// Datacenter.
    pub datacenter: &'a str,
    /// Where the board's own address comes from.
    pub network: Network,
    /// Address and port that others reach the board's gossip port at; `None`: its own address and 8301.
    pub advertise: Option<([u8; 4], u16)>,
    /// Members to join: `host`, `host:port`, `ip` or `ip:port`.
    #[serde(borrow)]
    pub seeds: Vec<&'a str, 4>,
    /// Gossip keys of 16, 24 or 32 octets; the first sends. Empty: no encryption.
    pub keys: Vec<&'a [u8], 4>,
    /// Token of the board's RPCs; empty: none.
    pub token: &'a str,
    /// Be a member of a plain Serf pool: no catalog, no RPC, none of Consul's tags. Since format 2, `false` before.
    #[serde(skip)] // behind the body of format 1, see `decode`
    pub serf_only: bool,
}

/// Where a board's address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// Ask for one.
    Dhcp,
    /// Use this one.
    Static {
        /// The board's address.
        address: [u8; 4],
        /// Length of the network prefix.
        prefix: u8,
        /// Router, if there is one.
        gateway: Option<[u8; 4]>,
        /// Name server, if there is one.
        dns: Option<[u8; 4]>,
    },
}

impl Network {
    /// Whether a network stack takes it; smoltcp panics on a group's address as its own.
    fn is_possible(&self) -> bool {
        match *self {
            Network::Dhcp => true,
            Network::Static { address, prefix, .. } => {
                let address = Ipv4Addr::from(address);
                prefix <= 32 && !address.is_multicast() && !address.is_broadcast() && !address.is_unspecified()
            }
        }
    }
}

impl Default for Settings<'_> {
    fn default() -> Self {
        Settings {
            node_name: "",
            node_id: "",
            datacenter: "dc1",
            network: Network::Dhcp,
            advertise: None,
            seeds: Vec::new(),
            keys: Vec::new(),
            token: "",
            serf_only: false,
        }
    }
}

/// Why a page holds no settings, or settings do not fit a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Erased flash: nobody wrote settings yet.
    Blank,
    /// Something else is in the page.
    NotSettings,
    /// Written by a newer program, for newer firmware: the format version.
    Version(u8),
    /// A known format, another kind of content.
    Kind(u8),
    /// The header promises more octets than the page has.
    Length(u16),
    /// The page was damaged or only half written.
    Checksum,
    /// The checksum is right and the body still makes no sense: written by a faulty program.
    Body,
    /// The board's own address is not one that a board can have, or its prefix has more than 32 bits.
    Address,
    /// Encoding: the buffer is too small for these settings.
    TooLong,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::Blank => f.write_str("the settings page is blank: write settings to it"),
            Error::NotSettings => f.write_str("the settings page holds something else: is its address right?"),
            Error::Version(found) => {
                write!(f, "settings of format {found}, this firmware reads 1 to {VERSION}: update it")
            }
            Error::Kind(found) => write!(f, "content of kind {found} where settings ({KIND_SETTINGS}) belong"),
            Error::Length(promised) => write!(f, "settings of {promised} octets do not fit their page"),
            Error::Checksum => f.write_str("settings are damaged: write them again"),
            Error::Body => {
                f.write_str("settings have a right checksum and wrong content: written by a faulty program?")
            }
            Error::Address => f.write_str("the static address in the settings is no address of a board: correct it"),
            Error::TooLong => f.write_str("settings do not fit: shorten names or drop seeds"),
        }
    }
}

impl core::error::Error for Error {}

impl<'a> Settings<'a> {
    /// Reads the settings from a page, which may be longer than they are. Borrows names and keys from it.
    ///
    /// # Errors
    /// Says what the page holds instead.
    pub fn decode(page: &'a [u8]) -> Result<Self, Error> {
        let (header, _) = page.split_first_chunk::<HEADER>().ok_or(Error::NotSettings)?;
        let [m0, m1, m2, m3, c0, c1, c2, c3, version, kind, length @ ..] = *header;
        match [m0, m1, m2, m3] {
            MAGIC => {}
            [0xff, 0xff, 0xff, 0xff] => return Err(Error::Blank),
            _ => return Err(Error::NotSettings),
        }
        if !(1..=VERSION).contains(&version) {
            return Err(Error::Version(version));
        }
        if kind != KIND_SETTINGS {
            return Err(Error::Kind(kind));
        }
        let length = u16::from_le_bytes(length);
        let summed = page.get(SUMMED..HEADER + usize::from(length)).ok_or(Error::Length(length))?;
        if u32::from_le_bytes([c0, c1, c2, c3]) != crc::checksum(summed) {
            return Err(Error::Checksum);
        }
        let body = &summed[HEADER - SUMMED..];
        let (mut settings, mut rest) = postcard::take_from_bytes::<Settings<'a>>(body).map_err(|_| Error::Body)?;
        if version >= VERSION_SERF_ONLY {
            (settings.serf_only, rest) = match rest {
                [serf_only @ 0..=1, rest @ ..] => (*serf_only == 1, rest),
                _ => return Err(Error::Body),
            };
        }
        if !rest.is_empty() {
            return Err(Error::Body);
        }
        if settings.network.is_possible() { Ok(settings) } else { Err(Error::Address) }
    }

    /// Writes the settings as an image for the page and gives back its length.
    ///
    /// # Errors
    /// [`Error::TooLong`] when `out` is too small; its content is then undefined.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        let (header, rest) = out.split_first_chunk_mut::<HEADER>().ok_or(Error::TooLong)?;
        let body = postcard::to_slice(&(self, self.serf_only), rest).map_err(|_| Error::TooLong)?;
        let length = u16::try_from(body.len()).map_err(|_| Error::TooLong)?;
        header[..4].copy_from_slice(&MAGIC);
        header[8] = VERSION;
        header[9] = KIND_SETTINGS;
        header[10..].copy_from_slice(&length.to_le_bytes());
        let end = HEADER + usize::from(length);
        let sum = crc::checksum(&out[SUMMED..end]);
        out[4..SUMMED].copy_from_slice(&sum.to_le_bytes());
        Ok(end)
    }
}

#[cfg(test)]
mod tests {
    use agent_core::{
        agent::{Agent, Output},
        time::Instant,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::identity::Identity;

    fn sample() -> Settings<'static> {
        let mut settings = Settings {
            node_name: "board-7",
            network: Network::Static { address: [10, 0, 2, 15], prefix: 24, gateway: Some([10, 0, 2, 2]), dns: None },
            advertise: Some(([127, 0, 0, 1], 8311)),
            serf_only: true,
            ..Settings::default()
        };
        settings.seeds.push("127.0.0.11:8301").unwrap();
        settings.keys.push(&[7; 16]).unwrap();
        settings
    }

    fn image() -> ([u8; MAX_IMAGE], usize) {
        let mut page = [0xff; MAX_IMAGE];
        let len = sample().encode(&mut page).unwrap();
        (page, len)
    }

    #[test]
    fn comes_back_from_a_longer_page() {
        let (page, _) = image();
        assert!(Settings::decode(&page) == Ok(sample()));
    }

    #[test]
    fn format_1_stays() {
        // Written by the first version; must open for ever.
        let page = b"lctr\x4e\x0c\x84\xfa\x01\x01\x33\x00\x01a\x00\x03dc1\x00\x01\x7f\x00\x00\x01\xf7\x40\x01\x0f127.0.0.11:8301\x01\x10\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x00";
        let settings = Settings::decode(page).ok().unwrap();
        assert_eq!(settings.node_name, "a");
        assert_eq!(settings.advertise, Some(([127, 0, 0, 1], 8311)));
        assert_eq!(settings.seeds, ["127.0.0.11:8301"]);
        assert_eq!(settings.keys, [&[7; 16][..]]);
        assert!(!settings.serf_only);
    }

    #[test]
    fn format_2_stays() {
        // As above, in a plain Serf pool.
        let page = b"lctr\xfb_\x5c\x16\x02\x014\x00\x01a\x00\x03dc1\x00\x01\x7f\x00\x00\x01\xf7@\x01\x0f127.0.0.11:8301\x01\x10\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x00\x01";
        let settings = Settings::decode(page).ok().unwrap();
        assert_eq!((settings.node_name, settings.serf_only), ("a", true));
        assert_eq!(settings.seeds, ["127.0.0.11:8301"]);
        let mut written = [0; MAX_IMAGE];
        let len = settings.encode(&mut written).unwrap();
        assert_eq!(written[..len], page[..]);
    }

    #[test]
    fn every_damaged_bit_and_every_truncation_is_seen() {
        let (page, len) = image();
        for cut in 0..len {
            assert!(Settings::decode(&page[..cut]).is_err(), "{cut} octets");
        }
        for bit in 0..len * 8 {
            let mut damaged = page;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Settings::decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let (mut page, _) = image();
        let error = |page: &[u8]| Settings::decode(page).err().unwrap();
        assert_eq!(error(&[0xff; 64]), Error::Blank);
        assert_eq!(error(&[0; 64]), Error::NotSettings);
        for version in [0, VERSION + 1] {
            page[8] = version;
            assert_eq!(error(&page), Error::Version(version));
        }
        page[8] = VERSION;
        page[11] = 0xff;
        assert!(matches!(error(&page), Error::Length(_)));
        assert_eq!(sample().encode(&mut [0; 40]), Err(Error::TooLong));
        for (address, prefix) in [([224, 0, 0, 1], 24), ([255; 4], 24), ([0; 4], 24), ([10, 0, 2, 15], 33)] {
            let network = Network::Static { address, prefix, gateway: None, dns: None };
            let len = Settings { network, ..sample() }.encode(&mut page).unwrap();
            assert_eq!(error(&page[..len]), Error::Address);
        }
    }

    /// An image with a right header and checksum around `body`.
    fn sealed(version: u8, body: &[u8]) -> std::vec::Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_le_bytes();
        let summed = [&[version, KIND_SETTINGS, length[0], length[1]], body].concat();
        [&MAGIC[..], &crc::checksum(&summed).to_le_bytes(), &summed].concat()
    }

    proptest! {
        /// Nothing in a page can do more than be refused, and what is taken can be written again.
        #[test]
        fn any_page_is_survived(page: std::vec::Vec<u8>, body: std::vec::Vec<u8>, version in 0..4u8) {
            for page in [page, sealed(version, &body)] {
                if let Ok(settings) = Settings::decode(&page) {
                    let mut written = [0; MAX_IMAGE];
                    let len = settings.encode(&mut written).unwrap();
                    prop_assert!(Settings::decode(&written[..len]) == Ok(settings));
                }
            }
        }

        /// A whole page that was changed and sealed anew: the body alone must be enough to refuse or to take it, and
        /// an identity made of it is refused with words or works.
        #[test]
        fn odd_settings_are_survived(changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6)) {
            let (page, len) = image();
            let mut body = page[HEADER..len].to_vec();
            for (place, octet) in changes {
                let place = place.index(body.len());
                body[place] = octet;
            }
            let page = sealed(VERSION, &body);
            if let Ok(settings) = Settings::decode(&page) {
                let mut written = [0; MAX_IMAGE];
                let len = settings.encode(&mut written).unwrap();
                prop_assert!(Settings::decode(&written[..len]) == Ok(settings.clone()));
                start(&settings);
            }
        }
    }

    agent_core::lictor_memory! {
        struct Memory { members: 4, services: 1, checks: 1, connections: 2, queries: 1 }
    }

    /// What a board does with its settings; refusals are fine.
    fn start(settings: &Settings<'_>) {
        let Ok(identity) = Identity::new(settings, [2, 0, 0, 0, 0, 1], Ipv4Addr::new(10, 0, 2, 15)) else { return };
        let tags = identity.tags();
        let mut memory = std::boxed::Box::new(Memory::new());
        let config = identity.config(&tags);
        let agent = Agent::new(&config, memory.regions(), [7; 32], Instant::ZERO);
        if let Ok(mut agent) = agent {
            agent.handle_timeout(Instant::ZERO);
            let mut out = [0; agent_core::pool::MAX_DATAGRAM];
            let ends = (0..1000).any(|_| matches!(agent.poll_output(&mut out), Output::Wait { .. }));
            assert!(ends, "work without end");
        }
    }
}
