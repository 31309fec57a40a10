//! Saving and restoring everything: a connection whose first octet is 5 (rpc spec §6 Snapshot).
//!
//! The asker sends one map and, to restore, the archive, and closes its side; the server answers with one map and, after
//! a save, the archive. Followers and clients pass both on to the leader.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use flate2::{Compression, write::GzEncoder};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{
    RpcError,
    acl::{Access, Resource},
    client::HOLD,
    codec,
    exchange::{Exchange, MAX_REQUEST},
    pool::DIAL,
    server::{CallError, Freshness, Server, Step},
};
use crate::{
    archive::{self, Configuration, Meta},
    model::{QueryMeta, SnapshotReply, SnapshotRequest},
    raft::Suffrage,
    state::{NotHeld, RestorePiece, State, command::Command},
    text::uuid,
};

/// First octet of such a connection.
pub(super) const SNAPSHOT: u8 = 5;
/// 256 MiB: the largest archive taken, some gigabytes of state.
pub const MAX_ARCHIVE: usize = 256 << 20;
/// Octets of an archive in one command; a command may have 2 MiB.
const PIECE: usize = 1 << 20;

impl Server {
    /// Saves or restores, here or at the leader. The archive is empty unless the request has one or the reply does.
    ///
    /// # Errors
    /// [`RpcError::Endpoint`] with the reason; nothing was restored then.
    pub async fn snapshot(&self, request: SnapshotRequest, archive: Vec<u8>) -> Result<(QueryMeta, Vec<u8>), RpcError> {
        if !request.datacenter.eq_ignore_ascii_case(self.datacenter()) {
            return self.snapshot_elsewhere(request, &archive).await;
        }
        let stale = request.allow_stale && request.op == SnapshotRequest::SAVE;
        let deadline = Instant::now() + HOLD;
        loop {
            let view = self.consensus().view();
            let mut error = RpcError::NoLeader;
            if view.is_leader || stale {
                match self.snapshot_here(&request, &archive).await {
                    Ok(done) => return Ok(done),
                    Err(Step::Moved) => {}
                    Err(Step::Failed(CallError::Refused(error))) => return Err(error),
                    Err(Step::Failed(CallError::Fatal(text))) => return Err(RpcError::Endpoint(text)),
                }
            } else if let Some(leader) = view.leader {
                match call(leader, &request, &archive).await {
                    Err(connect @ RpcError::Connect(_)) => error = connect,
                    done => return done,
                }
            }
            if Instant::now() >= deadline {
                return Err(error);
            }
            self.shared.pause(&view).await;
        }
    }

    /// Saves or restores in another datacenter.
    async fn snapshot_elsewhere(
        &self,
        request: SnapshotRequest,
        archive: &[u8],
    ) -> Result<(QueryMeta, Vec<u8>), RpcError> {
        let (router, datacenter) = (&self.shared.config.router, &request.datacenter);
        let mut failure = RpcError::NoServers;
        for address in router.route(datacenter)? {
            failure = match call(address, &request, archive).await {
                Err(error @ RpcError::Connect(_)) => error,
                done => return done,
            };
            router.failed(datacenter, address);
        }
        Err(failure)
    }

    async fn snapshot_here(&self, request: &SnapshotRequest, archive: &[u8]) -> Result<(QueryMeta, Vec<u8>), Step> {
        let allowed = self.shared.config.authorizer.allows(&request.token, Access::Write, Resource::Everything);
        if !allowed {
            return Err(CallError::refused("Permission denied").into());
        }
        match request.op {
            SnapshotRequest::SAVE => self.save(request.allow_stale).await,
            SnapshotRequest::RESTORE => Ok((self.restore(archive).await?, Vec::new())),
            op => Err(CallError::refused(format!("unrecognized snapshot op {op}")).into()),
        }
    }

    async fn save(&self, stale: bool) -> Result<(QueryMeta, Vec<u8>), Step> {
        self.shared.may_read(if stale { Freshness::Stale } else { Freshness::Consistent }).await?;
        let (state, view) = (self.store().state(), self.consensus().view());
        let (servers, configuration_index) = self.consensus().configuration();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let index = state.archive_index(view.last_index);
        let server = |server: &crate::raft::Server| archive::Server {
            suffrage: match server.suffrage {
                Suffrage::Voter => 0,
                Suffrage::NonVoter => 1,
                Suffrage::Staging => 2,
            },
            id: server.id.clone(),
            address: server.address.to_string(),
        };
        let meta = Meta {
            version: 1,
            id: format!("{}-{index}-{}", view.last_term, now.as_millis()),
            index,
            term: view.last_term,
            configuration: Configuration { servers: servers.iter().map(server).collect() },
            configuration_index,
            ..Meta::default()
        };
        let reply = QueryMeta {
            index,
            last_contact: view.last_contact.unwrap_or_default().into(),
            known_leader: view.leader.is_some() || view.is_leader,
            consistency_level: String::new(),
        };
        let written = tokio::task::spawn_blocking(move || {
            let mut out = Vec::new();
            archive::write(meta, now.as_secs(), |to| state.write_consul(index, to), &mut out).map(|()| out)
        });
        let failed = |error: String| CallError::refused(format!("failed to write snapshot: {error}"));
        let archive = written.await.map_err(|error| failed(error.to_string()))?;
        Ok((reply, archive.map_err(|error| failed(error.to_string()))?))
    }

