//! Consul's RPC (rpc spec): one door for HTTP, DNS and the command line, whether this agent is a server or a client.
//!
//! ```text
//! HTTP, DNS, CLI ──> Rpc ──┬─ on a server: dispatcher ──> forward ──> endpoint ──> state, raft
//!                              (another datacenter: router ──> one of its servers)
//!                          └─ on a client: pool ──> yamux ──> a server's listener ──> dispatcher ──> …
//! ```

pub mod acl;
mod client;
pub mod codec;
mod consensus;
mod endpoint;
mod error;
mod exchange;
pub mod header;
pub mod listener;
mod pool;
mod rate;
mod router;
mod server;
mod snapshot;
#[cfg(test)]
pub(crate) mod solo;
mod yamux;

use std::{future::Future, pin::Pin, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use crate::model::{QueryMeta, SnapshotRequest};

pub use client::{Client, ServerInfo};
pub use consensus::{Consensus, ConsensusError, ConsensusView};
pub use error::RpcError;
pub use pool::Pool;
pub use rate::Rate;
pub use router::{Router, WanServer};
pub use server::{FireEvent, Keyring, Server, ServerConfig};
pub use snapshot::MAX_ARCHIVE;

/// A future on the heap, so that [`Caller`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What carries out a call: the local dispatcher, the pool of connections, or a test's own.
pub trait Caller: Send + Sync + 'static {
    /// Calls `method` with arguments in msgpack; the answer is the reply in msgpack.
    fn call(&self, method: &'static str, args: Vec<u8>) -> BoxFuture<'_, Result<Vec<u8>, RpcError>>;

    /// Saves or restores a snapshot: the archive goes with the request or comes with the reply.
    fn snapshot(&self, _: SnapshotRequest, _: Vec<u8>) -> BoxFuture<'_, Result<(QueryMeta, Vec<u8>), RpcError>> {
        Box::pin(async { Err(RpcError::endpoint("snapshots are not to be had here")) })
    }
}

/// The entry to every method of [`crate::model`]. Cheap to clone.
#[derive(Clone)]
pub struct Rpc {
    caller: Arc<dyn Caller>,
}

impl Rpc {
    /// An entry to `caller`.
    pub fn new(caller: impl Caller) -> Self {
        Rpc { caller: Arc::new(caller) }
    }

    /// Calls `method`, e.g. `Health.ServiceNodes`, and waits for its reply; a blocking query as long as it blocks.
    /// Retries and the wait for a leader are inside (rpc spec §5).
    ///
    /// # Errors
    /// [`RpcError::Endpoint`] with the text Consul would show, and the reasons why nobody could be asked.
    pub async fn call<A, R>(&self, method: &'static str, args: &A) -> Result<R, RpcError>
    where
        A: Serialize + Sync + ?Sized,
        R: DeserializeOwned,
    {
        let args = codec::to_vec(args)?;
        let reply = self.caller.call(method, args).await?;
        Ok(codec::from_slice(&reply)?)
    }

    /// Saves or restores a snapshot.
    ///
    /// # Errors
    /// As [`Rpc::call`]; a restore that failed has changed nothing.
    pub async fn snapshot(&self, request: SnapshotRequest, archive: Vec<u8>) -> Result<(QueryMeta, Vec<u8>), RpcError> {
        self.caller.snapshot(request, archive).await
    }
}

#[cfg(test)]
mod tests;
