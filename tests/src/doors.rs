//! The core's doors for bytes, opened to anything: what the fuzz targets and the replay of their corpora call.
//!
//! Nothing is asserted about answers. The doors must not panic, and the machine must come to rest.

use std::net::SocketAddr;

use agent_core::{
    agent::StreamInput,
    time::{Duration, Instant},
};
use bumpalo::Bump;

use crate::sim::{
    model::{Machine, Work, address},
    pool::Member,
};

/// Work that one input may cause. More means that the machine does not come to rest.
const POLLS: usize = 10_000;

/// A pool in the first life of node 0.
fn pool(bump: &Bump) -> Member<'_> {
    let mut member = Member::new(bump, 0, 1, 16, 1, Instant::ZERO);
    rest(&mut member);
    member
}

fn rest(member: &mut Member<'_>) {
    for _ in 0..POLLS {
        if let Work::Wait(_) = member.poll() {
            return;
        }
    }
    panic!("the pool never comes to rest");
}

fn peer() -> SocketAddr {
    address(1)
}

/// One datagram.
pub fn datagram(data: &[u8]) {
    let bump = Bump::new();
    let mut member = pool(&bump);
    member.datagram(Instant::ZERO, peer(), &mut data.to_vec());
    rest(&mut member);
}

/// One accepted stream: the first octet is the size of the pieces that the rest arrives in.
pub fn stream(data: &[u8]) {
    let Some((size, data)) = data.split_first() else { return };
    let bump = Bump::new();
    let mut member = pool(&bump);
    let now = Instant::ZERO;
    let Some(id) = member.accept(now, peer()) else { return };
    for piece in data.chunks(usize::from(*size).max(1)) {
        let mut rest_of_piece = piece;
        // What is not taken is offered again once; then the stream is held up for good, as a driver would see it.
        for _ in 0..2 {
            let taken = member.stream(now, id, StreamInput::Data(rest_of_piece));
            rest(&mut member);
            rest_of_piece = &rest_of_piece[taken..];
        }
        let mut out = [0; 1460];
        while member.fill(now, id, &mut out) > 0 {}
    }
    member.stream(now, id, StreamInput::Eof);
    rest(&mut member);
}

/// A run of operations, two octets each: which, and with what.
pub fn operations(data: &[u8]) {
    let bump = Bump::new();
    let mut member = pool(&bump);
    let mut now = Instant::ZERO;
    let mut streams = Vec::new();
    for pair in data.chunks_exact(2) {
        let with = pair[1];
        match pair[0] % 8 {
            0 => now += Duration::from_millis(u64::from(with) * 40),
            1 => drop(member.0.join(now, &address(usize::from(with)).to_string(), with % 2 == 0)),
            2 => drop(member.0.leave(now)),
            3 => drop(member.0.force_leave(now, "node-1", with % 2 == 0)),
            4 => drop(member.0.user_event(now, "deploy", &data[..data.len().min(usize::from(with))], false)),
            5 => streams.extend(member.accept(now, address(usize::from(with)))),
            6 => {
                if let Some(&id) = streams.get(usize::from(with) % streams.len().max(1)) {
                    member.stream(now, id, if with % 2 == 0 { StreamInput::Eof } else { StreamInput::Failed });
                }
            }
            _ => member.datagram(now, address(usize::from(with)), &mut data.to_vec()),
        }
        member.timeout(now);
        rest(&mut member);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Real datagrams and streams, whole, cut and with one octet changed.
    #[test]
    fn captured_bytes_and_their_neighbours_do_no_harm() {
        let folder = crate::peers::root().join("agent-core/vectors/gossip");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            // Every long run of hexadecimal digits between quotes is somebody's bytes.
            for word in text.split('"').filter(|word| word.len() >= 4 && word.len() <= 4096 && word.len() % 2 == 0) {
                let digits = word.as_bytes().chunks_exact(2);
                let octets = digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap_or("?"), 16));
                let Ok(octets) = octets.collect::<Result<Vec<u8>, _>>() else { continue };
                count += 1;
                datagram(&octets);
                stream(&[&[7], &octets[..]].concat());
                let mut changed = octets.clone();
                changed[octets.len() / 2] ^= 1 << (count % 8);
                datagram(&changed);
                stream(&[&[255], &changed[..]].concat());
                stream(&[&[64], &octets[..octets.len() / 2]].concat());
            }
        }
        assert!(count > 20, "{count}");
    }

    #[test]
    fn operations_in_any_order_do_no_harm() {
        for seed in 0..200u32 {
            let data: Vec<u8> =
                (0..60u32).map(|n| (seed.wrapping_add(n).wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            operations(&data);
        }
    }
}
