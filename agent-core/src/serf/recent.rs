//! Recent user events: kept until they are delivered, and after that for others, who get them by push/pull (gossip spec
//! §9.3, §9.4).
//!
//! The reference keeps whatever happened in the last 512 Lamport times. Here memory is lent: slots in order of Lamport
//! time, and their octets in a [`Pack`]. When either is full the oldest event makes room, delivered ones first.

use crate::{
    memory::{Pack, Place},
    wire::{
        msgpack::Writer,
        serf::{Events, UserEvent},
    },
};

use super::seen::WINDOW;

/// One recent event.
#[derive(Clone, Copy, Debug)]
pub struct EventSlot {
    ltime: u64,
    place: Place,
    name_len: u16,
    /// Our owner has not heard of it.
    waits: bool,
}

impl EventSlot {
    /// A free slot; all zero bits.
    pub const EMPTY: EventSlot = EventSlot { ltime: 0, place: Place::EMPTY, name_len: 0, waits: false };
}

/// The recent events, oldest first.
#[derive(Debug)]
pub(crate) struct Recent<'m> {
    slots: &'m mut [EventSlot],
    len: usize,
    waiting: usize,
    text: Pack<'m>,
    /// Events given up before their time, or never kept.
    pub dropped: u32,
}

impl<'m> Recent<'m> {
    pub fn new(slots: &'m mut [EventSlot], text: &'m mut [u8]) -> Self {
        Recent { slots, len: 0, waiting: 0, text: Pack::new(text), dropped: 0 }
    }

    /// Keeps an event until [`Recent::next`] has handed it out and for as long as there is room. False: an event that
    /// nobody has heard of yet is lost, this one or one that made room for it.
    pub fn keep(&mut self, clock: u64, event: &UserEvent<'_>) -> bool {
        let (len, Ok(name_len)) = (event.name.len() + event.payload.len(), u16::try_from(event.name.len())) else {
            return false;
        };
        while self.len > 0 && !self.slots[0].waits && self.slots[0].ltime.saturating_add(WINDOW) < clock {
            self.remove(0);
        }
        if len > self.text.capacity() || self.slots.is_empty() {
            self.dropped = self.dropped.saturating_add(1);
            return false;
        }
        let mut all_told = true;
        while self.len == self.slots.len() || len > self.text.room() {
            let told = self.slots[..self.len].iter().position(|slot| !slot.waits);
            all_told &= told.is_some();
            self.remove(told.unwrap_or(0));
            self.dropped = self.dropped.saturating_add(1);
        }
        let slots = &mut self.slots[..self.len];
        // The place is told by what it was: slots change their number, so the pack knows no owner.
        let place = self.text.push(0, len, &mut |_, old, new| {
            if let Some(slot) = slots.iter_mut().find(|slot| slot.place == old) {
                slot.place = new;
            }
        });
        let Some(place) = place else { return false };
        let mut writer = Writer::new(self.text.get_mut(place));
        writer.octets(event.name.as_bytes());
        writer.octets(event.payload);
        let at = self.slots[..self.len].partition_point(|slot| slot.ltime <= event.ltime);
        self.slots.copy_within(at..self.len, at + 1);
        self.slots[at] = EventSlot { ltime: event.ltime, place, name_len, waits: true };
        self.len += 1;
        self.waiting += 1;
        all_told
    }

    /// The number of the oldest event that was not handed out yet, which it is now. Numbers change with the next event.
    pub fn next(&mut self) -> Option<usize> {
        if self.waiting == 0 {
            return None;
        }
        let at = self.slots[..self.len].iter().position(|slot| slot.waits)?;
        self.slots[at].waits = false;
        self.waiting -= 1;
        Some(at)
    }

