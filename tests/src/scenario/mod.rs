//! What an agent must do among real ones. Each scenario takes the program it is about: with the real Consul it shows
//! that the scenario is right, with ours that we are.

pub mod cli;
pub mod federation;
pub mod join;
pub mod keys;
pub mod kill;
pub mod linear;
pub mod member;
pub mod mixed;
pub mod mixed_consul;
pub mod pool;
pub mod recovery;
pub mod rpc;
pub mod servers;
pub mod snapshot;

/// A gossip key for the scenarios that encrypt, 16 octets in base64.
pub const KEY: &str = "ICEiIyQlJicoKSorLC0uLw==";

/// The same key as octets, for boards.
pub const KEY_OCTETS: [u8; 16] = [32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47];
