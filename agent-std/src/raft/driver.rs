//! The thread that owns a [`Node`], and the handle that the rest of the program holds.
//!
//! Requests queue in a channel; the thread takes all that have come in, lets the node process them together (one sync for
//! all) and hands messages to the transport. Answers come back through one-shot channels. Reads within the leader's lease
//! never visit the thread.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use raft::eraftpb::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::config::Config;
use super::node::{Node, Outbox, ProposeError, Reply, Role, StateMachine, Status};
use super::servers::{Server, Servers};
use super::snapshot::{Meta, Received};
use super::storage::{Disk, StorageError};
use super::transport::{Connector, Transport};

/// Requests taken before the node processes them: bounds the time between two syncs.
const MAX_BATCH_REQUESTS: usize = 1024;
/// Requests waiting for an answer after which new ones are refused.
const MAX_WAITING: usize = 16 * 1024;

/// What the thread is asked to do.
pub(super) enum Request {
    Propose(Vec<u8>, Reply<Vec<u8>>),
    Barrier(Reply<u64>),
    AddServer(Server, Reply<()>),
    RemoveServer(String, Reply<()>),
    Transfer(Option<String>, Reply<()>),
    Bootstrap(Vec<Server>, Reply<()>),
    /// The permit is the sender's room in the queue.
    Message(Message, OwnedSemaphorePermit),
    Snapshot(Message, Received),
    SnapshotSent(u64, bool),
    Unreachable(u64),
    SnapshotWritten(Result<Meta, StorageError>),
    Stop(Reply<()>),
}

/// Who leads, from this server's view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Term of this view.
    pub term: u64,
    /// The leader, if one is known.
    pub leader: Option<Server>,
    /// It is this server.
    pub is_self: bool,
}

/// Why consensus cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The thread.
    #[error("cannot start the raft thread: {0}")]
    Thread(#[from] io::Error),
}

/// A handle to this server's consensus. Cheap to clone; the server stops when [`Raft::stop`] is called, not with the last handle.
#[derive(Clone)]
pub struct Raft {
    shared: Arc<Shared>,
}

