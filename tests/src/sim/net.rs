//! The network between the nodes: what gets through, how often and how late. All of it follows from the seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use agent_core::{
    rand::Rng,
    time::{Duration, Instant},
};

use super::model::address;

/// Losses that come in bursts: the Gilbert–Elliott model in time. Each direction between two nodes is good or bad by
/// itself, for times that are exponentially distributed.
#[derive(Clone, Copy, Debug)]
pub struct Bursts {
    /// Mean time from the end of a burst to the next.
    pub every: Duration,
    /// Mean length of a burst.
    pub length: Duration,
    /// Of 100 packets in a burst, so many are lost.
    pub lost: u8,
}

/// How the network treats datagrams where nothing is cut. Different delays also mean another order.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Of 100 datagrams, so many are lost.
    pub lost: u8,
    /// Losses on top of it that come in bursts.
    pub bursts: Option<Bursts>,
    /// TCP's segments are lost like datagrams. TCP repeats them, so that the stream comes late and not short.
    pub tcp_loses: bool,
    /// Datagrams with more octets vanish, as where fragments do not pass. 0: all pass.
    pub mtu: usize,
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
        bursts: None,
        tcp_loses: false,
        mtu: 0,
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
        ..Weather::CALM
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
    /// From, to: datagrams of this direction vanish, TCP works.
    datagram_cuts: BTreeSet<(usize, usize)>,
    /// From, to: whether the way is in a burst of losses, and until when it stays so.
    ways: BTreeMap<(usize, usize), (bool, Instant)>,
    /// Where nodes are, when it is not [`address`], and who is there.
    moved: BTreeMap<usize, SocketAddr>,
    found: BTreeMap<SocketAddr, usize>,
    /// What the source address of a node is turned into on its way; what is sent there comes back to the node.
    masks: BTreeMap<usize, SocketAddr>,
    /// The name service.
    names: BTreeMap<String, Vec<IpAddr>>,
    rng: Rng,
}

/// TCP's first wait before it sends again what got lost: Linux's smallest.
pub const RETRANSMIT: Duration = Duration::from_millis(200);
/// The same of the segment that opens a connection.
pub const RECONNECT: Duration = Duration::from_secs(1);

impl Net {
    /// A whole network.
    pub fn new(nodes: usize, weather: Weather, rng: Rng) -> Self {
        Net {
            weather,
            sides: vec![0; nodes],
            cuts: BTreeSet::new(),
            datagram_cuts: BTreeSet::new(),
            ways: BTreeMap::new(),
            moved: BTreeMap::new(),
            found: BTreeMap::new(),
            masks: BTreeMap::new(),
            names: BTreeMap::new(),
            rng,
        }
    }

    /// Puts `node` on a side.
    pub fn set_side(&mut self, node: usize, side: u8) {
        self.sides[node] = side;
    }

    /// Cuts one direction between two nodes.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    /// Lets no datagram through in one direction between two nodes; TCP works.
    pub fn cut_datagrams(&mut self, from: usize, to: usize) {
        self.datagram_cuts.insert((from, to));
    }

    /// Gives a node another address; nobody is at the former one.
    pub fn move_to(&mut self, node: usize, to: SocketAddr) {
        if let Some(from) = self.moved.insert(node, to) {
            self.found.remove(&from);
        }
        self.found.insert(to, node);
    }

    /// Turns a node's source address into another on the way, as address translation does; its own remains too.
    pub fn mask(&mut self, node: usize, with: SocketAddr) {
        if let Some(from) = self.masks.insert(node, with) {
            self.found.remove(&from);
        }
        self.found.insert(with, node);
    }

    /// Where a node is.
    pub fn address(&self, node: usize) -> SocketAddr {
        self.moved.get(&node).copied().unwrap_or_else(|| address(node))
    }

    /// The source address that others see.
    pub fn source(&self, node: usize) -> SocketAddr {
        self.masks.get(&node).copied().unwrap_or_else(|| self.address(node))
    }

    /// Who is at an address.
    pub fn node_at(&self, to: SocketAddr) -> Option<usize> {
        if let Some(&node) = self.found.get(&to) {
            return Some(node);
        }
        let node = super::model::numbered(to).filter(|&node| node < self.sides.len())?;
        (!self.moved.contains_key(&node)).then_some(node)
    }

    /// What a name means from now on.
    pub fn name(&mut self, name: &str, addresses: Vec<IpAddr>) {
        self.names.insert(name.into(), addresses);
    }

    /// What the name service says now.
    pub fn resolve(&self, name: &str) -> Vec<IpAddr> {
        self.names.get(name).cloned().unwrap_or_default()
    }

    /// Mends all cuts and puts everybody on one side.
    pub fn heal(&mut self) {
        self.datagram_cuts.clear();
        self.cuts.clear();
        self.sides.fill(0);
    }

    /// True when octets get from one node to the other.
    pub fn is_open(&self, from: usize, to: usize) -> bool {
        self.sides[from] == self.sides[to] && !self.cuts.contains(&(from, to))
    }

