//! Which server to call (rpc spec §5 "Server choice").
//!
//! Candidates come from the member table every time, so there is no list to keep up to date: each server's name is hashed
//! with a salt, and the least hash among those that have not just failed is the one. A new salt is a new shuffle.

use core::net::SocketAddr;

use heapless::Deque;

use crate::{
    pool::{Member, MemberStatus},
    rand::Rng,
    time::{Duration, Instant},
};

/// Failed servers remembered; Consul clusters have 3 to 7.
const FAILED: usize = 6;

/// 120 s, plus up to half as much again: a new shuffle spreads clients over new servers (a real agent's interval).
const SHUFFLE: Duration = Duration::from_secs(120);

/// The choice of servers.
#[derive(Debug)]
pub(crate) struct Servers {
    salt: u32,
    shuffle_at: Instant,
    failed: Deque<SocketAddr, FAILED>,
}

impl Servers {
    pub(crate) fn new(now: Instant, rng: &mut Rng) -> Self {
        Servers { salt: rng.next_u32(), shuffle_at: now + SHUFFLE, failed: Deque::new() }
    }

    /// The server to call, out of `members` (ourselves first).
    pub(crate) fn choose<'a>(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        datacenter: &str,
        members: impl Iterator<Item = Member<'a>>,
    ) -> Option<SocketAddr> {
        if now >= self.shuffle_at {
            self.salt = rng.next_u32();
            self.shuffle_at = now + SHUFFLE + rng.up_to(Duration::from_secs(60));
        }
        let mut best: [Option<(u32, SocketAddr)>; 2] = [None; 2];
        for (nth, member) in members.enumerate() {
            let Some(address) = rpc_address(&member, datacenter) else { continue };
            if nth == 0 {
                // We are a server: the driver gives us a pipe to ourselves.
                return Some(address);
            }
            let rank = member
                .name
                .bytes()
                .fold(self.salt, |hash, octet| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193).rotate_left(7));
            let class = usize::from(self.failed.iter().any(|failed| *failed == address));
            if best[class].is_none_or(|(least, _)| rank < least) {
                best[class] = Some((rank, address));
            }
        }
        if best[0].is_none() {
            self.failed.clear();
        }
        best[0].or(best[1]).map(|(_, address)| address)
    }

    /// `server` did not answer: the others first, for a while.
    pub(crate) fn on_failure(&mut self, server: SocketAddr) {
        if self.failed.is_full() {
            self.failed.pop_front();
        }
        // There is room now.
        let _ = self.failed.push_back(server);
    }
}

/// Where a member answers RPC; `None` unless it is a live server of `datacenter`.
pub(crate) fn rpc_address(member: &Member<'_>, datacenter: &str) -> Option<SocketAddr> {
    let lives = matches!(member.status, MemberStatus::Alive | MemberStatus::Leaving);
    if !lives || !member.is_server() || member.tag("dc") != Some(datacenter) {
        return None;
    }
    Some(SocketAddr::new(member.address.ip(), member.tag("port")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{msgpack::Writer, tags};

    fn meta(role: &str, dc: &str, port: &str) -> Vec<u8> {
        let tags = [("role", role), ("dc", dc), ("port", port)];
        let mut out = vec![0; Writer::measure(|w| tags::emit(w, &tags))];
        tags::emit(&mut Writer::new(&mut out), &tags);
        out
    }

    #[test]
    fn only_live_servers_of_our_datacenter_in_turn() {
        let (server, other, node) =
            (meta("consul", "dc1", "8300"), meta("consul", "dc2", "8300"), meta("node", "dc1", "1"));
        let member = |name, last: u8, meta, status| Member {
            name,
            address: SocketAddr::from(([127, 0, 0, last], 8301)),
            meta,
            status,
            incarnation: 1,
            vsn: [1, 5, 2, 2, 5, 4],
        };
        let table = [
            member("n", 1, &node[..], MemberStatus::Alive),
            member("a", 2, &server[..], MemberStatus::Alive),
            member("b", 3, &server[..], MemberStatus::Alive),
            member("c", 4, &server[..], MemberStatus::Failed),
            member("d", 5, &other[..], MemberStatus::Alive),
        ];
        let mut rng = Rng::from_seed(&[1; 32]);
        let mut servers = Servers::new(Instant::ZERO, &mut rng);
        let mut choose =
            |servers: &mut Servers, now| servers.choose(now, &mut rng, "dc1", table.iter().copied()).unwrap();
        let first = choose(&mut servers, Instant::ZERO);
        assert_eq!(first, choose(&mut servers, Instant::ZERO));
        servers.on_failure(first);
        let second = choose(&mut servers, Instant::ZERO);
        assert_ne!(first, second);
        servers.on_failure(second);
        // All have failed: start over with the first choice.
        assert_eq!(first, choose(&mut servers, Instant::ZERO));
        let mut seen = [first; 40];
        for (nth, seen) in seen.iter_mut().enumerate() {
            *seen = choose(&mut servers, Instant::ZERO + Duration::from_secs(200 * (nth as u64 + 1)));
            assert!([2u8, 3].iter().any(|&last| *seen == SocketAddr::from(([127, 0, 0, last], 8300))));
        }
        assert!(seen.iter().any(|&server| server == first) && seen.iter().any(|&server| server != first));
    }
}
