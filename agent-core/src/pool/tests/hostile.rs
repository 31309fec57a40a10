//! Bytes and sequences that nobody friendly sends. A pool survives them all, keeps within its memory, comes to rest, and
//! still answers a ping.

use std::{path::Path, sync::OnceLock};

use proptest::prelude::*;

use super::*;

/// Every vector, well-formed or not: whether it is a datagram, and its octets.
fn corpus() -> &'static [(bool, Vec<u8>)] {
    static CORPUS: OnceLock<Vec<(bool, Vec<u8>)>> = OnceLock::new();
    CORPUS.get_or_init(|| {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/gossip");
        let mut corpus = Vec::new();
        for entry in std::fs::read_dir(directory).unwrap() {
            let text = std::fs::read(entry.unwrap().path()).unwrap();
            let parsed: serde_json::Value = serde_json::from_slice(&text).unwrap();
            for vector in parsed.as_array().unwrap() {
                let hex = vector["hex"].as_str().unwrap();
                let octets =
                    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
                corpus.push((vector["transport"] == "udp", octets));
            }
        }
        assert!(corpus.len() > 150);
        corpus
    })
}

/// The key that the encrypted vectors use.
fn vector_key() -> Key {
    Key::new(&core::array::from_fn::<u8, 32, _>(|i| i as u8)).unwrap()
}

/// A pool alone among strangers.
struct Target {
    pool: Pool<'static>,
    now: Instant,
}

impl Target {
    fn new(keyed: bool, members: usize) -> Self {
        let mut config = config(0);
        if keyed {
            config.keys = Box::leak(Box::new([vector_key()]));
        }
        // Plain serf's vectors come from other datacenters.
        config.consul_rules = false;
        let now = Instant::from_micros(1);
        let config = Box::leak(Box::new(config));
        let pool = Pool::new(config, Memory::new(members).regions(), &[1; 32], now).unwrap();
        Target { pool, now }
    }

    fn datagram(&mut self, octets: &[u8]) {
        self.pool.handle_datagram(self.now, "10.9.9.9:7".parse().unwrap(), &mut octets.to_vec());
        self.rest();
    }

    fn stream(&mut self, octets: &[u8], piece: usize) {
        let Some(id) = self.pool.handle_accept(self.now, "10.9.9.9:7".parse().unwrap()) else { return };
        for part in octets.chunks(piece.max(1)) {
            let taken = self.pool.handle_stream(self.now, id, StreamInput::Data(part));
            assert!(taken <= part.len());
            self.rest();
        }
        self.pool.handle_stream(self.now, id, StreamInput::Eof);
        self.rest();
    }

    /// Polls until there is nothing to do; connections fail, look-ups find nothing.
    fn rest(&mut self) {
        let mut buf = [0; MAX_DATAGRAM];
        for _ in 0..5_000 {
            match self.pool.poll_output(&mut buf) {
                Output::Wait { .. } => return,
                Output::Transmit { len, .. } => assert!(len <= 1_472),
                Output::Connect { id, .. } => {
                    self.pool.handle_stream(self.now, id, StreamInput::Failed);
                }
                Output::Writable { id } => while self.pool.fill_stream(self.now, id, &mut [0; 512]) > 0 {},
                Output::Resolve { ticket, .. } => self.pool.handle_resolved(self.now, ticket, &[]),
                Output::Event(agent::Event::Member(event)) => assert!(!event.member.name.is_empty()),
                _ => {}
            }
        }
        panic!("the pool never rests");
    }

    fn time(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        self.pool.handle_timeout(self.now);
        self.rest();
    }

    /// A ping is answered, whatever came before.
    fn check(&mut self) {
        let mut buf = [0; MAX_DATAGRAM];
        assert_eq!(self.pool.local().name, "node-0");
        assert!(self.pool.members().count() <= self.pool.members.len());
        self.rest();
        let mut ping = vec![0; 256];
        let mut w = Writer::new(&mut ping[13..]);
        gossip::Ping { node: "node-0", seq: 77, source: None, source_node: "" }.emit(&mut w);
        let len = w.finish().unwrap();
        let data = match self.pool.keyring.primary() {
            Some(key) => {
                let sealed = crate::wire::crypt::seal(key, [3; 12], b"", &mut ping, len).unwrap();
                &mut ping[..sealed]
            }
            None => &mut ping[13..13 + len],
        };
        self.pool.handle_datagram(self.now, "10.9.9.9:7".parse().unwrap(), data);
        let answered = matches!(self.pool.poll_output(&mut buf), Output::Transmit { to, .. } if to.port() == 7);
        // A pool that leaves goes on answering too.
        assert!(answered, "a ping stayed unanswered");
        self.rest();
    }
}

