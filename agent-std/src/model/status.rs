//! Who leads, and how raft is.

use serde::{Deserialize, Serialize};

/// `Status.RaftStats`, between servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RaftStats {
    /// Go duration since this server heard from the leader; `0` on the leader, `never` before the first time.
    pub last_contact: String,
    /// Last index in the log.
    pub last_index: u64,
    /// Last term in the log.
    pub last_term: u64,
}
