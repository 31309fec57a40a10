//! What was seen before, so that it is neither delivered nor passed on twice.
//!
//! The reference keeps 512 Lamport times of events and of queries, each with a list of what happened then. Here it is a
//! list of hashes of any length, and one rule that keeps a short list safe: the earliest entry makes room, and nothing of
//! its time or before can be proven new any more, so it counts as old (gossip spec §11.2).

use crate::time::{Duration, Instant};

/// One message seen.
#[derive(Clone, Copy, Debug)]
pub struct SeenSlot {
    ltime: u64,
    hash: u32,
    used: bool,
}

impl SeenSlot {
    /// A free slot; all zero bits.
    pub const EMPTY: SeenSlot = SeenSlot { ltime: 0, hash: 0, used: false };
}

/// Lamport times this far behind the clock are too old whatever the ring says.
pub(super) const WINDOW: u64 = 512;

/// Messages seen.
#[derive(Debug)]
pub(crate) struct Seen<'m> {
    slots: &'m mut [SeenSlot],
    /// Times up to this one cannot be proven new.
    floor: u64,
}

impl<'m> Seen<'m> {
    /// Nothing was seen but what is not later than `floor`.
    pub fn new(slots: &'m mut [SeenSlot], floor: u64) -> Self {
        slots.fill(SeenSlot::EMPTY);
        Seen { slots, floor }
    }

    /// Nothing before `ltime` is wanted: a join that ignores old events.
    pub fn ignore_before(&mut self, ltime: u64) {
        self.floor = self.floor.max(ltime.saturating_sub(1));
    }

    /// Remembers a message; true when it is certainly new. `clock` is the clock after witnessing it.
    pub fn is_new(&mut self, clock: u64, ltime: u64, hash: u32) -> bool {
        if ltime <= self.floor || ltime.saturating_add(WINDOW) < clock {
            return false;
        }
        if self.slots.iter().any(|slot| slot.used && slot.ltime == ltime && slot.hash == hash) {
            return false;
        }
        let Some(slot) = self.slots.iter_mut().min_by_key(|slot| (slot.used, slot.ltime)) else { return false };
        if slot.used {
            // What is forgotten may be this message itself, when it is earlier than all of them.
            self.floor = self.floor.max(slot.ltime.min(ltime));
        }
        if !slot.used || slot.ltime < ltime {
            *slot = SeenSlot { ltime, hash, used: true };
        }
        true
    }
}

/// An intent about a member that is not in the table yet.
#[derive(Clone, Copy, Debug)]
pub struct IntentSlot {
    at: Instant,
    ltime: u64,
    node: u32,
    leave: bool,
    used: bool,
}

impl IntentSlot {
    /// A free slot; all zero bits.
    pub const EMPTY: IntentSlot = IntentSlot { at: Instant::ZERO, ltime: 0, node: 0, leave: false, used: false };
}

/// Intents are remembered this long (serf's RecentIntentTimeout).
const RECENT: Duration = Duration::from_secs(300);

/// Recent intents about unknown members, by hash of their name. As with [`Seen`], what made room takes with it the proof
/// that anything of its time is new: or two members with short lists would pass the same intents on for ever.
#[derive(Debug)]
pub(crate) struct Intents<'m> {
    slots: &'m mut [IntentSlot],
    floor: u64,
}

impl<'m> Intents<'m> {
    pub fn new(slots: &'m mut [IntentSlot]) -> Self {
        slots.fill(IntentSlot::EMPTY);
        Intents { slots, floor: 0 }
    }

    /// Remembers an intent; true when it is certainly newer than what is known and worth passing on. The earliest makes
    /// room.
    pub fn remember(&mut self, now: Instant, node: u32, leave: bool, ltime: u64) -> bool {
        let is_over = |slot: &IntentSlot| !slot.used || now.saturating_since(slot.at) > RECENT;
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.node == node && !is_over(slot)) {
            if ltime <= slot.ltime {
                return false;
            }
            *slot = IntentSlot { at: now, ltime, node, leave, used: true };
            return true;
        }
        let Some(slot) = self.slots.iter_mut().min_by_key(|slot| (!is_over(slot), slot.ltime)) else { return false };
        if ltime <= self.floor {
            return false;
        }
        if !is_over(slot) {
            self.floor = self.floor.max(slot.ltime.min(ltime));
        }
        if is_over(slot) || slot.ltime < ltime {
            *slot = IntentSlot { at: now, ltime, node, leave, used: true };
        }
        true
    }

    /// Takes the intent about a member that has just appeared: (is a leave, Lamport time).
    pub fn take(&mut self, now: Instant, node: u32) -> Option<(bool, u64)> {
        let slot = self.slots.iter_mut().find(|slot| slot.used && slot.node == node)?;
        let found = core::mem::replace(slot, IntentSlot::EMPTY);
        (now.saturating_since(found.at) <= RECENT).then_some((found.leave, found.ltime))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_short_list_cannot_prove_new_is_old() {
        let mut slots = [SeenSlot::EMPTY; 2];
        let mut seen = Seen::new(&mut slots, 0);
        assert!(seen.is_new(5, 3, 10));
        assert!(!seen.is_new(5, 3, 10));
        assert!(seen.is_new(5, 3, 11));
        // One of time 3 is forgotten: from now on nothing of time 3 is new.
        assert!(seen.is_new(6, 5, 12));
        assert!(!seen.is_new(6, 3, 10));
        assert!(!seen.is_new(6, 2, 99));
        assert!(!seen.is_new(1000, 100, 1));
    }

    #[test]
    fn newest_first_is_no_reason_to_forget_the_newest() {
        let mut slots = [SeenSlot::EMPTY; 3];
        let mut seen = Seen::new(&mut slots, 0);
        for ltime in [9, 8, 7] {
            assert!(seen.is_new(10, ltime, 1));
        }
        assert!(seen.is_new(10, 6, 1), "new, though there is no room to remember it");
        assert!(!seen.is_new(10, 6, 1));
        assert!(!seen.is_new(10, 5, 1), "it might be a duplicate");
        assert!(seen.is_new(11, 10, 1));
        assert!((7..=10).all(|ltime| !seen.is_new(11, ltime, 1)));
    }

    #[test]
    fn intents_expire_and_newer_ones_win() {
        let mut slots = [IntentSlot::EMPTY; 2];
        let mut intents = Intents::new(&mut slots);
        let at = |secs| Instant::ZERO + Duration::from_secs(secs);
        assert!(intents.remember(at(0), 1, false, 5));
        assert!(!intents.remember(at(1), 1, true, 5));
        assert!(intents.remember(at(1), 1, true, 6));
        assert!(intents.remember(at(2), 2, false, 1));
        assert!(intents.remember(at(3), 3, false, 7));
        assert_eq!(intents.take(at(3), 2), None, "the earliest made room");
        assert_eq!(intents.take(at(400), 1), None);
        assert_eq!(intents.take(at(4), 3), Some((false, 7)));
    }

    #[test]
    fn an_intent_that_made_room_is_never_new_again() {
        let mut slots = [IntentSlot::EMPTY; 2];
        let mut intents = Intents::new(&mut slots);
        let at = |secs| Instant::ZERO + Duration::from_secs(secs);
        let mut passed_on = 0;
        // Ten members' intents go round and round, as between devices whose lists are short.
        for round in 0..100 {
            for node in 0..10 {
                passed_on += u32::from(intents.remember(at(round), node, false, 100 + u64::from(node)));
            }
        }
        assert_eq!(passed_on, 10);
        assert!(intents.remember(at(100), 3, true, 200), "a later one is news");
    }
}
