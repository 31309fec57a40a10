//! Queued gossip with a transmit limit (gossip spec §7.6).
//!
//! Every packet is filled from here, whether it is a gossip round or a ping with room left. Fewest transmissions go
//! first, then the longest that still fits, then the newest. A newer message about a member displaces an older one.

use crate::{
    membership::members::MemberId,
    memory::{Pack, Place},
};

/// Whose message it is; also the order in which a packet is filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Queue {
    /// Alive, suspect, dead.
    #[default]
    Member,
    /// Join and leave intents.
    Intent,
    /// Queries.
    Query,
    /// User events.
    Event,
}

/// One queued message.
#[derive(Clone, Copy, Debug)]
pub struct BroadcastSlot {
    /// Empty: the slot is free.
    place: Place,
    queue: Queue,
    transmits: u8,
    /// The member that a `Queue::Member` message is about.
    subject: MemberId,
    /// Grows with every message, so that the newest is known.
    serial: u32,
    /// The packet that it went into last, so that it does not go into one twice.
    packet: u32,
}

impl BroadcastSlot {
    /// A free slot; all zero bits.
    pub const EMPTY: BroadcastSlot = BroadcastSlot {
        place: Place::EMPTY,
        queue: Queue::Member,
        transmits: 0,
        subject: MemberId(0),
        serial: 0,
        packet: 0,
    };

    fn is_free(&self) -> bool {
        self.place.is_empty()
    }

    /// The filling order, smallest first.
    fn key(&self) -> (Queue, u8, u16, u32) {
        (self.queue, self.transmits, u16::MAX - self.place.len() as u16, u32::MAX - self.serial)
    }
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Broadcasts<'m> {
    slots: &'m mut [BroadcastSlot],
    serial: u32,
    packet: u32,
    queued: usize,
    /// Messages displaced unsent because the queue was full.
    pub dropped: u32,
}

