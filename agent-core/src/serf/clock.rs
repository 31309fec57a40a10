//! Lamport time (gossip spec §9.2).

/// A Lamport clock. It begins at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock(u64);

impl Clock {
    pub const fn new() -> Self {
        Clock(1)
    }

    /// A clock that goes on after `last`; 0: from its beginning.
    pub fn after(last: u64) -> Self {
        let mut clock = Clock::new();
        if last > 0 {
            clock.witness(last);
        }
        clock
    }

    /// The current time: what a new message is stamped with before [`Clock::tick`].
    pub const fn time(self) -> u64 {
        self.0
    }

    /// Time passes because we sent something.
    pub fn tick(&mut self) {
        self.0 = self.0.saturating_add(1);
    }

    /// Somebody was at `seen`: we are after that. A peer claiming the end of time would stop the clock for all, so such
    /// times are not believed.
    pub fn witness(&mut self, seen: u64) {
        if seen >= self.0 && seen < LIMIT {
            self.0 = seen + 1;
        }
    }
}

/// Nobody gets here by counting: 2⁴⁸ messages are 8,900 years at 1,000 a second.
const LIMIT: u64 = 1 << 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn witness_moves_forward_only_and_not_to_the_end() {
        let mut clock = Clock::new();
        clock.witness(5);
        assert_eq!(clock.time(), 6);
        clock.witness(2);
        assert_eq!(clock.time(), 6);
        clock.witness(u64::MAX);
        assert_eq!(clock.time(), 6);
        clock.tick();
        assert_eq!(clock.time(), 7);
    }
}
