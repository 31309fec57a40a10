//! The core's gossip pool as a machine of the simulation.

use std::net::{IpAddr, SocketAddr};

use agent_core::{
    agent::{Event as Told, Outcome, Output, StreamId, StreamInput, Target, Ticket},
    config::PoolConfig,
    membership::{BroadcastSlot, MemberSlot},
    pool::{
        DATAGRAM_MIN, DEFLATE, EVENT_TEXT_MIN, IMAGE_MIN, INFLATE_MIN, MAX_DATAGRAM, MemberChange, MemberStatus, Pool,
        PoolRegions, Queues, RelaySlot, StreamSlot,
    },
    serf::{EventSlot, IntentSlot, SeenSlot},
    time::Instant,
    wire::push_pull::Clocks,
};
use bumpalo::Bump;

use super::model::{Machine, Work, address, seed_octets};

/// A pool that lends its memory from an arena, because a machine that is started again needs new memory.
#[derive(Debug)]
pub struct Member<'m>(pub Pool<'m>);

/// What a pool tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A member changed.
    Member {
        /// What happened.
        change: MemberChange,
        /// Whose number it is in the world.
        member: usize,
        /// Its incarnation.
        incarnation: u32,
        /// Its status now.
        status: MemberStatus,
    },
    /// A member changed whom nobody in the world has started: it came out of hostile bytes.
    Stranger,
    /// A join is over.
    Joined(bool),
    /// A leave is over: the process may end.
    Left,
    /// A user event's name.
    User(String),
    /// Something is wrong, and what to do.
    Trouble(String),
    /// More happened at once than can be told, as in a push/pull with a large cluster.
    Lagged,
}

/// How much memory a member has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// A table for so many members, and everything else in proportion, as on a server.
    Full(usize),
    /// The memory of the smallest board: a partial view of 16 members (`boards/lm3s6965evb`).
    Device,
}

/// What a member is started with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its memory.
    pub size: Size,
    /// Where it is; `None`: at [`address`] of its number.
    pub at: Option<SocketAddr>,
    /// Lamport times kept from its last life.
    pub clocks: Clocks,
    /// Names or addresses that it joins by itself.
    pub seeds: Vec<String>,
    /// Its pings tell its address. `false` where addresses are translated on the way.
    pub tells_address: bool,
}

impl Setup {
    /// A member without a past.
    pub const fn new(size: Size) -> Self {
        let clocks = Clocks { member: 0, event: 0, query: 0 };
        Setup { size, at: None, clocks, seeds: Vec::new(), tells_address: true }
    }
}

impl<'m> Member<'m> {
    /// The pool of `node` in its `life`, with room for `members`. Odd nodes compress what they send.
    ///
    /// # Panics
    ///
    /// When the pool refuses the memory or the settings, which are the same for all.
    pub fn new(bump: &'m Bump, node: usize, life: u32, members: usize, seed: u64, now: Instant) -> Self {
        Member::with(bump, node, life, &Setup::new(Size::Full(members)), seed, now)
    }

    /// The pool of `node` in its `life`.
    ///
    /// # Panics
    ///
    /// As above.
    pub fn with(bump: &'m Bump, node: usize, life: u32, setup: &Setup, seed: u64, now: Instant) -> Self {
        let name = bump.alloc_str(&name(node));
        let id = bump.alloc_str(&format!("00000000-0000-0000-0000-{node:012}"));
        let role = if node < SERVERS { "consul" } else { "node" };
        let tags = bump.alloc([("role", role), ("dc", "dc1"), ("id", &*id)]);
        let seeds = bump.alloc_slice_fill_iter(setup.seeds.iter().map(|seed| &*bump.alloc_str(seed)));
        let config = bump.alloc(PoolConfig {
            seeds,
            clocks: setup.clocks,
            advertise_in_pings: setup.tells_address,
            ..PoolConfig::lan(name, setup.at.unwrap_or_else(|| address(node)), tags)
        });
        let seed = seed_octets(seed, (u64::from(life) << 32) + node as u64 + 1);
        let regions = match setup.size {
            Size::Full(members) => regions(bump, members, node % 2 == 1),
            Size::Device => device(bump),
        };
        Member(Pool::new(config, regions, &seed, now).expect("sizes are as the regions' documentation asks"))
    }
}

/// The first nodes have the tags of servers.
pub const SERVERS: usize = 3;

/// Regions as `lictor_memory!` makes them for the smallest board.
fn device(bump: &Bump) -> PoolRegions<'_> {
    const MEMBERS: usize = 16;
    let octets = |count: usize| bump.alloc_slice_fill_copy(count, 0u8);
    PoolRegions {
        members: bump.alloc_slice_fill_copy(MEMBERS, MemberSlot::EMPTY),
        index: bump.alloc_slice_fill_copy(2 * MEMBERS, 0),
        text: octets(192 * MEMBERS),
        broadcasts: bump.alloc_slice_fill_copy(16, BroadcastSlot::EMPTY),
        outbox: octets(1024),
        mail: octets(512),
        queues: bump.alloc(Queues::EMPTY),
        relays: bump.alloc_slice_fill_copy(2, RelaySlot::EMPTY),
        seen: bump.alloc_slice_fill_copy(16, SeenSlot::EMPTY),
        events: bump.alloc_slice_fill_copy(8, EventSlot::EMPTY),
        event_text: octets(EVENT_TEXT_MIN),
        intents: bump.alloc_slice_fill_copy(8, IntentSlot::EMPTY),
        streams: bump.alloc_slice_fill_with(3, |_| StreamSlot::EMPTY),
        inflate: octets(INFLATE_MIN),
        datagram: octets(DATAGRAM_MIN),
        stage: octets(1024),
        image: octets(IMAGE_MIN),
        deflate: &mut [],
    }
}

