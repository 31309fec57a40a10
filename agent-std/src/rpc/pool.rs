//! Connections to servers: one yamux session each, shared by all calls (rpc spec §1, §2).

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    net::TcpSocket,
    time::{Instant, timeout},
};

use super::{
    RpcError,
    exchange::Exchange,
    yamux::{Session, Side, Stream},
};

/// First octet of a connection that carries yamux.
pub(super) const YAMUX: u8 = 4;
/// Dial timeout of the reference.
pub(super) const DIAL: Duration = Duration::from_secs(10);
/// Sessions that nobody used for this long are closed; the reference's value.
const IDLE: Duration = Duration::from_secs(127);
/// Idle streams kept per server; the reference's value.
const MAX_IDLE_STREAMS: usize = 32;

/// A pool. Cheap to clone; the clones share the connections.
#[derive(Clone, Default)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The dialling of one server does not hold up calls to others.
    servers: Mutex<HashMap<SocketAddr, Arc<tokio::sync::Mutex<Option<Session>>>>>,
    idle: Mutex<HashMap<SocketAddr, Idle>>,
    seq: AtomicU64,
    /// Where connections come from; none: the system chooses.
    local: Option<IpAddr>,
}

struct Idle {
    streams: Vec<Exchange<Stream>>,
    used: Instant,
}

impl Pool {
    /// One whose connections come from `local`, as Consul's servers see it: the address that this agent is bound to. An
    /// unspecified one leaves the choice to the system.
    pub fn from_address(local: IpAddr) -> Self {
        let local = Some(local).filter(|local| !local.is_unspecified());
        Pool { shared: Arc::new(Shared { local, ..Shared::default() }) }
    }

    /// Calls `method` of the server at `address`. No retry here, and no deadline: a blocking query takes its time. A
    /// server that dies meanwhile is noticed by its missing pongs.
    ///
    /// # Errors
    /// [`RpcError::Connect`]: nothing was sent. [`RpcError::Broken`]: it may have been. [`RpcError::Endpoint`]: the
    /// server's answer.
    pub async fn call(&self, address: SocketAddr, method: &str, args: &[u8]) -> Result<Vec<u8>, RpcError> {
        let seq = self.shared.seq.fetch_add(1, Ordering::Relaxed) + 1;
        let session = self.session(address).await?;
        let mut exchange = match self.take_idle(address) {
            Some(exchange) => exchange,
            None => Exchange::new(session.open().map_err(|error| RpcError::Connect(error.to_string()))?),
        };
        let answer = exchange.call(seq, method, args).await;
        // After an unknown method or bad arguments the server finishes the stream as well.
        let goes_on = match &answer {
            Ok(_) => true,
            Err(RpcError::Endpoint(text)) => !text.contains("rpc: ") && !text.contains("msgpack"),
            Err(_) => false,
        };
        if goes_on && !session.is_ended() {
            self.keep_idle(address, exchange);
        }
        answer
    }

    async fn session(&self, address: SocketAddr) -> Result<Session, RpcError> {
        let server = Arc::clone(self.servers().entry(address).or_default());
        let mut server = server.lock().await;
        if let Some(session) = server.as_ref().filter(|session| !session.is_ended()) {
            return Ok(session.clone());
        }
        self.idle().remove(&address);
        let failed = |error| RpcError::Connect(format!("failed to get conn: dial tcp {address}: {error}"));
        let session = dial(self.shared.local, address).await.map_err(failed)?;
        *server = Some(session.clone());
        Ok(session)
    }

    fn servers(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Arc<tokio::sync::Mutex<Option<Session>>>>> {
        self.shared.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Idle>> {
        self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_idle(&self, address: SocketAddr) -> Option<Exchange<Stream>> {
        self.idle().get_mut(&address)?.streams.pop()
    }

    fn keep_idle(&self, address: SocketAddr, exchange: Exchange<Stream>) {
        let mut idle = self.idle();
        let idle = idle.entry(address).or_insert_with(|| Idle { streams: Vec::new(), used: Instant::now() });
        idle.used = Instant::now();
        if idle.streams.len() < MAX_IDLE_STREAMS {
            idle.streams.push(exchange);
        }
    }

    /// Closes what nobody used for 127 s and what has no call under way. To be called now and then.
    pub fn reap(&self) {
        let mut idle = self.idle();
        let old: Vec<SocketAddr> =
            idle.iter().filter(|(_, idle)| idle.used.elapsed() > IDLE).map(|(&address, _)| address).collect();
        let mut servers = self.servers();
        for address in old {
            // Calls under way hold a clone of the session; dropping ours ends it only with the last of them.
            idle.remove(&address);
            servers.remove(&address);
        }
    }
}

async fn dial(local: Option<IpAddr>, address: SocketAddr) -> std::io::Result<Session> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(local) = local.filter(|local| local.is_ipv4() == address.is_ipv4()) {
        socket.bind((local, 0).into())?;
    }
    let mut stream = timeout(DIAL, socket.connect(address)).await??;
    stream.set_nodelay(true)?;
    stream.write_all(&[YAMUX]).await?;
    let (session, _no_streams) = Session::start(stream, Side::Client);
    Ok(session)
}
