//! The world: nodes with their machines, the network between them, and one queue of events.
//!
//! One step takes the next event, hands it to one machine, drains that machine and plans what it asked for. Nothing
//! else happens, nothing reads a clock, and every choice comes from the seed, so that a seed is a run.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use agent_core::{
    agent::{StreamInput, Ticket},
    rand::Rng,
    time::{Duration, Instant},
};

use super::{
    clock::Queue,
    net::{Net, RECONNECT, RETRANSMIT, Weather},
    tcp::{Connection, End, Piece, WINDOW},
};

/// A state machine as the core's are: facts in, work out.
pub trait Machine {
    /// Its name for a TCP exchange.
    type Stream: Copy + Debug + Eq + Ord;
    /// What it tells its owner.
    type Event: Debug;

    /// Time has passed.
    fn timeout(&mut self, now: Instant);
    /// A datagram arrived.
    fn datagram(&mut self, now: Instant, from: SocketAddr, data: &mut [u8]);
    /// Somebody connected; `None` closes the connection.
    fn accept(&mut self, now: Instant, from: SocketAddr) -> Option<Self::Stream>;
    /// Something happened on a stream; returns the octets taken.
    fn stream(&mut self, now: Instant, id: Self::Stream, input: StreamInput<'_>) -> usize;
    /// Writes octets to send; returns how many.
    fn fill(&mut self, now: Instant, id: Self::Stream, out: &mut [u8]) -> usize;
    /// An address look-up is done.
    fn resolved(&mut self, _now: Instant, _ticket: Ticket, _addresses: &[IpAddr]) {}
    /// The next piece of work.
    fn poll(&mut self) -> Work<Self>;
}

/// One piece of work of a machine; the core's `Output` with nothing borrowed.
#[derive(Debug)]
pub enum Work<M: Machine + ?Sized> {
    /// Send a datagram.
    Transmit(SocketAddr, Vec<u8>),
    /// Connect, within a time.
    Connect(M::Stream, SocketAddr, Duration),
    /// Octets to send are ready.
    Writable(M::Stream),
    /// Offer again what was not taken.
    Resume(M::Stream),
    /// Close after what was filled.
    Close(M::Stream),
    /// Look a name up.
    Resolve(Ticket, String),
    /// Something for the owner.
    Event(M::Event),
    /// Drained until then.
    Wait(Option<Instant>),
}

/// Work of one node after one input. More means that it never comes to rest.
const POLLS: usize = 20_000;
/// Wake-ups of one node at one instant. More means that its deadline never moves.
const WAKES: u32 = 1_000;
/// A stalled or unanswered TCP piece is tried again after this, TCP's smallest retransmission time on Linux.
const RETRY: Duration = Duration::from_millis(200);
/// A stream that gets nothing through for this long is broken. Much shorter than Linux's 15 minutes, as applications'
/// own time limits are.
const STALL: Duration = Duration::from_secs(30);
/// The port of all nodes.
const PORT: u16 = 8301;
/// Datagrams that wait for a paused process; a socket's default buffer holds about so many.
const INBOX: usize = 200;

enum Event {
    Wake { node: usize, at: Instant },
    Datagram { from: usize, to: usize, data: Vec<u8> },
    Connect { id: u64 },
    ConnectLimit { id: u64 },
    Arrive { id: u64, end: usize },
    Resolved { node: usize, life: u32, ticket: Ticket, name: String },
}

/// One node: a machine, or the place where one was.
#[derive(Debug)]
pub struct Node<M> {
    /// The running machine.
    pub machine: Option<M>,
    /// How often it has been started.
    pub life: u32,
    paused: bool,
    inbox: Vec<(usize, Vec<u8>)>,
    /// Virtual time of the next wake-up.
    wake: Option<Instant>,
    wakes: (Instant, u32),
    /// How far its clock has jumped ahead of virtual time.
    ahead: Duration,
}

/// All nodes and all that happens between them.
pub struct World<M: Machine> {
    /// The network; change it at any time.
    pub net: Net,
    nodes: Vec<Node<M>>,
    queue: Queue<Event>,
    connections: BTreeMap<u64, Connection<M::Stream>>,
    next_connection: u64,
    events: Vec<(usize, M::Event)>,
    trace: DefaultHasher,
    steps: u64,
}

impl<M: Machine> World<M> {
    /// A world of `nodes` places without machines.
    pub fn new(nodes: usize, weather: Weather, seed: u64) -> Self {
        let node = |_| Node {
            machine: None,
            life: 0,
            paused: false,
            inbox: Vec::new(),
            wake: None,
            wakes: (Instant::ZERO, 0),
            ahead: Duration::ZERO,
        };
        World {
            net: Net::new(nodes, weather, Rng::from_seed(&seed_octets(seed, 0))),
            nodes: (0..nodes).map(node).collect(),
            queue: Queue::default(),
            connections: BTreeMap::new(),
            next_connection: 0,
            events: Vec::new(),
            trace: DefaultHasher::new(),
            steps: 0,
        }
    }

