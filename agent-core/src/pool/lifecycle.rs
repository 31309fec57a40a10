//! Joining and leaving, and the other commands of a pool's owner (gossip spec §6, §7.7, §9.2).

use core::net::{IpAddr, SocketAddr};

use heapless::Vec;

use super::{Event, MemberStatus, Pool, encode_tags, full, stats::count, stream::Role};
use crate::{
    agent::{CommandError, Outcome, Ticket},
    membership::{
        broadcast::Queue,
        members::{MemberId, Record, State},
    },
    memory::MailId,
    time::{Duration, Instant},
    wire::{
        gossip::{Claim, DEAD},
        ip,
        msgpack::Writer,
        serf::{Intent, MAX_EVENT, UserEvent},
        tags::MAX_META,
    },
};

/// Joins waiting at once.
pub(super) const JOINS: usize = 4;
/// Addresses tried of one seed.
const ADDRESSES: usize = 8;
/// Serf waits this long for a leave to be sent (BroadcastTimeout).
const BROADCAST_TIMEOUT: Duration = Duration::from_secs(5);
/// Default limit on name and payload of a user event, as serf's UserEventSizeLimit.
pub(super) const EVENT_LIMIT: usize = 512;

/// How a push/pull for a join ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JoinEnd {
    /// No answer, or none that made sense.
    Failed,
    /// Their state cannot be merged with ours.
    Refused,
    /// Nobody but ourselves answered.
    OnlyUs,
    /// Merged.
    Merged,
}

/// Joins under way.
#[derive(Debug)]
pub(super) struct Joins {
    /// The seed to try next while we know nobody, and when.
    seed: usize,
    seed_at: Instant,
    /// A server has heard of us from ourselves.
    pub met_server: bool,
    /// In this round over the seeds we have answered ourselves, and nobody else has.
    only_us: bool,
}

#[derive(Debug)]
pub(super) struct Join {
    ticket: Ticket,
    /// For the owner, not for the seeds of the configuration.
    asked: bool,
    ignore_old: bool,
    host: MailId,
    port: u16,
    step: Step,
    addresses: Vec<SocketAddr, ADDRESSES>,
    contacted: u16,
    refused: bool,
    /// We answered ourselves.
    only_us: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The name is to be looked up.
    LookUp,
    /// It is being looked up.
    LookingUp,
    /// The next address is to be dialled.
    Dial,
    /// It is being talked to.
    Talking,
}

impl Joins {
    pub fn new(now: Instant) -> Self {
        Joins { seed: 0, seed_at: now, met_server: false, only_us: false }
    }
}

impl Pool<'_> {
    /// The join under way does not want old events.
    pub(super) fn ignores_old(&self) -> bool {
        self.queues.joins.iter().any(|join| join.step == Step::Talking && join.ignore_old)
    }
}

/// How far a leave is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// We stay.
    No,
    /// The intent is spreading.
    Intent { ticket: Ticket, until: Instant },
    /// Our dead message is spreading.
    Dead { ticket: Ticket, until: Instant },
    /// A server is being told by push/pull.
    Telling { ticket: Ticket, until: Instant },
    /// All is said; probes are answered a while longer.
    Lingering { ticket: Ticket, until: Instant },
    /// We are gone.
    Done,
}

