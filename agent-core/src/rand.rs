//! Randomness from one seed: cheap choices, and nonces that never repeat.
//!
//! The same seed replays the same run. Choices (probe order, gossip targets, jitter) need speed, not secrecy, and
//! come from xoshiro128++ (Blackman and Vigna, 2019). Nonces live in [`crate::wire::crypt`].

use crate::time::Duration;

/// A small pseudo-random generator for choices. Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u32; 4],
}

impl Rng {
    /// A generator whose whole future follows from `seed`.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let mut state = [0u32; 4];
        for (i, chunk) in seed.chunks_exact(4).enumerate() {
            let word = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
            state[i % 4] ^= word.rotate_left(i as u32 * 5);
        }
        // The all-zero state is the one fixed point of the generator.
        if state == [0; 4] {
            state[0] = 0x9e37_79b9;
        }
        let mut rng = Rng { state };
        for _ in 0..8 {
            rng.next_u32();
        }
        rng
    }

    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(7).wrapping_add(s[0]);
        let t = s[1] << 9;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(11);
        result
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        (u64::from(self.next_u32()) << 32) | u64::from(self.next_u32())
    }

    /// A number in `0..bound`, or 0 when `bound` is 0. The bias of at most `bound`/2³² does not matter for choices.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u64::from(self.next_u32()) * bound as u64) >> 32) as usize
    }

    /// A span in `0..=limit`, for staggers and jitter.
    pub fn up_to(&mut self, limit: Duration) -> Duration {
        match limit.as_micros().checked_add(1) {
            Some(bound) => Duration::from_micros(self.next_u64() % bound),
            None => Duration::from_micros(self.next_u64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_run_and_bounds_hold() {
        let (mut a, mut b) = (Rng::from_seed(&[7; 32]), Rng::from_seed(&[7; 32]));
        let mut seen = [0u32; 10];
        for _ in 0..10_000 {
            let n = a.below(10);
            assert_eq!(n, b.below(10));
            seen[n] += 1;
        }
        assert!(seen.iter().all(|&count| (800..1200).contains(&count)), "{seen:?}");
        assert_eq!(a.below(0), 0);
        assert_ne!(Rng::from_seed(&[0; 32]).next_u64(), 0);
    }
}
