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

    /// The filling order, smallest first.
    fn key(&self) -> Key {
        (self.queue, self.transmits, u16::MAX - self.place.len() as u16, u32::MAX - self.serial)
    }
}

/// See [`BroadcastSlot::key`].
type Key = (Queue, u8, u16, u32);

/// Messages looked for at once when a packet is filled.
const BATCH: usize = 16;

/// The queue: the first `queued` slots, in no order.
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
        if queue == Queue::Member && subject != MemberId::NOBODY {
            self.withdraw(pack, subject);
        }
        while self.queued == self.slots.len() || pack.room() < len {
            self.drop_most_sent(pack)?;
        }
        let slot = self.queued;
        let slots = &mut *self.slots;
        let place = pack.push(slot as u16, len, &mut |owner, _, new| {
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

    /// What is queued about `subject` goes on its way, but the number is given to another member.
    pub fn orphan(&mut self, subject: MemberId) {
        let about = |slot: &&mut BroadcastSlot| slot.queue == Queue::Member && slot.subject == subject;
        self.slots[..self.queued].iter_mut().filter(about).for_each(|slot| slot.subject = MemberId::NOBODY);
    }

    /// Takes out what is queued about `subject`.
    pub fn withdraw(&mut self, pack: &mut Pack<'_>, subject: MemberId) {
        let about = |slot: &BroadcastSlot| slot.queue == Queue::Member && slot.subject == subject;
        while let Some(slot) = self.slots[..self.queued].iter().position(about) {
            self.release(pack, slot);
        }
    }

    /// True while a message of `queue` about `subject` (or, for other queues, any) waits for transmissions.
    pub fn contains(&self, queue: Queue, subject: Option<MemberId>) -> bool {
        let wanted =
            |slot: &BroadcastSlot| slot.queue == queue && subject.is_none_or(|subject| slot.subject == subject);
        self.slots[..self.queued].iter().any(wanted)
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
        loop {
            // What does not fit now will not fit later, so the first few in order can be gone through at once.
            let batch = self.first_in_order(overhead, room);
            for &(_, slot) in &batch {
                let slot = &mut self.slots[usize::from(slot)];
                let cost = slot.place.len() + overhead;
                if parts == 0 || cost > room {
                    continue;
                }
                take(pack.get(slot.place));
                (room, parts) = (room - cost, parts - 1);
                slot.packet = self.packet;
                slot.transmits += 1;
            }
            if parts == 0 || !batch.is_full() {
                break;
            }
        }
        // From the end, so that what fills a gap has been looked at.
        for slot in (0..self.queued).rev() {
            if self.slots[slot].transmits >= limit {
                self.release(pack, slot);
            }
        }
    }

    /// The first few that are not in this packet and fit into `room`, in order.
    fn first_in_order(&self, overhead: usize, room: usize) -> heapless::Vec<(Key, u16), BATCH> {
        let mut first: heapless::Vec<(Key, u16), BATCH> = heapless::Vec::new();
        for (at, slot) in self.slots[..self.queued].iter().enumerate() {
            if slot.packet == self.packet || slot.place.len() + overhead > room {
                continue;
            }
            let entry = (slot.key(), at as u16);
            if first.is_full() {
                if first.last().is_some_and(|last| *last < entry) {
                    continue;
                }
                first.pop();
            }
            let place = first.partition_point(|known| *known < entry);
            // There is room now.
            let _ = first.insert(place, entry);
        }
        first
    }

    fn drop_most_sent(&mut self, pack: &mut Pack<'_>) -> Option<()> {
        let (slot, _) = self.slots[..self.queued].iter().enumerate().max_by_key(|(_, slot)| slot.key())?;
        self.release(pack, slot);
        self.dropped = self.dropped.saturating_add(1);
        Some(())
    }

    fn release(&mut self, pack: &mut Pack<'_>, slot: usize) {
        pack.free(self.slots[slot].place);
        self.queued -= 1;
        // The last one fills the gap.
        if slot < self.queued {
            self.slots[slot] = self.slots[self.queued];
            pack.set_owner(self.slots[slot].place, slot as u16);
        }
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

    #[test]
    fn batches_give_the_same_order_as_one_at_a_time() {
        let mut rng = crate::rand::Rng::from_seed(&[3; 32]);
        let (mut slots, mut memory) = ([BroadcastSlot::EMPTY; 100], [0; 6000]);
        let (mut queue, mut pack) = (Broadcasts::new(&mut slots), Pack::new(&mut memory));
        for round in 0..400u32 {
            for _ in 0..rng.below(30) {
                let kind = [Queue::Member, Queue::Intent, Queue::Query, Queue::Event][rng.below(4)];
                let (subject, len) = (rng.below(60) as u16, 4 + rng.below(90));
                let mut text = vec![subject as u8; len];
                text[..4].copy_from_slice(&round.to_le_bytes());
                push(&mut queue, &mut pack, kind, subject, &text);
            }
            let (room, limit) = (rng.below(1400), 1 + rng.below(5) as u8);
            // The plain way: the smallest that fits, again and again.
            let (mut expected, mut left) = (Vec::new(), room);
            let mut waiting: Vec<&BroadcastSlot> = queue.slots[..queue.queued].iter().collect();
            waiting.sort_by_key(|slot| slot.key());
            for slot in waiting {
                if slot.place.len() + 2 <= left {
                    left -= slot.place.len() + 2;
                    expected.push(pack.get(slot.place).to_vec());
                }
            }
            assert_eq!(filled(&mut queue, &mut pack, room, limit), expected, "round {round}");
            assert!(queue.slots[..queue.queued].iter().all(|slot| slot.transmits < limit));
        }
        assert!(queue.dropped > 0, "the test must fill the queue");
    }
}