impl Pool<'_> {
    /// Push/pulls with a seed: `ip`, `ip:port`, `host` or `host:port`.
    ///
    /// # Errors
    /// `Full` while too many joins wait, `Invalid` for a seed that is no address, `Leaving`.
    pub fn join(&mut self, now: Instant, seed: &str, ignore_old: bool) -> Result<Ticket, CommandError> {
        self.enqueue_join(now, seed, ignore_old, true)
    }

    /// Leaves gracefully. When it is finished the process may stop.
    ///
    /// # Errors
    /// `Leaving` when it is on its way already.
    pub fn leave(&mut self, now: Instant) -> Result<Ticket, CommandError> {
        if self.is_leaving() {
            return Err(CommandError::Leaving);
        }
        let ticket = self.next_ticket();
        let intent = Intent { ltime: self.clock.time(), node: self.config.name, prune: false };
        self.clock.tick();
        let own = self.members.get_mut(MemberId::SELF);
        own.status_ltime = intent.ltime;
        own.set_status(MemberStatus::Leaving);
        self.pass_on(Queue::Intent, &|w| intent.emit_leave(w));
        self.leave = Leave::Intent { ticket, until: now + BROADCAST_TIMEOUT };
        self.members.touch();
        self.on_leave_time(now);
        Ok(ticket)
    }

    /// Makes a failed member count as left, and with `prune` erases it.
    ///
    /// # Errors
    /// `Unknown` when there is no such member, `Leaving`.
    pub fn force_leave(&mut self, now: Instant, node: &str, prune: bool) -> Result<Ticket, CommandError> {
        if self.is_leaving() {
            return Err(CommandError::Leaving);
        }
        let id = self.members.find(node).ok_or(CommandError::Unknown)?;
        if id == MemberId::SELF {
            return Err(CommandError::Invalid("an agent cannot force itself to leave; use leave"));
        }
        let intent = Intent { ltime: self.clock.time(), node, prune };
        self.clock.tick();
        self.on_leave_intent(now, &intent, true);
        Ok(self.finished(Outcome::Ok))
    }

    /// Replaces our tags and tells everybody.
    ///
    /// # Errors
    /// `Invalid` when they take more than 512 octets, `Full` when our own table has no room for them.
    pub fn set_tags(&mut self, _now: Instant, tags: &[(&str, &str)]) -> Result<Ticket, CommandError> {
        let mut meta = [0; MAX_META];
        let meta = encode_tags(tags, &mut meta).ok_or(CommandError::Invalid("tags take more than 512 octets"))?;
        let own = self.members.get(MemberId::SELF);
        let record = Record { name: self.config.name, address: own.address(), meta, vsn: own.vsn };
        if !self.members.update(MemberId::SELF, &record) {
            return Err(full("text"));
        }
        let own = self.members.get_mut(MemberId::SELF);
        own.incarnation = own.incarnation.saturating_add(1);
        self.announce_self();
        self.members.touch();
        Ok(self.finished(Outcome::Ok))
    }

    /// Fires a user event to everybody, ourselves included.
    ///
    /// # Errors
    /// `Invalid` when it is too long, `Full` when the queue's memory cannot hold it, `Leaving`.
    pub fn user_event(
        &mut self,
        _now: Instant,
        name: &str,
        payload: &[u8],
        coalesce: bool,
    ) -> Result<Ticket, CommandError> {
        if self.is_leaving() {
            return Err(CommandError::Leaving);
        }
        let event = UserEvent { coalesce, ltime: self.event_clock.time(), name, payload };
        if name.len() + payload.len() > EVENT_LIMIT || Writer::measure(|w| event.emit(w)) > MAX_EVENT {
            return Err(CommandError::Invalid("user event exceeds the limit of 512 bytes before encoding"));
        }
        self.event_clock.tick();
        let hash =
            crate::membership::members::hash(crate::membership::members::hash(0x65_76, name.as_bytes()), payload);
        self.events_seen.is_new(self.event_clock.time(), event.ltime, hash);
        self.keep_event(&event);
        self.pass_on(Queue::Event, &|w| event.emit(w));
        Ok(self.finished(Outcome::Ok))
    }

    /// True from the wish to leave on.
    pub fn is_leaving(&self) -> bool {
        self.leave != Leave::No
    }

    pub(super) fn begin_push_pull(&mut self, now: Instant, member: MemberId) {
        let address = self.members.get(member).address();
        self.dial_exchange(now, address, Role::PushPull, false, None);
    }

    pub(super) fn begin_reconnect(&mut self, now: Instant, address: SocketAddr) {
        self.dial_exchange(now, address, Role::Reconnect, true, None);
    }

    fn finished(&mut self, outcome: Outcome) -> Ticket {
        let ticket = self.next_ticket();
        self.tell(Event::Finished { ticket, outcome });
        ticket
    }

    fn enqueue_join(
        &mut self,
        now: Instant,
        seed: &str,
        ignore_old: bool,
        asked: bool,
    ) -> Result<Ticket, CommandError> {
        if self.is_leaving() {
            return Err(CommandError::Leaving);
        }
        if self.queues.joins.is_full() {
            return Err(full("joins"));
        }
        let (host, port) = split_seed(seed, self.config.advertise.port())?;
        let mail = self.mail.put(host.len()).ok_or(full("mail"))?;
        self.mail.get_mut(mail).copy_from_slice(host.as_bytes());
        let ticket = self.next_ticket();
        let mut join = Join {
            ticket,
            asked,
            ignore_old,
            host: mail,
            port,
            step: Step::LookUp,
            addresses: Vec::new(),
            contacted: 0,
            refused: false,
            only_us: false,
        };
        if let Some(ip) = ip::parse(host) {
            join.step = Step::Dial;
            // An empty list has room for one.
            let _ = join.addresses.push(SocketAddr::new(ip, port));
        }
        // Checked above.
        let _ = self.queues.joins.push_back(join);
        self.go_on_joining(now);
        Ok(ticket)
    }

    /// Dials the next address of the first join in line; ends those that have none left.
    fn go_on_joining(&mut self, now: Instant) {
        while let Some(join) = self.queues.joins.front_mut() {
            if join.step != Step::Dial {
                return;
            }
            let (ticket, next) =
                (join.ticket, if join.addresses.is_empty() { None } else { Some(join.addresses.remove(0)) });
            match next {
                Some(address) => {
                    join.step = Step::Talking;
                    if self.dial_exchange(now, address, Role::Join, true, Some(ticket)) {
                        return;
                    }
                    // No stream is free: this address counts as tried.
                    if let Some(join) = self.queues.joins.front_mut() {
                        join.step = Step::Dial;
                    }
                }
                None => self.end_join(now),
            }
        }
    }

    fn end_join(&mut self, now: Instant) {
        let Some(join) = self.queues.joins.pop_front() else { return };
        self.mail.free(join.host);
        self.join.only_us |= join.only_us;
        if join.contacted > 0 {
            self.join.only_us = false;
            self.announce_join();
            // Joined through others, whose tables may be partial: let a server know at once.
            if !self.join.met_server && self.config.consul_rules {
                self.spread.push_pull = now;
            }
        } else if !join.asked {
            // Seeds are tried in turn without a pause; after the last one there is a pause.
            self.pass_seed();
            self.join.seed_at = if self.join.seed == 0 { now + self.seed_pause() } else { now };
        }
        if (join.asked || self.join.seed == 0) && core::mem::take(&mut self.join.only_us) {
            warn!("joining reached nobody but this agent itself: give the address of another member");
        }
        if join.asked {
            let outcome = match join.contacted {
                0 if join.only_us => Outcome::Joined(0),
                0 if join.refused => Outcome::Failed("refused: other datacenter, segment or protocol version"),
                0 => Outcome::Failed("no answer from another member"),
                contacted => Outcome::Joined(contacted),
            };
            self.tell(Event::Finished { ticket: join.ticket, outcome });
        }
    }

    pub(super) fn on_join_end(&mut self, now: Instant, ticket: Ticket, end: JoinEnd) {
        if let Some(join) = self.queues.joins.front_mut().filter(|join| join.ticket == ticket) {
            join.contacted += u16::from(end == JoinEnd::Merged);
            join.refused |= end == JoinEnd::Refused;
            join.only_us |= end == JoinEnd::OnlyUs;
            join.step = Step::Dial;
            self.go_on_joining(now);
        }
    }

    pub(super) fn next_look_up(&mut self) -> Option<Ticket> {
        let join = self.queues.joins.front_mut().filter(|join| join.step == Step::LookUp)?;
        join.step = Step::LookingUp;
        Some(join.ticket)
    }

    pub(super) fn seed_host(&self, ticket: Ticket) -> &str {
        let join = self.queues.joins.iter().find(|join| join.ticket == ticket);
        join.and_then(|join| core::str::from_utf8(self.mail.get(join.host)).ok()).unwrap_or("")
    }

    pub(super) fn on_resolved(&mut self, now: Instant, ticket: Ticket, addresses: &[IpAddr]) {
        let waiting = self.queues.joins.front_mut();
        if let Some(join) = waiting.filter(|join| join.ticket == ticket && join.step == Step::LookingUp) {
            let port = join.port;
            join.addresses.extend(addresses.iter().take(ADDRESSES).map(|&ip| SocketAddr::new(ip, port)));
            join.step = Step::Dial;
            self.go_on_joining(now);
        }
    }

    pub(super) fn join_deadline(&self) -> Option<Instant> {
        match self.leave {
            Leave::No => self.wants_seed().then_some(self.join.seed_at),
            Leave::Intent { until, .. }
            | Leave::Dead { until, .. }
            | Leave::Telling { until, .. }
            | Leave::Lingering { until, .. } => Some(until),
            Leave::Done => None,
        }
    }

    /// We know nobody alive, or no server where there are servers; there are seeds, and none is being tried.
    ///
    /// Members whose servers have all moved know each other still, but nobody among them knows where the servers are.
    fn wants_seed(&self) -> bool {
        !self.config.seeds.is_empty()
            && self.queues.joins.iter().all(|join| join.asked)
            && (self.is_alone() || self.misses_servers())
            && !self.is_leaving()
    }

    /// We are no server, and know none.
    fn misses_servers(&self) -> bool {
        self.config.consul_rules && !self.is_server() && self.members.servers() == 0
    }

    /// We know nobody alive.
    fn is_alone(&self) -> bool {
        self.members.len() == self.members.gone() + 1
    }

    /// Time between rounds over the seeds. Shorter for those who know each other and miss the servers: all shall be back in a
    /// minute.
    fn seed_pause(&self) -> Duration {
        /// Also the time in which a probe and a short suspicion find a dead server.
        const WITHOUT_SERVERS: Duration = Duration::from_secs(8);
        let pause = self.config.retry_join;
        if self.is_alone() { pause } else { pause.min(WITHOUT_SERVERS) }
    }

    pub(super) fn on_join_time(&mut self, now: Instant) {
        if self.wants_seed() && self.join.seed_at <= now {
            let seed = self.config.seeds[self.join.seed % self.config.seeds.len()];
            self.join.seed_at = now + self.seed_pause();
            // A seed that is no address is passed over like one that does not answer.
            if let Err(CommandError::Invalid(_)) = self.enqueue_join(now, seed, true, false) {
                self.pass_seed();
            }
        }
    }

    /// The seed has not helped: on to the next one.
    fn pass_seed(&mut self) {
        self.join.seed = (self.join.seed + 1) % self.config.seeds.len().max(1);
        if self.join.seed == 0 {
            count(&mut self.stats.seed_rounds);
        }
    }

    /// Goes on leaving: the intent must have spread before our dead message does, or others would call us failed.
    pub(super) fn on_leave_time(&mut self, now: Instant) {
        let alone = self.is_alone();
        if let Leave::Intent { ticket, until } = self.leave
            && (alone || until <= now || !self.queue.contains(Queue::Intent, None))
        {
            let own = self.members.get(MemberId::SELF).incarnation;
            let (name, limit) = (self.config.name, now + BROADCAST_TIMEOUT);
            let claim = Claim { node: name, incarnation: own, from: name };
            self.broadcast(Queue::Member, MemberId::SELF, &|w| claim.emit(w, DEAD));
            self.leave = Leave::Dead { ticket, until: limit };
            self.members.touch();
        }
        if let Leave::Dead { ticket, until } = self.leave
            && (alone || until <= now || !self.queue.contains(Queue::Member, Some(MemberId::SELF)))
        {
            let until = now + self.config.timing.leave_propagate;
            let alive = |slot: &crate::membership::MemberSlot| slot.state == State::Alive;
            let told = self
                .members
                .random(&mut self.rng, &mut |_, slot| alive(slot) && slot.is_server())
                .or_else(|| self.members.random(&mut self.rng, &mut |_, slot| alive(slot)));
            self.leave = Leave::Telling { ticket, until };
            let address = told.map(|id| self.members.get(id).address());
            let dialled = address.is_some_and(|address| self.dial_exchange(now, address, Role::Leave, false, None));
            if !dialled {
                self.leave = Leave::Lingering { ticket, until: if alone { now } else { until } };
            }
        }
        match self.leave {
            Leave::Telling { ticket, until } if until <= now => self.leave = Leave::Lingering { ticket, until },
            _ => {}
        }
        if let Leave::Lingering { ticket, until } = self.leave
            && until <= now
        {
            self.leave = Leave::Done;
            self.tell(Event::Finished { ticket, outcome: Outcome::Ok });
        }
    }

    /// The push/pull of our leave is over, well or not.
    pub(super) fn on_leave_told(&mut self, _now: Instant) {
        if let Leave::Telling { ticket, until } = self.leave {
            self.leave = Leave::Lingering { ticket, until };
        }
    }
}

