//! What an agent is told at start. Everything is borrowed for as long as the agent lives: no copies.

use core::net::SocketAddr;

use crate::{
    serf::{MatchTag, match_simple},
    time::Duration,
    wire::{crypt::Key, push_pull::Clocks},
};

/// Gossip timing. The presets are memberlist's profiles (gossip spec §7.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Deadline of a whole TCP exchange.
    pub tcp_timeout: Duration,
    /// Members asked to probe for us when a direct probe fails.
    pub indirect_checks: u8,
    /// Transmissions of one broadcast: this × ⌈log₁₀(n + 1)⌉.
    pub retransmit_mult: u8,
    /// Shortest suspicion: this × max(1, log₁₀ n) × probe interval.
    pub suspicion_mult: u8,
    /// Longest suspicion: this × the shortest.
    pub suspicion_max_mult: u8,
    /// Time between push/pulls with a random member; grows with the cluster.
    pub push_pull_interval: Duration,
    /// Time between probes; stretched by our own awareness.
    pub probe_interval: Duration,
    /// Wait for a direct ack.
    pub probe_timeout: Duration,
    /// Time between gossip rounds while something is queued.
    pub gossip_interval: Duration,
    /// Members per gossip round.
    pub gossip_nodes: u8,
    /// The dead still get gossip this long, so that they may refute.
    pub gossip_to_the_dead: Duration,
    /// A dead member's name may be taken by another address after this; zero: never.
    pub dead_node_reclaim: Duration,
    /// Awareness runs from 0 to this, exclusive.
    pub awareness_max: u8,
    /// Time for our leave to spread before we stop.
    pub leave_propagate: Duration,
    /// Failed members are forgotten after this.
    pub reconnect_timeout: Duration,
    /// Left members are forgotten after this.
    pub tombstone_timeout: Duration,
    /// Time between sweeps for the two above.
    pub reap_interval: Duration,
    /// Time between tries to reach a failed member again.
    pub reconnect_interval: Duration,
}

impl Timing {
    /// Consul's LAN pool (memberlist LAN profile with Consul's overrides).
    pub const fn lan() -> Self {
        Timing {
            tcp_timeout: Duration::from_secs(10),
            indirect_checks: 3,
            retransmit_mult: 4,
            suspicion_mult: 4,
            suspicion_max_mult: 6,
            push_pull_interval: Duration::from_secs(30),
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(500),
            gossip_interval: Duration::from_millis(200),
            gossip_nodes: 3,
            gossip_to_the_dead: Duration::from_secs(30),
            dead_node_reclaim: Duration::from_secs(30),
            awareness_max: 8,
            leave_propagate: Duration::from_secs(3),
            reconnect_timeout: Duration::from_secs(72 * 3600),
            tombstone_timeout: Duration::from_secs(24 * 3600),
            reap_interval: Duration::from_secs(15),
            reconnect_interval: Duration::from_secs(30),
        }
    }

    /// Consul's WAN pool.
    pub const fn wan() -> Self {
        Timing {
            tcp_timeout: Duration::from_secs(30),
            suspicion_mult: 6,
            push_pull_interval: Duration::from_secs(60),
            probe_interval: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(3),
            gossip_interval: Duration::from_millis(500),
            gossip_to_the_dead: Duration::from_secs(60),
            ..Timing::lan()
        }
    }

    /// memberlist's profile for loopback: what `-dev` and tests on one machine use.
    pub const fn local() -> Self {
        Timing {
            tcp_timeout: Duration::from_secs(1),
            indirect_checks: 1,
            retransmit_mult: 2,
            suspicion_mult: 3,
            push_pull_interval: Duration::from_secs(15),
            probe_timeout: Duration::from_millis(200),
            gossip_interval: Duration::from_millis(100),
            gossip_to_the_dead: Duration::from_secs(15),
            ..Timing::lan()
        }
    }
}