impl<'m> Broadcasts<'m> {
    pub fn new(slots: &'m mut [BroadcastSlot]) -> Self {
        slots.fill(BroadcastSlot::EMPTY);
        Broadcasts { slots, serial: 0, packet: 0, queued: 0, dropped: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Messages queued.
    pub fn len(&self) -> usize {
        self.queued
    }

    /// Queues a message of `len` octets and returns the place to write it to. `None`: it is longer than all the memory.
    pub fn push(&mut self, pack: &mut Pack<'_>, queue: Queue, subject: MemberId, len: usize) -> Option<Place> {
        if queue == Queue::Member {
            self.withdraw(pack, subject);
        }
        let slot = match self.slots.iter().position(BroadcastSlot::is_free) {
            Some(slot) => slot,
            None => self.drop_most_sent(pack)?,
        };
        while pack.room() < len {
            self.drop_most_sent(pack)?;
        }
        let slots = &mut *self.slots;
        let place = pack.push(slot as u16, len, |owner, _, new| {
            if let Some(slot) = slots.get_mut(usize::from(owner)) {
                slot.place = new;
            }
        })?;
        self.serial = self.serial.wrapping_add(1);
        self.slots[slot] =
            BroadcastSlot { place, queue, transmits: 0, subject, serial: self.serial, packet: self.packet };
        self.queued += 1;
        Some(place)
    }

    /// Takes out what is queued about `subject`.
    pub fn withdraw(&mut self, pack: &mut Pack<'_>, subject: MemberId) {
        for slot in 0..self.slots.len() {
            let found = &self.slots[slot];
            if !found.is_free() && found.queue == Queue::Member && found.subject == subject {
                self.release(pack, slot);
            }
        }
    }

    /// True while a message of `queue` about `subject` (or, for other queues, any) waits for transmissions.
    pub fn contains(&self, queue: Queue, subject: Option<MemberId>) -> bool {
        self.slots
            .iter()
            .any(|slot| !slot.is_free() && slot.queue == queue && subject.is_none_or(|subject| slot.subject == subject))
    }

    /// Calls `take` with each message that goes into a packet with `room` octets, where each costs `overhead` more than
    /// its length, at most `parts` of them. Each taken message is one transmission older, and gone at `limit`.
    pub fn fill(
        &mut self,
        pack: &mut Pack<'_>,
        mut room: usize,
        overhead: usize,
        mut parts: usize,
        limit: u8,
        take: &mut dyn FnMut(&[u8]),
    ) {
        self.packet = self.packet.wrapping_add(1);
        while self.queued > 0 && parts > 0 && room > overhead {
            let packet = self.packet;
            let fits =
                |slot: &BroadcastSlot| !slot.is_free() && slot.packet != packet && slot.place.len() + overhead <= room;
            let fitting = self.slots.iter().enumerate().filter(|(_, slot)| fits(slot));
            let Some((slot, _)) = fitting.min_by_key(|(_, slot)| slot.key()) else { break };
            self.slots[slot].packet = packet;
            take(pack.get(self.slots[slot].place));
            room -= self.slots[slot].place.len() + overhead;
            parts -= 1;
            self.slots[slot].transmits += 1;
            if self.slots[slot].transmits >= limit {
                self.release(pack, slot);
            }
        }
    }

    fn drop_most_sent(&mut self, pack: &mut Pack<'_>) -> Option<usize> {
        let used = self.slots.iter().enumerate().filter(|(_, slot)| !slot.is_free());
        let (slot, _) = used.max_by_key(|(_, slot)| slot.key())?;
        self.release(pack, slot);
        self.dropped = self.dropped.saturating_add(1);
        Some(slot)
    }

    fn release(&mut self, pack: &mut Pack<'_>, slot: usize) {
        pack.free(self.slots[slot].place);
        self.slots[slot] = BroadcastSlot::EMPTY;
        self.queued -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(queue: &mut Broadcasts<'_>, pack: &mut Pack<'_>, room: usize, limit: u8) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        queue.fill(pack, room, 2, 127, limit, &mut |message| taken.push(message.to_vec()));
        taken
    }

    fn push(queue: &mut Broadcasts<'_>, pack: &mut Pack<'_>, kind: Queue, subject: u16, text: &[u8]) {
        let place = queue.push(pack, kind, MemberId(subject), text.len()).unwrap();
        pack.get_mut(place).copy_from_slice(text);
    }

    #[test]
    fn fewest_sent_then_longest_then_newest() {
        let (mut slots, mut memory) = ([BroadcastSlot::EMPTY; 8], [0; 200]);
        let (mut queue, mut pack) = (Broadcasts::new(&mut slots), Pack::new(&mut memory));
        push(&mut queue, &mut pack, Queue::Event, 0, b"event");
        push(&mut queue, &mut pack, Queue::Member, 1, b"aa");
        push(&mut queue, &mut pack, Queue::Member, 2, b"bbbb");
        push(&mut queue, &mut pack, Queue::Member, 3, b"cc");
        assert_eq!(filled(&mut queue, &mut pack, 12, 3), [b"bbbb".to_vec(), b"cc".to_vec()]);
        assert_eq!(filled(&mut queue, &mut pack, 10, 3), [b"aa".to_vec(), b"bbbb".to_vec()]);
        push(&mut queue, &mut pack, Queue::Member, 1, b"newer about one");
        // Each goes into a packet once, however much room there is.
        let rest = filled(&mut queue, &mut pack, 100, 3);
        assert_eq!(rest, [b"newer about one".to_vec(), b"cc".to_vec(), b"bbbb".to_vec(), b"event".to_vec()]);
        assert_eq!(queue.len(), 3, "bbbb reached the limit");
    }

    #[test]
    fn a_full_queue_drops_the_most_sent() {
        let (mut slots, mut memory) = ([BroadcastSlot::EMPTY; 2], [0; 64]);
        let (mut queue, mut pack) = (Broadcasts::new(&mut slots), Pack::new(&mut memory));
        push(&mut queue, &mut pack, Queue::Member, 1, &[1; 20]);
        filled(&mut queue, &mut pack, 100, 9);
        push(&mut queue, &mut pack, Queue::Member, 2, &[2; 20]);
        push(&mut queue, &mut pack, Queue::Member, 3, &[3; 20]);
        assert_eq!(queue.dropped, 1);
        assert!(!queue.contains(Queue::Member, Some(MemberId(1))));
        // Too long for slots' memory together with others, but not alone.
        push(&mut queue, &mut pack, Queue::Member, 4, &[4; 60]);
        assert_eq!(queue.len(), 1);
        assert!(queue.push(&mut pack, Queue::Member, MemberId(5), 61).is_none());
    }
}
