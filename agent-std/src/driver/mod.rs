//! The loop around one of the core's state machines: sockets, clock and processes for a machine that has none.
//!
//! ```text
//!   UDP socket ──datagram──┐                       ┌── Transmit ──> UDP socket
//!   streams, look-ups,     │   ┌──────────────┐    ├── Connect, Writable, Resume, Close ──> streams (tcp.rs)
//!   checks ──bounded──> handle_*  Machine  poll_output ── Resolve, RunCheck ──> tasks
//!   Handle ──bounded──> jobs   └──────────────┘    ├── Event ──> subscribers
//!   timer ─────────────────┘                       └── Wait ──> timer
//! ```
//!
//! One task owns the machine and lives in [`run`]; nothing is locked. Others reach it by a [`Handle`]: a job runs
//! inside the loop, with the machine at hand. The loop itself never waits for a socket: datagrams are sent now or
//! dropped and counted, streams have a task each, with one piece of data under way in each direction.
//!
//! `machine.rs` says what a machine is, `tcp.rs` drives one stream, `host_checks.rs` runs scripts.

mod heap;
mod host_checks;
mod machine;
mod notice;
mod tcp;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use agent_core::{
    agent::{
        CheckId, CommandError, Event, HostCheck, Outcome, Output, Port, Purpose, StreamId, StreamInput, Target, Ticket,
    },
    checks::Health,
    time,
};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket, lookup_host},
    sync::{broadcast, mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

pub use heap::{AgentHeap, PoolHeap, PoolSizes};
pub use host_checks::{Script, Scripts};
pub use machine::{AgentKind, Answer, Job, Kind, Machine, PoolKind, Waiter};
pub use notice::{MemberInfo, Notice};
pub use tcp::{BoxWire, Destination, Dial, PlainDial, Why, Wire};

/// Largest datagram that arrives.
const MAX_DATAGRAM: usize = 65_535;
/// Datagrams taken in a row before the rest gets its turn.
const BURST: usize = 64;
/// Facts waiting for the loop; senders wait beyond.
const INPUTS: usize = 256;
/// Jobs waiting for the loop; senders wait beyond.
const JOBS: usize = 64;
/// Events kept for slow subscribers.
const NOTICES: usize = 1024;
/// Most octets of a stream under way in one direction.
const PIECE: usize = 16 * 1024;
/// An address look-up that takes longer has no addresses.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Streams get this long to send what was written before the loop ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the loop works with.
pub struct Sockets {
    /// Gossip datagrams.
    pub udp: UdpSocket,
    /// Gossip streams; none: nobody can connect.
    pub tcp: Option<TcpListener>,
}

/// What the loop needs from its surroundings.
#[derive(Clone)]
pub struct Host {
    /// Opens connections.
    pub dial: Arc<dyn Dial>,
    /// Scripts by key.
    pub scripts: Scripts,
}

/// Counters since start; read with `Relaxed`.
#[derive(Debug, Default)]
pub struct Stats {
    /// Datagrams that the socket did not take.
    pub dropped: AtomicU64,
    /// Connections refused because the machine had no room.
    pub refused: AtomicU64,
}

/// How others reach a running machine. Cheap to clone; the loop ends when the last one is dropped.
pub struct Handle<K: Kind> {
    jobs: mpsc::Sender<Job<K>>,
    notices: broadcast::Sender<Notice>,
    stats: Arc<Stats>,
}

impl<K: Kind> Clone for Handle<K> {
    fn clone(&self) -> Self {
        Handle { jobs: self.jobs.clone(), notices: self.notices.clone(), stats: self.stats.clone() }
    }
}

/// The loop has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the agent has stopped")]
pub struct Stopped;

/// A command came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandFailed {
    /// Refused at once; nothing was changed.
    #[error(transparent)]
    Refused(#[from] CommandError),
    /// See [`Stopped`].
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A handle, and what [`run`] needs of it.
pub fn channel<K: Kind>() -> (Handle<K>, Inbox<K>) {
    let (jobs, inbox) = mpsc::channel(JOBS);
    let (notices, _) = broadcast::channel(NOTICES);
    let stats = Arc::new(Stats::default());
    let handle = Handle { jobs, notices: notices.clone(), stats: stats.clone() };
    (handle, Inbox { jobs: inbox, notices, stats })
}

/// The other end of the handles.
pub struct Inbox<K: Kind> {
    jobs: mpsc::Receiver<Job<K>>,
    notices: broadcast::Sender<Notice>,
    stats: Arc<Stats>,
}

impl<K: Kind> Handle<K> {
    /// Runs `job` inside the loop and gives its result. Keep it short: the machine does nothing else meanwhile.
    ///
    /// # Errors
    /// The loop has ended.
    pub async fn with<T: Send + 'static>(
        &self,
        job: impl for<'m> FnOnce(&mut K::Machine<'m>, time::Instant) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (reply, result) = oneshot::channel();
        let job: Job<K> = Box::new(move |machine, now| {
            // Nobody waits any more when the caller was cancelled.
            let _ = reply.send(job(machine, now));
            None
        });
        self.jobs.send(job).await.map_err(|_| Stopped)?;
        result.await.map_err(|_| Stopped)
    }

    /// Gives a command that takes time, and waits until it has finished.
    ///
    /// # Errors
    /// The machine refused it, or the loop ended first.
    pub async fn finish(
        &self,
        command: impl for<'m> FnOnce(&mut K::Machine<'m>, time::Instant) -> Result<Ticket, CommandError> + Send + 'static,
    ) -> Result<Outcome, CommandFailed> {
        let (reply, result) = oneshot::channel();
        let (outcome, finished) = oneshot::channel();
        let job: Job<K> = Box::new(move |machine, now| {
            let accepted = command(machine, now);
            let waiter = accepted.ok().map(|ticket| Waiter { ticket, outcome, answers: None });
            let _ = reply.send(accepted.map(|_| ()));
            waiter
        });
        self.jobs.send(job).await.map_err(|_| Stopped)?;
        result.await.map_err(|_| Stopped)??;
        finished.await.map_err(|_| CommandFailed::Stopped(Stopped))
    }

    /// Asks all members: `command` makes a query. Comes back when `expected` members have answered, or when no more
    /// answers can come.
    ///
    /// # Errors
    /// The machine refused it, or the loop ended first.
    pub async fn ask(
        &self,
        expected: usize,
        command: impl for<'m> FnOnce(&mut K::Machine<'m>, time::Instant) -> Result<Ticket, CommandError> + Send + 'static,
    ) -> Result<Vec<Answer>, CommandFailed> {
        // Bounded by the members and the time of a query.
        let (sender, mut answers) = mpsc::unbounded_channel();
        let (reply, result) = oneshot::channel();
        let (outcome, mut finished) = oneshot::channel();
        let job: Job<K> = Box::new(move |machine, now| {
            let accepted = command(machine, now);
            let waiter = accepted.ok().map(|ticket| Waiter { ticket, outcome, answers: Some(sender) });
            let _ = reply.send(accepted.map(|_| ()));
            waiter
        });
        self.jobs.send(job).await.map_err(|_| Stopped)?;
        result.await.map_err(|_| Stopped)??;
        let mut heard: Vec<Answer> = Vec::new();
        while heard.len() < expected {
            tokio::select! {
                biased;
                Some(answer) = answers.recv() => {
                    if heard.iter().all(|known| known.from != answer.from) {
                        heard.push(answer);
                    }
                }
                _ = &mut finished => break,
            }
        }
        Ok(heard)
    }

    /// Events from now on. A subscriber that is too slow is told how many it missed: then look at the tables.
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    /// Counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }
}