struct Shared {
    requests: mpsc::Sender<Request>,
    transport: Transport,
    config: Config,
    began: Instant,
    status: watch::Receiver<Status>,
    leadership: watch::Receiver<Leadership>,
    servers: watch::Receiver<Arc<Servers>>,
    failure: watch::Receiver<Option<Arc<StorageError>>>,
    lease: Arc<SharedLease>,
    waiting: AtomicUsize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The leader's lease where readers see it without asking the thread: microseconds since `began`, 0 for none.
#[derive(Default)]
struct SharedLease {
    until_micros: AtomicU64,
    applied: AtomicU64,
}

impl Raft {
    /// Opens the directory, restores the state machine and starts. Messages go out through `connector`; `is_allowed` says
    /// whether a server that is not in the configuration may talk to us (a leader must be able to reach an empty server).
    ///
    /// # Errors
    /// The directory is damaged, foreign or not readable.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open<S: StateMachine>(
        config: Config,
        disk: Arc<dyn Disk>,
        machine: S,
        connector: Connector,
        is_allowed: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
    ) -> Result<Self, OpenError> {
        let mut node = Node::open(config.clone(), disk, machine)?;
        let began = Instant::now();
        node.set_time(Duration::ZERO, unix_millis());
        let mut out = Outbox::default();
        node.process(&mut out)?;

        let (requests, queue) = mpsc::channel();
        let transport =
            Transport::new(config.server.clone(), node.snapshots().clone(), connector, is_allowed, requests.clone());
        let (status_out, status) = watch::channel(node.status());
        let (leadership_out, leadership) = watch::channel(Leadership::default());
        let (servers_out, servers) = watch::channel(Arc::new(node.servers().clone()));
        let (failure_out, failure) = watch::channel(None);
        let lease = Arc::new(SharedLease::default());
        let publish =
            Publish { status: status_out, leadership: leadership_out, servers: servers_out, lease: lease.clone() };
        let mut thread = Thread {
            node,
            queue,
            out,
            transport: transport.clone(),
            publish,
            began,
            tick: config.tick(),
            writer: None,
        };
        let own_requests = requests.clone();
        let handle = std::thread::Builder::new().name("raft".into()).spawn(move || {
            if let Err(error) = thread.run(&own_requests) {
                log::error!("{error}");
                let _ = failure_out.send(Some(Arc::new(error)));
            }
            thread.publish.ended(&thread.node);
            // A snapshot being written holds the directory; who has waited for the stop may open it again.
            if let Some(writer) = thread.writer.take() {
                let _ = writer.join();
            }
            thread.transport.stop();
        })?;
        let shared = Shared {
            requests,
            transport,
            config,
            began,
            status,
            leadership,
            servers,
            failure,
            lease,
            waiting: AtomicUsize::new(0),
            thread: Mutex::new(Some(handle)),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Proposes a command; the state machine's answer when it has been carried out.
    ///
    /// # Errors
    /// [`ProposeError`]; each variant says whether the command may still be carried out.
    pub async fn propose(&self, command: Vec<u8>) -> Result<Vec<u8>, ProposeError> {
        self.ask(|reply| Request::Propose(command, reply)).await
    }

    /// Waits until this leader's state is as new as the moment of the call, confirmed by a majority. Returns the applied index.
    ///
    /// # Errors
    /// [`ProposeError`]; nothing is changed by any.
    pub async fn read_barrier(&self) -> Result<u64, ProposeError> {
        self.ask(Request::Barrier).await
    }

    /// As [`Raft::read_barrier`], but answered at once while a majority has confirmed the leadership recently (half the election
    /// timeout, `performance.raft_multiplier` × 500 ms). Relies on clocks that run at about the same speed.
    ///
    /// # Errors
    /// [`ProposeError`]; nothing is changed by any.
    pub async fn lease_read(&self) -> Result<u64, ProposeError> {
        let now = self.shared.began.elapsed().as_micros() as u64;
        if now < self.shared.lease.until_micros.load(Ordering::Acquire) {
            return Ok(self.shared.lease.applied.load(Ordering::Acquire));
        }
        self.read_barrier().await
    }

    /// Adds a server, or changes address, name or part of a known one. With [`super::Suffrage::Staging`] it becomes a voter by
    /// itself when it has caught up. Only the leader can.
    ///
    /// # Errors
    /// [`ProposeError::Busy`] while another change is under way; [`ProposeError::Refused`] when it makes no sense.
    pub async fn add_server(&self, server: Server) -> Result<(), ProposeError> {
        self.ask(|reply| Request::AddServer(server, reply)).await
    }

    /// Removes the server of this node id. Only the leader can, and not itself.
    ///
    /// # Errors
    /// As [`Raft::add_server`].
    pub async fn remove_server(&self, id: &str) -> Result<(), ProposeError> {
        let id = id.to_owned();
        self.ask(|reply| Request::RemoveServer(id, reply)).await
    }

    /// Hands leadership to the server of this node id, or to the voter that is furthest; returns when it is no longer here.
    ///
    /// # Errors
    /// [`ProposeError::Timeout`]: the other did not take it within an election timeout, this server leads on.
    pub async fn transfer_leadership(&self, target: Option<&str>) -> Result<(), ProposeError> {
        let target = target.map(str::to_owned);
        self.ask(|reply| Request::Transfer(target, reply)).await
    }

    /// Gives a new cluster its first configuration. Call it with the same servers on each of them. A server that knows a
    /// cluster already keeps it.
    ///
    /// # Errors
    /// [`ProposeError::Stopped`].
    pub async fn bootstrap(&self, servers: Vec<Server>) -> Result<(), ProposeError> {
        self.ask(|reply| Request::Bootstrap(servers, reply)).await
    }

    /// A connection that another server made to us, after its first octet (1) was read. `peer` is its address.
    pub fn accept<T>(&self, stream: T, peer: SocketAddr)
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.shared.transport.accept(stream, peer);
    }

    /// A look at the present state.
    pub fn status(&self) -> Status {
        self.shared.status.borrow().clone()
    }

    /// Time since the leader was heard; zero on the leader, `None` when it never was.
    pub fn last_contact(&self) -> Option<Duration> {
        let status = self.shared.status.borrow();
        let heard = status.last_contact?;
        let leads = status.role == Role::Leader;
        Some(if leads { Duration::ZERO } else { self.shared.began.elapsed().saturating_sub(heard) })
    }

    /// Follows who leads.
    pub fn leader_changes(&self) -> watch::Receiver<Leadership> {
        self.shared.leadership.clone()
    }

    /// Follows the state, index by index (coalesced).
    pub fn status_changes(&self) -> watch::Receiver<Status> {
        self.shared.status.clone()
    }

    /// The configuration as applied here.
    pub fn servers(&self) -> Arc<Servers> {
        self.shared.servers.borrow().clone()
    }

    /// Follows the configuration.
    pub fn server_changes(&self) -> watch::Receiver<Arc<Servers>> {
        self.shared.servers.clone()
    }

    /// Set once when consensus has stopped because of its storage: the program should end with this error.
    pub fn failure(&self) -> watch::Receiver<Option<Arc<StorageError>>> {
        self.shared.failure.clone()
    }

    /// Stops the thread after what it has in hand, and all connections.
    pub async fn stop(&self) {
        let (reply, answer) = oneshot::channel();
        if self.shared.requests.send(Request::Stop(reply)).is_ok() {
            let _ = answer.await;
        }
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, ProposeError> {
        let waiting = Waiting::enter(&self.shared.waiting).ok_or(ProposeError::Busy)?;
        let (reply, answer) = oneshot::channel();
        self.shared.requests.send(request(reply)).map_err(|_| ProposeError::Stopped)?;
        let result = tokio::time::timeout(self.shared.config.answer_timeout, answer).await;
        drop(waiting);
        match result {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ProposeError::Stopped),
            Err(_) => Err(ProposeError::Timeout),
        }
    }
}

/// A place among the requests that wait; given back when dropped, also when the caller gives up.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Option<Self> {
        let waiting = Waiting(count);
        (count.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Publish {
    status: watch::Sender<Status>,
    leadership: watch::Sender<Leadership>,
    servers: watch::Sender<Arc<Servers>>,
    lease: Arc<SharedLease>,
}

impl Publish {
    fn publish<S: StateMachine>(&self, node: &Node<S>) {
        let status = node.status();
        // Applied first: a reader that sees the lease must see at least this state.
        self.lease.applied.store(status.applied_index, Ordering::Release);
        let until = node.lease().map_or(0, |lease| lease.until.as_micros() as u64);
        self.lease.until_micros.store(until, Ordering::Release);
        let leadership =
            Leadership { term: status.term, leader: status.leader.clone(), is_self: status.role == Role::Leader };
        // Whoever waits for the leadership looks at the status then.
        replace(&self.status, status);
        replace(&self.leadership, leadership);
        if **self.servers.borrow() != *node.servers() {
            let _ = self.servers.send(Arc::new(node.servers().clone()));
        }
    }

    fn ended<S: StateMachine>(&self, node: &Node<S>) {
        self.lease.until_micros.store(0, Ordering::Release);
        let term = node.status().term;
        replace(&self.leadership, Leadership { term, leader: None, is_self: false });
    }
}

fn replace<T: PartialEq>(channel: &watch::Sender<T>, value: T) {
    channel.send_if_modified(|old| {
        let changed = *old != value;
        *old = value;
        changed
    });
}

struct Thread<S> {
    node: Node<S>,
    queue: mpsc::Receiver<Request>,
    out: Outbox,
    transport: Transport,
    publish: Publish,
    began: Instant,
    tick: Duration,
    /// Writes a snapshot.
    writer: Option<JoinHandle<()>>,
}

impl<S: StateMachine> Thread<S> {
    fn run(&mut self, requests: &mpsc::Sender<Request>) -> Result<(), StorageError> {
        let mut next_tick = Instant::now() + self.tick;
        let mut batch = VecDeque::new();
        loop {
            self.dispatch(requests);
            match self.queue.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
                Ok(request) => batch.push_back(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            batch.extend(self.queue.try_iter().take(MAX_BATCH_REQUESTS));
            self.node.set_time(self.began.elapsed(), unix_millis());
            for request in batch.drain(..) {
                if let Request::Stop(reply) = request {
                    self.node.process(&mut self.out)?;
                    self.dispatch(requests);
                    let _ = reply.send(Ok(()));
                    return Ok(());
                }
                self.handle(request)?;
            }
            // A late tick is one tick: a stalled server must not believe that time has passed for the others.
            if Instant::now() >= next_tick {
                self.node.tick();
                next_tick = Instant::now() + self.tick;
            }
            self.node.process(&mut self.out)?;
        }
    }

    fn handle(&mut self, request: Request) -> Result<(), StorageError> {
        match request {
            Request::Propose(command, reply) => self.node.propose(&command, reply),
            Request::Barrier(reply) => self.node.read_barrier(reply),
            Request::AddServer(server, reply) => self.node.add_server(server, reply),
            Request::RemoveServer(id, reply) => self.node.remove_server(&id, reply),
            Request::Transfer(target, reply) => self.node.transfer(target.as_deref(), reply),
            Request::Bootstrap(servers, reply) => {
                self.node.bootstrap(Servers::new(servers))?;
                let _ = reply.send(Ok(()));
            }
            Request::Message(message, _room) => self.node.step(message),
            Request::Snapshot(message, received) => self.node.step_snapshot(message, received),
            Request::SnapshotSent(to, stored) => self.node.on_snapshot_sent(to, stored),
            Request::Unreachable(to) => self.node.on_unreachable(to),
            Request::SnapshotWritten(result) => self.node.on_snapshot_written(result)?,
            Request::Stop(_) => {}
        }
        Ok(())
    }

    fn dispatch(&mut self, requests: &mpsc::Sender<Request>) {
        self.transport.send(self.out.messages.drain(..), self.node.servers());
        self.publish.publish(&self.node);
        for answer in self.out.answers.drain(..) {
            answer.send();
        }
        if let Some(job) = self.out.job.take() {
            let requests = requests.clone();
            let spawned = std::thread::Builder::new().name("raft-snapshot".into()).spawn(move || {
                let _ = requests.send(Request::SnapshotWritten(job.run()));
            });
            match spawned {
                Ok(writer) => self.writer = Some(writer),
                Err(error) => {
                    log::error!("raft: cannot start the snapshot thread: {error}; the log grows until the next start")
                }
            }
        }
    }
}

fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
