//! The first of the two values of a call and of a reply (rpc spec §3).

use serde::{Deserialize, Serialize};

/// In front of a call's arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Request {
    /// Chosen by the caller, echoed in the reply.
    pub seq: u64,
    /// `Service.Method`
    pub service_method: String,
}

/// In front of a reply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Response {
    /// Empty: success, and the reply follows. Otherwise an empty map follows.
    pub error: String,
    /// [`Request::seq`]
    pub seq: u64,
    /// [`Request::service_method`]
    pub service_method: String,
}
