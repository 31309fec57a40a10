//! Vivaldi with serf's constants (gossip spec §9.6): where we are in a space in which distance is round-trip time.

use crate::{
    rand::Rng,
    wire::coordinate::{Coordinate, DIMENSIONS},
};

/// Whether we take part. Where it is false nobody calls the rest of this file, and the linker leaves it out with all the
/// arithmetic that a small processor does not have.
pub(crate) const COORDINATES: bool = cfg!(feature = "coordinates");

const ERROR_MAX: f64 = 1.5;
/// How far one measurement moves us (CC), and our error (CE).
const STEP: f64 = 0.25;
const HEIGHT_MIN: f64 = 10e-6;
const ADJUSTMENT_WINDOW: usize = 20;
/// Distance, in seconds, that the origin pulls from with unit force.
const GRAVITY_RHO: f64 = 150.0;
/// Below this two places are the same, and no time is shorter.
const TINY: f64 = 1e-6;
/// No believable round trip is longer, in seconds.
const RTT_MAX: f64 = 10.0;

/// Our place.
#[derive(Clone, Debug)]
pub(crate) struct Vivaldi {
    place: Coordinate,
    adjustments: [f32; ADJUSTMENT_WINDOW],
    next: usize,
    /// Measurements that could not be used.
    pub refused: u32,
}

impl Vivaldi {
    pub fn new() -> Self {
        Vivaldi { place: Coordinate::ORIGIN, adjustments: [0.0; ADJUSTMENT_WINDOW], next: 0, refused: 0 }
    }

    pub fn place(&self) -> &Coordinate {
        &self.place
    }

    /// A round trip of `rtt` seconds (already the median of the last three) to somebody at `other`.
    pub fn update(&mut self, rng: &mut Rng, other: &Coordinate, rtt: f64) {
        if !other.is_valid() || !(0.0..=RTT_MAX).contains(&rtt) {
            self.refused = self.refused.saturating_add(1);
            return;
        }
        let rtt = rtt.max(TINY);
        self.spring(rng, other, rtt);
        self.adjust(other, rtt);
        self.gravity(rng);
        if !self.place.is_valid() {
            // Finite but absurd numbers of a peer overflowed: begin anew rather than spread them.
            *self = Vivaldi { refused: self.refused.saturating_add(1), ..Vivaldi::new() };
        }
    }

    fn spring(&mut self, rng: &mut Rng, other: &Coordinate, rtt: f64) {
        let raw = raw_distance(&self.place, other);
        let adjusted = raw + self.place.adjustment + other.adjustment;
        let distance = if adjusted > 0.0 { adjusted } else { raw };
        let wrong = (distance - rtt).abs() / rtt;
        let weight = self.place.error / (self.place.error + other.error).max(TINY);
        let blend = STEP * weight;
        self.place.error = (blend * wrong + self.place.error * (1.0 - blend)).min(ERROR_MAX);
        self.push(rng, blend * (rtt - distance), other);
    }

    /// Moves us by `force` away from `other`.
    fn push(&mut self, rng: &mut Rng, force: f64, other: &Coordinate) {
        let mut unit: [f64; DIMENSIONS] = core::array::from_fn(|i| self.place.vec[i] - other.vec[i]);
        let distance = length(&unit);
        if distance > TINY {
            unit.iter_mut().for_each(|x| *x /= distance);
            let height = (self.place.height + other.height) * force / distance + self.place.height;
            self.place.height = height.max(HEIGHT_MIN);
        } else {
            // At one and the same place any direction is right.
            unit = core::array::from_fn(|_| f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5);
            let length = length(&unit).max(TINY);
            unit.iter_mut().for_each(|x| *x /= length);
        }
        self.place.vec.iter_mut().zip(unit).for_each(|(x, u)| *x += u * force);
    }

    fn adjust(&mut self, other: &Coordinate, rtt: f64) {
        self.adjustments[self.next] = (rtt - raw_distance(&self.place, other)) as f32;
        self.next = (self.next + 1) % ADJUSTMENT_WINDOW;
        let sum: f64 = self.adjustments.iter().map(|&x| f64::from(x)).sum();
        self.place.adjustment = sum / (2.0 * ADJUSTMENT_WINDOW as f64);
    }

    fn gravity(&mut self, rng: &mut Rng) {
        let distance = raw_distance(&self.place, &Coordinate::ORIGIN) / GRAVITY_RHO;
        self.push(rng, -distance * distance, &Coordinate::ORIGIN);
    }
}

fn raw_distance(a: &Coordinate, b: &Coordinate) -> f64 {
    let apart: [f64; DIMENSIONS] = core::array::from_fn(|i| a.vec[i] - b.vec[i]);
    length(&apart) + a.height + b.height
}

fn length(vec: &[f64; DIMENSIONS]) -> f64 {
    libm::sqrt(vec.iter().map(|x| x * x).sum())
}

/// Adds a round trip to a member's last three and returns their median, both in microseconds.
pub(crate) fn median_of_three(last: &mut [u32; 3], rtt: u32) -> u32 {
    *last = [last[1], last[2], rtt.max(1)];
    let mut sorted = *last;
    sorted.sort_unstable();
    match sorted {
        [0, 0, only] => only,
        [0, _, larger] => larger,
        [_, middle, _] => middle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_agents_learn_their_distance() {
        let mut rng = Rng::from_seed(&[6; 32]);
        let (mut a, mut b) = (Vivaldi::new(), Vivaldi::new());
        for _ in 0..300 {
            let (pa, pb) = (*a.place(), *b.place());
            a.update(&mut rng, &pb, 0.050);
            b.update(&mut rng, &pa, 0.050);
        }
        let distance = raw_distance(a.place(), b.place()) + a.place().adjustment + b.place().adjustment;
        assert!((distance - 0.050).abs() < 0.005, "{distance}");
        assert!(a.place().error < 0.3);
    }

    #[test]
    fn absurd_numbers_are_neither_kept_nor_spread() {
        let mut rng = Rng::from_seed(&[6; 32]);
        let mut a = Vivaldi::new();
        let nan = Coordinate { error: f64::NAN, ..Coordinate::ORIGIN };
        a.update(&mut rng, &nan, 0.01);
        a.update(&mut rng, &Coordinate::ORIGIN, 11.0);
        a.update(&mut rng, &Coordinate::ORIGIN, f64::NAN);
        assert_eq!((a.refused, *a.place()), (3, Coordinate::ORIGIN));
        a.update(&mut rng, &Coordinate { vec: [f64::MAX; 8], ..Coordinate::ORIGIN }, 0.01);
        assert!(a.place().is_valid());
    }

    #[test]
    fn median_filter_begins_with_what_there_is() {
        let mut last = [0; 3];
        assert_eq!(median_of_three(&mut last, 50), 50);
        assert_eq!(median_of_three(&mut last, 10), 50);
        assert_eq!(median_of_three(&mut last, 20), 20);
        assert_eq!(median_of_three(&mut last, 900), 20);
    }
}
