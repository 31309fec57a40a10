//! One failure-detection round after another (gossip spec §7.4): direct ping, then indirect pings and a TCP ping, then
//! suspicion.

use core::net::SocketAddr;

use super::{Pool, stats::count, transmit::Packet};
use crate::{
    membership::members::{MemberId, State},
    serf::coordinate::{COORDINATES, median_of_three},
    time::{Duration, Instant, earliest},
    wire::{
        coordinate::Coordinate,
        gossip::{Ack, Claim, IndirectPing},
    },
};

/// The round under way, and when the next one begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    /// Position in the probe order.
    ring: usize,
    next: Instant,
    round: Option<Round>,
}

#[derive(Clone, Copy, Debug)]
struct Round {
    target: MemberId,
    seq: u32,
    started: Instant,
    /// When the direct ping has failed; `None` once the others were asked.
    direct: Option<Instant>,
    /// When to ping once more, should the ping or its ack have got lost.
    again: Instant,
    /// It was done, so that an ack does not tell which ping it is for.
    repeated: bool,
    end: Instant,
    nacks_wanted: u8,
    nacks: u8,
    acked: bool,
    /// The TCP ping was answered.
    reached_by_tcp: bool,
}

impl Probe {
    pub fn new(first: Instant) -> Self {
        Probe { ring: 0, next: first, round: None }
    }
}

