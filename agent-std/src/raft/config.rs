//! Settings of the consensus part, and where their numbers come from.

use std::time::Duration;

use super::servers::Server;

/// Ticks between heartbeats of a leader.
pub(super) const HEARTBEAT_TICKS: usize = 1;
/// Ticks without a leader after which a follower may stand for election; the actual number is drawn from this to twice this.
pub(super) const ELECTION_TICKS: usize = 10;
/// Ticks that a confirmed leader may answer reads without asking again: half the election timeout, as in Consul.
pub(super) const LEASE_TICKS: u32 = 5;

/// Settings of one server.
#[derive(Debug, Clone)]
pub struct Config {
    /// This server. Its part ([`super::Suffrage`]) is decided by the configuration, not here.
    pub server: Server,
    /// `performance.raft_multiplier`, 1–10, default 5; -dev uses 1. Heartbeat and election timeouts are 1000 ms times
    /// this, the leader's lease is 500 ms times this (Consul's server performance settings).
    pub multiplier: u32,
    /// Source of all random choices (election timeouts). The same seed and inputs replay the same run.
    pub seed: u64,
    /// `raft_snapshot_threshold`: entries since the last snapshot that cause the next. Consul's default is 16384.
    pub snapshot_threshold: u64,
    /// `raft_trailing_logs`: entries kept behind a snapshot for slow followers. Consul's default is 10240.
    pub trailing_logs: u64,
    /// Octets of entries in memory that cause a snapshot earlier than `snapshot_threshold`.
    pub snapshot_octets: usize,
    /// Octets of the largest command. 2 MiB: four times the largest KV value of Consul, with room for a transaction.
    pub max_command_octets: usize,
    /// How long [`super::Raft::propose`] and the reads wait for an answer. `performance.rpc_hold_timeout`, 7 s.
    pub answer_timeout: Duration,
}

impl Config {
    /// Defaults for this server.
    pub fn new(server: Server, multiplier: u32, seed: u64) -> Self {
        Self {
            server,
            multiplier: multiplier.clamp(1, 10),
            seed,
            snapshot_threshold: 16384,
            trailing_logs: 10240,
            snapshot_octets: 128 << 20,
            max_command_octets: 2 << 20,
            answer_timeout: Duration::from_secs(7),
        }
    }

    /// Length of a tick: a tenth of the election timeout.
    pub fn tick(&self) -> Duration {
        Duration::from_millis(100) * self.multiplier
    }

    /// How long a confirmed leader answers reads without asking the others again.
    pub(super) fn lease(&self) -> Duration {
        self.tick() * LEASE_TICKS
    }
}
