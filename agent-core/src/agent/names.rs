//! DNS of the agent: queries that wait, look-ups for them, and the directory that answers.
//!
//! A query is kept as it came and answered at the next poll, straight into the driver's buffer. When the directory has to
//! ask a server, the query waits until the look-up is in the cache or its time is over.

use core::{net::SocketAddr, ops::ControlFlow};

use super::Agent;
use crate::{
    config::Config,
    dns::{self, Address, Directory, Found, Instance, Kind, Lookup, Outcome, Pairs, Transport},
    local::Local,
    pool::{MemberStatus, NOWHERE, Pool},
    rpc::Task,
    serf::filter::has,
    time::{Duration, Instant, earliest},
    wire::rpc::{Instance as Record, Item, Method, request},
};

/// Longest query kept: a name of 255 octets, its head, type and class, and an EDNS option.
const QUERY: usize = 320;
/// Instances kept of a look-up: what a plain UDP answer holds (Consul `udp_answer_limit`).
const INSTANCES: usize = 3;
/// 5 s: resolvers give up about then.
const PATIENCE: Duration = Duration::from_secs(5);
/// 2 s: long enough for the queries of one asker (A, AAAA, SRV), short enough not to matter.
const FRESH: Duration = Duration::from_secs(2);
/// One query asks at most this often: names are followed through four aliases ([`dns::respond`]).
const ASKS: u8 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Free,
    /// To be answered at the next poll.
    Ready,
    /// A look-up is under way.
    Waiting,
    /// A look-up is needed, and the connection is busy.
    Blocked,
}

/// A DNS query under way.
#[derive(Clone, Copy, Debug)]
pub struct QuerySlot {
    from: SocketAddr,
    deadline: Instant,
    len: u16,
    stage: Stage,
    asks: u8,
    query: [u8; QUERY],
}

impl QuerySlot {
    /// A free slot; all zero bits.
    pub const EMPTY: Self =
        QuerySlot { from: NOWHERE, deadline: Instant::ZERO, len: 0, stage: Stage::Free, asks: 0, query: [0; QUERY] };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Nothing,
    Pending,
    Failed,
    Known,
}

/// A look-up: what a server said, for a while.
#[derive(Clone, Copy, Debug)]
pub struct LookUpSlot {
    /// Hash of what was looked up.
    key: u64,
    until: Instant,
    answer: Answer,
    found: bool,
    count: u8,
    records: [Record; INSTANCES],
}

impl LookUpSlot {
    /// A free slot; all zero bits.
    pub const EMPTY: Self = LookUpSlot {
        key: 0,
        until: Instant::ZERO,
        answer: Answer::Nothing,
        found: false,
        count: 0,
        records: [Record::EMPTY; INSTANCES],
    };
}

/// Queries and look-ups.
pub(super) struct Names<'m> {
    queries: &'m mut [QuerySlot],
    look_ups: &'m mut [LookUpSlot],
    /// Queries dropped because all slots were taken or they were too long.
    pub(super) dropped: u32,
}

impl<'m> Names<'m> {
    pub(super) fn new(queries: &'m mut [QuerySlot], look_ups: &'m mut [LookUpSlot]) -> Self {
        Names { queries, look_ups, dropped: 0 }
    }

    /// Keeps a query.
    pub(super) fn take(&mut self, now: Instant, from: SocketAddr, octets: &[u8]) {
        let Some(slot) = self.queries.iter_mut().find(|slot| slot.stage == Stage::Free) else {
            self.dropped = self.dropped.wrapping_add(1);
            return;
        };
        let Some(place) = slot.query.get_mut(..octets.len()) else {
            self.dropped = self.dropped.wrapping_add(1);
            return;
        };
        place.copy_from_slice(octets);
        (slot.from, slot.deadline, slot.len) = (from, now + PATIENCE, octets.len() as u16);
        (slot.stage, slot.asks) = (Stage::Ready, 0);
    }

    /// When the first waiting query gives up.
    pub(super) fn due(&self) -> Option<Instant> {
        let waiting = self.queries.iter().filter(|slot| matches!(slot.stage, Stage::Waiting | Stage::Blocked));
        earliest(&mut waiting.map(|slot| slot.deadline))
    }

    /// The connection is free: queries that waited for that may ask.
    pub(super) fn unblock(&mut self) {
        self.wake(|slot| slot.stage == Stage::Blocked);
    }

    /// Queries whose time is over are answered now, with a failure if need be.
    pub(super) fn on_timeout(&mut self, now: Instant) {
        self.wake(|slot| matches!(slot.stage, Stage::Waiting | Stage::Blocked) && slot.deadline <= now);
    }

