//! The simulator with a machine of a few lines, so that its own faults do not look like the core's.

use std::{collections::VecDeque, net::SocketAddr};

use agent_core::{
    agent::StreamInput,
    time::{Duration, Instant},
};

use super::{
    model::{Machine, Work, World, address},
    net::Weather,
};

/// Octets of the one transfer.
const SIZE: usize = 100_000;

/// Connects to `peer`, sends a fixed sequence, and closes; the other side reads slowly.
#[derive(Default)]
struct Toy {
    peer: Option<SocketAddr>,
    next: Option<Instant>,
    work: VecDeque<Work<Toy>>,
    sent: usize,
    received: Vec<u8>,
    hungry: bool,
    ended: Option<&'static str>,
    beats: usize,
}

impl Machine for Toy {
    type Stream = u32;
    type Event = ();

    fn timeout(&mut self, now: Instant) {
        if self.next.is_some_and(|next| next <= now) {
            self.next = Some(now + Duration::from_millis(100));
            if let Some(peer) = self.peer {
                self.work.push_back(Work::Transmit(peer, vec![1]));
            }
            if self.hungry {
                self.hungry = false;
                self.work.push_back(Work::Resume(0));
            }
        }
    }

    fn datagram(&mut self, _: Instant, from: SocketAddr, _: &mut [u8]) {
        assert_eq!(from, address(0));
        self.beats += 1;
    }

    fn accept(&mut self, now: Instant, _: SocketAddr) -> Option<u32> {
        self.next = Some(now);
        Some(0)
    }

    fn stream(&mut self, _: Instant, id: u32, input: StreamInput<'_>) -> usize {
        match input {
            StreamInput::Open => self.work.push_back(Work::Writable(id)),
            StreamInput::Data(data) => {
                let taken = data.len().min(700);
                self.hungry = taken < data.len();
                self.received.extend(&data[..taken]);
                return taken;
            }
            StreamInput::Eof => {
                self.ended = Some("eof");
                self.work.push_back(Work::Close(id));
            }
            StreamInput::Failed => self.ended = Some("failed"),
        }
        0
    }

    fn fill(&mut self, _: Instant, id: u32, out: &mut [u8]) -> usize {
        let count = out.len().min(SIZE - self.sent);
        for (n, octet) in out[..count].iter_mut().enumerate() {
            *octet = (self.sent + n) as u8;
        }
        self.sent += count;
        if count == 0 {
            self.work.push_back(Work::Close(id));
        }
        count
    }

    fn poll(&mut self) -> Work<Toy> {
        self.work.pop_front().unwrap_or(Work::Wait(self.next))
    }
}

/// A world whose node 0 sends to node 1.
fn world(weather: Weather, seed: u64) -> World<Toy> {
    let mut world = World::new(2, weather, seed);
    world.start(1, Toy::default());
    let sender = Toy { peer: Some(address(1)), next: Some(Instant::ZERO), ..Toy::default() };
    world.start(0, sender);
    world.command(0, |toy, _| toy.work.push_back(Work::Connect(0, address(1), Duration::from_secs(10))));
    world
}

fn run(world: &mut World<Toy>, seconds: u64) {
    let end = world.now() + Duration::from_secs(seconds);
    while world.step(end).is_some() {}
}

fn expected() -> Vec<u8> {
    (0..SIZE).map(|n| n as u8).collect()
}

#[test]
fn a_stream_arrives_whole_and_in_order_at_a_slow_reader() {
    let mut world = world(Weather { broken: 0, ..Weather::ROUGH }, 1);
    run(&mut world, 120);
    let receiver = world.machine(1).unwrap();
    assert!(receiver.received == expected(), "{} octets", receiver.received.len());
    assert_eq!(receiver.ended, Some("eof"));
    // Ten a second, nine of ten arrive.
    assert!((950..1_250).contains(&receiver.beats), "{}", receiver.beats);
}

#[test]
fn two_runs_of_a_seed_are_one_and_two_seeds_are_not() {
    let trace = |seed| {
        let mut world = world(Weather::ROUGH, seed);
        run(&mut world, 30);
        (world.trace(), world.steps())
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7).0, trace(8).0);
}

#[test]
fn a_cut_stalls_a_stream_and_a_long_one_breaks_it() {
    for (cut, ended) in [(10, "eof"), (60, "failed")] {
        let mut world = world(Weather::CALM, 3);
        run(&mut world, 1);
        world.net.cut(1, 0);
        run(&mut world, cut);
        let half = world.machine(1).unwrap().received.len();
        assert!(half < SIZE);
        world.net.heal();
        run(&mut world, 60);
        let receiver = world.machine(1).unwrap();
        assert_eq!(receiver.ended, Some(ended), "cut for {cut} s");
        assert_eq!(receiver.received == expected(), ended == "eof");
    }
}

#[test]
fn a_paused_reader_goes_on_and_a_killed_one_breaks_the_stream() {
    let mut world = world(Weather::CALM, 4);
    run(&mut world, 1);
    world.pause(1);
    let before = world.machine(1).unwrap().received.len();
    run(&mut world, 20);
    assert_eq!(world.machine(1).unwrap().received.len(), before);
    world.resume(1);
    run(&mut world, 2);
    assert!(world.machine(1).unwrap().received.len() > before);
    world.kill(1);
    run(&mut world, 5);
    assert_eq!(world.machine(0).unwrap().ended, Some("failed"));
    assert!(world.machine(1).is_none());
}

#[test]
fn connecting_to_nobody_fails_in_time() {
    let mut world = World::new(2, Weather::CALM, 5);
    world.start(0, Toy::default());
    world.command(0, |toy, _| toy.work.push_back(Work::Connect(0, address(1), Duration::from_secs(10))));
    run(&mut world, 1);
    // Nobody listens there: refused at once.
    assert_eq!(world.machine(0).unwrap().ended, Some("failed"));
    world.command(0, |toy, _| {
        toy.ended = None;
        toy.work.push_back(Work::Connect(1, "192.0.2.1:1".parse().unwrap(), Duration::from_secs(10)));
    });
    run(&mut world, 9);
    assert_eq!(world.machine(0).unwrap().ended, None);
    run(&mut world, 2);
    assert_eq!(world.machine(0).unwrap().ended, Some("failed"));
}