/// What one gossip pool is told at start.
#[derive(Clone, Copy, Debug)]
pub struct PoolConfig<'m> {
    /// Our name in the pool: 1 to 128 octets, `[A-Za-z0-9-]` to be servable by DNS.
    pub name: &'m str,
    /// The address others reach us at. May differ from the bound one.
    pub advertise: SocketAddr,
    /// Put our address into pings, so that acks find us behind an odd source address. `false` behind NAT.
    pub advertise_in_pings: bool,
    /// Our tags (gossip spec §10.2); encoded at most 512 octets.
    pub tags: &'m [(&'m str, &'m str)],
    /// Gossip keys; the first sends, all receive. Empty: no encryption.
    pub keys: &'m [Key],
    /// Drop what is not encrypted with one of our keys (Consul `encrypt_verify_incoming`).
    pub verify_incoming: bool,
    /// Encrypt what we send (Consul `encrypt_verify_outgoing`).
    pub verify_outgoing: bool,
    /// Newer memberlist's label; empty for Consul.
    pub label: &'m str,
    /// Timing profile.
    pub timing: Timing,
    /// Serf's delegate protocol version spoken: 4 for Consul, 5 for plain serf.
    pub delegate_version: u8,
    /// Apply Consul's admission rules (gossip spec §10.4); `false` in a plain serf pool.
    pub consul_rules: bool,
    /// Refuse members that are not servers: a WAN pool.
    pub servers_only: bool,
    /// Addresses or names of members to join through while we know nobody: tried in turn, for ever, resolved anew each
    /// time.
    pub seeds: &'m [&'m str],
    /// Time between rounds over the seeds (Consul `retry_interval`).
    pub retry_join: Duration,
    /// Lamport times of an earlier run under this name: our own messages are newer, and what was told then is not told
    /// again. Zeros: there was none.
    pub clocks: Clocks,
    /// Evaluates the tag filters of queries. An agent with room for a regular expression engine gives its own.
    pub match_tag: MatchTag,
}

impl<'m> PoolConfig<'m> {
    /// A Consul LAN pool's settings for a member `name` at `advertise` with `tags`; change what differs.
    pub const fn lan(name: &'m str, advertise: SocketAddr, tags: &'m [(&'m str, &'m str)]) -> Self {
        PoolConfig {
            name,
            advertise,
            advertise_in_pings: true,
            tags,
            keys: &[],
            verify_incoming: true,
            verify_outgoing: true,
            label: "",
            timing: Timing::lan(),
            delegate_version: 4,
            consul_rules: true,
            servers_only: false,
            seeds: &[],
            retry_join: Duration::from_secs(30),
            clocks: Clocks { member: 0, event: 0, query: 0 },
            match_tag: match_simple,
        }
    }
}

/// What an agent is told at start.
#[derive(Clone, Copy, Debug)]
pub struct Config<'m> {
    /// The LAN pool. Its name is the node name, its advertised IP the catalog address.
    pub pool: PoolConfig<'m>,
    /// Node id: a UUID in text form, unique per device.
    pub node_id: &'m str,
    /// Datacenter, `[a-z0-9-_]`.
    pub datacenter: &'m str,
    /// DNS zone without dots at its ends, e.g. `consul`.
    pub domain: &'m str,
    /// Token sent with our own RPCs; empty when ACLs are off. Never logged.
    pub token: &'m str,
    /// Node metadata.
    pub meta: &'m [(&'m str, &'m str)],
    /// Tagged addresses of the catalog entry (`lan`, `wan`, …); a device may leave them out.
    pub tagged_addresses: &'m [(&'m str, &'m str)],
    /// An output-only change of a check waits this long at most before it is synced (Consul `check_update_interval`).
    pub check_update_interval: Duration,
    /// Whether this agent keeps itself in the catalog by RPC. `false` in a plain serf pool.
    pub sync: bool,
    /// DNS answers' settings.
    pub dns: crate::dns::Rules<'m>,
}

/// Why an agent cannot start as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The name is empty or longer than 128 octets.
    Name,
    /// The tags take more than 512 octets.
    Tags,
    /// More than four gossip keys.
    Keys,
    /// The label is longer than 64 octets.
    Label,
    /// The advertised address is unspecified or has port 0.
    Advertise,
    /// The named memory region is too small or of the wrong length; its documentation says what it needs.
    Region(&'static str),
    /// The text says which setting and what is wrong with it.
    Setting(&'static str),
}

impl core::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ConfigError::Name => f.write_str("the name must have 1 to 128 octets"),
            ConfigError::Tags => f.write_str("the tags take more than 512 octets"),
            ConfigError::Keys => f.write_str("more than four gossip keys"),
            ConfigError::Label => f.write_str("the label is longer than 64 octets"),
            ConfigError::Advertise => f.write_str("the advertised address must be one that others can reach"),
            ConfigError::Region(region) => write!(f, "memory region `{region}` does not have the length it needs"),
            ConfigError::Setting(what) => f.write_str(what),
        }
    }
}

impl core::error::Error for ConfigError {}