    /// Virtual time.
    pub fn now(&self) -> Instant {
        self.queue.now()
    }

    /// Virtual time as the clock of `node` shows it.
    pub fn clock(&self, node: usize) -> Instant {
        self.now() + self.nodes[node].ahead
    }

    /// Sets the clock of `node` forward. A monotonic clock never goes back; it leaps where a virtual machine slept.
    pub fn leap(&mut self, node: usize, by: Duration) {
        self.note(&("leap", node, by.as_micros()), &[]);
        self.nodes[node].ahead = self.nodes[node].ahead + by;
        self.wake(node);
    }

    /// The machine of `node`, unless it is down.
    pub fn machine(&self, node: usize) -> Option<&M> {
        self.nodes[node].machine.as_ref()
    }

    /// How often `node` has been started.
    pub fn life(&self, node: usize) -> u32 {
        self.nodes[node].life
    }

    /// Events handled so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// A fingerprint of all that has happened. Two runs of a seed have the same.
    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }

    /// Starts a machine at `node`, whose former one has ended.
    pub fn start(&mut self, node: usize, machine: M) {
        self.note(&("start", node), &[]);
        let place = &mut self.nodes[node];
        place.machine = Some(machine);
        place.life += 1;
        place.wake = None;
        self.drain(node);
    }

    /// Ends the machine of `node`. Its operating system lives on and tells those it had connections with.
    pub fn kill(&mut self, node: usize) {
        self.note(&("kill", node), &[]);
        let place = &mut self.nodes[node];
        place.machine = None;
        place.paused = false;
        place.inbox.clear();
        let mine: Vec<(u64, usize)> = self.ends_of(node).collect();
        for (id, end) in mine {
            self.close_end(id, end);
            self.send(id, 1 - end, Piece::Reset);
        }
    }

    /// Stops a process where it is. What arrives waits for it.
    pub fn pause(&mut self, node: usize) {
        self.note(&("pause", node), &[]);
        self.nodes[node].paused = true;
    }

    /// Lets a paused process go on.
    pub fn resume(&mut self, node: usize) {
        self.note(&("resume", node), &[]);
        self.nodes[node].paused = false;
        for (from, data) in std::mem::take(&mut self.nodes[node].inbox) {
            self.deliver(from, node, data);
        }
        self.wake(node);
        let mine: Vec<(u64, usize)> = self.ends_of(node).collect();
        for (id, end) in mine {
            self.queue.plan(self.now(), Event::Arrive { id, end });
        }
    }

    /// Gives the owner's wish to the machine of `node`.
    ///
    /// # Panics
    ///
    /// When the node is down.
    pub fn command<T>(&mut self, node: usize, command: impl FnOnce(&mut M, Instant) -> T) -> T {
        self.note(&("command", node), &[]);
        let now = self.clock(node);
        let machine = self.nodes[node].machine.as_mut().expect("commands go to running nodes");
        let result = command(machine, now);
        self.drain(node);
        result
    }

    /// What machines have told their owners since this was last asked, with the nodes they run on.
    pub fn take_events(&mut self) -> Vec<(usize, M::Event)> {
        std::mem::take(&mut self.events)
    }

    /// Handles the next event before `end` and returns the node it happened to; `None` when there is none left.
    pub fn step(&mut self, end: Instant) -> Option<usize> {
        let event = self.queue.next_before(end)?;
        self.steps += 1;
        let node = match event {
            Event::Wake { node, at } => {
                // A wake-up that was planned anew is another event.
                if self.nodes[node].wake == Some(at) {
                    self.note(&("wake", node), &[]);
                    self.wake(node);
                }
                node
            }
            Event::Datagram { from, to, data } => {
                self.deliver(from, to, data);
                to
            }
            Event::Connect { id } => self.on_connect(id),
            Event::ConnectLimit { id } => self.on_connect_limit(id),
            Event::Arrive { id, end } => self.on_arrive(id, end),
            Event::Resolved { node, life, ticket, name } => {
                self.on_resolved(node, life, ticket, name);
                node
            }
        };
        Some(node)
    }

