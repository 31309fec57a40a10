//! Lifeguard's health score of ourselves (gossip spec §7.4): 0 is well; the higher, the longer our timeouts, so that an
//! overloaded agent doubts itself before it accuses others.

/// Our own health.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Awareness {
    score: u8,
    max: u8,
}

impl Awareness {
    /// Healthy; scores stay below `max`.
    pub fn new(max: u8) -> Self {
        Awareness { score: 0, max }
    }

    /// Changes the score, within its bounds.
    pub fn change(&mut self, by: i8) {
        self.score = self.score.saturating_add_signed(by).min(self.max.saturating_sub(1));
    }

    /// The score.
    pub fn score(&self) -> u8 {
        self.score
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn stays_in_bounds() {
        let mut awareness = super::Awareness::new(8);
        awareness.change(-1);
        assert_eq!(awareness.score(), 0);
        (0..20).for_each(|_| awareness.change(1));
        assert_eq!(awareness.score(), 7);
        awareness.change(-3);
        assert_eq!(awareness.score(), 4);
    }
}
