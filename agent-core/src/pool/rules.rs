//! What alive, suspect and dead messages do (gossip spec §7.3), and admission (§10.4).
//!
//! | known as | alive, newer | suspect, not older | dead, not older |
//! |---|---|---|---|
//! | unknown | insert | – | – |
//! | alive | update | suspect, start timer | dead or left |
//! | suspect | alive, stop timer | confirm | dead or left |
//! | dead, left | alive | – | – |
//! | ourselves | refute unless it is what we say | refute | refute unless we leave |

use super::{Event, MemberChange, MemberStatus, Pool, stats::count, transmit::Packet};
use crate::{
    config::PoolConfig,
    membership::{
        broadcast::Queue,
        members::{MemberId, Record, Room, State},
        suspicion::Suspicion,
    },
    time::{Duration, Instant},
    wire::{
        gossip::{Alive, Claim, DEAD, SUSPECT},
        msgpack::Writer,
        push_pull::Node,
        tags,
    },
};

impl Pool<'_> {
    pub(super) fn on_alive(&mut self, now: Instant, alive: &Alive<'_>) {
        let is_self = alive.node == self.config.name;
        if is_self && self.is_leaving() {
            return;
        }
        let Some(vsn) = alive.vsn.filter(|vsn| vsn[0] != 0 && vsn[1] != 0 && vsn[0] <= vsn[1]) else {
            return count(&mut self.stats.malformed);
        };
        if alive.node.is_empty() {
            return count(&mut self.stats.malformed);
        }
        if !self.config.admits(alive.node, alive.meta) {
            count(&mut self.stats.not_admitted);
            if !is_self && self.config.has_our_id(alive.meta) {
                self.on_conflict(now, MemberId::SELF, alive.node, alive.address);
            }
            return;
        }
        let record = Record { name: alive.node, address: self.with_port(alive.address), meta: alive.meta, vsn };
        let (id, is_new) = match self.members.find(alive.node) {
            Some(id) => (id, false),
            None => match self.insert(now, &record, Room::Gone) {
                Some(id) => (id, true),
                None => {
                    // Who joins through us must be heard of, whether we have room for it or not.
                    if self.introduces {
                        self.broadcast(Queue::Member, MemberId::NOBODY, &|w| {
                            Alive { address: record.address, vsn: Some(vsn), ..*alive }.emit(w);
                        });
                    }
                    return;
                }
            },
        };
        let slot = *self.members.get(id);
        // The wait for a dead member's name is for rumours. Whom we reach where our seeds say is there.
        let mut reclaimed = false;
        if !is_new && slot.address() != record.address {
            let reclaim = self.config.timing.dead_node_reclaim;
            reclaimed = slot.state == State::Left
                || slot.is_forgotten()
                || (slot.state == State::Dead
                    && reclaim > Duration::ZERO
                    && (now.saturating_since(slot.changed) > reclaim || self.spoken_to == Some(record.address)));
            if !reclaimed {
                return self.on_conflict(now, id, alive.node, record.address);
            }
        }
        if is_self {
            self.on_own_record(alive, vsn);
            return;
        }
        if alive.incarnation <= slot.incarnation && !is_new && !reclaimed {
            return;
        }
        let meta_changed = !is_new && self.members.meta(id) != alive.meta;
        if !is_new && !self.members.update(id, &record) {
            return count(&mut self.stats.records_skipped);
        }
        let was_gone = slot.state.is_gone() || is_new;
        self.members.get_mut(id).incarnation = alive.incarnation;
        if slot.state != State::Alive {
            self.members.set_state(id, State::Alive, now);
        }
        self.broadcast(Queue::Member, id, &|w| Alive { address: record.address, vsn: Some(vsn), ..*alive }.emit(w));
        if was_gone {
            self.on_member_join(now, id);
            if self.config.consul_rules
                && let Some(first) = self.members.same_node_id(id)
            {
                self.on_conflict(now, first, alive.node, record.address);
            }
        } else if meta_changed || slot.address() != record.address {
            self.tell(Event::Member(MemberChange::Updated, id));
        }
    }

    /// Inserts an unknown member, and lets go of whoever had its place.
    fn insert(&mut self, now: Instant, record: &Record<'_>, room: Room) -> Option<MemberId> {
        let id = self.members.insert(record, room, now, &mut self.rng)?;
        self.queue.orphan(id);
        self.forget_probe(id);
        if let Some(place) = self.places.get_mut(usize::from(id.0)) {
            *place = None;
        }
        Some(id)
    }

    /// Takes a living member out of somebody's table into our full one, in place of a random other. It is no news to
    /// anybody, so nobody is told.
    pub(super) fn sample(&mut self, now: Instant, node: &Node<'_>) {
        let Node { name, address, meta, incarnation, vsn: Some(vsn), .. } = *node else { return };
        let record = Record { name, address: self.with_port(address), meta, vsn };
        if self.members.find(name).is_none()
            && self.config.admits(name, meta)
            && let Some(id) = self.insert(now, &record, Room::Displace)
        {
            self.members.set_state(id, State::Alive, now);
            let slot = self.members.get_mut(id);
            slot.incarnation = incarnation;
            slot.set_status(MemberStatus::Alive);
        }
    }

    /// Somebody tells us about ourselves. Unless it is what we say too, we say it louder.
    fn on_own_record(&mut self, alive: &Alive<'_>, vsn: [u8; 6]) {
        let own = self.members.get(MemberId::SELF);
        let same =
            alive.incarnation == own.incarnation && alive.meta == self.members.meta(MemberId::SELF) && vsn == own.vsn;
        if alive.incarnation >= own.incarnation && !same {
            self.refute(alive.incarnation);
        }
    }

    pub(super) fn on_suspect(&mut self, now: Instant, claim: &Claim<'_>) {
        let Some(id) = self.members.find(claim.node) else { return };
        let slot = self.members.get(id);
        if claim.incarnation < slot.incarnation {
            return;
        }
        match slot.state {
            State::Suspect => {
                let from = self.members.hash(claim.from);
                if self.members.get_mut(id).suspicion.confirm(from) {
                    self.spread.suspicion = Some(now);
                    self.broadcast(Queue::Member, id, &|w| claim.emit(w, SUSPECT));
                }
            }
            State::Alive if id == MemberId::SELF => self.refute(claim.incarnation),
            State::Alive => {
                let suspicion = Suspicion::new(&self.config.timing, self.size(), self.members.hash(claim.from));
                self.members.set_state(id, State::Suspect, now);
                let slot = self.members.get_mut(id);
                slot.incarnation = claim.incarnation;
                slot.suspicion = suspicion;
                // The first look finds out when the next is due.
                self.spread.suspicion = Some(now);
                self.broadcast(Queue::Member, id, &|w| claim.emit(w, SUSPECT));
            }
            State::Dead | State::Left | State::Free => {}
        }
    }

    pub(super) fn on_dead(&mut self, now: Instant, claim: &Claim<'_>) {
        let Some(id) = self.members.find(claim.node) else { return };
        let slot = self.members.get(id);
        if claim.incarnation < slot.incarnation || slot.state.is_gone() {
            return;
        }
        if id == MemberId::SELF && !self.is_leaving() {
            self.refute(claim.incarnation);
            return;
        }
        let state = if claim.from == claim.node { State::Left } else { State::Dead };
        self.members.set_state(id, state, now);
        self.members.get_mut(id).incarnation = claim.incarnation;
        self.broadcast(Queue::Member, id, &|w| claim.emit(w, DEAD));
        self.on_member_leave(id);
    }

    /// Suspicions that ran out.
    pub(super) fn on_suspicion_time(&mut self, now: Instant) {
        if self.spread.suspicion.is_none_or(|at| at > now) {
            return;
        }
        let mut earliest = None;
        let step = Duration::from_micros(self.config.timing.probe_timeout.as_micros() / 2);
        for at in 0..self.members.high() {
            let id = MemberId(at);
            let slot = *self.members.get(id);
            if slot.state != State::Suspect {
                continue;
            }
            let (due, is_call) = slot.suspicion.next(slot.changed, step);
            if due > now || (is_call && slot.suspicion.deadline(slot.changed) > now) {
                let mut next = due;
                if due <= now {
                    let suspicion = &mut self.members.get_mut(id).suspicion;
                    suspicion.call();
                    next = suspicion.next(slot.changed, step).0.max(now);
                    let seq = self.next_seq();
                    self.send(Packet::Ping { member: id, seq });
                }
                earliest = Some(earliest.map_or(next, |at: Instant| at.min(next)));
                continue;
            }
            let incarnation = slot.incarnation;
            self.members.set_state(id, State::Dead, now);
            let name = self.config.name;
            let members = &self.members;
            let claim = Claim { node: members.name(id), incarnation, from: name };
            let len = Writer::measure(|w| claim.emit(w, DEAD));
            if let Some(place) = self.queue.push(&mut self.outbox, Queue::Member, id, len) {
                claim.emit(&mut Writer::new(self.outbox.get_mut(place)), DEAD);
            }
            self.on_member_leave(id);
        }
        self.spread.suspicion = earliest;
    }

    pub(super) fn suspicion_deadline(&self) -> Option<Instant> {
        self.spread.suspicion
    }

    /// Answers an accusation, or somebody else's idea of us, with a higher incarnation (spec §7.3).
    pub(super) fn refute(&mut self, accused: u32) {
        self.members.touch();
        let own = self.members.get_mut(MemberId::SELF);
        own.incarnation = own.incarnation.saturating_add(1).max(accused.saturating_add(1));
        self.awareness.change(1);
        count(&mut self.stats.refuted);
        info!("refuting a rumour about ourselves with incarnation {}", self.members.get(MemberId::SELF).incarnation);
        self.announce_self();
    }

    /// Queues an alive message about ourselves.
    pub(super) fn announce_self(&mut self) {
        let id = MemberId::SELF;
        let slot = self.members.get(id);
        let alive = Alive {
            node: self.members.name(id),
            address: slot.address(),
            meta: self.members.meta(id),
            incarnation: slot.incarnation,
            vsn: Some(slot.vsn),
        };
        let len = Writer::measure(|w| alive.emit(w));
        if let Some(place) = self.queue.push(&mut self.outbox, Queue::Member, id, len) {
            alive.emit(&mut Writer::new(self.outbox.get_mut(place)));
        }
    }

    /// Queues a message for everybody.
    pub(super) fn broadcast(&mut self, queue: Queue, about: MemberId, emit: &dyn Fn(&mut Writer<'_>)) {
        let len = Writer::measure(emit);
        if let Some(place) = self.queue.push(&mut self.outbox, queue, about, len) {
            emit(&mut Writer::new(self.outbox.get_mut(place)));
        }
    }

    /// memberlist says that a member is there: serf's side of it (spec §9.2).
    fn on_member_join(&mut self, now: Instant, id: MemberId) {
        let node = self.members.hash(self.members.name(id));
        let intent = self.intents.take(now, node);
        let slot = self.members.get_mut(id);
        slot.set_status(MemberStatus::Alive);
        if let Some((leave, ltime)) = intent
            && ltime > slot.status_ltime
        {
            slot.status_ltime = ltime;
            if leave {
                slot.set_status(MemberStatus::Leaving);
            }
        }
        self.tell(Event::Member(MemberChange::Joined, id));
    }

    /// memberlist says that a member is gone, dead or left: serf knows from the intent which.
    fn on_member_leave(&mut self, id: MemberId) {
        let slot = self.members.get_mut(id);
        match slot.status() {
            MemberStatus::Leaving => {
                slot.set_status(MemberStatus::Left);
                self.tell(Event::Member(MemberChange::Left, id));
            }
            MemberStatus::Alive => {
                slot.set_status(MemberStatus::Failed);
                self.tell(Event::Member(MemberChange::Failed, id));
            }
            MemberStatus::Left | MemberStatus::Failed => {}
        }
    }

    /// Forgets a member and what is queued about it.
    pub(super) fn forget(&mut self, id: MemberId) {
        if id != MemberId::SELF && self.members.get(id).state.is_gone() {
            self.queue.withdraw(&mut self.outbox, id);
            self.members.remove(id);
        }
    }
}

impl PoolConfig<'_> {
    fn tag(&self, key: &str) -> &str {
        self.tags.iter().find(|tag| tag.0 == key).map_or("", |tag| tag.1)
    }

    /// The tags have our own node id.
    fn has_our_id(&self, meta: &[u8]) -> bool {
        let own = self.tag("id");
        !own.is_empty() && tags::parse(meta).any(|tag| tag == ("id", own))
    }

    /// Consul's admission rules for one record (spec §10.4): same datacenter and segment, nobody else's node id, servers
    /// only in a WAN pool. A plain serf pool takes everybody.
    pub(super) fn admits(&self, name: &str, meta: &[u8]) -> bool {
        if !self.consul_rules {
            return true;
        }
        let tag = |key: &str| tags::parse(meta).find(|tag| tag.0 == key).map_or("", |tag| tag.1);
        let role = tag("role");
        if self.servers_only {
            return role == "consul";
        }
        let known_role = role == "node" || role == "consul";
        !(known_role && tag("dc") != self.tag("dc"))
            && tag("segment") == self.tag("segment")
            && (name == self.name || !self.has_our_id(meta))
    }
}
