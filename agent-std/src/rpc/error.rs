//! Why a call failed, in Consul's words: clients match these texts by substring (rpc spec §5).

use super::codec;

/// A call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// The endpoint refused. The text is Consul's, with one `rpc error making call: ` per hop. Nothing was changed,
    /// except where the text says otherwise.
    #[error("{0}")]
    Endpoint(String),
    /// No leader within the hold time. Nothing was changed; always safe to repeat.
    #[error("No cluster leader")]
    NoLeader,
    /// This client agent knows no server.
    #[error("No known Consul servers")]
    NoServers,
    /// The connection could not be made. Nothing was changed.
    #[error("rpc error getting client: {0}")]
    Connect(String),
    /// The connection broke, or the reply did not come in time. A write may or may not have happened.
    #[error("rpc error making call: {0}")]
    Broken(String),
    /// Arguments or reply are not what the method takes or gives.
    #[error("rpc error making call: {0}")]
    Codec(#[from] codec::Error),
}

impl RpcError {
    /// An endpoint's refusal.
    pub fn endpoint(text: impl Into<String>) -> Self {
        RpcError::Endpoint(text.into())
    }

    /// Whether the cluster had no leader, here or at the other end.
    pub fn is_no_leader(&self) -> bool {
        match self {
            RpcError::NoLeader => true,
            RpcError::Endpoint(text) => text.contains("No cluster leader"),
            _ => false,
        }
    }
}
