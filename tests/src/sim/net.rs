//! The network between the nodes: what gets through, how often and how late. All of it follows from the seed.

use std::collections::BTreeSet;

use agent_core::{
    rand::Rng,
    time::{Duration, Instant},
};

/// How the network treats datagrams where nothing is cut. Different delays also mean another order.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Of 100 datagrams, so many are lost.
    pub lost: u8,
    /// Of 100 datagrams, so many arrive twice.
    pub doubled: u8,
    /// Shortest way.
    pub delay: Duration,
    /// Added to it at most.
    pub jitter: Duration,
    /// Of 1,000 pieces of a TCP stream, so many break the connection instead of arriving.
    pub broken: u16,
}

impl Weather {
    /// A quiet network in one building.
    pub const CALM: Weather = Weather {
        lost: 0,
        doubled: 0,
        delay: Duration::from_micros(200),
        jitter: Duration::from_micros(300),
        broken: 0,
    };

    /// One datagram in ten lost, a few doubled, delays over two orders of magnitude, the odd TCP reset.
    pub const ROUGH: Weather = Weather {
        lost: 10,
        doubled: 3,
        delay: Duration::from_micros(500),
        jitter: Duration::from_millis(50),
        broken: 2,
    };
}

/// The state of the network.
#[derive(Debug)]
pub struct Net {
    /// Present weather.
    pub weather: Weather,
    /// Nodes of different sides do not hear each other.
    sides: Vec<u8>,
    /// From, to: this direction is cut.
    cuts: BTreeSet<(usize, usize)>,
    rng: Rng,
}

impl Net {
    /// A whole network.
    pub fn new(nodes: usize, weather: Weather, rng: Rng) -> Self {
        Net { weather, sides: vec![0; nodes], cuts: BTreeSet::new(), rng }
    }

    /// Puts `node` on a side.
    pub fn set_side(&mut self, node: usize, side: u8) {
        self.sides[node] = side;
    }

    /// Cuts one direction between two nodes.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    /// Mends all cuts and puts everybody on one side.
    pub fn heal(&mut self) {
        self.cuts.clear();
        self.sides.fill(0);
    }

    /// True when octets get from one node to the other.
    pub fn is_open(&self, from: usize, to: usize) -> bool {
        self.sides[from] == self.sides[to] && !self.cuts.contains(&(from, to))
    }

    /// When the copies of a datagram that is sent now arrive: none, one or two.
    pub fn arrivals(&mut self, now: Instant, from: usize, to: usize) -> impl Iterator<Item = Instant> + use<> {
        let is_open = self.is_open(from, to) && !self.chance(self.weather.lost, 100);
        let first = is_open.then(|| now + self.way());
        let second = (is_open && self.chance(self.weather.doubled, 100)).then(|| now + self.way());
        first.into_iter().chain(second)
    }

    /// The time that one way takes now.
    pub fn way(&mut self) -> Duration {
        self.weather.delay + self.rng.up_to(self.weather.jitter)
    }

    /// True when the next piece of a TCP stream breaks it.
    pub fn breaks(&mut self) -> bool {
        self.chance(self.weather.broken, 1_000)
    }

    /// The size of the next piece of a TCP stream of at most `limit` octets: small pieces find parsers that wait for
    /// whole messages.
    pub fn piece(&mut self, limit: usize) -> usize {
        1 + self.rng.below(limit)
    }

    fn chance(&mut self, of: impl Into<usize>, all: usize) -> bool {
        self.rng.below(all) < of.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_doubling_cuts_and_sides_are_as_told() {
        let mut net = Net::new(3, Weather::ROUGH, Rng::from_seed(&[1; 32]));
        let copies = |net: &mut Net, from, to| -> usize {
            (0..10_000).map(|_| net.arrivals(Instant::ZERO, from, to).count()).sum()
        };
        // 90 % arrive, of those 3 % twice: 9,270 copies, with six standard deviations of room.
        let seen = copies(&mut net, 0, 1);
        assert!((9_060..9_480).contains(&seen), "{seen}");
        net.cut(0, 1);
        assert_eq!(copies(&mut net, 0, 1), 0);
        assert_ne!(copies(&mut net, 1, 0), 0);
        net.set_side(2, 1);
        assert_eq!(copies(&mut net, 2, 1), 0);
        net.heal();
        assert!(net.is_open(0, 1) && net.is_open(2, 1));
    }
}