    /// A record for the look-up in slot `index`.
    pub(super) fn on_item(&mut self, index: u16, item: &Item<'_>) {
        let Some(slot) = self.look_ups.get_mut(usize::from(index)) else { return };
        let record = match item {
            Item::Instance(record) => **record,
            Item::Node { name, address, .. } => {
                let mut record = Record::EMPTY;
                record.node.push(name.as_bytes());
                record.node_address.push(address.as_bytes());
                record
            }
            Item::Service { .. } | Item::Check { .. } => return,
        };
        slot.found = true;
        if let Some(place) = slot.records.get_mut(usize::from(slot.count)) {
            *place = record;
            slot.count += 1;
        }
    }

    /// The look-up in slot `index` is over; `error` is the server's, `None`: there was no answer.
    pub(super) fn on_end(&mut self, now: Instant, index: u16, error: Option<&str>) {
        if let Some(slot) = self.look_ups.get_mut(usize::from(index)) {
            slot.answer = match error {
                Some("") => Answer::Known,
                // No such datacenter is an answer.
                Some(text) if has(text, "No path to datacenter") => {
                    slot.found = false;
                    Answer::Known
                }
                Some(_) | None => Answer::Failed,
            };
            slot.until = now + FRESH;
        }
        self.wake(|slot| slot.stage == Stage::Waiting);
    }

    fn wake(&mut self, which: impl Fn(&QuerySlot) -> bool) {
        for slot in self.queries.iter_mut().filter(|slot| which(slot)) {
            slot.stage = Stage::Ready;
        }
    }

    fn known(&self, now: Instant, key: u64) -> Option<&LookUpSlot> {
        self.look_ups.iter().find(|slot| {
            slot.key == key && slot.answer != Answer::Nothing && (slot.until > now || slot.answer == Answer::Pending)
        })
    }

    /// A slot for a new look-up: a free one, or else the one that ends first.
    fn claim(&mut self, key: u64) -> Option<u16> {
        let idle = |slot: &&(usize, &LookUpSlot)| slot.1.answer != Answer::Pending;
        let slots = self.look_ups.iter().enumerate();
        let (index, _) = slots
            .filter(|pair| idle(&pair))
            .min_by_key(|(_, slot)| if slot.answer == Answer::Nothing { Instant::ZERO } else { slot.until })?;
        let slot = &mut self.look_ups[index];
        *slot = LookUpSlot { key, answer: Answer::Pending, ..LookUpSlot::EMPTY };
        Some(index as u16)
    }
}

/// Who answers: the members, our own services, and what servers have told us.
struct House<'a, 'm> {
    now: Instant,
    config: &'a Config<'m>,
    pool: &'a Pool<'m>,
    local: &'a Local<'m>,
    names: &'a Names<'m>,
    /// Servers can be asked.
    online: bool,
}