#[test]
fn every_vector_and_every_damage_of_the_short_ones_is_survived() {
    for keyed in [false, true] {
        let mut target = Target::new(keyed, 16);
        for (udp, octets) in corpus() {
            let throw = |target: &mut Target, octets: &[u8]| {
                if *udp { target.datagram(octets) } else { target.stream(octets, 300) }
            };
            throw(&mut target, octets);
            let step = 1 + octets.len() / 200;
            for at in (0..octets.len()).step_by(step) {
                throw(&mut target, &octets[..at]);
                let mut bad = octets.clone();
                bad[at] ^= 0x41;
                throw(&mut target, &bad);
            }
            target.time(700);
            target.check();
        }
        assert!(target.pool.stats().malformed > 0);
    }
}

#[test]
fn a_second_push_pull_waits_for_the_first_and_is_read_too() {
    let mut world = World::new(2, |_, _| {});
    let state = {
        let other = &mut world.pools[1];
        other.hold_image(true);
        exchange::image_octets(other.image, &other.images, true).to_vec()
    };
    let (now, pool) = (world.now, &mut world.pools[0]);
    let first = pool.handle_accept(now, address(1)).unwrap();
    let second = pool.handle_accept(now, address(1)).unwrap();
    // Too long for the head buffer, so both are exchanges; the second can only begin when the first is over.
    assert!(state.len() < 256 || pool.handle_stream(now, first, StreamInput::Data(&state[..256])) == 256);
    let long: Vec<u8> = {
        let mut r = vec![gossip::PUSH_PULL];
        r.extend(&state[1..state.len() - 1]);
        r
    };
    pool.handle_stream(now, first, StreamInput::Data(&long));
    let taken = pool.handle_stream(now, second, StreamInput::Data(&state));
    let waited = taken < state.len();
    pool.handle_stream(now, first, StreamInput::Failed);
    let mut buf = [0; MAX_DATAGRAM];
    let mut resumed = false;
    loop {
        match pool.poll_output(&mut buf) {
            Output::Wait { .. } => break,
            Output::Resume { id } => {
                assert_eq!(id, second);
                resumed = true;
                pool.handle_stream(now, second, StreamInput::Data(&state[taken..]));
            }
            Output::Writable { id } => while pool.fill_stream(now, id, &mut [0; 100]) > 0 {},
            _ => {}
        }
    }
    assert_eq!(waited, resumed);
    assert!(pool.member("node-1").is_some());
}

#[derive(Clone, Debug)]
enum Step {
    Vector { index: usize, flip: Option<(usize, u8)>, cut: Option<usize>, piece: usize },
    Noise(Vec<u8>),
    Time(u64),
    Join(usize),
    Event(usize),
    Leave,
    ForceLeave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<usize>(), any::<Option<(usize, u8)>>(), any::<Option<usize>>(), 1usize..2000)
            .prop_map(|(index, flip, cut, piece)| Step::Vector { index, flip, cut, piece }),
        2 => proptest::collection::vec(any::<u8>(), 0..200).prop_map(Step::Noise),
        4 => (0u64..40_000).prop_map(Step::Time),
        1 => (0usize..5).prop_map(Step::Join),
        1 => (0usize..500).prop_map(Step::Event),
        1 => Just(Step::Leave),
        1 => (0usize..5).prop_map(Step::ForceLeave),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Any sequence of inputs on a pool with little memory.
    #[test]
    fn operations_in_any_order(keyed: bool, members in 2usize..10, steps in proptest::collection::vec(step(), 1..60)) {
        let mut target = Target::new(keyed, members);
        for step in steps {
            let now = target.now;
            match step {
                Step::Vector { index, flip, cut, piece } => {
                    let (udp, octets) = &corpus()[index % corpus().len()];
                    let mut octets = octets.clone();
                    if let (Some((at, bits)), false) = (flip, octets.is_empty()) {
                        let at = at % octets.len();
                        octets[at] ^= bits;
                    }
                    octets.truncate(cut.map_or(octets.len(), |cut| cut % (octets.len() + 1)));
                    if *udp { target.datagram(&octets) } else { target.stream(&octets, piece) }
                }
                Step::Noise(octets) => {
                    target.datagram(&octets);
                    target.stream(&octets, 7);
                }
                Step::Time(millis) => target.time(millis),
                Step::Join(at) => {
                    let seed = ["10.0.0.9", "nowhere", "10.0.0.9:1", "node-0:8301", "[fd00::1]:5"][at];
                    let _ = target.pool.join(now, seed, at % 2 == 0);
                }
                Step::Event(len) => drop(target.pool.user_event(now, "e", &vec![0; len], false)),
                Step::Leave => drop(target.pool.leave(now)),
                Step::ForceLeave(at) => {
                    let name = ["node-1", "node-2", "srv1", "cli1", "n1"][at];
                    let _ = target.pool.force_leave(now, name, at % 2 == 0);
                }
            }
            target.rest();
        }
        target.check();
    }
}
