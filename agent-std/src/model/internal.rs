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