    fn on_resolved(&mut self, node: usize, life: u32, ticket: Ticket, name: String) {
        if self.nodes[node].paused {
            return self.queue.plan(self.now() + RETRY, Event::Resolved { node, life, ticket, name });
        }
        self.note(&("resolved", node, &name), &[]);
        let (now, addresses) = (self.clock(node), self.net.resolve(&name));
        let place = &mut self.nodes[node];
        if let Some(machine) = place.machine.as_mut().filter(|_| place.life == life) {
            machine.resolved(now, ticket, &addresses);
            self.drain(node);
        }
    }

    fn wake(&mut self, node: usize) {
        let now = self.clock(node);
        let place = &mut self.nodes[node];
        if place.paused {
            return;
        }
        place.wakes = if place.wakes.0 == now { (now, place.wakes.1 + 1) } else { (now, 1) };
        assert!(place.wakes.1 < WAKES, "node {node} asks for the same instant again and again");
        place.wake = None;
        if let Some(machine) = &mut place.machine {
            machine.timeout(now);
            self.drain(node);
        }
    }

    fn deliver(&mut self, from: usize, to: usize, mut data: Vec<u8>) {
        self.note(&("datagram", from, to), &data);
        let (now, source) = (self.clock(to), self.net.source(from));
        let place = &mut self.nodes[to];
        if place.paused {
            if place.inbox.len() < INBOX {
                place.inbox.push((from, data));
            }
        } else if let Some(machine) = &mut place.machine {
            machine.datagram(now, source, &mut data);
            self.drain(to);
        }
    }

    /// Does the work of a machine until it has no more.
    fn drain(&mut self, node: usize) {
        for _ in 0..POLLS {
            let now = self.now();
            let place = &mut self.nodes[node];
            let (Some(machine), false) = (&mut place.machine, place.paused) else { return };
            match machine.poll() {
                Work::Transmit(to, data) => {
                    let Some(to) = self.net.node_at(to) else { continue };
                    for at in self.net.arrivals(now, node, to, data.len()) {
                        self.queue.plan(at, Event::Datagram { from: node, to, data: data.clone() });
                    }
                }
                Work::Connect(stream, to, limit) => self.connect(node, stream, to, limit),
                Work::Writable(stream) => {
                    if let Some((id, end)) = self.find(node, stream) {
                        self.connections.get_mut(&id).expect("just found").ends[end].writing = true;
                        self.write(id, end);
                    }
                }
                Work::Resume(stream) => {
                    if let Some((id, end)) = self.find(node, stream) {
                        self.offer_waiting(id, end);
                    }
                }
                Work::Close(stream) => {
                    if let Some((id, end)) = self.find(node, stream) {
                        self.close_end(id, end);
                        self.send(id, 1 - end, Piece::Eof);
                    }
                }
                Work::Resolve(ticket, name) => {
                    let (at, life) = (now + self.net.way(), place.life);
                    self.queue.plan(at, Event::Resolved { node, life, ticket, name });
                }
                Work::Event(event) => self.events.push((node, event)),
                Work::Wait(until) => {
                    let place = &mut self.nodes[node];
                    let until = until.map(|at| now + at.saturating_since(now + place.ahead));
                    if let Some(at) = until
                        && place.wake != until
                    {
                        self.queue.plan(at, Event::Wake { node, at });
                    }
                    place.wake = until;
                    return;
                }
            }
        }
        panic!("node {node} never comes to rest");
    }

    fn connect(&mut self, node: usize, stream: M::Stream, to: SocketAddr, limit: Duration) {
        let now = self.now();
        let id = self.next_connection;
        self.next_connection += 1;
        let life = self.nodes[node].life;
        let first = End::new(node, life, Some(stream));
        // An address nobody has: the connection runs into its time limit.
        let second = End::new(self.net.node_at(to).unwrap_or(node), 0, None);
        self.connections.insert(id, Connection { ends: [first, second], open: false });
        if let Some(to) = self.net.node_at(to) {
            // The wish to connect and its answer may get lost.
            let at = now + self.net.segment(now, node, to, RECONNECT);
            self.queue.plan(at, Event::Connect { id });
        }
        self.queue.plan(now + limit, Event::ConnectLimit { id });
    }

