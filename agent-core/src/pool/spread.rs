//! What happens by the clock: gossip rounds, push/pulls, reaping and reconnecting (gossip spec §7.6, §9.8).

use super::{Event, MemberChange, MemberStatus, Pool, transmit::Packet};
use crate::{
    config::Timing,
    membership::{
        members::{MemberId, State},
        suspicion::log10_milli,
    },
    rand::Rng,
    time::{Duration, Instant},
};

/// The least logarithm of a pool's size that broadcasts are transmitted for.
const LEAST_TENS: u64 = 3;

/// Deadlines that are always armed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timers {
    /// The next gossip round; it only counts while something is queued.
    gossip: Instant,
    pub push_pull: Instant,
    reap: Instant,
    reconnect: Instant,
    /// The earliest suspicion to run out.
    pub suspicion: Option<Instant>,
}

impl Timers {
    pub fn new(timing: &Timing, now: Instant, rng: &mut Rng) -> Self {
        Timers {
            gossip: now + rng.up_to(timing.gossip_interval),
            push_pull: now + rng.up_to(timing.push_pull_interval),
            reap: now + timing.reap_interval,
            reconnect: now + timing.reconnect_interval,
            suspicion: None,
        }
    }
}

impl Pool<'_> {
    pub(super) fn gossip_deadline(&self) -> Option<Instant> {
        let somebody = self.members.len() > 1;
        (somebody && !self.queue.is_empty()).then_some(self.spread.gossip)
    }

    pub(super) fn push_pull_deadline(&self) -> Option<Instant> {
        (self.members.len() > self.members.gone() + 1 && !self.is_leaving()).then_some(self.spread.push_pull)
    }

    pub(super) fn reap_deadline(&self) -> Option<Instant> {
        (self.members.gone() > 0).then_some(self.spread.reap.min(self.spread.reconnect))
    }

    pub(super) fn on_spread_time(&mut self, now: Instant) {
        if self.spread.gossip <= now {
            self.gossip(now);
            self.spread.gossip = now + self.config.timing.gossip_interval;
        }
        if self.spread.push_pull <= now {
            self.spread.push_pull = now + self.push_pull_interval();
            if !self.is_leaving() {
                // A server first, so that one knows of us; and among servers every other time, because a state full of
                // devices would hardly ever meet another full one.
                let wanted = !self.join.met_server || (self.is_server() && self.rng.below(2) == 0);
                let server = self.config.consul_rules && wanted && self.members.servers() > 0;
                let other = self
                    .members
                    .random(&mut self.rng, &mut |_, slot| slot.state == State::Alive && (!server || slot.is_server()));
                if let Some(other) = other {
                    self.begin_push_pull(now, other);
                }
            }
        }
        if self.spread.reap <= now {
            self.spread.reap = now + self.config.timing.reap_interval;
            self.reap(now);
        }
        if self.spread.reconnect <= now {
            self.spread.reconnect = now + self.config.timing.reconnect_interval;
            self.reconnect(now);
        }
    }

    /// We are a Consul server.
    pub(super) fn is_server(&self) -> bool {
        self.members.get(MemberId::SELF).is_server()
    }

    /// Transmissions of one broadcast (spec §7.6). The formula lets a broadcast miss one of n members with a chance of
    /// about n × e^-limit: with 4 transmissions among 9 members some events in a hundred wait for the next full exchange
    /// with somebody. A small pool therefore transmits as often as one of 100 members, which costs it little.
    pub(super) fn transmit_limit(&self) -> u8 {
        let tens = log10_milli(self.size() + 1).div_ceil(1000).clamp(LEAST_TENS, 16) as u8;
        self.config.timing.retransmit_mult.saturating_mul(tens)
    }

    /// A full exchange gets rarer as the cluster grows: × (⌈log₂ n − 5⌉ + 1) above 32 members.
    fn push_pull_interval(&self) -> Duration {
        let n = self.size();
        let factor = if n > 32 { n.next_power_of_two().trailing_zeros() - 5 + 1 } else { 1 };
        self.config.timing.push_pull_interval.saturating_mul(factor.into())
    }

    fn gossip(&mut self, now: Instant) {
        if self.queue.is_empty() {
            return;
        }
        let mut chosen = [MemberId::SELF; 8];
        let to_the_dead = self.config.timing.gossip_to_the_dead;
        // Where tables are partial, most members tell nobody of those they do not know. Servers know everybody: they hear of
        // each other what there is, and of devices what these say.
        let to_server = (self.members.is_full() || self.is_server()) && self.members.servers() > 0;
        for place in 0..usize::from(self.config.timing.gossip_nodes).min(chosen.len()) {
            let other = self.members.random(&mut self.rng, &mut |id, slot| {
                let listens = match slot.state {
                    State::Alive | State::Suspect => true,
                    State::Dead => now.saturating_since(slot.changed) <= to_the_dead,
                    State::Left | State::Free => false,
                };
                listens && !chosen.contains(&id) && (place > 0 || !to_server || slot.is_server())
            });
            let Some(other) = other else { break };
            chosen[place] = other;
            self.send(Packet::Gossip { member: other });
        }
    }

    /// memberlist forgets the dead after a while, whatever serf remembers of them. Here both share one table, so this only
    /// marks where an alive of any incarnation is believed again.
    pub(super) fn forget_long_dead(&mut self, now: Instant) {
        for at in 1..self.members.high() {
            let slot = self.members.get_mut(MemberId(at));
            let dead_for = now.saturating_since(slot.changed);
            if slot.state == State::Dead && dead_for > self.config.timing.gossip_to_the_dead {
                slot.incarnation = 0;
            }
        }
    }

    fn reap(&mut self, now: Instant) {
        let timing = &self.config.timing;
        for at in 1..self.members.high() {
            let slot = self.members.get(MemberId(at));
            let limit = match slot.status() {
                _ if !slot.state.is_gone() => continue,
                MemberStatus::Left => timing.tombstone_timeout,
                MemberStatus::Failed => timing.reconnect_timeout,
                MemberStatus::Alive | MemberStatus::Leaving => continue,
            };
            if now.saturating_since(slot.changed) > limit {
                self.tell(Event::Member(MemberChange::Reaped, MemberId(at)));
            }
        }
    }

    /// Tries a failed member's last address, more often the more have failed.
    fn reconnect(&mut self, now: Instant) {
        let failed =
            |slot: &crate::membership::MemberSlot| slot.state.is_gone() && slot.status() == MemberStatus::Failed;
        let count = self.members.ids().filter(|&id| failed(self.members.get(id))).count();
        let alive = (self.members.len() - self.members.gone()).max(1);
        if count == 0 || self.is_leaving() || self.rng.below(alive) >= count {
            return;
        }
        if let Some(other) = self.members.random(&mut self.rng, &mut |_, slot| failed(slot)) {
            let address = self.members.get(other).address();
            self.begin_reconnect(now, address);
        }
    }
}
