//! One gossip pool: membership and the serf layer above it, and nothing else.
//!
//! A pool knows nothing of services, checks, DNS or RPC. An agent holds one for the LAN; a server runs a second for
//! the WAN. Facts go in through `handle_*`, wishes through the commands, and all work comes out of
//! [`Pool::poll_output`]. The rules are spread over one file a topic:
//!
//! ```text
//! handle_datagram ─► receive ─► rules (alive, suspect, dead) ─► membership::*
//!                            └► serf (intents, events, queries, keys) ─► serf::*
//! handle_stream ──► stream ──► exchange (push/pull in: inflate, stage, commit; out: image)
//! handle_timeout ─► probe · spread (gossip, push/pull, reap, reconnect) · lifecycle (join, leave) · ask (queries)
//! poll_output ◄── transmit (packets, piggyback, encryption) · events
//! ```

mod ask;
mod exchange;
mod lifecycle;
mod memory;
mod probe;
mod receive;
mod rules;
mod serf;
mod spread;
mod stats;
mod stream;
#[cfg(test)]
mod tests;
mod transmit;
mod trouble;
mod view;

use core::net::{IpAddr, SocketAddr};

use heapless::Deque;

use crate::{
    agent::{self, CommandError, Outcome, Output, Port, Reason, Ticket},
    config::{ConfigError, PoolConfig},
    membership::{
        awareness::Awareness,
        broadcast::Broadcasts,
        keyring::Keyring,
        members::{MemberId, Members, Record, Room, State},
    },
    memory::{Mail, MailId, Pack},
    rand::Rng,
    serf::{
        clock::Clock,
        coordinate::Vivaldi,
        recent::Recent,
        seen::{Intents, Seen},
    },
    time::Instant,
    wire::{
        coordinate::Coordinate,
        crypt::{Key, Nonces},
        gossip,
        msgpack::Writer,
        serf::UserEvent,
        tags::{self, MAX_META},
    },
};

pub(crate) use memory::NOWHERE;
pub use memory::{DATAGRAM_MIN, DEFLATE, EVENT_TEXT_MIN, IMAGE_MIN, INFLATE_MIN, OUTBOX_MIN, PoolRegions, RelaySlot};
pub use stats::PoolStats;
pub use stream::StreamSlot;
pub use transmit::MAX_DATAGRAM;
pub use view::{Member, MemberChange, MemberEvent, MemberStatus};

/// Packets queued between two polls. The driver polls after every input, and one datagram asks for few.
const PACKETS: usize = 24;
/// Events queued between two polls; more are reported as lost ([`agent::Event::Lagged`]).
const EVENTS: usize = 24;

/// Something to tell the owner.
#[derive(Clone, Copy, Debug)]
enum Event {
    Member(MemberChange, MemberId),
    Answer { ticket: Ticket, from_len: u8, ack: bool, mail: MailId },
    Finished { ticket: Ticket, outcome: Outcome },
    Conflict { holder: MemberId, mail: MailId },
    OneWay(MemberId),
}

/// Work that waits for the next poll, joins that wait for their turn, and queries under way. Lent like all other memory: beside the pool
/// and not in it, it is not moved with it, and a device's stack need not hold it while the pool is made.
#[derive(Debug)]
pub struct Queues {
    packets: Deque<transmit::Packet, PACKETS>,
    events: Deque<Event, EVENTS>,
    joins: Deque<lifecycle::Join, { lifecycle::JOINS }>,
    questions: heapless::Vec<ask::Question, { ask::QUESTIONS }>,
}

impl Queues {
    /// Nothing waits.
    pub const EMPTY: Queues =
        Queues { packets: Deque::new(), events: Deque::new(), joins: Deque::new(), questions: heapless::Vec::new() };

    fn clear(&mut self) {
        self.packets.clear();
        self.events.clear();
        self.joins.clear();
        self.questions.clear();
    }
}