    /// An event by its number.
    pub fn get(&self, at: usize) -> UserEvent<'_> {
        let slot = &self.slots[at];
        let (name, payload) = self.text.get(slot.place).split_at(usize::from(slot.name_len));
        // It was a text when it was kept.
        let name = core::str::from_utf8(name).unwrap_or("");
        UserEvent { coalesce: false, ltime: slot.ltime, name, payload }
    }

    /// How many of the newest Lamport times' events fit in `room` octets of a push/pull: (octets, times).
    pub fn measure(&self, room: usize) -> (usize, usize) {
        let (mut octets, mut times) = (0, 0);
        for (start, end) in self.times().rev() {
            let more = Writer::measure(|w| self.emit_time(w, start, end));
            if octets + more > room {
                break;
            }
            (octets, times) = (octets + more, times + 1);
        }
        (octets, times)
    }

    /// Writes the elements of a push/pull's event buffer for the newest `count` Lamport times, oldest first.
    pub fn emit(&self, w: &mut Writer<'_>, count: usize) {
        let all = self.times().count();
        for (start, end) in self.times().skip(all - count) {
            self.emit_time(w, start, end);
        }
    }

    fn emit_time(&self, w: &mut Writer<'_>, start: usize, end: usize) {
        Events::emit(w, self.slots[start].ltime, (start..end).map(|at| self.get(at)));
    }

    /// Ranges of slots that share a Lamport time.
    fn times(&self) -> impl DoubleEndedIterator<Item = (usize, usize)> {
        let slots = &self.slots[..self.len];
        let starts = move |at: &usize| *at == 0 || slots[*at - 1].ltime != slots[*at].ltime;
        (0..self.len)
            .filter(starts)
            .map(move |start| (start, start + slots[start..].partition_point(|slot| slot.ltime == slots[start].ltime)))
    }

    fn remove(&mut self, at: usize) {
        let slot = self.slots[at];
        self.text.free(slot.place);
        self.waiting -= usize::from(slot.waits);
        self.slots.copy_within(at + 1..self.len, at);
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(ltime: u64, name: &'static str, payload: &'static [u8]) -> UserEvent<'static> {
        UserEvent { coalesce: false, ltime, name, payload }
    }

    #[test]
    fn events_are_handed_out_once_in_order_of_time() {
        let (mut slots, mut text) = ([EventSlot::EMPTY; 4], [0; 64]);
        let mut recent = Recent::new(&mut slots, &mut text);
        assert!(recent.keep(9, &event(8, "late", b"2")));
        assert!(recent.keep(9, &event(5, "early", b"1")));
        assert_eq!(recent.next().map(|at| recent.get(at)), Some(event(5, "early", b"1")));
        assert!(recent.keep(9, &event(8, "", b"")));
        assert_eq!(recent.next().map(|at| recent.get(at)), Some(event(8, "late", b"2")));
        assert_eq!(recent.next().map(|at| recent.get(at)), Some(event(8, "", b"")));
        assert_eq!(recent.next(), None);
        assert_eq!(recent.dropped, 0);
    }

    #[test]
    fn the_told_make_room_before_the_untold() {
        let (mut slots, mut text) = ([EventSlot::EMPTY; 3], [0; 40]);
        let mut recent = Recent::new(&mut slots, &mut text);
        for (ltime, name) in [(1, "a"), (2, "b"), (3, "c")] {
            assert!(recent.keep(4, &event(ltime, name, b"")));
        }
        assert_eq!(recent.next().map(|at| recent.get(at).name), Some("a"));
        assert!(recent.keep(5, &event(4, "d", b"")), "a was told, so nothing is lost");
        assert!(!recent.keep(6, &event(5, "e", b"")), "b is lost");
        assert!(!recent.keep(6, &event(6, "f", &[7; 40])), "longer than the memory");
        let told: std::vec::Vec<u64> = std::iter::from_fn(|| recent.next().map(|at| recent.get(at).ltime)).collect();
        assert_eq!(told, [3, 4, 5]);
        assert_eq!(recent.dropped, 3);
        // What is out of the window goes without being counted.
        assert!(recent.keep(600, &event(599, "new", &[1; 20])));
        assert_eq!((recent.len, recent.dropped), (1, 3));
    }

    #[test]
    fn the_newest_times_are_told_that_fit() {
        let (mut slots, mut text) = ([EventSlot::EMPTY; 8], [0; 256]);
        let mut recent = Recent::new(&mut slots, &mut text);
        for (ltime, name) in [(1, "a"), (2, "b"), (2, "c"), (3, "d")] {
            assert!(recent.keep(4, &event(ltime, name, b"xy")));
        }
        let (octets, times) = recent.measure(usize::MAX);
        assert_eq!(times, 3);
        assert_eq!(octets, Writer::measure(|w| recent.emit(w, 3)));
        let (fewer, times) = recent.measure(octets - 1);
        assert_eq!(times, 2);
        let mut out = [0; 256];
        let mut writer = Writer::new(&mut out);
        recent.emit(&mut writer, 2);
        assert_eq!(writer.finish(), Some(fewer));
        assert!(out.windows(2).any(|pair| pair == [0xa1, b'b']) && !out.windows(2).any(|pair| pair == [0xa1, b'a']));
        assert_eq!(recent.measure(3), (0, 0));
    }
}