type Visit<'v> = &'v mut dyn FnMut(Instance<'_>) -> ControlFlow<()>;

impl Directory for House<'_, '_> {
    fn find(&self, lookup: &Lookup, visit: &mut dyn FnMut(Instance<'_>) -> ControlFlow<()>) -> Found {
        let elsewhere =
            !matches!(lookup.datacenter(), dc if dc.is_empty() || dc.eq_ignore_ascii_case(self.config.datacenter));
        match lookup.kind() {
            Kind::Servers => self.servers(visit),
            Kind::Node if !elsewhere => match self.node(lookup.name(), visit) {
                Found::No => self.asked(lookup, visit),
                found => found,
            },
            Kind::Node => self.asked(lookup, visit),
            Kind::Service if self.online => self.asked(lookup, visit),
            Kind::Service if elsewhere => Found::No,
            Kind::Service => self.own_services(lookup, visit),
            Kind::Reverse => self.reverse(lookup, visit),
            // Mesh names and prepared queries are a server's business; a small agent does not know them.
            Kind::Connect | Kind::Ingress | Kind::Query => Found::No,
        }
    }
}

impl House<'_, '_> {
    fn servers(&self, visit: Visit<'_>) -> Found {
        for member in self.pool.members().filter(|member| member.is_server() && member.status == MemberStatus::Alive) {
            if member.tag("dc") == Some(self.config.datacenter)
                && visit(Instance::new(member.name, Address::Ip(member.address.ip()))).is_break()
            {
                break;
            }
        }
        Found::Yes
    }

    fn node(&self, name: &str, visit: Visit<'_>) -> Found {
        for (nth, member) in self.pool.members().enumerate() {
            if member.name.eq_ignore_ascii_case(name) && member.status != MemberStatus::Left {
                let mut node = Instance::new(member.name, Address::Ip(member.address.ip()));
                let own: &dyn Pairs = &self.config.meta;
                if nth == 0 {
                    node.meta = own;
                }
                let _ = visit(node);
                return Found::Yes;
            }
        }
        Found::No
    }

    fn own_services(&self, lookup: &Lookup, visit: Visit<'_>) -> Found {
        let mut found = Found::No;
        for service in self.local.services().filter(|service| service.name().eq_ignore_ascii_case(lookup.name())) {
            found = Found::Yes;
            if !lookup.tag().is_empty() && !service.tags().any(|tag| tag.eq_ignore_ascii_case(lookup.tag())) {
                continue;
            }
            let mut instance = Instance::new(self.config.pool.name, Address::Ip(self.config.pool.advertise.ip()));
            instance.service = service.name();
            instance.service_address = Address::parse(service.address());
            instance.port = service.port();
            instance.weights = service.weights();
            instance.health = self.local.health_of(service.id());
            if visit(instance).is_break() {
                break;
            }
        }
        found
    }

    fn reverse(&self, lookup: &Lookup, visit: Visit<'_>) -> Found {
        let Some(ip) = lookup.address() else { return Found::No };
        match self.pool.members().find(|member| member.address.ip() == ip && member.status != MemberStatus::Left) {
            Some(member) => {
                let _ = visit(Instance::new(member.name, Address::Ip(ip)));
                Found::Yes
            }
            None => Found::No,
        }
    }

    fn asked(&self, lookup: &Lookup, visit: Visit<'_>) -> Found {
        let Some(slot) = self.names.known(self.now, key_of(lookup)) else {
            return if self.online { Found::Ask } else { Found::No };
        };
        match slot.answer {
            Answer::Known if !slot.found => return Found::No,
            Answer::Known => {}
            Answer::Nothing | Answer::Pending | Answer::Failed => return Found::Ask,
        }
        for record in &slot.records[..usize::from(slot.count)] {
            let mut instance = Instance::new(record.node.as_str(), Address::parse(record.node_address.as_str()));
            if lookup.kind() == Kind::Service {
                instance.service = lookup.name();
                instance.service_address = Address::parse(record.service_address.as_str());
                instance.port = record.port;
                instance.weights = (record.weight_passing.max(1), record.weight_warning.max(1));
                instance.health = record.health;
            }
            if visit(instance).is_break() {
                break;
            }
        }
        Found::Yes
    }
}

/// FNV-1a of what is looked up.
fn key_of(lookup: &Lookup) -> u64 {
    let kind = [lookup.kind() as u8];
    let parts =
        [&kind[..], lookup.name().as_bytes(), &[0], lookup.tag().as_bytes(), &[0], lookup.datacenter().as_bytes()];
    parts
        .iter()
        .flat_map(|part| part.iter())
        .fold(0xcbf2_9ce4_8422_2325, |hash, &octet| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3))
}

impl Agent<'_> {
    /// Answers a query that can be answered: where to send how many octets of `buf`.
    #[inline(never)] // its stack frame is not for those who never get here
    pub(super) fn next_answer(&mut self, buf: &mut [u8]) -> Option<(SocketAddr, usize)> {
        loop {
            let index = self.names.queries.iter().position(|slot| slot.stage == Stage::Ready)?;
            let slot = &self.names.queries[index];
            let from = slot.from;
            let query = slot.query.get(..usize::from(slot.len)).unwrap_or(&[]);
            let online = self.config.sync && self.has_server();
            let house = House {
                now: self.now,
                config: self.config,
                pool: &self.pool,
                local: &self.local,
                names: &self.names,
                online,
            };
            let out_of_time = slot.deadline <= self.now || slot.asks >= ASKS;
            let mut outcome = dns::respond(&self.config.dns, &house, query, Transport::Udp, &mut self.rng, buf);
            if let Outcome::Ask(lookup) = &outcome {
                let failed =
                    self.names.known(self.now, key_of(lookup)).is_some_and(|slot| slot.answer == Answer::Failed);
                if !out_of_time && !failed {
                    self.names.queries[index].stage = self.look_up(lookup);
                    self.names.queries[index].asks += u8::from(self.names.queries[index].stage == Stage::Waiting);
                    continue;
                }
                outcome = dns::fail(&self.config.dns, query, buf);
            }
            if matches!(outcome, Outcome::Recurse) {
                outcome = dns::fail(&self.config.dns, query, buf);
            }
            self.names.queries[index].stage = Stage::Free;
            if let Outcome::Reply(len) = outcome {
                return Some((from, len));
            }
        }
    }

    /// Starts a look-up, unless the same is under way.
    fn look_up(&mut self, lookup: &Lookup) -> Stage {
        let key = key_of(lookup);
        if self.names.known(self.now, key).is_some_and(|slot| slot.answer == Answer::Pending) {
            return Stage::Waiting;
        }
        if !self.session.is_free() {
            return Stage::Blocked;
        }
        let Some(slot) = self.names.claim(key) else { return Stage::Blocked };
        let datacenter = if lookup.datacenter().is_empty() { self.config.datacenter } else { lookup.datacenter() };
        let scope = request::Scope { datacenter, token: self.config.token };
        let only_passing = self.config.dns.only_passing;
        let node = lookup.kind() == Kind::Node;
        let method = if node { Method::NodeServices } else { Method::ExecuteRemote };
        self.call(Task::LookUp(slot), method, &|w, _, _| match node {
            true => request::of_node(w, scope, lookup.name()),
            false => {
                request::execute_remote(w, scope, lookup.name(), lookup.tag(), only_passing, INSTANCES as u16);
            }
        });
        Stage::Waiting
    }
}