/// Membership and serf layer of one pool.
pub struct Pool<'m> {
    config: &'m PoolConfig<'m>,
    rng: Rng,
    nonces: Nonces,
    keyring: Keyring,
    members: Members<'m>,
    queue: Broadcasts<'m>,
    outbox: Pack<'m>,
    mail: Mail<'m>,
    queues: &'m mut Queues,
    lagged: bool,
    keys_changed: bool,
    /// Given up at the next poll, when nobody looks at it any more.
    delivered: Option<MailId>,
    reaped: Option<MemberId>,
    relays: &'m mut [RelaySlot],
    streams: &'m mut [StreamSlot],
    reading: exchange::Reading,
    inflate: &'m mut [u8],
    datagram: &'m mut [u8],
    stage: &'m mut [u8],
    image: &'m mut [u8],
    images: [exchange::Image; 2],
    #[cfg_attr(not(feature = "compress"), expect(dead_code, reason = "only compression uses it"))]
    deflate: &'m mut [u8],
    awareness: Awareness,
    probe: probe::Probe,
    spread: spread::Timers,
    join: lifecycle::Joins,
    leave: lifecycle::Leave,
    clock: Clock,
    event_clock: Clock,
    query_clock: Clock,
    events_seen: Seen<'m>,
    queries_seen: Seen<'m>,
    recent: Recent<'m>,
    intents: Intents<'m>,
    vivaldi: Vivaldi,
    /// Where members said they are, by slot; see [`Pool::keep_places`].
    places: &'m mut [Option<Coordinate>],
    /// Members in others' push/pulls: what a partial table knows of the cluster's size.
    told_size: usize,
    /// A push/pull of somebody who joins through us is being merged.
    introduces: bool,
    /// The member at this address is telling us its state, because we asked it in order to join.
    spoken_to: Option<SocketAddr>,
    conflict: Option<trouble::LastConflict>,
    last_seq: u32,
    last_ticket: u32,
    stats: PoolStats,
}

impl<'m> Pool<'m> {
    /// A pool with one member, ourselves.
    ///
    /// `seed` must be fresh entropy at every start; the same seed replays the same run.
    ///
    /// # Errors
    /// A setting or a memory region that cannot work, see [`ConfigError`].
    pub fn new(
        config: &'m PoolConfig<'m>,
        mem: PoolRegions<'m>,
        seed: &[u8; 32],
        now: Instant,
    ) -> Result<Self, ConfigError> {
        Pool::check(config, &mem)?;
        let pool = Pool::assemble(config, mem, seed, now);
        pool.check_image()?;
        Ok(pool)
    }

    /// What [`Pool::new`] refuses, apart from [`Pool::check_image`].
    pub(crate) fn check(config: &PoolConfig<'_>, mem: &PoolRegions<'_>) -> Result<(), ConfigError> {
        mem.check()?;
        if config.name.is_empty() || config.name.len() > gossip::MAX_NAME {
            return Err(ConfigError::Name);
        }
        if config.label.len() > transmit::MAX_LABEL {
            return Err(ConfigError::Label);
        }
        if config.advertise.ip().is_unspecified() || config.advertise.port() == 0 {
            return Err(ConfigError::Advertise);
        }
        Keyring::new(config.keys).ok_or(ConfigError::Keys)?;
        encode_tags(config.tags, &mut [0; MAX_META]).ok_or(ConfigError::Tags)?;
        Ok(())
    }

    /// Our own record must fit the image.
    pub(crate) fn check_image(&self) -> Result<(), ConfigError> {
        if self.image_len(true) == 0 { Err(ConfigError::Region("image")) } else { Ok(()) }
    }

    /// A pool of what [`Pool::check`] found right. Gives no `Result`, because one would be copied to its place.
    pub(crate) fn assemble(config: &'m PoolConfig<'m>, mem: PoolRegions<'m>, seed: &[u8; 32], now: Instant) -> Self {
        let keyring = Keyring::new(config.keys).unwrap_or_default();
        let mut rng = Rng::from_seed(seed);
        let mut members = Members::new(mem.members, mem.index, mem.text, &mut rng);
        let mut meta = [0; MAX_META];
        let meta = encode_tags(config.tags, &mut meta).unwrap_or_default();
        let vsn = [1, 5, 2, 2, 5, config.delegate_version];
        let record = Record { name: config.name, address: config.advertise, meta, vsn };
        let own = members
            .insert(&record, Room::Gone, now, &mut rng)
            .expect("the smallest text region holds the largest record");
        debug_assert_eq!(own, MemberId::SELF);
        members.set_state(own, State::Alive, now);
        let slot = members.get_mut(own);
        slot.incarnation = 1;
        slot.set_status(MemberStatus::Alive);
        let half = mem.seen.len() / 2;
        let (events_seen, queries_seen) = mem.seen.split_at_mut(half);
        let (event_clock, query_clock) = (Clock::after(config.clocks.event), Clock::after(config.clocks.query));
        mem.queues.clear();
        mem.relays.fill(RelaySlot::EMPTY);
        mem.streams.fill(StreamSlot::EMPTY);
        let probe = probe::Probe::new(now + rng.up_to(config.timing.probe_interval));
        let spread = spread::Timers::new(&config.timing, now, &mut rng);
        let mut pool = Pool {
            config,
            nonces: Nonces::new(seed),
            keyring,
            members,
            queue: Broadcasts::new(mem.broadcasts),
            outbox: Pack::new(mem.outbox),
            mail: Mail::new(mem.mail),
            queues: mem.queues,
            lagged: false,
            keys_changed: false,
            delivered: None,
            reaped: None,
            relays: mem.relays,
            streams: mem.streams,
            reading: exchange::Reading::IDLE,
            inflate: mem.inflate,
            datagram: mem.datagram,
            stage: mem.stage,
            image: mem.image,
            images: [exchange::Image::NONE; 2],
            deflate: mem.deflate,
            awareness: Awareness::new(config.timing.awareness_max),
            probe,
            spread,
            join: lifecycle::Joins::new(now),
            leave: lifecycle::Leave::No,
            clock: Clock::after(config.clocks.member),
            event_clock,
            query_clock,
            // From the clocks, which do not believe every time that a damaged file names.
            events_seen: Seen::new(events_seen, event_clock.time() - 1),
            queries_seen: Seen::new(queries_seen, query_clock.time() - 1),
            recent: Recent::new(mem.events, mem.event_text),
            intents: Intents::new(mem.intents),
            vivaldi: Vivaldi::new(),
            places: &mut [],
            told_size: 0,
            introduces: false,
            spoken_to: None,
            conflict: None,
            last_seq: 0,
            last_ticket: 0,
            stats: PoolStats::default(),
            rng,
        };
        pool.build_image(true);
        pool.announce_self();
        pool
    }