/// The driver's clock: microseconds since `origin`.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Clock { origin: Instant::now() }
    }

    /// The time.
    pub fn now(&self) -> time::Instant {
        time::Instant::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn at(&self, instant: time::Instant) -> Instant {
        self.origin + Duration::from_micros(instant.as_micros())
    }
}

/// Drives `machine`, which was made with a time of `clock`, until no handle is left.
pub async fn run<K: Kind>(mut machine: K::Machine<'_>, clock: Clock, sockets: Sockets, host: Host, inbox: Inbox<K>) {
    let Inbox { mut jobs, notices, stats } = inbox;
    let (sender, mut inputs) = mpsc::channel(INPUTS);
    let mut io = Io {
        clock,
        udp: sockets.udp,
        host,
        streams: HashMap::new(),
        waiters: HashMap::new(),
        inputs: sender,
        tasks: JoinSet::new(),
        notices,
        stats,
    };
    if let Some(listener) = sockets.tcp {
        io.tasks.spawn(tcp::accept(listener, Port::Gossip, io.inputs.clone()));
    }
    let mut out = vec![0; MAX_DATAGRAM];
    let mut datagram = vec![0; MAX_DATAGRAM];
    loop {
        let until = drain(&mut machine, &mut io, &mut out);
        let wake = async {
            match until {
                Some(until) => sleep_until(io.clock.at(until)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            job = jobs.recv() => {
                let Some(job) = job else { break };
                if let Some(waiter) = job(&mut machine, io.clock.now()) {
                    io.waiters.insert(waiter.ticket, waiter);
                }
            }
            Some(input) = inputs.recv() => take(&mut machine, &mut io, input),
            readable = io.udp.readable() => match readable {
                Ok(()) => receive(&mut machine, &mut io, &mut datagram, &mut out),
                Err(error) => log::warn!("gossip socket: {error}"),
            },
            () = wake => machine.handle_timeout(io.clock.now()),
        }
        while io.tasks.try_join_next().is_some() {}
    }
    // Goodbyes that are written already still go out; everything else ends here.
    let Io { streams, mut tasks, inputs: sender, .. } = io;
    drop((streams, sender, inputs));
    let _ = timeout(FAREWELL, async { while tasks.join_next().await.is_some() {} }).await;
}

/// Everything of the loop but the machine.
struct Io {
    clock: Clock,
    udp: UdpSocket,
    host: Host,
    streams: HashMap<StreamId, Stream>,
    waiters: HashMap<Ticket, Waiter>,
    inputs: mpsc::Sender<Input>,
    tasks: JoinSet<()>,
    notices: broadcast::Sender<Notice>,
    stats: Arc<Stats>,
}

/// The loop's side of a stream; the socket's side is [`tcp::pump`].
struct Stream {
    orders: mpsc::Sender<Order>,
    /// Octets that the machine has not taken yet, and where they begin.
    pending: Option<(Vec<u8>, usize)>,
    /// The machine has octets to send.
    writable: bool,
    /// The socket's side takes octets.
    room: bool,
}

/// A fact for the machine.
enum Input {
    Accepted(Port, SocketAddr, TcpStream),
    Opened(StreamId),
    Data(StreamId, Vec<u8>),
    Eof(StreamId),
    Failed(StreamId),
    Room(StreamId),
    Resolved(Ticket, Vec<IpAddr>),
    Checked(CheckId, Health, String),
}

/// What a stream's task is told. Dropping the sender means: send what you have, then close.
enum Order {
    Write(Vec<u8>),
    /// Read the next piece.
    More,
}

/// Does all the machine's work and says when it wants to be woken.
fn drain<M: Machine>(machine: &mut M, io: &mut Io, out: &mut [u8]) -> Option<time::Instant> {
    loop {
        match machine.poll_output(out) {
            Output::Transmit { to, len, .. } => {
                // Unreachable networks and full buffers are the same to gossip: a lost datagram.
                if out.get(..len).is_none_or(|data| io.udp.try_send_to(data, to).is_err()) {
                    io.stats.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            Output::Connect { id, to, purpose, timeout } => io.connect(id, to, purpose, timeout),
            Output::Writable { id } => {
                if let Some(stream) = io.streams.get_mut(&id) {
                    stream.writable = true;
                }
                fill(machine, io, id);
            }
            Output::Resume { id } => {
                if let Some((data, at)) = io.streams.get_mut(&id).and_then(|stream| stream.pending.take()) {
                    feed(machine, io, id, data, at);
                }
            }
            Output::Close { id } => drop(io.streams.remove(&id)),
            Output::Resolve { ticket, name } => io.resolve(ticket, name),
            Output::RunCheck { id, check, timeout } => io.run_check(id, check, timeout),
            Output::Event(Event::Finished { ticket, outcome }) => {
                if let Some(waiter) = io.waiters.remove(&ticket) {
                    // Whoever asked may have gone.
                    let _ = waiter.outcome.send(outcome);
                }
            }
            Output::Event(Event::Answer { ticket, from, payload }) => {
                if let Some(answers) = io.waiters.get(&ticket).and_then(|waiter| waiter.answers.as_ref()) {
                    let _ = answers.send(Answer { from: from.into(), payload: payload.map(<[u8]>::to_vec) });
                }
            }
            Output::Event(event) => {
                if let Some(notice) = Notice::new(&event) {
                    // Nobody may be listening.
                    let _ = io.notices.send(notice);
                }
            }
            Output::Wait { until, .. } => return until,
        }
    }
}

/// Takes the datagrams that are there, at most a burst of them.
fn receive<M: Machine>(machine: &mut M, io: &mut Io, datagram: &mut [u8], out: &mut [u8]) {
    for _ in 0..BURST {
        match io.udp.try_recv_from(datagram) {
            Ok((len, from)) => {
                machine.handle_datagram(io.clock.now(), Port::Gossip, from, &mut datagram[..len]);
                // A machine's queues are sized for one input between two drains.
                let _ = drain(machine, io, out);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // A member that is gone (ICMP) shows up here; the socket itself is fine.
            Err(_) => {}
        }
    }
}

fn take<M: Machine>(machine: &mut M, io: &mut Io, input: Input) {
    let now = io.clock.now();
    match input {
        Input::Accepted(port, from, socket) => match machine.handle_accept(now, port, from) {
            Some(id) => io.spawn_stream(id, async { Ok(Box::new(socket) as BoxWire) }, false),
            None => drop(io.stats.refused.fetch_add(1, Ordering::Relaxed)),
        },
        Input::Opened(id) => {
            if let Some(stream) = io.streams.get_mut(&id) {
                stream.room = true;
                let _ = machine.handle_stream(now, id, StreamInput::Open);
                fill(machine, io, id);
            }
        }
        Input::Data(id, data) => feed(machine, io, id, data, 0),
        Input::Eof(id) => {
            if io.streams.contains_key(&id) {
                let _ = machine.handle_stream(now, id, StreamInput::Eof);
            }
        }
        Input::Failed(id) => {
            if io.streams.remove(&id).is_some() {
                let _ = machine.handle_stream(now, id, StreamInput::Failed);
            }
        }
        Input::Room(id) => {
            if let Some(stream) = io.streams.get_mut(&id) {
                stream.room = true;
                fill(machine, io, id);
            }
        }
        Input::Resolved(ticket, addresses) => machine.handle_resolved(now, ticket, &addresses),
        Input::Checked(id, health, output) => machine.handle_check(now, id, health, &output),
    }
}

/// Offers octets of a stream; what is not taken waits for `Resume`, and the socket is not read meanwhile.
fn feed<M: Machine>(machine: &mut M, io: &mut Io, id: StreamId, data: Vec<u8>, at: usize) {
    if !io.streams.contains_key(&id) {
        return;
    }
    let rest = data.get(at..).unwrap_or(&[]);
    let taken = machine.handle_stream(io.clock.now(), id, StreamInput::Data(rest));
    let Some(stream) = io.streams.get_mut(&id) else { return };
    if taken < rest.len() {
        stream.pending = Some((data, at + taken));
    } else {
        // Fails only when the task is gone, which reports `Failed` by itself. There is room: one piece, one order.
        let _ = stream.orders.try_send(Order::More);
    }
}

/// Hands the next octets to the socket's side if it can take them.
fn fill<M: Machine>(machine: &mut M, io: &mut Io, id: StreamId) {
    let Some(stream) = io.streams.get_mut(&id).filter(|stream| stream.writable && stream.room) else { return };
    let mut piece = vec![0; PIECE];
    let len = machine.fill_stream(io.clock.now(), id, &mut piece).min(PIECE);
    if len == 0 {
        stream.writable = false;
        return;
    }
    piece.truncate(len);
    stream.room = false;
    let _ = stream.orders.try_send(Order::Write(piece));
}

impl Io {
    fn connect(&mut self, id: StreamId, to: Target<'_>, purpose: Purpose<'_>, limit: time::Duration) {
        let to = Destination::from(to);
        let dialled = self.host.dial.dial(to.clone(), Why::from(purpose));
        let limit = Duration::from_micros(limit.as_micros());
        let open = async move {
            match timeout(limit, dialled).await {
                Ok(Ok(wire)) => Ok(wire),
                Ok(Err(error)) => {
                    log::debug!("connecting to {to}: {error}");
                    Err(error)
                }
                Err(late) => {
                    log::debug!("connecting to {to}: no answer in {limit:?}");
                    Err(late.into())
                }
            }
        };
        self.spawn_stream(id, open, true);
    }

    fn spawn_stream(
        &mut self,
        id: StreamId,
        open: impl Future<Output = io::Result<BoxWire>> + Send + 'static,
        announce: bool,
    ) {
        // One `Write` and one `More` can be under way at once.
        let (orders, receiver) = mpsc::channel(2);
        let stream = Stream { orders, pending: None, writable: false, room: !announce };
        self.streams.insert(id, stream);
        self.tasks.spawn(tcp::pump(id, open, announce, receiver, self.inputs.clone()));
    }

    fn resolve(&mut self, ticket: Ticket, name: &str) {
        let (name, inputs) = (name.to_string(), self.inputs.clone());
        self.tasks.spawn(async move {
            let found = match timeout(RESOLVE_TIMEOUT, lookup_host((name.as_str(), 0))).await {
                Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
                Ok(Err(error)) => {
                    log::debug!("looking up {name}: {error}");
                    Vec::new()
                }
                Err(_) => Vec::new(),
            };
            let _ = inputs.send(Input::Resolved(ticket, found)).await;
        });
    }

    fn run_check(&mut self, id: CheckId, check: HostCheck<'_>, limit: time::Duration) {
        let script = self.host.scripts.get(check.key);
        let inputs = self.inputs.clone();
        let limit = Duration::from_micros(limit.as_micros());
        self.tasks.spawn(async move {
            let (health, output) = match script {
                Some(script) => script.run(limit).await,
                None => (Health::Critical, "the script of this check is not known".to_string()),
            };
            let _ = inputs.send(Input::Checked(id, health, output)).await;
        });
    }
}