    /// The whole archive is read and found good before the first piece goes to the log.
    async fn restore(&self, archive: &[u8]) -> Result<QueryMeta, Step> {
        let archive = archive.to_vec();
        let refused = |error: String| Step::from(CallError::refused(error));
        let read = tokio::task::spawn_blocking(move || packed(&archive));
        let read = read.await.map_err(|error| refused(format!("failed to read snapshot: {error}")))?;
        let (meta, packed, not_held) = read.map_err(refused)?;
        for (name, count) in &not_held {
            log::warn!("restore: {count} x {name} of the archive are not held by lictor and left out");
        }
        let id = uuid();
        let last = packed.len().div_ceil(PIECE) - 1;
        for (number, octets) in packed.chunks(PIECE).enumerate() {
            let octets = octets.to_vec().into();
            let piece = RestorePiece { id: id.clone(), number: number as u64, last: number == last, octets };
            self.shared.propose(Command::Restore(piece)).await?;
        }
        self.restart_sessions();
        log::info!("restored the archive {} of index {}", meta.id, meta.index);
        let index = self.store().state().restored_index();
        Ok(QueryMeta { index, known_leader: true, ..QueryMeta::default() })
    }
}

/// An archive as the log carries it: our own form of the state, in gzip.
fn packed(archive: &[u8]) -> Result<(Meta, Vec<u8>, NotHeld), String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let (meta, (state, not_held)) =
        archive::read(archive, |from| State::read_consul(from, now).map_err(|error| error.to_string()))
            .map_err(|error| error.to_string())?;
    let mut out = std::io::BufWriter::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let failed = |error: std::io::Error| format!("failed to pack snapshot: {error}");
    state.write_snapshot(&mut out).map_err(failed)?;
    let out = out.into_inner().map_err(|error| failed(error.into_error()))?.finish().map_err(failed)?;
    Ok((meta, out, not_held))
}

/// Serves one connection after its first octet.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(server: &Server, stream: S) -> std::io::Result<()> {
    // One at a time: an archive and what is made of it take memory.
    let turn = server.shared.snapshots.acquire().await;
    let mut exchange = Exchange::new(stream);
    let Some(request) = exchange.value(MAX_REQUEST).await? else { return Ok(()) };
    let request: SnapshotRequest = codec::from_request(&request).map_err(std::io::Error::other)?;
    let result = match request.op {
        SnapshotRequest::RESTORE => match exchange.rest(MAX_ARCHIVE).await {
            Ok(archive) => server.snapshot(request, archive).await,
            Err(error) => Err(RpcError::Endpoint(format!("failed to read snapshot: {error}"))),
        },
        _ => server.snapshot(request, Vec::new()).await,
    };
    drop(turn);
    let (reply, archive) = match result {
        Ok((meta, archive)) => (SnapshotReply { error: String::new(), meta }, archive),
        Err(error) => (SnapshotReply { error: error.to_string(), ..SnapshotReply::default() }, Vec::new()),
    };
    exchange.send(&reply, &archive).await?;
    exchange.finish().await;
    Ok(())
}

/// Asks the server at `address`.
///
/// # Errors
/// [`RpcError::Connect`]: nothing was sent.
pub(super) async fn call(
    address: SocketAddr,
    request: &SnapshotRequest,
    archive: &[u8],
) -> Result<(QueryMeta, Vec<u8>), RpcError> {
    let connect = |error: String| RpcError::Connect(error);
    let broken = |error: std::io::Error| RpcError::Broken(error.to_string());
    let dialled = timeout(DIAL, TcpStream::connect(address)).await;
    let mut stream = dialled.map_err(|_| connect("i/o timeout".into()))?.map_err(|error| connect(error.to_string()))?;
    let mut head = vec![SNAPSHOT];
    codec::append(&mut head, request)?;
    stream.write_all(&head).await.map_err(broken)?;
    // A server that refuses may close before it has read everything; its answer says why.
    let sent = async {
        stream.write_all(archive).await?;
        stream.shutdown().await
    };
    let sent = sent.await;
    let mut exchange = Exchange::new(stream);
    let reply = match (exchange.value(MAX_REQUEST).await, sent) {
        (Ok(Some(reply)), _) => reply,
        (_, Err(error)) | (Err(error), _) => return Err(broken(error)),
        (Ok(None), Ok(())) => return Err(RpcError::Broken("EOF".into())),
    };
    let reply: SnapshotReply = codec::from_slice(&reply)?;
    if !reply.error.is_empty() {
        return Err(RpcError::Endpoint(reply.error));
    }
    let archive = exchange.rest(MAX_ARCHIVE).await.map_err(broken)?;
    Ok((reply.meta, archive))
}

/// What several connections share.
pub(super) fn turns() -> Arc<tokio::sync::Semaphore> {
    Arc::new(tokio::sync::Semaphore::new(1))
}
