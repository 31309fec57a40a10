//! Gossip of a pool with many members, without sockets: `cargo bench -p agent-core --bench gossip`.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::{
    net::SocketAddr,
    time::{Duration, Instant as Clock},
};

use agent_core::{
    agent::Output,
    config::PoolConfig,
    membership::{BroadcastSlot, MemberSlot},
    pool::{DATAGRAM_MIN, DEFLATE, INFLATE_MIN, MAX_DATAGRAM, Pool, PoolRegions, Queues, RelaySlot, StreamSlot},
    serf::{EventSlot, IntentSlot, SeenSlot},
    time::Instant,
    wire::{
        crypt::{self, Key},
        gossip::{self, Alive, Claim, Ping, SUSPECT},
        msgpack::Writer,
        tags,
    },
};

const MEMBERS: usize = 1000;
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 1)), 8301);

/// Memory that lasts as long as the program.
fn lent<T: Clone>(len: usize, empty: T) -> &'static mut [T] {
    Box::leak(vec![empty; len].into_boxed_slice())
}

fn pool(keys: &'static [Key]) -> Pool<'static> {
    let mut config = PoolConfig::lan("n0", "10.0.0.1:8301".parse().unwrap(), &[("role", "node"), ("dc", "dc1")]);
    config.keys = keys;
    let regions = PoolRegions {
        members: lent(2 * MEMBERS, MemberSlot::EMPTY),
        index: lent(4096, 0),
        text: lent(2 * MEMBERS * 320, 0),
        broadcasts: lent(4096, BroadcastSlot::EMPTY),
        outbox: lent(4096 * 512, 0),
        mail: lent(256 * 1024, 0),
        queues: Box::leak(Box::new(Queues::EMPTY)),
        relays: lent(256, RelaySlot::EMPTY),
        seen: lent(1024, SeenSlot::EMPTY),
        events: lent(512, EventSlot::EMPTY),
        event_text: lent(512 * 512, 0),
        intents: lent(256, IntentSlot::EMPTY),
        streams: lent(16, StreamSlot::EMPTY),
        inflate: lent(INFLATE_MIN, 0),
        datagram: lent(DATAGRAM_MIN, 0),
        stage: lent(64 * 1024, 0),
        image: lent(2 * 1024 * 1024, 0),
        deflate: lent(DEFLATE, 0),
    };
    Pool::new(Box::leak(Box::new(config)), regions, &[1; 32], Instant::from_micros(1)).unwrap()
}

fn written(emit: impl Fn(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = vec![0; Writer::measure(&emit)];
    emit(&mut Writer::new(&mut out));
    out
}

/// An alive message with a Consul client's tags.
fn alive(node: usize, incarnation: u32) -> Vec<u8> {
    let id = format!("00000000-0000-4000-8000-{node:012}");
    let list = [
        ("role", "node"),
        ("dc", "dc1"),
        ("segment", ""),
        ("id", &*id),
        ("vsn", "2"),
        ("vsn_min", "2"),
        ("vsn_max", "3"),
        ("build", "1.8.7:"),
        ("acls", "0"),
    ];
    let meta = written(|w| tags::emit(w, &list));
    let (name, vsn) = (format!("n{node}"), Some([1, 5, 2, 2, 5, 4]));
    let address = SocketAddr::from(([10, 1, (node >> 8) as u8, node as u8], 8301));
    written(|w| Alive { node: &name, address, meta: &meta, incarnation, vsn }.emit(w))
}

/// Does the pool's work; returns the datagrams it sent.
fn drain(pool: &mut Pool<'_>, buf: &mut [u8]) -> usize {
    let mut sent = 0;
    loop {
        match pool.poll_output(buf) {
            Output::Wait { .. } => return sent,
            Output::Transmit { .. } => sent += 1,
            _ => {}
        }
    }
}

/// Runs `once` for a second and prints what one run takes.
fn measure(label: &str, mut once: impl FnMut(u32)) {
    let (start, mut runs) = (Clock::now(), 0);
    while start.elapsed() < Duration::from_secs(1) {
        for _ in 0..64 {
            once(runs);
            runs += 1;
        }
    }
    let each = start.elapsed().as_nanos() as f64 / f64::from(runs);
    println!("{label:<44} {each:>9.0} ns {:>9.0} /s", 1e9 / each);
}

fn main() {
    let now = Instant::from_micros(1_000_000);
    let mut buf = [0; MAX_DATAGRAM];
    let message = alive(7, 1);
    measure("decode alive, 185 octets", |_| assert!(gossip::parse(std::hint::black_box(&message)).is_ok()));

    let keys: &[Key] = Box::leak(Box::new([Key::new(&[7; 32]).unwrap()]));
    for (label, keys) in [("plain", &[][..]), ("encrypted", keys)] {
        let mut pool = pool(keys);
        let pack = |octets: &[u8]| match keys.first() {
            None => octets.to_vec(),
            Some(key) => {
                let mut out = vec![0; octets.len() + 2 * crypt::OVERHEAD];
                out[1 + crypt::NONCE..][..octets.len()].copy_from_slice(octets);
                let len = crypt::seal(key, [5; 12], b"", &mut out, octets.len()).unwrap();
                out.truncate(len);
                out
            }
        };
        for node in 1..=MEMBERS {
            pool.handle_datagram(now, PEER, &mut pack(&alive(node, 1)));
            let _ = drain(&mut pool, &mut buf);
        }
        assert_eq!(pool.members().count(), MEMBERS + 1);
        let ping = pack(&written(|w| Ping { node: "n0", seq: 9, source: None, source_node: "" }.emit(w)));
        measure(&format!("{label}: ping to ack, {} messages queued", pool.queued()), |_| {
            pool.handle_datagram(now, PEER, &mut ping.clone());
            assert_eq!(drain(&mut pool, &mut buf), 1);
            // Sending drains the queue; news keep it as it was.
            if pool.queued() < MEMBERS / 2 {
                for node in 1..=MEMBERS {
                    pool.handle_datagram(now, PEER, &mut pack(&alive(node, pool.stats().datagrams_in)));
                }
            }
        });
        while pool.queued() > 0 {
            pool.handle_datagram(now, PEER, &mut ping.clone());
            let _ = drain(&mut pool, &mut buf);
        }
        measure(&format!("{label}: ping to ack, nothing queued"), |_| {
            pool.handle_datagram(now, PEER, &mut ping.clone());
            assert_eq!(drain(&mut pool, &mut buf), 1);
        });
        let old = pack(&alive(7, 1));
        measure(&format!("{label}: alive that is no news"), |_| pool.handle_datagram(now, PEER, &mut old.clone()));
        let claim = pack(&written(|w| Claim { node: "stranger", incarnation: 1, from: "n3" }.emit(w, SUSPECT)));
        measure(&format!("{label}: suspicion of a stranger"), |_| {
            pool.handle_datagram(now, PEER, &mut claim.clone());
        });
    }
    let text = alive(7, 1).len();
    println!("octets of a member: {} in its slot, 4 in the index, {text} at most of text", size_of::<MemberSlot>());
}
