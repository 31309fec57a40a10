//! The one door of an agent: bytes, time and commands in, work out.
//!
//! [`Agent`] dispatches and holds no protocol rules of its own. Gossip is [`Pool`]'s, services and checks are
//! [`crate::local`]'s and [`crate::checks`]', calls are [`crate::rpc`]'s, names are [`crate::dns`]'.
//!
//! ```text
//! handle_timeout · handle_datagram · handle_accept · handle_stream · fill_stream · handle_resolved · handle_check · command
//!        └────────► Pool (by StreamId, Port, Ticket)     └────────► streams ─► session (RPC), checks
//! poll_output ◄──── wishes of streams · checks for the host · answers to names · events · the pool's work · Wait
//! ```

mod input;
mod memory;
mod names;
mod output;
mod streams;
#[cfg(test)]
mod tests;
mod timers;

use core::{
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr},
};

pub(crate) use input::Owner;
pub use input::{CheckId, Command, CommandError, Port, StreamId, StreamInput, Ticket};
pub use memory::{REQUEST_MIN, Regions};
#[doc(hidden)]
pub use memory::{at_least, given};
pub use names::{LookUpSlot, QuerySlot};
pub use output::{Event, HostCheck, Outcome, Output, Purpose, Reason, Target, Trouble};
pub use streams::ConnectionSlot;

use crate::{
    checks::{
        Health, host,
        http::{self, HTTP, Url},
        schedule::{self, Work},
        tcp, ttl,
    },
    config::{Config, ConfigError},
    local::{
        Job, Local,
        sync::{Identity, Sync},
    },
    pool::{Member, MemberChange, Pool, PoolStats},
    rand::Rng,
    rpc::{Arrival, Servers, Session, Task, rpc_address},
    serf::coordinate::COORDINATES,
    time::{Duration, Instant},
    wire::{
        msgpack::Writer,
        rpc::{Method, request},
    },
};
use names::Names;
use streams::{Streams, Usage, Wish};

/// Tickets of our own begin here; the pool counts from 1.
const OWN_TICKETS: u32 = 1 << 31;
/// 1 s: without a server or a free exchange the next call is tried after this.
const NO_SERVER: Duration = Duration::from_secs(1);
/// 15 s, plus up to as much again: time between coordinate updates of a small cluster.
const COORDINATE: Duration = Duration::from_secs(15);
/// 64 updates a second are what the servers of a large one get.
const COORDINATES_PER_SECOND: u64 = 64;

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Gossip.
    pub pool: PoolStats,
    /// Calls to servers that were answered.
    pub calls: u32,
    /// Calls that were not.
    pub calls_failed: u32,
    /// Runs of checks put off because every exchange was taken.
    pub checks_postponed: u32,
    /// DNS queries dropped because every slot was taken.
    pub queries_dropped: u32,
}

/// One agent: one LAN pool, local services and checks, DNS, own RPC. Owns no socket, no clock and no heap; borrows what
/// grows with the cluster.
pub struct Agent<'m> {
    config: &'m Config<'m>,
    pool: Pool<'m>,
    local: Local<'m>,
    sync: Sync,
    servers: Servers,
    session: Session<'m>,
    streams: Streams<'m>,
    names: Names<'m>,
    rng: Rng,
    /// The latest time that came in.
    now: Instant,
    coordinate_due: Instant,
    /// No call is begun before this: there was nobody to call.
    call_after: Instant,
    last_ticket: u32,
    stats: Stats,
}

/// Work of our own to give out, before it borrows anything.
enum Own {
    Answer(SocketAddr, usize),
    Stream(u16, Wish),
    Ask(u16),
    Changed,
}

impl<'m> Agent<'m> {
    /// An agent that knows nobody yet. `seed`: fresh entropy at every start; the same seed replays the same run.
    ///
    /// # Errors
    /// A setting or a memory region that cannot work.
    pub fn new(config: &'m Config<'m>, mem: Regions<'m>, seed: [u8; 32], now: Instant) -> Result<Self, ConfigError> {
        Agent::check(config, &mem)?;
        let agent = Agent::assemble(config, mem, seed, now);
        agent.pool.check_image()?;
        Ok(agent)
    }

