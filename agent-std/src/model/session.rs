//! Sessions: what locks belong to.

use serde::{Deserialize, Serialize};

use super::{Nanos, QueryOptions, catalog::replies, common::QueryMeta};

/// A session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Session {
    /// UUID, given by the leader.
    #[serde(rename = "ID")]
    pub id: String,
    /// Free text.
    pub name: String,
    /// Node it lives and dies with.
    pub node: String,
    /// How long its locks stay refused after it ended by itself.
    pub lock_delay: Nanos,
    /// `release` or `delete`: what happens to its keys at its end.
    pub behavior: String,
    /// Go duration; empty: it does not expire.
    #[serde(rename = "TTL")]
    pub ttl: String,
    /// Checks of the node it dies with.
    pub node_checks: Option<Vec<String>>,
    /// Checks of services it dies with.
    pub service_checks: Option<Vec<ServiceCheck>>,
    /// The old form of `node_checks`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checks: Option<Vec<String>>,
    /// Raft index of its creation.
    pub create_index: u64,
    /// Raft index of its last change.
    pub modify_index: u64,
}

/// A check of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceCheck {
    /// Check id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Enterprise only; empty.
    pub namespace: String,
}

/// `Session.Apply`; the reply is the session's id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SessionRequest {
    /// Datacenter.
    pub datacenter: String,
    /// `create` or `destroy`.
    pub op: String,
    /// The session; for `destroy` its id.
    pub session: Session,
    /// Secret of the ACL token.
    pub token: String,
}

/// `Session.Get` and `Session.Renew`. Agents fill both names of the id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SessionSpecificRequest {
    /// Datacenter.
    pub datacenter: String,
    /// Id.
    #[serde(rename = "SessionID")]
    pub session_id: String,
    /// Id, by its older name.
    pub session: String,
    /// Options of the read.
    #[serde(flatten)]
    pub options: QueryOptions,
}

impl SessionSpecificRequest {
    /// The id under whichever name it came.
    pub fn id(&self) -> &str {
        if self.session_id.is_empty() { &self.session } else { &self.session_id }
    }
}

replies! {
    /// `Session.Get`, `Session.Renew`, `Session.List`, `Session.NodeSessions`
    SessionsReply { sessions: Option<Vec<Session>> }
}