    /// A wish to connect arrives.
    fn on_connect(&mut self, id: u64) -> usize {
        let now = self.now();
        let Some(connection) = self.connections.get(&id) else { return 0 };
        let (from, to) = (connection.ends[0].node, connection.ends[1].node);
        let both_ways = self.net.is_open(from, to) && self.net.is_open(to, from);
        if !both_ways || self.nodes[to].paused {
            self.queue.plan(now + RETRY, Event::Connect { id });
            return to;
        }
        self.note(&("connect", from, to), &[]);
        let life = self.nodes[to].life;
        let (clock, source) = (self.clock(to), self.net.source(from));
        let stream = self.nodes[to].machine.as_mut().and_then(|machine| machine.accept(clock, source));
        match stream {
            Some(stream) => {
                let connection = self.connections.get_mut(&id).expect("looked up above");
                connection.ends[1] = End::new(to, life, Some(stream));
                // The opener learns of it one way later, as of everything else: an empty piece opens its end.
                self.send(id, 0, Piece::Data(Vec::new()));
                self.drain(to);
            }
            None => self.send(id, 0, Piece::Reset),
        }
        to
    }

    fn on_connect_limit(&mut self, id: u64) -> usize {
        match self.connections.get(&id) {
            Some(connection) if !connection.open => {
                let node = connection.ends[0].node;
                if self.nodes[node].paused {
                    self.queue.plan(self.now() + RETRY, Event::ConnectLimit { id });
                    return node;
                }
                self.send(id, 1, Piece::Reset);
                self.fail(id, 0);
                node
            }
            Some(connection) => connection.ends[0].node,
            None => 0,
        }
    }

    /// The first piece towards an end arrives, or is tried again.
    fn on_arrive(&mut self, id: u64, end: usize) -> usize {
        let now = self.now();
        let Some(connection) = self.connections.get_mut(&id) else { return 0 };
        let (node, from) = (connection.ends[end].node, connection.ends[1 - end].node);
        let here = &mut connection.ends[end];
        if self.nodes[node].paused || here.coming.is_empty() || !here.waiting.is_empty() {
            return node;
        }
        if !(self.net.is_open(from, node) && self.net.is_open(node, from)) {
            let since = *here.stalled.get_or_insert(now);
            if now.saturating_since(since) < STALL {
                self.queue.plan(now + RETRY, Event::Arrive { id, end });
            } else {
                self.fail(id, end);
                self.fail(id, 1 - end);
            }
            return node;
        }
        here.stalled = None;
        let piece = here.coming.pop_front().expect("checked above");
        let more = !here.coming.is_empty();
        match piece {
            Piece::Data(data) => {
                self.note(&("stream", node, end), &data);
                if self.net.breaks() {
                    self.fail(id, end);
                    self.fail(id, 1 - end);
                    return node;
                }
                let opens = end == 0 && !self.connections[&id].open;
                if opens {
                    self.connections.get_mut(&id).expect("looked up above").open = true;
                    self.input(id, end, |machine, now, stream| machine.stream(now, stream, StreamInput::Open));
                    self.drain(node);
                } else {
                    self.connections.get_mut(&id).expect("looked up above").ends[end].waiting = data;
                    self.offer_waiting(id, end);
                }
            }
            Piece::Eof => {
                self.input(id, end, |machine, now, stream| machine.stream(now, stream, StreamInput::Eof));
                self.drain(node);
            }
            Piece::Reset => self.fail(id, end),
        }
        if more {
            let at = now + self.net.segment(now, from, node, RETRANSMIT);
            self.queue.plan(at, Event::Arrive { id, end });
        }
        // There is room again for the other end's octets, and after its last ones it may want to close.
        self.write(id, 1 - end);
        self.drain(from);
        self.forget_closed(id);
        node
    }