    /// Like [`Agent::new`], but makes the agent where it is to stay: it has some 3 KB, which a small stack need not carry.
    ///
    /// # Errors
    /// As [`Agent::new`].
    pub fn new_in<'p>(
        place: &'p mut MaybeUninit<Self>,
        config: &'m Config<'m>,
        mem: Regions<'m>,
        seed: [u8; 32],
        now: Instant,
    ) -> Result<&'p mut Self, ConfigError> {
        Agent::check(config, &mem)?;
        let agent = place.write(Agent::assemble(config, mem, seed, now));
        agent.pool.check_image()?;
        Ok(agent)
    }

    fn check(config: &Config<'_>, mem: &Regions<'_>) -> Result<(), ConfigError> {
        mem.check()?;
        if config.datacenter.is_empty() {
            return Err(ConfigError::Setting("datacenter missing"));
        }
        if record_limit(config, mem.request) < 256 {
            return Err(ConfigError::Region("request"));
        }
        Pool::check(&config.pool, &mem.pool)
    }

    /// An agent of what [`Agent::check`] found right.
    fn assemble(config: &'m Config<'m>, mem: Regions<'m>, seed: [u8; 32], now: Instant) -> Self {
        let Regions { pool, local, connections, request, queries, look_ups } = mem;
        connections.fill(ConnectionSlot::EMPTY);
        queries.fill(QuerySlot::EMPTY);
        look_ups.fill(LookUpSlot::EMPTY);
        let mut own_seed = seed;
        // Another sequence than the pool's, from the same entropy.
        own_seed.iter_mut().for_each(|octet| *octet ^= 0x5a);
        let mut rng = Rng::from_seed(&own_seed);
        let record_limit = record_limit(config, request);
        Agent {
            pool: Pool::assemble(&config.pool, pool, &seed, now),
            local: Local::new(local, record_limit, config.check_update_interval),
            sync: Sync::new(now),
            servers: Servers::new(now, &mut rng),
            session: Session::new(request),
            streams: Streams::new(connections),
            names: Names::new(queries, look_ups),
            now,
            coordinate_due: now + COORDINATE + rng.up_to(COORDINATE),
            call_after: now,
            last_ticket: 0,
            stats: Stats::default(),
            config,
            rng,
        }
    }

    /// Does what is due at `now`. Calling it early or often does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.pool.handle_timeout(now);
        self.settle(now);
    }

    /// Takes a datagram; gossip is decrypted in place. Bad ones are counted.
    pub fn handle_datagram(&mut self, now: Instant, port: Port, from: SocketAddr, data: &mut [u8]) {
        match port {
            Port::Gossip => self.pool.handle_datagram(now, from, data),
            Port::Dns => self.names.take(now, from, data),
        }
        self.settle(now);
    }

    /// Somebody connected. `None`: close it.
    pub fn handle_accept(&mut self, now: Instant, port: Port, from: SocketAddr) -> Option<StreamId> {
        self.now = now;
        match port {
            Port::Gossip => self.pool.handle_accept(now, from),
            // DNS over TCP is for answers longer than ours ever are.
            Port::Dns => None,
        }
    }

    /// Takes what happened on a stream; returns the octets taken. Fewer than offered: offer the rest after `Resume`.
    pub fn handle_stream(&mut self, now: Instant, id: StreamId, input: StreamInput<'_>) -> usize {
        if id.owner == Owner::Pool {
            let taken = self.pool.handle_stream(now, id, input);
            self.settle(now);
            return taken;
        }
        if let Some(slot) = self.streams.find(id) {
            match self.streams.get(slot).map(|entry| entry.usage) {
                Some(Usage::Rpc) => self.on_rpc_input(now, slot, input),
                Some(Usage::Check) => self.on_check_input(now, slot, input),
                Some(Usage::Free | Usage::Closing) | None => {}
            }
        }
        self.settle(now);
        match input {
            StreamInput::Data(data) => data.len(),
            StreamInput::Open | StreamInput::Eof | StreamInput::Failed => 0,
        }
    }

    /// Writes octets to be sent on a stream; returns their number, 0 when there are none.
    pub fn fill_stream(&mut self, now: Instant, id: StreamId, out: &mut [u8]) -> usize {
        if id.owner == Owner::Pool {
            let filled = self.pool.fill_stream(now, id, out);
            self.settle(now);
            return filled;
        }
        let Some(slot) = self.streams.find(id) else { return 0 };
        let Some(entry) = self.streams.get_mut(slot) else { return 0 };
        match entry.usage {
            Usage::Rpc => self.session.fill(out),
            Usage::Check => match self.local.check_at(entry.index.into()).map(|check| check.job()) {
                Some(Job::Http(job)) if HTTP => {
                    let filled = http::fill(&job, entry.sent as usize, out);
                    entry.sent += filled as u32;
                    filled
                }
                _ => 0,
            },
            Usage::Free | Usage::Closing => 0,
        }
    }

    /// An address look-up is done; no addresses means that there are none.
    pub fn handle_resolved(&mut self, now: Instant, ticket: Ticket, addresses: &[IpAddr]) {
        self.pool.handle_resolved(now, ticket, addresses);
        self.settle(now);
    }

    /// The host reports on a check that it ran, or on one that never runs by itself.
    pub fn handle_check(&mut self, now: Instant, id: CheckId, health: Health, output: &str) {
        let index = usize::from(id.slot);
        if self.local.live_check(index).is_some_and(|slot| slot.generation == id.generation) {
            host::report(now, &mut self.rng, &mut self.local, index, health, output);
        }
        self.settle(now);
    }

    /// Does what the owner wants. Wishes that need others are answered by [`Event::Finished`] later; those about services
    /// and checks are done when this returns.
    ///
    /// # Errors
    /// See [`CommandError`]; nothing was changed.
    pub fn command(&mut self, now: Instant, command: Command<'_>) -> Result<Ticket, CommandError> {
        let rng = &mut self.rng;
        // The pool numbers what it will report on; what is done at once is numbered here.
        let done = match command {
            Command::Join { seed, ignore_old } => self.pool.join(now, seed, ignore_old).map(Some),
            Command::Leave => self.pool.leave(now).map(Some),
            Command::ForceLeave { node, prune } => self.pool.force_leave(now, node, prune).map(Some),
            Command::SetTags(tags) => self.pool.set_tags(now, tags).map(Some),
            Command::UserEvent { name, payload, coalesce } => {
                self.pool.user_event(now, name, payload, coalesce).map(Some)
            }
            Command::Query { name, payload, ack, relay_factor } => {
                self.pool.query(now, name, payload, ack, relay_factor).map(Some)
            }
            Command::Register(def) => self.local.register(now, rng, def).map(|()| None),
            Command::Deregister { id } => self.local.deregister(id).map(|()| None),
            Command::RegisterCheck(def) => self.local.register_check(now, rng, def).map(|()| None),
            Command::DeregisterCheck { id } => self.local.deregister_check(id).map(|()| None),
            Command::UpdateTtl { id, health, output } => {
                ttl::update(now, rng, &mut self.local, id, health, output).map(|()| None)
            }
            Command::Sync => {
                self.sync.on_command(now);
                Ok(None)
            }
        };
        self.settle(now);
        if let Some(ticket) = done? {
            return Ok(ticket);
        }
        self.last_ticket = (self.last_ticket + 1) % OWN_TICKETS;
        Ok(Ticket(OWN_TICKETS + self.last_ticket))
    }

    /// The next piece of work. `buf` needs [`crate::pool::MAX_DATAGRAM`] octets. After every input, call until `Wait`.
    pub fn poll_output(&mut self, buf: &mut [u8]) -> Output<'_> {
        if let Some(own) = self.next_own(buf) {
            return self.render(own);
        }
        let own = self.own_deadline();
        match self.pool.poll_output(buf) {
            Output::Event(Event::Member(event)) => {
                if event.change == MemberChange::Joined && event.member.is_server() {
                    // Others than this one may have been all that we knew. The scale of one is close enough here.
                    self.sync.on_server_joined(self.now, &mut self.rng, 1);
                    self.call_after = self.now;
                }
                Output::Event(Event::Member(event))
            }
            Output::Wait { until, why } => match (until, own) {
                (Some(at), Some((own_at, own_why))) if own_at < at => {
                    Output::Wait { until: Some(own_at), why: own_why }
                }
                (None, Some((own_at, own_why))) => Output::Wait { until: Some(own_at), why: own_why },
                _ => Output::Wait { until, why },
            },
            output => output,
        }
    }

    /// All members in any status, ourselves first.
    pub fn members(&self) -> impl Iterator<Item = Member<'_>> {
        self.pool.members()
    }

    /// The pool, to look at.
    pub fn pool(&self) -> &Pool<'m> {
        &self.pool
    }

    /// Services and checks, to look at.
    pub fn local(&self) -> &Local<'m> {
        &self.local
    }

    /// The id of the check called `name`, for [`Agent::handle_check`]; good until it is registered anew.
    pub fn check_id(&mut self, name: &str) -> Option<CheckId> {
        let index = self.local.check_index(name)?;
        let generation = self.local.live_check(index)?.generation;
        Some(CheckId { slot: index as u16, generation })
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        Stats { pool: self.pool.stats(), queries_dropped: self.names.dropped, ..self.stats }
    }

    fn next_own(&mut self, buf: &mut [u8]) -> Option<Own> {
        if let Some((to, len)) = self.next_answer(buf) {
            return Some(Own::Answer(to, len));
        }
        if let Some((slot, wish)) = self.streams.next_wish() {
            return Some(Own::Stream(slot, wish));
        }
        if let Some(index) = self.local.next_ask() {
            return Some(Own::Ask(index as u16));
        }
        core::mem::take(&mut self.local.changed).then_some(Own::Changed)
    }

    fn render(&self, own: Own) -> Output<'_> {
        match own {
            Own::Answer(to, len) => Output::Transmit { port: Port::Dns, to, len },
            Own::Changed => Output::Event(Event::Local),
            Own::Stream(slot, Wish::Writable) => Output::Writable { id: self.streams.id(slot) },
            Own::Stream(slot, Wish::Close) => Output::Close { id: self.streams.id(slot) },
            Own::Stream(slot, Wish::Connect) => self.render_connect(slot),
            Own::Ask(index) => {
                let timeout = self.local.timeout_of(index.into());
                let key = match self.local.check_at(index.into()).map(|check| check.job()) {
                    Some(Job::Host(key)) => key,
                    _ => 0,
                };
                let name = self.local.check_at(index.into()).map_or("", |check| check.id());
                let id = CheckId { slot: index, generation: self.local.generation_of(index.into()) };
                Output::RunCheck { id, check: HostCheck { id: name, key }, timeout }
            }
        }
    }

    fn render_connect(&self, slot: u16) -> Output<'_> {
        let id = self.streams.id(slot);
        let index = self.streams.get(slot).filter(|entry| entry.usage == Usage::Check).map(|entry| entry.index);
        let Some(index) = index.map(usize::from) else {
            let to = Target::Address(self.session.server);
            return Output::Connect { id, to, purpose: Purpose::Rpc, timeout: crate::rpc::DIAL };
        };
        let nowhere = Target::Address(crate::pool::NOWHERE);
        let (to, tls, verify) = match self.local.check_at(index).map(|check| check.job()) {
            Some(Job::Tcp(target)) => (tcp::target(target), None, true),
            Some(Job::Http(job)) if HTTP => {
                let url = Url::parse(job.url);
                let tls = url.filter(|url| url.tls).map(|url| url.host);
                (url.and_then(|url| url.target()), tls, job.verify)
            }
            _ => (None, None, true),
        };
        let purpose = Purpose::Check { tls, verify };
        Output::Connect { id, to: to.unwrap_or(nowhere), purpose, timeout: self.local.timeout_of(index) }
    }

    /// After every input: what follows from it.
    fn settle(&mut self, now: Instant) {
        self.now = self.now.max(now);
        let now = self.now;
        self.names.on_timeout(now);
        while let Some(index) = self.local.due_check(now) {
            self.on_check_due(now, index);
        }
        let arrival = self.session.on_timeout(now);
        self.on_arrival(now, arrival);
        self.next_call(now);
    }

    fn on_check_due(&mut self, now: Instant, index: usize) {
        match schedule::on_due(now, &mut self.rng, &mut self.local, index) {
            Work::None => {}
            Work::Stop => {
                if let Some(slot) = self.streams.of_check(index as u16) {
                    self.streams.close(slot);
                }
            }
            Work::Deregister => {
                if let Some(service) = self.local.service_of(index) {
                    self.local.remove_service(service);
                }
            }
            Work::Connect => {
                // The last exchange is kept for calls to servers.
                let spare = self.session.stream.is_some() || !self.config.sync || self.streams.has_two_free();
                let slot = if spare { self.streams.open(Usage::Check, index as u16) } else { None };
                match slot {
                    Some(slot) => {
                        if let Some(entry) = self.streams.get_mut(slot) {
                            entry.check_generation = self.local.generation_of(index);
                        }
                        self.streams.wish(slot, Wish::Connect);
                        schedule::started(now, &mut self.local, index);
                    }
                    None => {
                        self.stats.checks_postponed = self.stats.checks_postponed.wrapping_add(1);
                        schedule::postponed(now, &mut self.local, index);
                    }
                }
            }
        }
    }

    fn on_check_input(&mut self, now: Instant, slot: u16, input: StreamInput<'_>) {
        let Some(entry) = self.streams.get_mut(slot) else { return };
        let index = usize::from(entry.index);
        let (rng, local) = (&mut self.rng, &mut self.local);
        let current = local.is_running(index) && local.generation_of(index) == entry.check_generation;
        let is_http = HTTP && local.check_at(index).is_some_and(|check| matches!(check.job(), Job::Http(_)));
        let failed = input == StreamInput::Failed;
        let mut over = !current || failed;
        if current {
            match (input, is_http) {
                (StreamInput::Open, true) => {
                    entry.opened = true;
                    self.streams.wish(slot, Wish::Writable);
                }
                (StreamInput::Open, false) => {
                    tcp::on_open(now, rng, local, index);
                    over = true;
                }
                (StreamInput::Data(data), true) => {
                    over = http::on_data(now, rng, local, index, &mut entry.response, data);
                }
                (StreamInput::Eof | StreamInput::Failed, true) => {
                    http::on_end(now, rng, local, index, &entry.response, entry.opened);
                    over = true;
                }
                (StreamInput::Failed, false) => tcp::on_failed(now, rng, local, index),
                (StreamInput::Data(_) | StreamInput::Eof, false) => {}
            }
        }
        match (over, failed) {
            (_, true) => self.streams.forget(slot),
            (true, false) => self.streams.close(slot),
            (false, false) => {}
        }
    }

    fn on_rpc_input(&mut self, now: Instant, slot: u16, input: StreamInput<'_>) {
        if self.session.stream != Some(slot) {
            return self.streams.close(slot);
        }
        let arrival = match input {
            StreamInput::Open => {
                self.session.on_open(now);
                self.streams.wish(slot, Wish::Writable);
                Arrival::Nothing
            }
            StreamInput::Data(data) => {
                let us = identity(self.config);
                let (sync, local, names) = (&mut self.sync, &mut self.local, &mut self.names);
                self.session.on_data(now, data, &mut |task, item| match task {
                    Task::Sync(_) => sync.on_item(&item, us, local),
                    Task::LookUp(index) => names.on_item(index, &item),
                    Task::Coordinate => {}
                })
            }
            StreamInput::Eof | StreamInput::Failed => self.session.on_end(),
        };
        match (input, self.session.stream) {
            (StreamInput::Failed, _) => self.streams.forget(slot),
            (_, None) => self.streams.close(slot),
            (_, Some(_)) => {}
        }
        self.on_arrival(now, arrival);
    }

    fn on_arrival(&mut self, now: Instant, arrival: Arrival) {
        let members = self.pool.size();
        match arrival {
            Arrival::Nothing => {}
            Arrival::Closed => self.drop_connection(),
            Arrival::Again => self.connect(now),
            Arrival::Answered(task) => {
                self.stats.calls = self.stats.calls.wrapping_add(1);
                let error = self.session.error();
                match task {
                    Task::Sync(call) => {
                        self.sync.on_reply(now, &mut self.rng, members, call, error, &mut self.local);
                    }
                    Task::LookUp(index) => self.names.on_end(now, index, Some(error)),
                    Task::Coordinate => {}
                }
                self.names.unblock();
            }
            Arrival::Failed(task) => {
                self.stats.calls_failed = self.stats.calls_failed.wrapping_add(1);
                self.servers.on_failure(self.session.server);
                self.drop_connection();
                self.on_call_lost(now, task);
            }
        }
    }

    /// The call for `task` has no answer and will get none.
    fn on_call_lost(&mut self, now: Instant, task: Task) {
        match task {
            Task::Sync(_) => self.sync.on_failure(now, &mut self.rng, self.pool.size(), &mut self.local),
            Task::LookUp(index) => self.names.on_end(now, index, None),
            Task::Coordinate => {}
        }
        self.names.unblock();
    }

    /// Closes streams of the connection that is given up.
    fn drop_connection(&mut self) {
        if let Some(slot) = self.streams.of_rpc() {
            self.streams.close(slot);
        }
    }

    /// Whether our own calls make sense at all.
    fn may_call(&self) -> bool {
        self.config.sync && !self.pool.is_leaving()
    }

    fn has_server(&self) -> bool {
        let callable = |member: Member<'_>| rpc_address(&member, self.config.datacenter).is_some();
        self.session.is_open() || self.pool.members().any(callable)
    }

    /// Begins the next call when nothing is under way.
    fn next_call(&mut self, now: Instant) {
        if !self.session.is_free() || !self.may_call() || now < self.call_after {
            return;
        }
        if !self.has_server() {
            self.call_after = now + NO_SERVER;
            return;
        }
        let members = self.pool.size();
        if let Some(call) = self.sync.next(now, &mut self.rng, members, &mut self.local) {
            let us = identity(self.config);
            let method = self.sync.method(call);
            self.call(Task::Sync(call), method, &|w, sync, local| sync.emit(w, call, us, local));
        } else if COORDINATES && now >= self.coordinate_due {
            let interval = COORDINATE.max(Duration::from_secs(members as u64 / COORDINATES_PER_SECOND));
            self.coordinate_due = now + interval + self.rng.up_to(interval);
            let place = *self.pool.coordinate();
            let (scope, name) = (identity(self.config).scope(""), self.config.pool.name);
            self.call(Task::Coordinate, Method::CoordinateUpdate, &|w, _, _| {
                request::coordinate(w, scope, name, &place);
            });
        }
    }

    /// Writes a call and gets it on its way.
    fn call(&mut self, task: Task, method: Method, emit: &dyn Fn(&mut Writer<'_>, &Sync, &mut Local<'_>)) {
        let now = self.now;
        let (seq, slate) = self.session.slate();
        let mut w = Writer::new(slate);
        request::header(&mut w, seq, method);
        emit(&mut w, &self.sync, &mut self.local);
        // Records are measured at the door (`overhead`), and the rest is small.
        let Some(len) = w.finish() else { return self.on_call_lost(now, task) };
        self.session.begin(now, task, method, len);
        match self.session.stream {
            Some(slot) if self.session.is_open() => self.streams.wish(slot, Wish::Writable),
            _ => self.connect(now),
        }
    }

    /// Opens a connection for the call that waits for one.
    fn connect(&mut self, now: Instant) {
        self.drop_connection();
        let server = self.servers.choose(now, &mut self.rng, self.config.datacenter, self.pool.members());
        let slot = server.and_then(|_| self.streams.open(Usage::Rpc, 0));
        match (server, slot) {
            (Some(server), Some(slot)) => {
                self.session.connecting(now, server, slot);
                self.streams.wish(slot, Wish::Connect);
            }
            _ => {
                self.call_after = now + NO_SERVER;
                if let Arrival::Failed(task) = self.session.close() {
                    self.on_call_lost(now, task);
                }
            }
        }
    }
}

/// Who we are in the catalog.
fn identity<'m>(config: &'m Config<'m>) -> Identity<'m> {
    Identity {
        node: request::Node {
            id: config.node_id,
            name: config.pool.name,
            address: config.pool.advertise.ip(),
            tagged_addresses: config.tagged_addresses,
            meta: config.meta,
        },
        datacenter: config.datacenter,
        token: config.token,
    }
}

/// Octets of the largest service or check record that a call in `request` carries.
fn record_limit(config: &Config<'_>, request: &[u8]) -> usize {
    request.len().saturating_sub(overhead(config))
}

/// Octets of the largest call around a service or check record.
fn overhead(config: &Config<'_>) -> usize {
    let us = identity(config);
    let fixed = Writer::measure(|w| {
        request::header(w, u64::MAX, Method::Register);
        request::register(w, us.scope(""), us.node, false, None, core::iter::empty());
    });
    // The address as text, `Service`, `SkipNodeUpdate`, the fields of a check that change, a token of its own.
    fixed + 48 + 8 + 16 + 48 + config.pool.name.len() + 64
}
