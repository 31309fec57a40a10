//! A server's side: takes calls from its listener and from its own agent, answers them or has the leader answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    BoxFuture, Caller, Consensus, ConsensusError, ConsensusView, Pool, Router, RpcError,
    acl::Authorizer,
    client::{HOLD, RETRY, is_read},
    codec, endpoint, snapshot,
};
use crate::{
    model::{
        CoordinateRequest, KeyringRequest, KeyringResponse, QueryMeta, QueryOptions, ServerHealthReply, SnapshotRequest,
    },
    state::{
        Store,
        command::{Command, Outcome},
    },
};

/// Sends a user event to the LAN: name, and the payload as the agent made it.
pub type FireEvent = Arc<dyn Fn(&str, &[u8]) -> Result<(), String> + Send + Sync>;

/// Has the members of a gossip pool carry out an operation on their keys: of the WAN pool when the second argument says
/// so. What went wrong is in the response.
pub type Keyring = Arc<dyn Fn(KeyringRequest, bool) -> BoxFuture<'static, KeyringResponse> + Send + Sync>;

/// What a server is made of.
pub struct ServerConfig {
    /// Own datacenter.
    pub datacenter: String,
    /// The store that raft applies to.
    pub store: Arc<Store>,
    /// Raft.
    pub consensus: Arc<dyn Consensus>,
    /// Connections to other servers.
    pub pool: Pool,
    /// Who may do what.
    pub authorizer: Arc<dyn Authorizer>,
    /// Sends user events.
    pub fire_event: FireEvent,
    /// Ways to other datacenters.
    pub router: Router,
    /// Lists and changes the gossip keys.
    pub keyring: Keyring,
}

/// A server. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub config: ServerConfig,
    /// Coordinates since the last batch, by node and segment. Only the leader collects.
    pub coordinates: Mutex<HashMap<(String, String), CoordinateRequest>>,
    /// When sessions with a TTL expire. Only the leader counts.
    pub expiries: Mutex<HashMap<String, Instant>>,
    /// Health of the servers. Only the leader looks.
    pub health: Mutex<ServerHealthReply>,
    /// Connections that save or restore wait for each other.
    pub snapshots: Arc<tokio::sync::Semaphore>,
}

/// What went wrong with a call, and whether its connection goes on (rpc spec §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CallError {
    /// The endpoint refused: the connection goes on.
    Refused(RpcError),
    /// Unknown method or bad arguments: the connection ends after the reply.
    Fatal(String),
}

impl From<RpcError> for CallError {
    fn from(error: RpcError) -> Self {
        CallError::Refused(error)
    }
}

impl CallError {
    pub fn refused(text: impl Into<String>) -> Self {
        CallError::Refused(RpcError::endpoint(text))
    }
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CallError::Refused(error) => error.fmt(f),
            CallError::Fatal(text) => f.write_str(text),
        }
    }
}

/// How new the answer to a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Whatever this server has.
    Stale,
    /// The leader's, by its lease.
    Default,
    /// The leader's, confirmed by a majority.
    Consistent,
}

impl Freshness {
    pub fn of(options: &QueryOptions) -> Self {
        match options {
            QueryOptions { require_consistent: true, .. } => Freshness::Consistent,
            QueryOptions { allow_stale: true, .. } => Freshness::Stale,
            _ => Freshness::Default,
        }
    }
}

/// Why a step at the leader did not bring an answer.
pub(super) enum Step {
    /// The leader is another one by now: once more.
    Moved,
    /// The answer.
    Failed(CallError),
}

impl From<CallError> for Step {
    fn from(error: CallError) -> Self {
        Step::Failed(error)
    }
}

impl From<ConsensusError> for Step {
    fn from(error: ConsensusError) -> Self {
        match error {
            ConsensusError::NotLeader => Step::Moved,
            ConsensusError::Unclear(text) | ConsensusError::Refused(text) => Step::Failed(CallError::refused(text)),
        }
    }
}

impl Server {
    /// A server; nothing runs yet. See [`super::listener`] and [`crate::leader`].
    pub fn new(config: ServerConfig) -> Self {
        Server {
            shared: Arc::new(Shared {
                config,
                coordinates: Mutex::default(),
                expiries: Mutex::default(),
                health: Mutex::default(),
                snapshots: snapshot::turns(),
            }),
        }
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        &self.shared.config.store
    }