/// The name of a node.
pub fn name(node: usize) -> String {
    format!("node-{node}")
}

/// The node of a name.
pub fn node(name: &str) -> Option<usize> {
    name.strip_prefix("node-")?.parse().ok()
}

/// What is queued for gossip at once is little beside the cluster: real queues are drained within seconds.
const MOST: usize = 256 * 1024;

fn regions(bump: &Bump, members: usize, compress: bool) -> PoolRegions<'_> {
    let octets = |count: usize| bump.alloc_slice_fill_copy(count.max(2048), 0u8);
    PoolRegions {
        members: bump.alloc_slice_fill_copy(members, MemberSlot::EMPTY),
        index: bump.alloc_slice_fill_copy((2 * members).next_power_of_two(), 0),
        text: octets(members * 128),
        broadcasts: bump.alloc_slice_fill_copy(2 * members, BroadcastSlot::EMPTY),
        outbox: octets((members * 256).min(MOST)),
        mail: octets(4096),
        queues: bump.alloc(Queues::EMPTY),
        relays: bump.alloc_slice_fill_copy(16, RelaySlot::EMPTY),
        seen: bump.alloc_slice_fill_copy(64, SeenSlot::EMPTY),
        events: bump.alloc_slice_fill_copy(64, EventSlot::EMPTY),
        event_text: octets(4096),
        intents: bump.alloc_slice_fill_copy(members, IntentSlot::EMPTY),
        streams: bump.alloc_slice_fill_with(16, |_| StreamSlot::EMPTY),
        inflate: octets(INFLATE_MIN),
        datagram: octets(DATAGRAM_MIN),
        stage: octets(members * 256),
        image: octets(members * 512),
        deflate: if compress { octets(DEFLATE) } else { &mut [] },
    }
}

impl Machine for Member<'_> {
    type Stream = StreamId;
    type Event = Event;

    fn timeout(&mut self, now: Instant) {
        self.0.handle_timeout(now);
    }

    fn datagram(&mut self, now: Instant, from: SocketAddr, data: &mut [u8]) {
        self.0.handle_datagram(now, from, data);
    }

    fn accept(&mut self, now: Instant, from: SocketAddr) -> Option<StreamId> {
        self.0.handle_accept(now, from)
    }

    fn stream(&mut self, now: Instant, id: StreamId, input: StreamInput<'_>) -> usize {
        self.0.handle_stream(now, id, input)
    }

    fn fill(&mut self, now: Instant, id: StreamId, out: &mut [u8]) -> usize {
        self.0.fill_stream(now, id, out)
    }

    fn resolved(&mut self, now: Instant, ticket: Ticket, addresses: &[IpAddr]) {
        self.0.handle_resolved(now, ticket, addresses);
    }

    fn poll(&mut self) -> Work<Self> {
        let mut buffer = [0; MAX_DATAGRAM];
        match self.0.poll_output(&mut buffer) {
            Output::Transmit { to, len, .. } => Work::Transmit(to, buffer[..len].to_vec()),
            Output::Connect { id, to: Target::Address(to), timeout, .. } => Work::Connect(id, to, timeout),
            Output::Resolve { ticket, name } => Work::Resolve(ticket, name.into()),
            Output::Connect { .. } | Output::RunCheck { .. } => {
                panic!("a pool connects to addresses, and has no checks")
            }
            Output::Writable { id } => Work::Writable(id),
            Output::Resume { id } => Work::Resume(id),
            Output::Close { id } => Work::Close(id),
            Output::Event(Told::Member(event)) => Work::Event(match node(event.member.name) {
                Some(member) => Event::Member {
                    change: event.change,
                    member,
                    incarnation: event.member.incarnation,
                    status: event.member.status,
                },
                None => Event::Stranger,
            }),
            Output::Event(Told::User { name, .. }) => Work::Event(Event::User(name.into())),
            Output::Event(Told::Finished { outcome: Outcome::Joined(count), .. }) => {
                Work::Event(Event::Joined(count > 0))
            }
            Output::Event(Told::Finished { outcome: Outcome::Failed(_), .. }) => Work::Event(Event::Joined(false)),
            Output::Event(Told::Finished { outcome: Outcome::Ok, .. }) => Work::Event(Event::Left),
            Output::Event(Told::Trouble(trouble)) => Work::Event(Event::Trouble(trouble.to_string())),
            Output::Event(Told::Lagged | Told::Local | Told::Keys | Told::Answer { .. }) => Work::Event(Event::Lagged),
            Output::Wait { until, .. } => Work::Wait(until),
        }
    }
}