impl Pool<'_> {
    pub(super) fn probe_deadline(&self) -> Option<Instant> {
        let mut relays = self.relays.iter().filter(|slot| slot.used).map(|slot| slot.deadline);
        let round = match &self.probe.round {
            Some(_) => self.probe_due().map(|due| due.min(self.probe.round.map_or(due, |round| round.again))),
            // With nobody to probe there is nothing to wake up for.
            None => (self.members.len() > self.members.gone() + 1).then_some(self.probe.next),
        };
        earliest(&mut [earliest(&mut relays), round].into_iter().flatten())
    }

    pub(super) fn on_probe_time(&mut self, now: Instant) {
        self.on_relay_time(now);
        if let Some(round) = self.probe.round {
            if round.direct.is_some_and(|at| at <= now) {
                self.ask_others(now, round);
            }
            self.ping_again(now);
            if round.end <= now {
                self.end_round(now);
            }
        }
        if self.probe.round.is_none() && self.probe.next <= now {
            self.begin_round(now);
        }
    }

    fn begin_round(&mut self, now: Instant) {
        let timing = &self.config.timing;
        let interval = timing.probe_interval.saturating_mul(u64::from(self.awareness.score()) + 1);
        self.probe.next = now + timing.probe_interval;
        let Some(target) = self.next_target(now) else { return };
        let seq = self.next_seq();
        self.probe.round = Some(Round {
            target,
            seq,
            started: now,
            direct: Some(now + self.config.timing.probe_timeout),
            // Half of the time in which an ack counts as direct: it is far quicker unless something got lost.
            again: now + Duration::from_micros(self.config.timing.probe_timeout.as_micros() / 2),
            repeated: false,
            end: now + interval,
            nacks_wanted: 0,
            nacks: 0,
            acked: false,
            reached_by_tcp: false,
        });
        self.probe.next = now + interval;
        self.send(Packet::Ping { member: target, seq });
    }

    /// The next member in probe order that can be probed. At the end of the order the long dead are forgotten and a new
    /// order begins.
    fn next_target(&mut self, now: Instant) -> Option<MemberId> {
        let mut wrapped = false;
        loop {
            match self.members.in_ring(self.probe.ring) {
                None if wrapped => return None,
                None => {
                    wrapped = true;
                    self.probe.ring = 0;
                    self.forget_long_dead(now);
                    self.members.shuffle(&mut self.rng);
                }
                Some(id) => {
                    self.probe.ring += 1;
                    let state = self.members.get(id).state;
                    if id != MemberId::SELF && matches!(state, State::Alive | State::Suspect) {
                        return Some(id);
                    }
                }
            }
        }
    }

    /// When something of the round is judged.
    pub(super) fn probe_due(&self) -> Option<Instant> {
        self.probe.round.map(|round| round.direct.unwrap_or(round.end))
    }

    /// Pings once more in a round without an ack. The reference relies on others and TCP for that; where much gets lost,
    /// each of those needs four or more packets to arrive, and a second ping two.
    fn ping_again(&mut self, now: Instant) {
        let Some(round) = self.probe.round.as_mut().filter(|round| round.again <= now) else { return };
        // After twice the time each, as a stretched round lasts seconds.
        round.again = now + now.saturating_since(round.started);
        if !round.acked && round.end > now {
            round.repeated = true;
            let packet = Packet::Ping { member: round.target, seq: round.seq };
            self.send(packet);
        }
    }

    fn ask_others(&mut self, now: Instant, mut round: Round) {
        round.direct = None;
        let target = *self.members.get(round.target);
        let source = self.config.advertise_in_pings.then_some(self.config.advertise);
        let source_node = if source.is_some() { self.config.name } else { "" };
        // A name cannot change while its slot is in use, and a target forgotten in the round ends it below.
        let mut asked = [MemberId::SELF; 8];
        for place in 0..usize::from(self.config.timing.indirect_checks).min(asked.len()) {
            let chosen = self.members.random(&mut self.rng, &mut |id, slot| {
                id != round.target && slot.state == State::Alive && !asked.contains(&id)
            });
            let Some(helper) = chosen else { break };
            asked[place] = helper;
            let slot = self.members.get(helper);
            let (to, nack) = (slot.address(), slot.vsn[1] >= 4);
            round.nacks_wanted += u8::from(nack);
            let (seq, address) = (round.seq, target.address());
            let mut name = [0; crate::wire::gossip::MAX_NAME];
            let node = copy_name(self.members.name(round.target), &mut name);
            self.send_written(to, true, &|w| {
                IndirectPing { node, target: address, seq, nack, source, source_node }.emit(w);
            });
        }
        self.probe.round = Some(round);
        if target.vsn[1] >= 3 {
            self.dial_ping(now, target.address(), round.target, round.seq, round.end);
        }
    }

    fn end_round(&mut self, now: Instant) {
        let Some(round) = self.probe.round.take() else { return };
        if round.acked {
            return;
        }
        let target = self.members.get(round.target);
        if !matches!(target.state, State::Alive | State::Suspect) {
            return;
        }
        if round.reached_by_tcp {
            count(&mut self.stats.udp_broken);
            warn!("{} answers over TCP but not over UDP: is its UDP port blocked?", self.members.name(round.target));
            return;
        }
        let missing = round.nacks_wanted.saturating_sub(round.nacks);
        self.awareness.change(if round.nacks_wanted > 0 { missing as i8 } else { 1 });
        count(&mut self.stats.suspected);
        let incarnation = target.incarnation;
        let mut name = [0; crate::wire::gossip::MAX_NAME];
        let node = copy_name(self.members.name(round.target), &mut name);
        let from = self.config.name;
        self.on_suspect(now, &Claim { node, incarnation, from });
    }

    pub(super) fn on_probe_ack(&mut self, now: Instant, from: SocketAddr, ack: &Ack<'_>) {
        let Some(round) = self.probe.round.as_mut().filter(|round| round.seq == ack.seq && !round.acked) else {
            return;
        };
        round.acked = true;
        let (target, direct, started) = (round.target, round.direct.is_some(), round.started);
        round.direct = None;
        round.again = round.end;
        let timed = direct && !round.repeated;
        self.awareness.change(-1);
        let itself = direct || self.members.get(target).address() == from;
        self.on_reached(target, itself);
        // Only a direct ack of the one ping measures the way to the member itself.
        if COORDINATES && timed {
            let rtt = u32::try_from(now.saturating_since(started).as_micros()).unwrap_or(u32::MAX);
            match Coordinate::parse(ack.payload) {
                Ok(Some(other)) => {
                    if let Some(place) = self.places.get_mut(usize::from(target.0)) {
                        *place = Some(other);
                    }
                    let median = median_of_three(&mut self.members.get_mut(target).rtt, rtt);
                    self.vivaldi.update(&mut self.rng, &other, f64::from(median) / 1e6);
                }
                Ok(None) => {}
                Err(_) => count(&mut self.stats.coordinates_refused),
            }
        }
    }

    pub(super) fn on_nack(&mut self, now: Instant, seq: u32) {
        if let Some(round) = self.probe.round.as_mut().filter(|round| round.seq == seq && now <= round.end) {
            round.nacks = round.nacks.saturating_add(1);
        }
    }

    /// We stood still for `late`: so much longer lasts the round.
    pub(super) fn delay_probe(&mut self, late: Duration) {
        if let Some(round) = &mut self.probe.round {
            round.started = round.started + late;
            round.direct = round.direct.map(|at| at + late);
            round.end = round.end + late;
            round.again = round.again + late;
        }
    }

    /// A slot has another member: a round that was about the former one is over.
    pub(super) fn forget_probe(&mut self, id: MemberId) {
        self.probe.round = self.probe.round.filter(|round| round.target != id);
    }

    /// The TCP ping of the round `seq` was answered.
    pub(super) fn on_tcp_pong(&mut self, seq: u32) {
        if let Some(round) = self.probe.round.as_mut().filter(|round| round.seq == seq) {
            round.reached_by_tcp = true;
        }
    }
}

/// A name out of the table, so that the table can change while it is used.
pub(super) fn copy_name<'b>(name: &str, out: &'b mut [u8; crate::wire::gossip::MAX_NAME]) -> &'b str {
    let len = name.len().min(out.len());
    out[..len].copy_from_slice(&name.as_bytes()[..len]);
    core::str::from_utf8(&out[..len]).unwrap_or("")
}