    /// Offers the octets that wait at an end.
    fn offer_waiting(&mut self, id: u64, end: usize) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let here = &mut connection.ends[end];
        let data = std::mem::take(&mut here.waiting);
        if data.is_empty() {
            return;
        }
        let taken = self.input(id, end, |machine, now, stream| machine.stream(now, stream, StreamInput::Data(&data)));
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let here = &mut connection.ends[end];
        let node = here.node;
        // An end that is closed reads no more.
        if here.stream.is_some() && taken < data.len() {
            here.waiting = data[taken..].to_vec();
        } else if !here.coming.is_empty() {
            self.queue.plan(self.queue.now(), Event::Arrive { id, end });
        }
        self.drain(node);
    }

    /// Takes octets from the machine at an end while the socket has room.
    fn write(&mut self, id: u64, end: usize) {
        loop {
            let Some(connection) = self.connections.get(&id) else { return };
            let here = &connection.ends[end];
            let Some(stream) = here.stream else { return };
            if !here.writing || connection.ends[1 - end].load() >= WINDOW || self.nodes[here.node].paused {
                return;
            }
            let node = here.node;
            let mut buffer = [0; 1460];
            let (now, size) = (self.clock(node), self.net.piece(buffer.len()));
            let Some(machine) = &mut self.nodes[node].machine else { return };
            let filled = machine.fill(now, stream, &mut buffer[..size]);
            if filled == 0 {
                self.connections.get_mut(&id).expect("looked up above").ends[end].writing = false;
                return;
            }
            self.send(id, 1 - end, Piece::Data(buffer[..filled].to_vec()));
        }
    }

    /// Queues a piece towards an end.
    fn send(&mut self, id: u64, end: usize, piece: Piece) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (from, to) = (connection.ends[1 - end].node, connection.ends[end].node);
        let now = self.now();
        let at = now + self.net.segment(now, from, to, RETRANSMIT);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let there = &mut connection.ends[end];
        let first = there.coming.is_empty();
        there.coming.push_back(piece);
        if first {
            self.queue.plan(at, Event::Arrive { id, end });
        }
    }

    /// Tells the machine at an end that its stream is broken.
    fn fail(&mut self, id: u64, end: usize) {
        let Some(node) = self.connections.get(&id).map(|connection| connection.ends[end].node) else { return };
        if self.nodes[node].paused {
            self.send(id, end, Piece::Reset);
            return;
        }
        self.input(id, end, |machine, now, stream| machine.stream(now, stream, StreamInput::Failed));
        self.close_end(id, end);
        self.forget_closed(id);
        self.drain(node);
    }

    /// Gives an input to the machine at an end, if it still is the one that knows the stream. The caller drains it.
    fn input(&mut self, id: u64, end: usize, input: impl FnOnce(&mut M, Instant, M::Stream) -> usize) -> usize {
        let Some(connection) = self.connections.get(&id) else { return 0 };
        let (node, life, stream) = (connection.ends[end].node, connection.ends[end].life, connection.ends[end].stream);
        let now = self.clock(node);
        let place = &mut self.nodes[node];
        let (Some(stream), Some(machine)) = (stream, &mut place.machine) else { return 0 };
        if place.life != life {
            return 0;
        }
        input(machine, now, stream)
    }

    fn close_end(&mut self, id: u64, end: usize) {
        if let Some(connection) = self.connections.get_mut(&id) {
            let here = &mut connection.ends[end];
            here.stream = None;
            here.waiting.clear();
        }
    }

    /// A connection that neither end knows any more is gone, once nothing travels on it.
    fn forget_closed(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        let ends = &connection.ends;
        let over = ends[0].stream.is_none() && ends[1].stream.is_none();
        if over && (connection.open || ends[1].coming.is_empty()) {
            self.connections.remove(&id);
        }
    }

    fn find(&self, node: usize, stream: M::Stream) -> Option<(u64, usize)> {
        let life = self.nodes[node].life;
        let is_it = |end: &End<M::Stream>| end.node == node && end.life == life && end.stream == Some(stream);
        self.connections
            .iter()
            .find_map(|(&id, connection)| connection.ends.iter().position(is_it).map(|end| (id, end)))
    }

    fn ends_of(&self, node: usize) -> impl Iterator<Item = (u64, usize)> + '_ {
        self.connections.iter().flat_map(move |(&id, connection)| {
            (0..2).filter(move |&end| connection.ends[end].node == node).map(move |end| (id, end))
        })
    }

    /// Adds to the fingerprint.
    fn note(&mut self, what: &impl Hash, data: &[u8]) {
        self.now().hash(&mut self.trace);
        what.hash(&mut self.trace);
        data.hash(&mut self.trace);
    }
}

/// The address of a node.
pub fn address(node: usize) -> SocketAddr {
    let [high, low] = u16::try_from(node + 1).expect("at most 65,534 nodes").to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, high, low)), PORT)
}

/// The node whose [`address`] it is.
pub fn numbered(to: SocketAddr) -> Option<usize> {
    let SocketAddr::V4(v4) = to else { return None };
    let [_, _, high, low] = v4.ip().octets();
    let node = usize::from(u16::from_be_bytes([high, low])).checked_sub(1)?;
    (node < usize::from(u16::MAX) && address(node) == to).then_some(node)
}

/// The seed of one of the run's generators: 0 is the network's, the others are the nodes' and the plan's.
pub fn seed_octets(seed: u64, of: u64) -> [u8; 32] {
    // SplitMix64 (Steele, Lea and Flood, 2014): neighbouring seeds must not give neighbouring generators.
    let mut state = seed ^ of.rotate_left(32);
    let mut octets = [0; 32];
    for word in octets.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    octets
}
