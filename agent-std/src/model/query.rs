//! Prepared queries, as far as they are executed.

use serde::{Deserialize, Serialize};

use super::{CheckServiceNode, Map, QueryMeta, QueryOptions, QuerySource, is_zero};

/// `PreparedQuery.Execute`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct QueryExecuteRequest {
    /// Datacenter.
    pub datacenter: String,
    /// Id or name of a stored query.
    #[serde(rename = "QueryIDOrName")]
    pub query: String,
    /// Most instances to return; 0: all.
    pub limit: i64,
    /// Only what speaks the mesh's TLS.
    #[serde(skip_serializing_if = "is_zero")]
    pub connect: bool,
    /// Who asks.
    #[serde(skip_serializing_if = "is_zero")]
    pub source: QuerySource,
    /// The agent that asks for it.
    #[serde(skip_serializing_if = "is_zero")]
    pub agent: QuerySource,
    /// Options of the read.
    #[serde(flatten)]
    pub options: QueryOptions,
}

/// `PreparedQuery.ExecuteRemote`: the query itself is in the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct QueryExecuteRemoteRequest {
    /// Datacenter.
    pub datacenter: String,
    /// The query.
    pub query: PreparedQuery,
    /// Most instances to return; 0: all.
    pub limit: i64,
    /// Only what speaks the mesh's TLS.
    #[serde(skip_serializing_if = "is_zero")]
    pub connect: bool,
    /// Options of the read.
    #[serde(flatten)]
    pub options: QueryOptions,
}

/// A query, as far as its execution needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PreparedQuery {
    /// What to look for.
    pub service: ServiceQuery,
    /// How DNS answers it.
    #[serde(rename = "DNS")]
    pub dns: QueryDns,
}

/// What a query looks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceQuery {
    /// Service name.
    pub service: String,
    /// Drop instances with warnings too.
    #[serde(skip_serializing_if = "is_zero")]
    pub only_passing: bool,
    /// Checks that do not count.
    #[serde(skip_serializing_if = "Option::is_none", rename = "IgnoreCheckIDs")]
    pub ignore_check_ids: Option<Vec<String>>,
    /// Sort by distance from this node.
    #[serde(skip_serializing_if = "is_zero")]
    pub near: String,
    /// Tags that must be there, or with `!` in front must not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Only nodes with all of this metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_meta: Option<Map<String>>,
    /// Only instances with all of this metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_meta: Option<Map<String>>,
}

/// How DNS answers a query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct QueryDns {
    /// Go duration; empty: the agent's default.
    #[serde(rename = "TTL")]
    pub ttl: String,
}

/// Reply of both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct QueryExecuteReply {
    /// Service name.
    pub service: String,
    /// Instances, shuffled.
    pub nodes: Option<Vec<CheckServiceNode>>,
    /// How DNS answers it.
    #[serde(rename = "DNS")]
    pub dns: QueryDns,
    /// Datacenter that answered.
    pub datacenter: String,
    /// Datacenters tried before that one.
    pub failovers: i64,
    /// Freshness; the index is 0, since such a read cannot block.
    #[serde(flatten)]
    pub meta: QueryMeta,
}
