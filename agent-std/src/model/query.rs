//! Prepared queries.

use serde::{Deserialize, Serialize};

use super::{CheckServiceNode, Map, QueryMeta, QueryOptions, QuerySource, catalog::replies, is_zero};

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

/// A stored query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PreparedQuery {
    /// UUID, given by the leader.
    #[serde(rename = "ID")]
    pub id: String,
    /// What it can be executed by instead; of a template, the beginning of the names it answers.
    pub name: String,
    /// It goes with this session.
    pub session: String,
    /// Secret of the ACL token it is executed with.
    pub token: String,
    /// Makes it answer more than one name.
    pub template: QueryTemplate,
    /// What to look for.
    pub service: ServiceQuery,
    /// How DNS answers it.
    #[serde(rename = "DNS")]
    pub dns: QueryDns,
    /// Raft index of its creation.
    pub create_index: u64,
    /// Raft index of its last change.
    pub modify_index: u64,
}

/// How a query becomes a template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct QueryTemplate {
    /// Empty: it is none; else `name_prefix_match`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Taken apart for `${match(N)}`.
    pub regexp: String,
    /// Tags that become empty are left out.
    pub remove_empty_tags: bool,
}

/// What a query looks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceQuery {
    /// Service name.
    pub service: String,
    /// Where else to look.
    pub failover: QueryFailover,
    /// Drop instances with warnings too.
    pub only_passing: bool,
    /// Checks that do not count.
    #[serde(rename = "IgnoreCheckIDs")]
    pub ignore_check_ids: Option<Vec<String>>,
    /// Sort by distance from this node.
    pub near: String,
    /// Tags that must be there, or with `!` in front must not.
    pub tags: Option<Vec<String>>,
    /// Only nodes with all of this metadata.
    pub node_meta: Option<Map<String>>,
    /// Only instances with all of this metadata.
    pub service_meta: Option<Map<String>>,
    /// Only what speaks the mesh's TLS.
    pub connect: bool,
}

/// Datacenters that are asked when the own one has no healthy instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct QueryFailover {
    /// So many of the nearest.
    pub nearest_n: i64,
    /// These, in this order.
    pub datacenters: Option<Vec<String>>,
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

/// `PreparedQuery.Apply`; the reply is the query's id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct QueryRequest {
    /// Datacenter.
    pub datacenter: String,
    /// `create`, `update` or `delete`.
    pub op: String,
    /// The query; for `delete` its id.
    pub query: PreparedQuery,
    /// Secret of the ACL token.
    pub token: String,
}

/// `PreparedQuery.Get`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct QuerySpecificRequest {
    /// Datacenter.
    pub datacenter: String,
    /// Id of the query.
    #[serde(rename = "QueryID")]
    pub query_id: String,
    /// Options of the read.
    #[serde(flatten)]
    pub options: QueryOptions,
}

replies! {
    /// `PreparedQuery.Get`, `PreparedQuery.List`
    QueriesReply { queries: Option<Vec<PreparedQuery>> }
    /// `PreparedQuery.Explain`: the query with its template filled in.
    QueryExplainReply { query: PreparedQuery }
}