    /// Raft.
    pub fn consensus(&self) -> &Arc<dyn Consensus> {
        &self.shared.config.consensus
    }

    /// Connections to other servers.
    pub fn pool(&self) -> &Pool {
        &self.shared.config.pool
    }

    /// Ways to other datacenters.
    pub fn router(&self) -> &Router {
        &self.shared.config.router
    }

    /// What is known of the servers' health.
    pub fn server_health(&self) -> ServerHealthReply {
        self.shared.server_health()
    }

    /// What has been found out about the servers' health.
    pub fn set_server_health(&self, health: ServerHealthReply) {
        *self.shared.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    /// Own datacenter.
    pub fn datacenter(&self) -> &str {
        &self.shared.config.datacenter
    }

    /// Proposes a command of this server's own, without forwarding: for the leader's work.
    ///
    /// # Errors
    /// When this server does not lead, or the store refuses.
    pub async fn propose(&self, command: Command) -> Result<Outcome, RpcError> {
        match self.shared.propose(command).await {
            Ok(outcome) => Ok(outcome),
            Err(Step::Moved) => Err(RpcError::NoLeader),
            Err(Step::Failed(CallError::Refused(error))) => Err(error),
            Err(Step::Failed(CallError::Fatal(text))) => Err(RpcError::endpoint(text)),
        }
    }

    /// The coordinates collected since the last call, at most `limit` of them.
    pub fn take_coordinates(&self, limit: usize) -> Vec<CoordinateRequest> {
        let mut coordinates = self.shared.coordinates.lock().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<_> = coordinates.keys().take(limit).cloned().collect();
        keys.iter().filter_map(|key| coordinates.remove(key)).collect()
    }

    /// Gives every session with a TTL its full time, and forgets those that are gone.
    pub fn restart_sessions(&self) {
        self.shared.expiries.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for session in self.store().state().sessions() {
            self.shared.renew_session(&session.id, &session.ttl);
        }
    }

    /// Sessions whose time is over.
    pub fn expired_sessions(&self) -> Vec<String> {
        let expiries = self.shared.expiries.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        expiries.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect()
    }

    /// When the next session's time is over.
    pub fn next_session_end(&self) -> Option<Instant> {
        self.shared.expiries.lock().unwrap_or_else(PoisonError::into_inner).values().min().copied()
    }

    /// A session has ended.
    pub fn forget_session(&self, id: &str) {
        self.shared.forget_session(id);
    }

    pub(super) async fn dispatch(&self, method: &str, args: &[u8]) -> Result<Vec<u8>, CallError> {
        endpoint::dispatch(&self.shared, method, args).await
    }
}

impl Caller for Server {
    fn call(&self, method: &'static str, args: Vec<u8>) -> BoxFuture<'_, Result<Vec<u8>, RpcError>> {
        Box::pin(async move {
            self.dispatch(method, &args).await.map_err(|error| match error {
                CallError::Refused(error) => error,
                CallError::Fatal(text) => RpcError::Endpoint(text),
            })
        })
    }

    fn snapshot(
        &self,
        request: SnapshotRequest,
        archive: Vec<u8>,
    ) -> BoxFuture<'_, Result<(QueryMeta, Vec<u8>), RpcError>> {
        Box::pin(Server::snapshot(self, request, archive))
    }
}

impl Shared {
    /// What the leader knows of the servers' health.
    pub fn server_health(&self) -> ServerHealthReply {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn view(&self) -> ConsensusView {
        self.config.consensus.view()
    }

    /// The one place where calls are forwarded: to another datacenter, or to the leader, waiting up to 7 s for there to be
    /// one. `local` runs here, on the leader, or at once for stale reads, and once more when it says
    /// that the leader has moved.
    pub fn answer<'a, F: Future<Output = Result<Vec<u8>, Step>> + Send + 'a>(
        &'a self,
        datacenter: &'a str,
        freshness: Freshness,
        method: &'a str,
        args: &'a [u8],
        local: impl Fn() -> F + Send + Sync + 'a,
    ) -> impl Future<Output = Result<Vec<u8>, CallError>> + Send + 'a {
        // One copy of the code for all methods, and only as much memory as this one needs: thousands may wait here.
        let local = move || -> BoxFuture<'a, _> { Box::pin(local()) };
        async move { Box::pin(self.answer_by(datacenter, freshness, method, args, &local)).await }
    }

