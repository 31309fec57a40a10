//! Transactions: several operations, all or none.

use serde::{Deserialize, Serialize};

use super::{DirEntry, HealthCheck, Node, NodeService, QueryMeta, QueryOptions};

/// `Txn.Apply`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TxnRequest {
    /// Datacenter.
    pub datacenter: String,
    /// Operations, in order; at most 64 over HTTP.
    pub ops: Option<Vec<TxnOp>>,
    /// Secret of the ACL token.
    pub token: String,
}

/// `Txn.Read`: only verbs that read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TxnReadRequest {
    /// Datacenter.
    pub datacenter: String,
    /// Operations, in order.
    pub ops: Option<Vec<TxnOp>>,
    /// Options of the read.
    #[serde(flatten)]
    pub options: QueryOptions,
}

/// One operation: exactly one of the fields is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TxnOp {
    /// On a key.
    #[serde(rename = "KV", skip_serializing_if = "Option::is_none")]
    pub kv: Option<TxnKvOp>,
    /// On a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<TxnNodeOp>,
    /// On a service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<TxnServiceOp>,
    /// On a check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<TxnCheckOp>,
}

/// An operation on a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TxnKvOp {
    /// `set`, `cas`, `get`, `check-index`, …
    pub verb: String,
    /// The key and what to do with it.
    pub dir_ent: DirEntry,
}

/// An operation on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TxnNodeOp {
    /// `get`, `set`, `cas`, `delete` or `delete-cas`.
    pub verb: String,
    /// The node.
    pub node: Node,
}

/// An operation on a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TxnServiceOp {
    /// `get`, `set`, `cas`, `delete` or `delete-cas`.
    pub verb: String,
    /// The node's name.
    pub node: String,
    /// The service.
    pub service: NodeService,
}

/// An operation on a check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TxnCheckOp {
    /// `get`, `set`, `cas`, `delete` or `delete-cas`.
    pub verb: String,
    /// The check.
    pub check: HealthCheck,
}

/// `Txn.Apply`. A failure is not an error of the call: `errors` is set and nothing was applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TxnReply {
    /// Results in order; deletions have none.
    pub results: Option<Vec<TxnResult>>,
    /// What failed.
    pub errors: Option<Vec<TxnError>>,
}

/// `Txn.Read`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TxnReadReply {
    /// Results in order.
    pub results: Option<Vec<TxnResult>>,
    /// What failed.
    pub errors: Option<Vec<TxnError>>,
    /// Freshness; no index.
    #[serde(flatten)]
    pub meta: QueryMeta,
}

/// Result of one operation: exactly one of the fields is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TxnResult {
    /// The key.
    #[serde(rename = "KV", skip_serializing_if = "Option::is_none")]
    pub kv: Option<DirEntry>,
    /// The node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Node>,
    /// The service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<NodeService>,
    /// The check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<HealthCheck>,
}

/// Why an operation failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TxnError {
    /// Which one, from 0.
    pub op_index: i64,
    /// What is wrong.
    pub what: String,
}
