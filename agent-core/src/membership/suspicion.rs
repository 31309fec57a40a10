//! The suspicion timer (gossip spec §7.5): the more independent accusers, the sooner a suspect is declared dead.

use crate::{
    config::Timing,
    time::{Duration, Instant},
};

/// Accusers remembered: the first, and as many as shorten the timer at the largest multiplier (6 − 2, WAN).
const ACCUSERS: usize = 5;

/// ln(c + 1), in thousandths, for c of 0 to 4.
const LN: [u64; ACCUSERS] = [0, 693, 1099, 1386, 1609];

/// The timer of one suspect. It starts when the member's state changes, so that moment is kept there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Suspicion {
    /// Shortest timeout, in milliseconds.
    min_ms: u32,
    /// Longest timeout is this × the shortest.
    max_mult: u8,
    /// Confirmations that shorten the timer to its minimum; 0: it begins there.
    wanted: u8,
    /// Accusers so far, the first included.
    count: u8,
    /// Hashes of their names. A clash of two costs a confirmation, nothing else.
    accusers: [u16; ACCUSERS],
}

impl Suspicion {
    /// All zero bits.
    pub const EMPTY: Suspicion = Suspicion { min_ms: 0, max_mult: 0, wanted: 0, count: 0, accusers: [0; ACCUSERS] };

    /// A timer for a pool of `n` records, started by the accuser with hash `from`.
    pub fn new(timing: &Timing, n: usize, from: u32) -> Self {
        let wanted = timing.suspicion_mult.saturating_sub(2);
        let wanted = if n.saturating_sub(2) < usize::from(wanted) { 0 } else { wanted };
        let scale = log10_milli(n).max(1000);
        let min_ms = u64::from(timing.suspicion_mult) * scale * timing.probe_interval.as_millis() / 1000;
        let mut suspicion = Suspicion {
            min_ms: u32::try_from(min_ms).unwrap_or(u32::MAX),
            max_mult: timing.suspicion_max_mult,
            wanted,
            count: 1,
            accusers: [0; ACCUSERS],
        };
        suspicion.accusers[0] = from as u16;
        suspicion
    }

    /// Another accuser. True when it counted.
    pub fn confirm(&mut self, from: u32) -> bool {
        let known = usize::from(self.count);
        if self.count > self.wanted || self.accusers[..known].contains(&(from as u16)) {
            return false;
        }
        self.accusers[known] = from as u16;
        self.count += 1;
        true
    }

    /// When a suspicion that began at `start` runs out.
    pub fn deadline(&self, start: Instant) -> Instant {
        let min = u64::from(self.min_ms);
        let max = min * u64::from(self.max_mult);
        let ms = match self.wanted {
            0 => min,
            wanted => {
                let confirmations = usize::from(self.count.saturating_sub(1));
                let shorter = (max - min) * LN[confirmations] / LN[usize::from(wanted)];
                (max - shorter).max(min)
            }
        };
        start + Duration::from_millis(ms)
    }
}

/// log₁₀ of `n`, in thousandths rounded down; 0 for 0 and 1.
pub(crate) fn log10_milli(n: usize) -> u64 {
    libm::floor(libm::log10((n.max(1)) as f64) * 1000.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(suspicion: &Suspicion) -> f64 {
        suspicion.deadline(Instant::ZERO).as_micros() as f64 / 1e6
    }

    #[test]
    fn windows_of_the_lan_profile() {
        for (n, min, max) in [(10, 4.0, 24.0), (100, 8.0, 48.0), (1000, 12.0, 72.0)] {
            let mut suspicion = Suspicion::new(&Timing::lan(), n, 1);
            assert_eq!(seconds(&suspicion), max);
            assert!(!suspicion.confirm(1), "the first accuser does not confirm itself");
            assert!(suspicion.confirm(2));
            let between = seconds(&suspicion);
            assert!(min < between && between < max);
            assert!(suspicion.confirm(3));
            assert_eq!(seconds(&suspicion), min);
            assert!(!suspicion.confirm(4), "nothing more to shorten");
        }
    }

    #[test]
    fn too_few_to_confirm_means_the_short_timer() {
        assert_eq!(seconds(&Suspicion::new(&Timing::lan(), 3, 1)), 4.0);
        assert_eq!(log10_milli(999), 2999);
        assert_eq!(log10_milli(1000), 3000);
        assert_eq!(log10_milli(0), 0);
    }
}
