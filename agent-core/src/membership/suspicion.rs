//! The suspicion timer (gossip spec §7.5): the more independent accusers, the sooner a suspect is declared dead.

use crate::{
    config::Timing,
    time::{Duration, Instant},
};

/// Accusers remembered: the first, and as many as shorten the timer at the largest multiplier (6 − 2, WAN).
const ACCUSERS: usize = 5;

/// Last calls: at 30 % loss each way, one in fifteen suspects is heard at none of them.
const CALLS: u8 = 4;

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
    /// Last calls made, see [`Suspicion::next`].
    calls: u8,
    /// Hashes of their names. A clash of two costs a confirmation, nothing else.
    accusers: [u16; ACCUSERS],
}

impl Suspicion {
    /// All zero bits.
    pub const EMPTY: Suspicion =
        Suspicion { min_ms: 0, max_mult: 0, wanted: 0, count: 0, calls: 0, accusers: [0; ACCUSERS] };

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
            calls: 0,
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

    /// What comes next for a suspicion that began at `start`, and when: a call, `step` after the other, or its end.
    ///
    /// Shortly before the end the suspect is asked itself. Whoever has missed its refutation, as happens where much gets
    /// lost, hears it then.
    pub fn next(&self, start: Instant, step: Duration) -> (Instant, bool) {
        let end = self.deadline(start);
        let before = step.saturating_mul(u64::from(CALLS.saturating_sub(self.calls))).as_micros();
        (Instant::from_micros(end.as_micros().saturating_sub(before)), before > 0)
    }

    /// A call is made.
    pub fn call(&mut self) {
        self.calls = self.calls.saturating_add(1);
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

/// log₁₀ of `n`, in thousandths rounded down; 0 for 0 and 1. By integers, digit by digit: each digit after the point is
/// the whole part of the logarithm of what is left, to the tenth power.
pub(crate) fn log10_milli(n: usize) -> u64 {
    let n = u32::try_from(n).unwrap_or(u32::MAX).max(1);
    let mut log = u64::from(n.ilog10());
    let scale = 10u64.pow(n.ilog10());
    // In two steps, because 56 bits behind the point do not fit in one.
    let (whole, rest) = ((u64::from(n) << 28) / scale, (u64::from(n) << 28) % scale);
    let mut left = (whole << 28) + (rest << 28) / scale;
    for _ in 0..3 {
        let (square, tens) = product(left, left);
        let (fourth, more) = product(square, square);
        let tens = 2 * tens + more;
        let (fifth, more) = product(fourth, left);
        let tens = tens + more;
        let (tenth, more) = product(fifth, fifth);
        log = 10 * log + 2 * tens + more;
        left = tenth;
    }
    log
}

/// The product of two numbers from 1 to 10 with 56 bits behind the point: brought below 10 again, and 1 if that took a
/// division by ten.
fn product(a: u64, b: u64) -> (u64, u64) {
    let product = ((u128::from(a) * u128::from(b)) >> 56) as u64;
    if product < 10 << 56 { (product, 0) } else { (product / 10, 1) }
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
    fn four_last_calls_and_then_the_end() {
        let mut suspicion = Suspicion::new(&Timing::lan(), 3, 1);
        let step = Duration::from_millis(250);
        let at = Instant::from_micros;
        for time in [3_000_000, 3_250_000, 3_500_000, 3_750_000] {
            assert_eq!(suspicion.next(at(0), step), (at(time), true));
            suspicion.call();
        }
        assert_eq!(suspicion.next(at(0), step), (at(4_000_000), false));
    }

    #[test]
    fn too_few_to_confirm_means_the_short_timer() {
        assert_eq!(seconds(&Suspicion::new(&Timing::lan(), 3, 1)), 4.0);
        assert_eq!(log10_milli(999), 2999);
        assert_eq!(log10_milli(1000), 3000);
        assert_eq!(log10_milli(0), 0);
    }

    #[test]
    fn the_logarithm_is_exact() {
        let near = (0..10).map(|k| 10u32.pow(k)).flat_map(|power| power.saturating_sub(3)..=power + 3);
        for n in (1..100_000).chain(near).chain((1..u32::MAX).step_by(1_000_003)).chain([u32::MAX]) {
            let expected = if n == 0 { 0 } else { (f64::from(n).log10() * 1000.0).floor() as u64 };
            assert_eq!(log10_milli(n as usize), expected, "{n}");
        }
    }
}
