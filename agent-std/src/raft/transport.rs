//! Raft messages between servers: TCP to the server port, first octet 1, then frames of a length and a [`Wire`] value.
//!
//! Each server opens one connection to each other server and only writes to it; what it reads comes in on the connections
//! that the others made. A snapshot travels on a connection of its own, in pieces, and is confirmed at the end. Messages
//! may be lost (a full queue, a broken connection): raft repeats them.
//!
//! A connection counts for nothing until its first frame says who is there: a server of the configuration, at that
//! server's IP address, or, while it is unknown, one whose address the LAN pool knows (`is_allowed`).

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc};
use std::time::Duration;

use bytes::Bytes;
use raft::eraftpb::{Message, MessageType};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use super::codec::{CodecError, Hello, MessageRecord, Wire};
use super::driver::Request;
use super::servers::{Server, Servers};
use super::snapshot::{Incoming, Snapshots};

/// Largest frame: an append message holds 1 MiB of entries, or one entry of the largest command, and its numbers.
const MAX_FRAME: usize = 8 << 20;
/// Octets of a snapshot in one frame.
const PIECE: usize = 256 << 10;
/// Messages waiting for a connection; more are dropped.
const QUEUE: usize = 512;
/// Messages of one connection that the raft thread has not taken yet; then the connection is not read.
const ROOM: usize = 128;
/// Connecting, and any single write or read within a snapshot.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed connection.
const RETRY: Duration = Duration::from_millis(500);
/// A connection without any frame for this long is given up: a leader's heartbeats are at most a second apart, and every
/// server answers them.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// The first frame of a connection must come within this.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection, plain or TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens a raft connection to a server's address and writes the first octet (1, after TLS if there is any).
pub type Connector = Arc<dyn Fn(SocketAddr) -> Connecting + Send + Sync>;
/// A connection being made.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Plain TCP from `local`, so that the other side sees the address that the LAN pool knows. An unspecified one lets the
/// system choose.
pub fn tcp_connector(local: IpAddr) -> Connector {
    Arc::new(move |address| {
        Box::pin(async move {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if !local.is_unspecified() && local.is_ipv4() == address.is_ipv4() {
                socket.bind(SocketAddr::new(local, 0))?;
            }
            let mut stream = socket.connect(address).await?;
            stream.set_nodelay(true)?;
            stream.write_all(&[1]).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    })
}

/// All connections of this server.
#[derive(Clone)]
pub(super) struct Transport {
    inner: Arc<Inner>,
}

struct Inner {
    own: Server,
    snapshots: Snapshots,
    connector: Connector,
    is_allowed: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
    requests: std_mpsc::Sender<Request>,
    runtime: Handle,
    stopped: watch::Sender<bool>,
    peers: Mutex<Peers>,
}

#[derive(Default)]
struct Peers {
    servers: Servers,
    /// Servers that said hello without being in our configuration: the leader that reaches an empty server.
    strangers: BTreeMap<u64, SocketAddr>,
    queues: BTreeMap<u64, (SocketAddr, mpsc::Sender<MessageRecord>)>,
}

impl Peers {
    fn address(&self, id: u64) -> Option<SocketAddr> {
        let known = self.servers.by_raft_id(id).map(|server| server.address);
        known.or_else(|| self.strangers.get(&id).copied())
    }
}

impl Transport {
    pub(super) fn new(
        own: Server,
        snapshots: Snapshots,
        connector: Connector,
        is_allowed: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
        requests: std_mpsc::Sender<Request>,
    ) -> Self {
        let inner = Inner {
            own,
            snapshots,
            connector,
            is_allowed,
            requests,
            runtime: Handle::current(),
            stopped: watch::Sender::new(false),
            peers: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Queues messages; never waits.
    pub(super) fn send(&self, messages: impl Iterator<Item = Message>, servers: &Servers) {
        let mut peers = self.inner.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.servers != *servers {
            peers.servers = servers.clone();
            let Peers { servers, strangers, queues } = &mut *peers;
            strangers.retain(|id, _| servers.by_raft_id(*id).is_none());
            queues.retain(|id, (address, _)| {
                let now = servers.by_raft_id(*id).map(|server| server.address).or_else(|| strangers.get(id).copied());
                now == Some(*address)
            });
        }
        for message in messages {
            let Some(record) = MessageRecord::from_library(&message) else { continue };
            let Some(address) = peers.address(message.to) else {
                // Without a word about its end the library would wait for it for ever.
                if record.is_snapshot() {
                    let _ = self.inner.requests.send(Request::SnapshotSent(message.to, false));
                }
                continue;
            };
            if message.get_msg_type() == MessageType::MsgSnapshot {
                self.send_snapshot(message, record, address);
            } else {
                self.queue(&mut peers, message.to, address, record);
            }
        }
    }

    fn queue(&self, peers: &mut Peers, to: u64, address: SocketAddr, record: MessageRecord) {
        let fresh = peers.queues.get(&to).is_none_or(|(old, queue)| *old != address || queue.is_closed());
        if fresh {
            let (queue, messages) = mpsc::channel(QUEUE);
            peers.queues.insert(to, (address, queue));
            self.spawn(write_messages(self.inner.clone(), to, address, messages));
        }
        if let Some((_, queue)) = peers.queues.get(&to) {
            // A full queue means a server that does not keep up; raft repeats what it misses.
            let _ = queue.try_send(record);
        }
    }

    fn send_snapshot(&self, message: Message, record: MessageRecord, address: SocketAddr) {
        let inner = self.inner.clone();
        let (to, index) = (message.to, message.get_snapshot().get_metadata().index);
        let done = self.inner.requests.clone();
        self.spawn(async move {
            let result = send_snapshot(&inner, to, index, record, address).await;
            if let Err(error) = &result {
                log::warn!("raft: sending snapshot {index} to {address} failed: {error}; it is tried again");
            }
            let _ = done.send(Request::SnapshotSent(to, result.is_ok()));
        });
    }

    /// Reads a connection that another server made.
    pub(super) fn accept<T>(&self, stream: T, peer: SocketAddr)
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let inner = self.inner.clone();
        self.spawn(async move {
            if let Err(error) = read_connection(inner, stream, peer).await
                && error.kind() != io::ErrorKind::UnexpectedEof
            {
                log::warn!("raft: connection of {peer} closed: {error}");
            }
        });
    }

    /// Ends all connections.
    pub(super) fn stop(&self) {
        self.inner.stopped.send_replace(true);
    }

    /// Runs until it ends or the transport is stopped.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut stopped = self.inner.stopped.subscribe();
        self.inner.runtime.spawn(async move {
            tokio::select! {
                () = work => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
    }
}

async fn connect(inner: &Inner, to: u64, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
    let mut stream = timeout(STEP_TIMEOUT, (inner.connector)(address)).await??;
    let hello = Wire::Hello(Hello { from: inner.own.clone(), to }).emit();
    write_frame(&mut stream, &hello).await?;
    Ok(stream)
}

async fn write_messages(inner: Arc<Inner>, to: u64, address: SocketAddr, mut messages: mpsc::Receiver<MessageRecord>) {
    while let Some(first) = messages.recv().await {
        let result = async {
            let mut stream = connect(&inner, to, address).await?;
            let mut next = Some(first);
            while let Some(message) = next {
                let mut bytes = frame(&Wire::Message(message).emit());
                // What has piled up goes out in one write.
                while bytes.len() < PIECE
                    && let Ok(message) = messages.try_recv()
                {
                    bytes.extend_from_slice(&frame(&Wire::Message(message).emit()));
                }
                timeout(STEP_TIMEOUT, stream.write_all(&bytes)).await??;
                next = messages.recv().await;
            }
            io::Result::Ok(())
        };
        if let Err(error) = result.await {
            log::debug!("raft: connection to {address} failed: {error}");
            let _ = inner.requests.send(Request::Unreachable(to));
            tokio::time::sleep(RETRY).await;
            // Older messages have been overtaken by the time.
            while messages.try_recv().is_ok() {}
        }
    }
}

async fn send_snapshot(
    inner: &Inner,
    to: u64,
    index: u64,
    record: MessageRecord,
    address: SocketAddr,
) -> io::Result<()> {
    let file = inner.snapshots.file(index)?;
    let octets = file.len()?;
    let mut stream = connect(inner, to, address).await?;
    write_frame(&mut stream, &Wire::Snapshot(record, octets).emit()).await?;
    let mut at = 0;
    while at < octets {
        let mut piece = vec![0; PIECE];
        let read = file.read_at(&mut piece, at)?;
        if read == 0 {
            return Err(io::Error::other("the snapshot's file ends early"));
        }
        piece.truncate(read);
        at += read as u64;
        write_frame(&mut stream, &Wire::Piece(piece.into()).emit()).await?;
    }
    match timeout(STEP_TIMEOUT * 6, read_wire(&mut stream)).await?? {
        Wire::Stored => Ok(()),
        _ => Err(io::Error::other("the receiver did not confirm")),
    }
}

async fn read_connection<T>(inner: Arc<Inner>, mut stream: T, peer: SocketAddr) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Send + Unpin,
{
    let Wire::Hello(hello) = timeout(HELLO_TIMEOUT, read_wire(&mut stream)).await?? else {
        return Err(io::Error::other("did not begin with a hello"));
    };
    admit(&inner, &hello, peer).map_err(io::Error::other)?;
    let from = hello.from.raft_id();
    let room = Arc::new(Semaphore::new(ROOM));
    loop {
        match timeout(IDLE_TIMEOUT, read_wire(&mut stream)).await?? {
            Wire::Message(record) if !record.is_snapshot() => {
                let message = record.into_library().map_err(io::Error::other)?;
                if message.from != from {
                    return Err(io::Error::other("speaks for another server"));
                }
                let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
                if inner.requests.send(Request::Message(message, permit)).is_err() {
                    return Ok(());
                }
            }
            Wire::Snapshot(record, octets) if record.is_snapshot() => {
                let message = record.into_library().map_err(io::Error::other)?;
                if message.from != from {
                    return Err(io::Error::other("speaks for another server"));
                }
                let mut incoming = inner.snapshots.receive(from)?;
                read_snapshot(&mut stream, &mut incoming, octets).await?;
                let snapshots = inner.snapshots.clone();
                let checked =
                    tokio::task::spawn_blocking(move || snapshots.check(incoming)).await.map_err(io::Error::other)?;
                let received = checked.map_err(io::Error::other)?;
                if inner.requests.send(Request::Snapshot(message, received)).is_err() {
                    return Ok(());
                }
                write_frame(&mut stream, &Wire::Stored.emit()).await?;
            }
            _ => return Err(io::Error::other("sent a frame out of turn")),
        }
    }
}

async fn read_snapshot<T: AsyncRead + Unpin>(stream: &mut T, incoming: &mut Incoming, octets: u64) -> io::Result<()> {
    while incoming.octets() < octets {
        let Wire::Piece(piece) = timeout(STEP_TIMEOUT, read_wire(stream)).await?? else {
            return Err(io::Error::other("sent a frame out of turn"));
        };
        if piece.is_empty() || incoming.octets() + piece.len() as u64 > octets {
            return Err(io::Error::other("sent a snapshot of another length than announced"));
        }
        incoming.write(&piece)?;
    }
    Ok(())
}

/// Whether the server that says hello may talk to us.
fn admit(inner: &Inner, hello: &Hello, peer: SocketAddr) -> Result<(), String> {
    let id = hello.from.raft_id();
    if hello.to != inner.own.raft_id() {
        return Err("it means another server; the address of one of the two has changed hands".into());
    }
    if id == hello.to {
        return Err("it has the same node id as this server; give one of them another".into());
    }
    let mut peers = inner.peers.lock().unwrap_or_else(PoisonError::into_inner);
    let known = peers.servers.by_raft_id(id).cloned();
    let allowed = |ip| (inner.is_allowed)(ip);
    match known {
        Some(server) if server.address.ip() == peer.ip() || allowed(peer.ip()) => Ok(()),
        None if allowed(peer.ip()) && (hello.from.address.ip() == peer.ip() || allowed(hello.from.address.ip())) => {
            // Bounded: only addresses of the LAN pool's servers get here, and few of those are strangers for long.
            if peers.strangers.len() >= 64 {
                peers.strangers.clear();
            }
            peers.strangers.insert(id, hello.from.address);
            Ok(())
        }
        _ => Err(format!(
            "server {} is not in the raft configuration and its address is not in the LAN pool",
            hello.from.id
        )),
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + payload.len());
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

async fn write_frame<T: AsyncWrite + Unpin>(stream: &mut T, payload: &[u8]) -> io::Result<()> {
    timeout(STEP_TIMEOUT, stream.write_all(&frame(payload))).await?
}

async fn read_wire<T: AsyncRead + Unpin>(stream: &mut T) -> io::Result<Wire> {
    let length = stream.read_u32_le().await? as usize;
    if length > MAX_FRAME {
        return Err(io::Error::other(CodecError("frame is too long")));
    }
    // Memory grows with the octets that arrive, not with the length claimed.
    let mut payload = Vec::with_capacity(length.min(64 << 10));
    let read = stream.take(length as u64).read_to_end(&mut payload).await?;
    if read < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Wire::parse(&Bytes::from(payload)).map_err(io::Error::other)
}