    /// When the copies of a datagram of `len` octets that is sent now arrive: none, one or two.
    pub fn arrivals(
        &mut self,
        now: Instant,
        from: usize,
        to: usize,
        len: usize,
    ) -> impl Iterator<Item = Instant> + use<> {
        let fits = self.weather.mtu == 0 || len <= self.weather.mtu;
        let is_open = self.is_open(from, to) && !self.datagram_cuts.contains(&(from, to)) && fits;
        let arrives = is_open && !self.loses(now, from, to);
        let first = arrives.then(|| now + self.way());
        let second = (arrives && self.chance(self.weather.doubled, 100)).then(|| now + self.way());
        first.into_iter().chain(second)
    }

    /// True when a packet on a way is lost.
    fn loses(&mut self, now: Instant, from: usize, to: usize) -> bool {
        let by_chance = self.chance(self.weather.lost, 100);
        let Some(Bursts { every, length, lost }) = self.weather.bursts else { return by_chance };
        let (mut is_bad, mut until) = self.ways.get(&(from, to)).copied().unwrap_or((true, Instant::ZERO));
        while until <= now {
            is_bad = !is_bad;
            until += self.exponential(if is_bad { length } else { every });
        }
        self.ways.insert((from, to), (is_bad, until));
        by_chance || (is_bad && self.chance(lost, 100))
    }

    /// A time of an exponential distribution.
    fn exponential(&mut self, mean: Duration) -> Duration {
        let even = (f64::from(self.rng.next_u32()) + 1.0) / (f64::from(u32::MAX) + 1.0);
        Duration::from_micros((-even.ln() * mean.as_micros() as f64) as u64 + 1)
    }

    /// The time that a TCP segment takes from now on: one way, and a wait that doubles with every loss, beginning with
    /// `first`.
    pub fn segment(&mut self, now: Instant, from: usize, to: usize, first: Duration) -> Duration {
        let mut time = self.way();
        let mut wait = first;
        while self.weather.tcp_loses && self.loses(now + time, from, to) {
            time = time + wait;
            wait = wait.saturating_mul(2);
        }
        time
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
            (0..10_000).map(|_| net.arrivals(Instant::ZERO, from, to, 100).count()).sum()
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
        net.cut_datagrams(0, 1);
        assert_eq!(copies(&mut net, 0, 1), 0);
        assert!(net.is_open(0, 1), "TCP works");
    }

    #[test]
    fn losses_come_in_bursts_of_the_length_told() {
        let (every, length) = (Duration::from_secs(10), Duration::from_secs(1));
        let weather = Weather { bursts: Some(Bursts { every, length, lost: 100 }), ..Weather::CALM };
        let mut net = Net::new(2, weather, Rng::from_seed(&[2; 32]));
        let at = |n: u64| Instant::ZERO + Duration::from_millis(10 * n);
        let lost: Vec<bool> = (0..1_000_000).map(|n| net.arrivals(at(n), 0, 1, 100).next().is_none()).collect();
        // A way is bad for an eleventh of the time, for a hundred datagrams of these at once.
        let all = lost.iter().filter(|&&lost| lost).count();
        let begun = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
        assert!((80_000..102_000).contains(&all), "{all} lost");
        assert!((90.0..112.0).contains(&(all as f64 / begun as f64)), "bursts of {}", all as f64 / begun as f64);
    }

    #[test]
    fn what_is_too_long_vanishes_and_tcp_comes_late_instead() {
        let mut net = Net::new(2, Weather { mtu: 500, ..Weather::CALM }, Rng::from_seed(&[3; 32]));
        assert_eq!(net.arrivals(Instant::ZERO, 0, 1, 501).count(), 0);
        assert_eq!(net.arrivals(Instant::ZERO, 0, 1, 500).count(), 1);
        assert!(net.segment(Instant::ZERO, 0, 1, RETRANSMIT) < Duration::from_millis(1));
        net.weather = Weather { lost: 50, tcp_loses: true, ..Weather::CALM };
        let late: Vec<Duration> = (0..1_000).map(|_| net.segment(Instant::ZERO, 0, 1, RETRANSMIT)).collect();
        let above = |limit| late.iter().filter(|&&time| time > Duration::from_millis(limit)).count();
        // Half wait 200 ms, a quarter 600 ms.
        assert!((430..570).contains(&above(150)) && (190..310).contains(&above(500)), "{late:?}");
    }

    #[test]
    fn nodes_move_and_are_masked() {
        let mut net = Net::new(2, Weather::CALM, Rng::from_seed(&[4; 32]));
        let [new, outside] = ["10.9.0.1:8301", "192.0.2.7:4242"].map(|text| text.parse().unwrap());
        net.move_to(0, new);
        assert_eq!((net.node_at(address(0)), net.node_at(new), net.source(0)), (None, Some(0), new));
        net.mask(1, outside);
        assert_eq!((net.node_at(address(1)), net.node_at(outside), net.source(1)), (Some(1), Some(1), outside));
        net.name("servers", vec![new.ip()]);
        assert_eq!((net.resolve("servers"), net.resolve("nobody")), (vec![new.ip()], vec![]));
    }
}
