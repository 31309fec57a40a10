//! The calls of a client agent: which server, and when another (rpc spec §5).

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::seq::SliceRandom as _;
use tokio::{sync::watch, time::Instant};

use super::{
    BoxFuture, Caller, Pool, RpcError,
    rate::{Bucket, Rate},
    snapshot,
};
use crate::model::{QueryMeta, SnapshotRequest};

/// `performance.rpc_hold_timeout`: how long a call may wait for a leader.
pub(super) const HOLD: Duration = Duration::from_secs(7);
/// Retries wait a random part of a sixteenth of [`HOLD`].
pub(super) const RETRY: Duration = Duration::from_millis(HOLD.as_millis() as u64 / 16);

/// A server as gossip knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// Node name.
    pub name: String,
    /// Gossip address with the port of tag `port`.
    pub address: SocketAddr,
}

/// Reaches servers for an agent that is none.
pub struct Client {
    pool: Pool,
    known: watch::Receiver<Vec<ServerInfo>>,
    /// In the order of use: the first is asked; one that fails goes to the end.
    order: Mutex<Vec<SocketAddr>>,
    bucket: Option<Bucket>,
}

impl Client {
    /// `known` are the alive servers of the own datacenter, kept up to date from gossip.
    pub fn new(pool: Pool, known: watch::Receiver<Vec<ServerInfo>>) -> Self {
        Client { pool, known, order: Mutex::default(), bucket: None }
    }

    /// With a limit on its calls; what is above it is refused.
    #[must_use]
    pub fn limited(self, rate: Option<Rate>) -> Self {
        Client { bucket: rate.map(Bucket::new), ..self }
    }

    /// Whether one more call may be made now.
    fn admit(&self) -> Result<(), RpcError> {
        let admitted = self.bucket.as_ref().is_none_or(Bucket::take);
        if admitted { Ok(()) } else { Err(RpcError::endpoint("RPC rate limit exceeded")) }
    }

    /// The server to ask now. New servers join at a random place, so that clients spread over them.
    fn server(&self) -> Option<SocketAddr> {
        let known = self.known.borrow();
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        order.retain(|address| known.iter().any(|server| server.address == *address));
        for server in known.iter() {
            if !order.contains(&server.address) {
                let at = rand::random_range(0..=order.len());
                order.insert(at, server.address);
            }
        }
        order.first().copied()
    }

    fn failed(&self, address: SocketAddr) {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if order.first() == Some(&address) {
            order.rotate_left(1);
        }
    }

    /// Shuffles the servers, so that load spreads again after changes; the first that answers is used. To be called
    /// every two to three minutes.
    pub async fn rebalance(&self) {
        self.order.lock().unwrap_or_else(PoisonError::into_inner).shuffle(&mut rand::rng());
        let count = self.known.borrow().len();
        for _ in 0..count {
            let Some(address) = self.server() else { return };
            if self.pool.call(address, "Status.Ping", &[0x80]).await.is_ok() {
                return;
            }
            self.failed(address);
        }
    }

    /// Between two tries: no time while there are servers that have not failed yet in this call, else until gossip knows
    /// other ones, or for a while.
    async fn pause(&self, failed: &mut usize) {
        let mut known = self.known.clone();
        *failed += 1;
        if *failed < known.borrow_and_update().len() {
            return;
        }
        *failed = 0;
        let news = async {
            // Without gossip there is no news.
            if known.changed().await.is_err() {
                std::future::pending().await
            }
        };
        // Either way it is time to try again.
        let _ = tokio::time::timeout(rand::random_range(Duration::from_millis(5)..RETRY), news).await;
    }

    async fn run(&self, method: &'static str, args: Vec<u8>) -> Result<Vec<u8>, RpcError> {
        self.admit()?;
        let deadline = Instant::now() + HOLD;
        let mut failed = 0;
        loop {
            let address = self.server().ok_or(RpcError::NoServers)?;
            let error = match self.pool.call(address, method, &args).await {
                Ok(reply) => return Ok(reply),
                Err(RpcError::Endpoint(text)) => RpcError::Endpoint(format!("rpc error making call: {text}")),
                Err(error) => {
                    self.failed(address);
                    error
                }
            };
            let again = error.is_no_leader()
                || match error {
                    RpcError::Connect(_) => true,
                    // A write may have been carried out before the connection broke.
                    RpcError::Broken(_) => is_read(method),
                    _ => false,
                };
            if !again || Instant::now() >= deadline {
                return Err(error);
            }
            self.pause(&mut failed).await;
        }
    }
}

/// Whether repeating a call does no harm.
pub(super) fn is_read(method: &str) -> bool {
    !matches!(
        method,
        "Catalog.Register"
            | "Catalog.Deregister"
            | "KVS.Apply"
            | "Session.Apply"
            | "Txn.Apply"
            | "Coordinate.Update"
            | "Internal.EventFire"
            | "Internal.KeyringOperation"
            | "PreparedQuery.Apply"
            | "Operator.AutopilotSetConfiguration"
            | "Operator.RaftRemovePeerByAddress"
            | "Operator.RaftRemovePeerByID"
    )
}

impl Client {
    async fn run_snapshot(&self, request: SnapshotRequest, archive: Vec<u8>) -> Result<(QueryMeta, Vec<u8>), RpcError> {
        self.admit()?;
        let deadline = Instant::now() + HOLD;
        let mut failed = 0;
        loop {
            let address = self.server().ok_or(RpcError::NoServers)?;
            match snapshot::call(address, &request, &archive).await {
                Err(error @ RpcError::Connect(_)) if Instant::now() < deadline => {
                    log::debug!("snapshot: {address}: {error}");
                    self.failed(address);
                }
                Err(RpcError::Endpoint(text)) => {
                    return Err(RpcError::Endpoint(format!("rpc error making call: {text}")));
                }
                done => return done,
            }
            self.pause(&mut failed).await;
        }
    }
}

impl Caller for Arc<Client> {
    fn snapshot(
        &self,
        request: SnapshotRequest,
        archive: Vec<u8>,
    ) -> BoxFuture<'_, Result<(QueryMeta, Vec<u8>), RpcError>> {
        Box::pin(self.run_snapshot(request, archive))
    }

    fn call(&self, method: &'static str, args: Vec<u8>) -> BoxFuture<'_, Result<Vec<u8>, RpcError>> {
        Box::pin(self.run(method, args))
    }
}
