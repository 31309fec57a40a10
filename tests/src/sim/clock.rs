//! Virtual time: a queue of events that come due in an order fixed by the run alone.

use std::{cmp::Reverse, collections::BTreeMap};

use agent_core::time::Instant;

/// Events in order of their time, and of their planning where times are equal.
#[derive(Debug)]
pub struct Queue<E> {
    now: Instant,
    planned: u64,
    due: BTreeMap<Reverse<(Instant, u64)>, E>,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Queue { now: Instant::ZERO, planned: 0, due: BTreeMap::new() }
    }
}

impl<E> Queue<E> {
    /// The present: the time of the event that was last taken out.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Plans an event. What should have happened in the past happens now.
    pub fn plan(&mut self, at: Instant, event: E) {
        self.due.insert(Reverse((at.max(self.now), self.planned)), event);
        self.planned += 1;
    }

    /// The next event before `end`, whose time becomes the present; `None` makes `end` the present.
    pub fn next_before(&mut self, end: Instant) -> Option<E> {
        match self.due.last_entry() {
            Some(entry) if entry.key().0.0 < end => {
                self.now = entry.key().0.0;
                Some(entry.remove())
            }
            _ => {
                self.now = self.now.max(end);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_of_time_and_then_of_planning() {
        let at = Instant::from_micros;
        let mut queue = Queue::default();
        for (time, name) in [(20, "c"), (10, "a"), (10, "b"), (30, "d")] {
            queue.plan(at(time), name);
        }
        let mut seen = Vec::new();
        while let Some(name) = queue.next_before(at(30)) {
            seen.push(name);
        }
        assert_eq!(seen, ["a", "b", "c"]);
        assert_eq!(queue.now(), at(30));
        queue.plan(at(5), "late");
        assert_eq!(queue.next_before(at(31)), Some("d"));
        assert_eq!(queue.next_before(at(31)), Some("late"));
        assert_eq!(queue.now(), at(30));
    }
}