    /// Does what is due at `now`. Calling it early or often does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.on_lateness(now);
        self.on_probe_time(now);
        self.on_suspicion_time(now);
        self.on_spread_time(now);
        self.on_stream_time(now);
        self.on_join_time(now);
        self.on_leave_time(now);
        self.on_query_time(now);
    }

    /// Takes a datagram from the gossip port; `data` is decrypted in place.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, data: &mut [u8]) {
        self.receive(now, from, data);
    }

    /// An address look-up is done; no addresses means that there are none.
    pub fn handle_resolved(&mut self, now: Instant, ticket: Ticket, addresses: &[IpAddr]) {
        self.on_resolved(now, ticket, addresses);
    }

    /// The next piece of work; never `RunCheck`. `buf` needs [`MAX_DATAGRAM`] octets. Call until it says `Wait`.
    #[inline(never)] // its stack frame is not for those who never get here
    pub fn poll_output(&mut self, buf: &mut [u8]) -> Output<'_> {
        if let Some(mail) = self.delivered.take() {
            self.mail.free(mail);
        }
        if let Some(member) = self.reaped.take() {
            self.forget(member);
        }
        if let Some((to, len)) = self.next_packet(buf) {
            return Output::Transmit { port: Port::Gossip, to, len };
        }
        if let Some(wish) = self.next_stream_wish() {
            return wish.output(self);
        }
        if let Some(ticket) = self.next_look_up() {
            return Output::Resolve { ticket, name: self.seed_host(ticket) };
        }
        if let Some(event) = self.queues.events.pop_front() {
            return self.deliver(event);
        }
        if let Some(at) = self.recent.next() {
            let UserEvent { ltime, name, payload, .. } = self.recent.get(at);
            return Output::Event(agent::Event::User { ltime, name, payload });
        }
        if core::mem::take(&mut self.keys_changed) {
            return Output::Event(agent::Event::Keys);
        }
        if core::mem::take(&mut self.lagged) {
            return Output::Event(agent::Event::Lagged);
        }
        let (until, why) = self.next_deadline();
        Output::Wait { until, why }
    }

    /// All members in any status, ourselves first.
    pub fn members(&self) -> impl Iterator<Item = Member<'_>> {
        self.members.ids().map(|id| self.members.view(id))
    }

    /// The member called `name`.
    pub fn member(&self, name: &str) -> Option<Member<'_>> {
        self.members.find(name).map(|id| self.members.view(id))
    }

    /// Ourselves.
    pub fn local(&self) -> Member<'_> {
        self.members.view(MemberId::SELF)
    }

    /// Our network coordinate.
    pub fn coordinate(&self) -> &Coordinate {
        self.vivaldi.place()
    }

    /// Keeps where the members are, as their acks say, for [`Pool::place`]: what a WAN pool sorts datacenters by. Members
    /// whose slot is beyond the end of `places` have no place.
    pub fn keep_places(&mut self, places: &'m mut [Option<Coordinate>]) {
        places.fill(None);
        self.places = places;
    }

    /// Where the member called `name` said last that it is; ours is [`Pool::coordinate`].
    pub fn place(&self, name: &str) -> Option<&Coordinate> {
        self.places.get(usize::from(self.members.find(name)?.0))?.as_ref()
    }

    /// Members of the cluster, as far as we know: our records, or what others' push/pulls said when our table is partial.
    pub fn size(&self) -> usize {
        self.members.len().max(self.told_size)
    }

    /// Lifeguard's score of our own health, 0 is well.
    pub fn health_score(&self) -> u8 {
        self.awareness.score()
    }

    /// Lamport times of the member, event and query clocks.
    pub fn clocks(&self) -> (u64, u64, u64) {
        (self.clock.time(), self.event_clock.time(), self.query_clock.time())
    }

    /// Messages queued for gossip.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The gossip keys, the primary first. Empty: no encryption.
    pub fn keys(&self) -> &[Key] {
        self.keyring.keys()
    }

    /// True when gossip is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.keyring.primary().is_some()
    }

    /// Counters.
    pub fn stats(&self) -> PoolStats {
        PoolStats {
            members_evicted: self.members.evicted,
            members_refused: self.members.refused,
            broadcasts_dropped: self.queue.dropped,
            events_dropped: self.recent.dropped,
            coordinates_refused: self.vivaldi.refused,
            ..self.stats
        }
    }

    fn deliver(&mut self, event: Event) -> Output<'_> {
        Output::Event(match event {
            Event::Member(change, id) => {
                if change == MemberChange::Reaped {
                    self.reaped = Some(id);
                }
                agent::Event::Member(MemberEvent { change, member: self.members.view(id) })
            }
            Event::Answer { ticket, from_len, ack, mail } => {
                self.delivered = Some(mail);
                let (from, payload) = self.mail.get(mail).split_at(from_len.into());
                let from = core::str::from_utf8(from).unwrap_or("");
                agent::Event::Answer { ticket, from, payload: (!ack).then_some(payload) }
            }
            Event::Finished { ticket, outcome } => agent::Event::Finished { ticket, outcome },
            Event::Conflict { holder, mail } => {
                self.delivered = Some(mail);
                self.conflict(holder, mail)
            }
            Event::OneWay(id) => agent::Event::Trouble(agent::Trouble::OneWay { member: self.members.view(id) }),
        })
    }

    fn tell(&mut self, event: Event) {
        if let Err(event) = self.queues.events.push_back(event) {
            self.lagged = true;
            match event {
                Event::Member(MemberChange::Reaped, id) => self.forget(id),
                Event::Answer { mail, .. } | Event::Conflict { mail, .. } => self.mail.free(mail),
                Event::Member(..) | Event::Finished { .. } | Event::OneWay(_) => {}
            }
        }
    }

    fn next_deadline(&self) -> (Option<Instant>, Reason) {
        let all = [
            self.probe_deadline().map(|at| (at, Reason::Probe)),
            self.gossip_deadline().map(|at| (at, Reason::Gossip)),
            self.suspicion_deadline().map(|at| (at, Reason::Suspicion)),
            self.stream_deadline().map(|at| (at, Reason::Stream)),
            self.push_pull_deadline().map(|at| (at, Reason::Stream)),
            self.reap_deadline().map(|at| (at, Reason::Reap)),
            self.join_deadline().map(|at| (at, Reason::Join)),
            self.query_deadline().map(|at| (at, Reason::Query)),
        ];
        Reason::earliest(&all).map_or((None, Reason::Idle), |(at, why)| (Some(at), why))
    }

    fn next_seq(&mut self) -> u32 {
        self.last_seq = self.last_seq.wrapping_add(1);
        self.last_seq
    }

    /// Tickets of a pool have the highest bit clear, so that an agent can have its own beside them.
    fn next_ticket(&mut self) -> Ticket {
        self.last_ticket = (self.last_ticket + 1) & 0x7fff_ffff;
        Ticket(self.last_ticket)
    }
}

impl core::fmt::Debug for Pool<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pool").field("name", &self.config.name).field("members", &self.members.len()).finish()
    }
}

/// The encoded tags, or `None` when they are too long.
fn encode_tags<'b>(list: &[(&str, &str)], out: &'b mut [u8; MAX_META]) -> Option<&'b [u8]> {
    let mut writer = Writer::new(out);
    tags::emit(&mut writer, list);
    let len = writer.finish()?;
    Some(&out[..len])
}

/// A command's error when its memory is full.
fn full(region: &'static str) -> CommandError {
    CommandError::Full(region)
}
