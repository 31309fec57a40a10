//! What an operator asks about the servers themselves.

use serde::{Deserialize, Serialize};

use super::{GoTime, Nanos, QueryMeta};

/// How the leader looks after the servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AutopilotConfig {
    /// Take failed servers out of the configuration once a replacement is there.
    pub cleanup_dead_servers: bool,
    /// A server that has not heard the leader for this long is unhealthy.
    pub last_contact_threshold: Nanos,
    /// A server this many entries behind is unhealthy.
    pub max_trailing_logs: u64,
    /// Never clean up below this many voters.
    pub min_quorum: u64,
    /// A server must be healthy for this long before it may vote.
    pub server_stabilization_time: Nanos,
    /// Enterprise only; empty.
    pub redundancy_zone_tag: String,
    /// Enterprise only; false.
    pub disable_upgrade_migration: bool,
    /// Enterprise only; empty.
    pub upgrade_version_tag: String,
    /// Raft index of its creation.
    pub create_index: u64,
    /// Raft index of its last change.
    pub modify_index: u64,
}

impl Default for AutopilotConfig {
    /// Consul's defaults.
    fn default() -> Self {
        AutopilotConfig {
            cleanup_dead_servers: true,
            last_contact_threshold: Nanos(200_000_000),
            max_trailing_logs: 250,
            min_quorum: 0,
            server_stabilization_time: Nanos(10_000_000_000),
            redundancy_zone_tag: String::new(),
            disable_upgrade_migration: false,
            upgrade_version_tag: String::new(),
            create_index: 0,
            modify_index: 0,
        }
    }
}

/// `Operator.AutopilotSetConfiguration`; the reply is a bool that means something only with `cas`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AutopilotRequest {
    /// Datacenter.
    pub datacenter: String,
    /// The new configuration.
    pub config: AutopilotConfig,
    /// Only if the stored one still has `config.modify_index`.
    #[serde(rename = "CAS")]
    pub cas: bool,
    /// Secret of the ACL token.
    pub token: String,
}

/// A server of the raft configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RaftServer {
    /// Node id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Node name; `(unknown)` when gossip does not know it.
    pub node: String,
    /// RPC address.
    pub address: String,
    /// It leads.
    pub leader: bool,
    /// Raft protocol version, as text.
    pub protocol_version: String,
    /// It votes.
    pub voter: bool,
}

/// `Operator.RaftGetConfiguration`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RaftConfigurationReply {
    /// All servers.
    pub servers: Option<Vec<RaftServer>>,
    /// Raft index of the entry that made it.
    pub index: u64,
}

/// `Operator.RaftRemovePeerByAddress` and `Operator.RaftRemovePeerByID`: one of the two is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RaftRemovePeerRequest {
    /// Datacenter.
    pub datacenter: String,
    /// RPC address of the server.
    pub address: String,
    /// Node id of the server.
    #[serde(rename = "ID")]
    pub id: String,
    /// Secret of the ACL token.
    pub token: String,
}

/// The first value on a connection for snapshots; for a restore the archive follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SnapshotRequest {
    /// Datacenter.
    pub datacenter: String,
    /// Secret of the ACL token.
    pub token: String,
    /// Any server may save.
    pub allow_stale: bool,
    /// [`SnapshotRequest::SAVE`] or [`SnapshotRequest::RESTORE`].
    pub op: i64,
}

impl SnapshotRequest {
    /// The archive comes back.
    pub const SAVE: i64 = 0;
    /// The archive follows.
    pub const RESTORE: i64 = 1;
}

/// The answer; after a save the archive follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SnapshotReply {
    /// Why not; empty: done.
    pub error: String,
    /// Index and freshness.
    #[serde(flatten)]
    pub meta: QueryMeta,
}

/// Health of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServerHealth {
    /// Node id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Node name.
    pub name: String,
    /// RPC address.
    pub address: String,
    /// Serf's status: 1 alive, 2 leaving, 3 left, 4 failed, 0 unknown.
    pub serf_status: i64,
    /// Build version.
    pub version: String,
    /// It leads.
    pub leader: bool,
    /// Since it heard the leader; -1: it does not answer.
    pub last_contact: Nanos,
    /// Term of its last entry.
    pub last_term: u64,
    /// Index of its last entry.
    pub last_index: u64,
    /// Alive, in contact and not far behind.
    pub healthy: bool,
    /// It votes.
    pub voter: bool,
    /// Since when `healthy` is what it is.
    pub stable_since: GoTime,
}

/// `Operator.ServerHealth`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServerHealthReply {
    /// All servers are.
    pub healthy: bool,
    /// So many servers may fail before the cluster does.
    pub failure_tolerance: i64,
    /// Each.
    pub servers: Option<Vec<ServerHealth>>,
}