    async fn answer_by<'a>(
        &self,
        datacenter: &str,
        freshness: Freshness,
        method: &str,
        args: &[u8],
        local: &(dyn Fn() -> BoxFuture<'a, Result<Vec<u8>, Step>> + Send + Sync),
    ) -> Result<Vec<u8>, CallError> {
        // Empty is an error in 1.8.7 and means the own one since 1.15; no peer relies on the error.
        if !datacenter.is_empty() && !datacenter.eq_ignore_ascii_case(&self.config.datacenter) {
            return Ok(Box::pin(self.forward(datacenter, method, args)).await?);
        }
        let deadline = Instant::now() + HOLD;
        loop {
            let view = self.view();
            let mut error = RpcError::NoLeader;
            if view.is_leader || freshness == Freshness::Stale {
                match local().await {
                    Ok(reply) => return Ok(reply),
                    Err(Step::Failed(failure)) => return Err(failure),
                    Err(Step::Moved) => {}
                }
            } else if let Some(leader) = view.leader {
                match self.config.pool.call(leader, method, args).await {
                    Ok(reply) => return Ok(reply),
                    Err(RpcError::Endpoint(text)) => {
                        error = RpcError::Endpoint(format!("rpc error making call: {text}"));
                        if !error.is_no_leader() {
                            return Err(error.into());
                        }
                    }
                    // Nothing was sent: the leader may be gone, and the next one known soon.
                    Err(connect @ RpcError::Connect(_)) => error = connect,
                    Err(other) => return Err(other.into()),
                }
            }
            if Instant::now() >= deadline {
                return Err(error.into());
            }
            self.pause(&view).await;
        }
    }

    /// Until another server leads than in `view`, or for a while: a leader that is known but cannot be reached, or does
    /// not lead yet, may answer soon.
    pub async fn pause(&self, view: &ConsensusView) {
        let most = rand::random_range(Duration::from_millis(5)..RETRY);
        // Either way it is time to try again.
        let _ = tokio::time::timeout(most, self.config.consensus.leadership_change(view)).await;
    }

    /// Has a server of another datacenter answer: the next one when no connection can be made. Writes are sent once.
    pub async fn forward(&self, datacenter: &str, method: &str, args: &[u8]) -> Result<Vec<u8>, RpcError> {
        let router = &self.config.router;
        let mut failure = RpcError::NoServers;
        for address in router.route(datacenter)? {
            let mut reply = self.config.pool.call(address, method, args).await;
            if matches!(reply, Err(RpcError::Broken(_))) && is_read(method) {
                // Perhaps only a connection from before the other side started anew.
                reply = self.config.pool.call(address, method, args).await;
            }
            failure = match reply {
                Ok(reply) => return Ok(reply),
                Err(RpcError::Endpoint(text)) => {
                    return Err(RpcError::Endpoint(format!("rpc error making call: {text}")));
                }
                Err(error) => error,
            };
            log::warn!("RPC failed to server in DC: server={address} datacenter={datacenter} error=\"{failure}\"");
            router.failed(datacenter, address);
            if !matches!(failure, RpcError::Connect(_)) {
                break;
            }
        }
        Err(failure)
    }

    /// Makes sure that this server may answer a read.
    pub async fn may_read(&self, freshness: Freshness) -> Result<(), Step> {
        match freshness {
            Freshness::Stale => Ok(()),
            Freshness::Default => Ok(self.config.consensus.lease_read().await?),
            Freshness::Consistent => Ok(self.config.consensus.read_barrier().await?),
        }
    }

    /// Has a command carried out. Refusals of the store are errors here.
    pub async fn propose(&self, command: Command) -> Result<Outcome, Step> {
        let command = command.encode().map_err(RpcError::from).map_err(CallError::from)?;
        let outcome = self.config.consensus.propose(command).await?;
        let outcome = Outcome::decode(&outcome).map_err(RpcError::from).map_err(CallError::from)?;
        if outcome.error.is_empty() { Ok(outcome) } else { Err(CallError::refused(outcome.error).into()) }
    }
}

/// `value` as a reply.
pub(super) fn reply<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, Step> {
    Ok(codec::to_vec(value).map_err(RpcError::from).map_err(CallError::from)?)
}
