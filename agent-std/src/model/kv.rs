//! Keys and values.

use serde::{Deserialize, Serialize};

use super::{Octets, QueryOptions, catalog::replies, common::QueryMeta, is_zero};

/// A key with its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DirEntry {
    /// How often a session acquired it.
    pub lock_index: u64,
    /// Key.
    pub key: String,
    /// Free for the owner's use.
    pub flags: u64,
    /// Value; none where Consul says nil.
    pub value: Option<Octets>,
    /// The session that holds it; empty: none.
    #[serde(skip_serializing_if = "is_zero")]
    pub session: String,
    /// Raft index of its creation.
    pub create_index: u64,
    /// Raft index of its last change; in a request: the index that `cas` expects.
    pub modify_index: u64,
}

/// `KVS.Apply`. The reply is a bool that means something only for `cas`, `delete-cas`, `lock` and `unlock`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct KvsRequest {
    /// Datacenter.
    pub datacenter: String,
    /// `set`, `delete`, `delete-cas`, `delete-tree`, `cas`, `lock` or `unlock`.
    pub op: String,
    /// The key and what to do with it.
    pub dir_ent: DirEntry,
    /// Secret of the ACL token.
    pub token: String,
}

/// `KVS.Get`, and `KVS.List` with a prefix in `key`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct KeyRequest {
    /// Datacenter.
    pub datacenter: String,
    /// Key or prefix.
    pub key: String,
    /// Options of the read.
    #[serde(flatten)]
    pub options: QueryOptions,
}

/// `KVS.ListKeys`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct KeyListRequest {
    /// Datacenter.
    pub datacenter: String,
    /// Prefix.
    pub prefix: String,
    /// Keys are cut after the first of these beyond the prefix; empty: not cut. The wire's spelling is Consul's.
    #[serde(rename = "Seperator")]
    pub separator: String,
    /// Options of the read.
    #[serde(flatten)]
    pub options: QueryOptions,
}

replies! {
    /// `KVS.Get`, `KVS.List`
    DirEntriesReply { entries: Option<Vec<DirEntry>> }
    /// `KVS.ListKeys`
    KeysReply { keys: Option<Vec<String>> }
}
