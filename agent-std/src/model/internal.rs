//! What agents ask for their UI and for events.

use serde::{Deserialize, Serialize};

use super::{
    HealthCheck, Map, NodeService, Octets, QueryOptions, QuerySource, catalog::replies, common::QueryMeta, is_zero,
};

/// A node with all that is on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeInfo {
    /// UUID.
    #[serde(rename = "ID")]
    pub id: String,
    /// Name.
    pub node: String,
    /// Address.
    pub address: String,
    /// Addresses for others.
    pub tagged_addresses: Option<Map<String>>,
    /// Metadata.
    pub meta: Option<Map<String>>,
    /// Services.
    pub services: Option<Vec<NodeService>>,
    /// Checks.
    pub checks: Option<Vec<HealthCheck>>,
}

replies! {
    /// `Internal.NodeInfo`, `Internal.NodeDump`
    NodeDumpReply { dump: Option<Vec<NodeInfo>> }
}

/// `Internal.ServiceDump`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceDumpRequest {
    /// Datacenter.
    pub datacenter: String,
    /// Only services of this kind, with `use_service_kind`.
    pub service_kind: String,
    /// Whether the kind counts.
    pub use_service_kind: bool,
    /// Who asks.
    #[serde(skip_serializing_if = "is_zero")]
    pub source: QuerySource,
    /// Options of the read.
    #[serde(flatten)]
    pub options: QueryOptions,
}

/// `Internal.KeyringOperation`. Goes to all datacenters unless it has been forwarded already.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct KeyringRequest {
    /// `list`, `install`, `use` or `remove`.
    pub operation: String,
    /// The key in base64; a list has none.
    pub key: String,
    /// Datacenter of whoever asks.
    pub datacenter: String,
    /// The asking server sees to the WAN pool and the other datacenters.
    pub forwarded: bool,
    /// Members that relay each answer, 0 to 5.
    pub relay_factor: u8,
    /// Only the LAN pool; for lists.
    pub local_only: bool,
    /// Options; the token counts.
    #[serde(flatten)]
    pub options: QueryOptions,
}

/// Never shows the key.
impl std::fmt::Debug for KeyringRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let KeyringRequest { operation, forwarded, local_only, .. } = self;
        write!(f, "KeyringRequest {{ {operation}, forwarded: {forwarded}, local_only: {local_only} }}")
    }
}

/// What the members of one pool said to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct KeyringResponse {
    /// The WAN pool.
    #[serde(rename = "WAN")]
    pub wan: bool,
    /// Its datacenter; of the WAN pool, that of the server that asked.
    pub datacenter: String,
    /// Its segment.
    pub segment: String,
    /// Complaints by member.
    #[serde(skip_serializing_if = "is_zero")]
    pub messages: Option<Map<String>>,
    /// Keys in base64, and how many members have each.
    pub keys: Option<Map<u64>>,
    /// Primary keys, and how many members send with each.
    pub primary_keys: Option<Map<u64>>,
    /// Members asked.
    pub num_nodes: u64,
    /// How many failed; empty: none.
    #[serde(skip_serializing_if = "is_zero")]
    pub error: String,
}

replies! {
    /// `Internal.KeyringOperation`
    KeyringReply { responses: Option<Vec<KeyringResponse>> }
}

/// `Internal.EventFire`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct EventFireRequest {
    /// Datacenter.
    pub datacenter: String,
    /// Event name.
    pub name: String,
    /// The whole user event as the agent made it.
    pub payload: Option<Octets>,
    /// Options; the token counts.
    #[serde(flatten)]
    pub options: QueryOptions,
}

/// `Internal.EventFire`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventFireReply {
    /// Freshness.
    #[serde(flatten)]
    pub meta: QueryMeta,
}
