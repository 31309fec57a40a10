//! A board's settings and MAC address, turned into the agent's configuration.
//!
//! The agent borrows its configuration, which borrows its tags, which borrow the name and id made here. In firmware each
//! is put into a static of its own.
//!
//! ```
//! use agent_core::{agent::Agent, time::Instant};
//! use agent_embedded::{identity::Identity, provision::Settings};
//!
//! agent_core::lictor_memory! {
//!     struct Memory { members: 8, services: 1, checks: 1, connections: 2, queries: 1 }
//! }
//!
//! let settings = Settings::default();
//! let identity = Identity::new(&settings, [2, 0, 0, 0xab, 0xcd, 0xef], [192, 0, 2, 7].into())?;
//! let tags = identity.tags();
//! let config = identity.config(&tags);
//! let mut memory = Memory::new();
//! // The seed comes from the chip's random number generator.
//! let agent = Agent::new(&config, memory.regions(), [7; 32], Instant::ZERO)?;
//! assert_eq!(identity.name(), "board-abcdef");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use agent_core::{
    config::{Config, PoolConfig},
    dns::Rules,
    time::Duration,
    wire::crypt::Key,
};
use heapless::{CapacityError, String, Vec, string::StringView};

use crate::provision::Settings;

/// What a member of a Consul LAN says of itself (gossip spec §10.2).
pub type Tags<'a> = [(&'a str, &'a str); 9];

/// Who a board is.
pub struct Identity<'a> {
    settings: &'a Settings<'a>,
    name: String<64>,
    id: String<36>,
    keys: Vec<Key, 4>,
    advertise: SocketAddr,
}

/// Why settings make no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The name has more than 64 octets.
    NameTooLong,
    /// The id is not 36 characters long. A server would leave such a node out of its catalog.
    Id,
    /// A gossip key has not 16, 24 or 32 octets.
    Key,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Error {
    /// The same in words, for logs without formatting.
    pub const fn as_str(self) -> &'static str {
        match self {
            Error::NameTooLong => "the node name in the settings has more than 64 octets",
            Error::Id => "the node id in the settings is not a UUID of 36 characters",
            Error::Key => "a gossip key in the settings has not 16, 24 or 32 octets",
        }
    }
}

impl core::error::Error for Error {}

/// Appends two hexadecimal digits for every octet.
fn push_hex(text: &mut StringView, octets: &[u8]) -> Result<(), CapacityError> {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digits = octets.iter().flat_map(|octet| [octet >> 4, octet & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).try_for_each(|digit| text.push(digit))
}

impl<'a> Identity<'a> {
    /// The identity of the board with `mac` and, on its own network, `address`.
    ///
    /// # Errors
    /// Settings that cannot work.
    pub fn new(settings: &'a Settings<'a>, mac: [u8; 6], address: Ipv4Addr) -> Result<Self, Error> {
        let mut name = String::new();
        match settings.node_name {
            "" => name.push_str("board-").and_then(|()| push_hex(&mut name, &mac[3..])),
            given => name.push_str(given),
        }
        .map_err(|_| Error::NameTooLong)?;
        let mut id = String::new();
        match settings.node_id {
            // A UUID of version 8: its content is the maker's choice. A MAC address is unique, so this is.
            "" => id.push_str("6c696374-6f72-8000-8000-").and_then(|()| push_hex(&mut id, &mac)),
            given => id.push_str(given),
        }
        .map_err(|_| Error::Id)?;
        if id.len() != id.capacity() {
            return Err(Error::Id);
        }
        let mut keys = Vec::new();
        for octets in &settings.keys {
            let key = Key::new(octets).ok_or(Error::Key)?;
            keys.push(key).map_err(|_| Error::Key)?;
        }
        let advertise = match settings.advertise {
            Some((ip, port)) => SocketAddr::new(IpAddr::V4(ip.into()), port),
            None => SocketAddr::new(IpAddr::V4(address), 8301),
        };
        Ok(Identity { settings, name, id, keys, advertise })
    }

    /// The node name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tags of a client of Consul 1.8.7.
    pub fn tags(&self) -> Tags<'_> {
        [
            ("acls", "0"),
            ("build", "1.8.7"),
            ("dc", self.settings.datacenter),
            ("id", &self.id),
            ("role", "node"),
            ("segment", ""),
            ("vsn", "2"),
            ("vsn_max", "3"),
            ("vsn_min", "2"),
        ]
    }

    /// The agent's configuration: Consul's LAN timing, everything encrypted when there is a key. In the catalog, unless
    /// the settings say that the pool is plain Serf's; such a member has no tags.
    pub fn config<'b>(&'b self, tags: &'b Tags<'b>) -> Config<'b> {
        let settings = self.settings;
        let pool = PoolConfig {
            keys: &self.keys,
            seeds: &settings.seeds,
            retry_join: Duration::from_secs(5),
            // Serf 0.9 speaks 2 to 5; Consul 1.8.7 has an older Serf inside.
            delegate_version: if settings.serf_only { 5 } else { 4 },
            consul_rules: !settings.serf_only,
            ..PoolConfig::lan(&self.name, self.advertise, if settings.serf_only { &[] } else { tags })
        };
        Config {
            pool,
            node_id: &self.id,
            datacenter: settings.datacenter,
            domain: "consul",
            token: settings.token,
            meta: &[],
            tagged_addresses: &[],
            check_update_interval: Duration::from_secs(300),
            sync: !settings.serf_only,
            dns: Rules::new("consul", settings.datacenter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0xab, 0, 7];
    const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

    #[test]
    fn a_board_without_settings_is_named_after_its_mac() {
        let settings = Settings::default();
        let identity = Identity::new(&settings, MAC, OWN).unwrap();
        assert_eq!(identity.name(), "board-ab0007");
        let tags = identity.tags();
        assert!(tags.contains(&("id", "6c696374-6f72-8000-8000-020000ab0007")));
        assert!(tags.is_sorted());
        let config = identity.config(&tags);
        assert_eq!(config.pool.advertise, "10.0.2.15:8301".parse().unwrap());
        assert!(config.pool.keys.is_empty());
    }

    #[test]
    fn settings_win() {
        let mut settings =
            Settings { node_name: "north", advertise: Some(([127, 0, 0, 1], 99)), ..Settings::default() };
        settings.keys.push(&[1; 16]).unwrap();
        let identity = Identity::new(&settings, MAC, OWN).unwrap();
        let tags = identity.tags();
        let config = identity.config(&tags);
        assert_eq!((config.pool.name, config.pool.keys.len()), ("north", 1));
        assert_eq!(config.pool.advertise, "127.0.0.1:99".parse().unwrap());
    }

    #[test]
    fn a_plain_serf_pool_hears_nothing_of_consul() {
        let settings = Settings { serf_only: true, ..Settings::default() };
        let identity = Identity::new(&settings, MAC, OWN).unwrap();
        let tags = identity.tags();
        let config = identity.config(&tags);
        assert!(config.pool.tags.is_empty() && !config.pool.consul_rules && !config.sync);
        assert_eq!(config.pool.delegate_version, 5);
    }

    #[test]
    fn impossible_settings_are_named() {
        let error = |settings: Settings<'_>| Identity::new(&settings, MAC, OWN).err().unwrap();
        let long = "x".repeat(65);
        assert_eq!(error(Settings { node_name: &long, ..Settings::default() }), Error::NameTooLong);
        assert_eq!(error(Settings { node_id: "7", ..Settings::default() }), Error::Id);
        let mut settings = Settings::default();
        settings.keys.push(&[1; 15]).unwrap();
        assert_eq!(error(settings), Error::Key);
    }
}