/// Splits `ip`, `ip:port`, `[v6]:port`, `host` or `host:port`.
fn split_seed(seed: &str, default_port: u16) -> Result<(&str, u16), CommandError> {
    const BAD: CommandError = CommandError::Invalid("a seed is host, host:port, ip, ip:port or [ipv6]:port");
    if ip::parse(seed).is_some() {
        return Ok((seed, default_port));
    }
    if let Some(rest) = seed.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or(BAD)?;
        ip::parse(address).ok_or(BAD)?;
        return match port.strip_prefix(':') {
            Some(port) => Ok((address, port.parse().map_err(|_| BAD)?)),
            None if port.is_empty() => Ok((address, default_port)),
            None => Err(BAD),
        };
    }
    let (host, port) = match seed.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|&port| port != 0).ok_or(BAD)?),
        None => (seed, default_port),
    };
    if host.is_empty() || host.len() > 253 || host.contains(|c: char| c == ':' || c.is_whitespace()) {
        return Err(BAD);
    }
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_of_every_form() {
        assert_eq!(split_seed("10.0.0.1", 8301), Ok(("10.0.0.1", 8301)));
        assert_eq!(split_seed("10.0.0.1:7", 8301), Ok(("10.0.0.1", 7)));
        assert_eq!(split_seed("fd00::1", 8301), Ok(("fd00::1", 8301)));
        assert_eq!(split_seed("[fd00::1]:9", 8301), Ok(("fd00::1", 9)));
        assert_eq!(split_seed("consul.example", 8301), Ok(("consul.example", 8301)));
        assert_eq!(split_seed("consul.example:1", 8301), Ok(("consul.example", 1)));
        for bad in ["", ":1", "a:b:c", "host:0", "host:99999", "[fd00::1", "[x]:1", "a b"] {
            assert!(split_seed(bad, 1).is_err(), "{bad}");
        }
    }
}
