//! Memory for machines, in boxes. The machine borrows it, so keep the heap beside it in the same task.

use agent_core::{
    agent::{ConnectionSlot, Regions},
    local::{CheckSlot, LocalRegions, ServiceSlot},
    membership::{BroadcastSlot, MemberSlot},
    pool::{DATAGRAM_MIN, DEFLATE, INFLATE_MIN, PoolRegions, Queues, RelaySlot, StreamSlot},
    serf::{EventSlot, IntentSlot, SeenSlot},
};

/// How much of everything a pool may hold.
#[derive(Clone, Copy, Debug)]
pub struct PoolSizes {
    /// Known members, 2 to 65,534.
    pub members: usize,
    /// Streams open at once.
    pub streams: usize,
}

impl Default for PoolSizes {
    /// 8,192 members: beyond what one Consul datacenter is run with; about 10 MB.
    fn default() -> Self {
        PoolSizes { members: 8192, streams: 256 }
    }
}

/// Octets of name and tags per member: a server's have about 300.
const TEXT_PER_MEMBER: usize = 320;
/// Octets of a member in a push/pull: the text and the fields' names.
const IMAGE_PER_MEMBER: usize = 640;
/// Queued broadcasts; each leaves after a few rounds.
const BROADCASTS: usize = 4096;
/// Octets of each of them, on average.
const OCTETS_PER_BROADCAST: usize = 512;
/// What Consul remembers of events and queries: twice 512.
const SEEN: usize = 1024;
/// Recent events, as many as serf remembers Lamport times.
const EVENTS: usize = 512;
/// Octets of each of them: serf's limit, unless told otherwise.
const OCTETS_PER_EVENT: usize = 512;

/// The memory of one pool.
pub struct PoolHeap {
    members: Box<[MemberSlot]>,
    index: Box<[u16]>,
    text: Box<[u8]>,
    broadcasts: Box<[BroadcastSlot]>,
    outbox: Box<[u8]>,
    mail: Box<[u8]>,
    queues: Box<Queues>,
    relays: Box<[RelaySlot]>,
    seen: Box<[SeenSlot]>,
    events: Box<[EventSlot]>,
    event_text: Box<[u8]>,
    intents: Box<[IntentSlot]>,
    streams: Box<[StreamSlot]>,
    inflate: Box<[u8]>,
    datagram: Box<[u8]>,
    stage: Box<[u8]>,
    image: Box<[u8]>,
    deflate: Box<[u8]>,
}

impl PoolHeap {
    /// Memory for `sizes`, all of it taken now.
    pub fn new(sizes: PoolSizes) -> Self {
        let members = sizes.members.clamp(2, usize::from(u16::MAX) - 1);
        PoolHeap {
            members: slots(members, MemberSlot::EMPTY),
            index: slots((2 * members).next_power_of_two(), 0),
            text: slots((members * TEXT_PER_MEMBER).max(1024), 0),
            broadcasts: slots(BROADCASTS, BroadcastSlot::EMPTY),
            outbox: slots(BROADCASTS * OCTETS_PER_BROADCAST, 0),
            mail: slots(256 * 1024, 0),
            queues: Box::new(Queues::EMPTY),
            relays: slots(256, RelaySlot::EMPTY),
            seen: slots(SEEN, SeenSlot::EMPTY),
            events: slots(EVENTS, EventSlot::EMPTY),
            event_text: slots(EVENTS * OCTETS_PER_EVENT, 0),
            intents: slots(256, IntentSlot::EMPTY),
            streams: slots(sizes.streams.clamp(1, usize::from(u16::MAX) - 1), StreamSlot::EMPTY),
            inflate: slots(INFLATE_MIN.max(64 * 1024), 0),
            datagram: slots(DATAGRAM_MIN.max(64 * 1024), 0),
            stage: slots((members * IMAGE_PER_MEMBER).max(16 * 1024), 0),
            image: slots((2 * members * IMAGE_PER_MEMBER).max(16 * 1024), 0),
            deflate: slots(DEFLATE, 0),
        }
    }

    /// Lends all of it.
    pub fn regions(&mut self) -> PoolRegions<'_> {
        PoolRegions {
            members: &mut self.members,
            index: &mut self.index,
            text: &mut self.text,
            broadcasts: &mut self.broadcasts,
            outbox: &mut self.outbox,
            mail: &mut self.mail,
            queues: &mut self.queues,
            relays: &mut self.relays,
            seen: &mut self.seen,
            events: &mut self.events,
            event_text: &mut self.event_text,
            intents: &mut self.intents,
            streams: &mut self.streams,
            inflate: &mut self.inflate,
            datagram: &mut self.datagram,
            stage: &mut self.stage,
            image: &mut self.image,
            deflate: &mut self.deflate,
        }
    }
}

/// Services one agent may register.
const SERVICES: usize = 1024;
/// Checks one agent may register.
const CHECKS: usize = 2048;
/// Records and outputs: 4 KiB of output for each check is a quarter of this.
const LOCAL_TEXT: usize = 32 << 20;
/// Own calls and checks under way at once.
const CONNECTIONS: usize = 64;
/// The longest own call: a service with all its checks.
const REQUEST: usize = 64 * 1024;

/// The memory of an agent. Its DNS port is served by [`crate::dns`], so it has no slots for queries.
pub struct AgentHeap {
    pool: PoolHeap,
    services: Box<[ServiceSlot]>,
    checks: Box<[CheckSlot]>,
    text: Box<[u8]>,
    connections: Box<[ConnectionSlot]>,
    request: Box<[u8]>,
}

impl AgentHeap {
    /// Memory for an agent whose pool has `sizes`.
    pub fn new(sizes: PoolSizes) -> Self {
        AgentHeap {
            pool: PoolHeap::new(sizes),
            services: slots(SERVICES, ServiceSlot::EMPTY),
            checks: slots(CHECKS, CheckSlot::EMPTY),
            text: slots(LOCAL_TEXT, 0),
            connections: slots(CONNECTIONS, ConnectionSlot::EMPTY),
            request: slots(REQUEST, 0),
        }
    }

    /// Lends all of it.
    pub fn regions(&mut self) -> Regions<'_> {
        Regions {
            pool: self.pool.regions(),
            local: LocalRegions { services: &mut self.services, checks: &mut self.checks, text: &mut self.text },
            connections: &mut self.connections,
            request: &mut self.request,
            queries: &mut [],
            look_ups: &mut [],
        }
    }
}

fn slots<T: Clone>(len: usize, empty: T) -> Box<[T]> {
    vec![empty; len].into_boxed_slice()
}
