//! Pools talking to each other through a small perfect network with a virtual clock. Bad networks are the simulator's.

mod hostile;

use core::net::SocketAddr;
use std::collections::BTreeMap;

use super::*;
use crate::{
    agent::{StreamId, StreamInput, Target},
    config::Timing,
    membership::{BroadcastSlot, MemberSlot},
    serf::{EventSlot, IntentSlot, SeenSlot},
    time::Duration,
    wire::{crypt::Key, gossip::IndirectPing, push_pull::Clocks},
};

/// Memory of one pool, from the heap.
struct Memory {
    members: Vec<MemberSlot>,
    index: Vec<u16>,
    bytes: [Vec<u8>; 9],
    broadcasts: Vec<BroadcastSlot>,
    queues: Queues,
    relays: Vec<RelaySlot>,
    seen: Vec<SeenSlot>,
    events: Vec<EventSlot>,
    intents: Vec<IntentSlot>,
    streams: Vec<StreamSlot>,
}

impl Memory {
    fn new(members: usize) -> &'static mut Self {
        let sizes = [members * 256, 8192, 2048, INFLATE_MIN, DATAGRAM_MIN, members * 400, members * 700, DEFLATE, 4096];
        Box::leak(Box::new(Memory {
            members: vec![MemberSlot::EMPTY; members],
            index: vec![0; (2 * members).next_power_of_two()],
            bytes: sizes.map(|size| vec![0; size.max(2048)]),
            broadcasts: vec![BroadcastSlot::EMPTY; 64],
            queues: Queues::EMPTY,
            relays: vec![RelaySlot::EMPTY; 4],
            seen: vec![SeenSlot::EMPTY; 64],
            events: vec![EventSlot::EMPTY; 16],
            intents: vec![IntentSlot::EMPTY; 16],
            streams: vec![StreamSlot::EMPTY; 6],
        }))
    }

    fn regions(&mut self) -> PoolRegions<'_> {
        let [text, outbox, mail, inflate, datagram, stage, image, deflate, event_text] = &mut self.bytes;
        PoolRegions {
            members: &mut self.members,
            index: &mut self.index,
            text,
            broadcasts: &mut self.broadcasts,
            outbox,
            mail,
            queues: &mut self.queues,
            relays: &mut self.relays,
            seen: &mut self.seen,
            events: &mut self.events,
            event_text,
            intents: &mut self.intents,
            streams: &mut self.streams,
            inflate,
            datagram,
            stage,
            image,
            deflate,
        }
    }
}

/// One end of a TCP connection: whose, and its id there.
type End = (usize, StreamId);

struct World {
    now: Instant,
    pools: Vec<Pool<'static>>,
    up: Vec<bool>,
    datagrams: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    /// Each end's other end.
    links: BTreeMap<End, End>,
    log: Vec<(usize, String)>,
}

fn address(at: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, at as u8 + 1], 8301))
}

fn tags(at: usize) -> &'static [(&'static str, &'static str)] {
    let id: &str = Box::leak(format!("id-{at}").into_boxed_str());
    let role = if at == 0 { "consul" } else { "node" };
    Box::leak(Box::new([("role", role), ("dc", "dc1"), ("id", id)]))
}

fn config(at: usize) -> PoolConfig<'static> {
    let name: &str = Box::leak(format!("node-{at}").into_boxed_str());
    PoolConfig::lan(name, address(at), tags(at))
}

impl World {
    fn new(count: usize, change: impl Fn(usize, &mut PoolConfig<'static>)) -> Self {
        let now = Instant::from_micros(1_000_000);
        let pools = (0..count).map(|at| {
            let mut config = config(at);
            change(at, &mut config);
            Self::start(config, at as u8, now)
        });
        World {
            now,
            pools: pools.collect(),
            up: vec![true; count],
            datagrams: vec![],
            links: BTreeMap::new(),
            log: vec![],
        }
    }

    fn start(config: PoolConfig<'static>, seed: u8, now: Instant) -> Pool<'static> {
        Pool::new(Box::leak(Box::new(config)), Memory::new(32).regions(), &[seed + 1; 32], now).unwrap()
    }

    fn owner(&self, to: SocketAddr) -> Option<usize> {
        (0..self.pools.len()).find(|&at| address(at) == to && self.up[at])
    }

    /// Does all that can be done without time passing.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut busy = false;
            for at in 0..self.pools.len() {
                while self.up[at] && self.poll(at) {
                    busy = true;
                }
            }
            for (from, to, mut data) in std::mem::take(&mut self.datagrams) {
                busy = true;
                if let Some(at) = self.owner(to) {
                    self.pools[at].handle_datagram(self.now, from, &mut data);
                }
            }
            if !busy {
                return;
            }
        }
        panic!("the pools never rest");
    }

    /// One piece of work; false when there is none.
    fn poll(&mut self, at: usize) -> bool {
        let mut buf = [0; MAX_DATAGRAM];
        let now = self.now;
        match self.pools[at].poll_output(&mut buf) {
            Output::Wait { .. } => return false,
            Output::Transmit { to, len, .. } => {
                assert!(len <= 1472);
                self.datagrams.push((address(at), to, buf[..len].to_vec()));
            }
            Output::Connect { id, to, .. } => {
                let Target::Address(to) = to else { panic!("gossip connects to addresses") };
                let there = self.owner(to);
                let accepted =
                    there.and_then(|there| self.pools[there].handle_accept(now, address(at)).map(|id| (there, id)));
                match accepted {
                    Some(other) => {
                        self.links.insert((at, id), other);
                        self.links.insert(other, (at, id));
                        self.pools[at].handle_stream(now, id, StreamInput::Open);
                    }
                    None => {
                        self.pools[at].handle_stream(now, id, StreamInput::Failed);
                    }
                }
            }
            Output::Writable { id } => loop {
                let mut piece = [0; 77];
                let len = self.pools[at].fill_stream(now, id, &mut piece);
                if len == 0 {
                    break;
                }
                if let Some(&(there, other)) = self.links.get(&(at, id)) {
                    let taken = self.pools[there].handle_stream(now, other, StreamInput::Data(&piece[..len]));
                    assert_eq!(taken, len, "nothing waits in a perfect network");
                }
            },
            Output::Resume { .. } => {}
            Output::Close { id } => {
                if let Some((there, other)) = self.links.remove(&(at, id)) {
                    self.links.remove(&(there, other));
                    self.pools[there].handle_stream(now, other, StreamInput::Eof);
                }
            }
            Output::Resolve { ticket, name } => {
                let found = name.strip_prefix("node-").and_then(|n| n.parse().ok()).map(|n| address(n).ip());
                let found: Vec<IpAddr> = found.into_iter().collect();
                self.pools[at].handle_resolved(now, ticket, &found);
            }
            Output::Event(agent::Event::Member(event)) => {
                self.log.push((at, format!("{:?} {}", event.change, event.member.name)));
            }
            Output::Event(agent::Event::User { name, payload, .. }) => {
                self.log.push((at, format!("event {name} {}", String::from_utf8_lossy(payload))));
            }
            Output::Event(agent::Event::Finished { outcome, .. }) => {
                self.log.push((at, format!("finished {outcome:?}")))
            }
            Output::Event(agent::Event::Lagged) => self.log.push((at, "lagged".into())),
            Output::Event(agent::Event::Answer { from, payload, .. }) => {
                let said = payload.map_or("ack".to_owned(), |octets| String::from_utf8_lossy(octets).into_owned());
                self.log.push((at, format!("answer {from} {said}")));
            }
            Output::Event(agent::Event::Trouble(trouble)) => self.log.push((at, format!("trouble {trouble}"))),
            Output::Event(agent::Event::Keys) => self.log.push((at, "keys".into())),
            Output::Event(agent::Event::Local) | Output::RunCheck { .. } => panic!("a pool has no checks"),
        }
        true
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        let mut still = 0;
        loop {
            self.settle();
            let next =
                (0..self.pools.len()).filter(|&at| self.up[at]).filter_map(|at| self.pools[at].next_deadline().0).min();
            let Some(next) = next.filter(|&next| next <= end) else { break };
            // Time may stand still for a few deadlines in a row, but each must be done with once it was handled.
            still = if next > self.now { 0 } else { still + 1 };
            assert!(still < 50, "a deadline stays due");
            self.now = next.max(self.now);
            for at in 0..self.pools.len() {
                if self.up[at] {
                    self.pools[at].handle_timeout(self.now);
                }
            }
        }
        self.now = end;
    }

    fn statuses(&self, at: usize) -> BTreeMap<String, MemberStatus> {
        self.pools[at].members().map(|member| (member.name.to_owned(), member.status)).collect()
    }

    fn all_see(&self, count: usize, status: MemberStatus) -> bool {
        (0..self.pools.len())
            .filter(|&at| self.up[at])
            .all(|at| self.statuses(at).values().filter(|&&seen| seen == status).count() == count)
    }
}

fn joined(count: usize, change: impl Fn(usize, &mut PoolConfig<'static>)) -> World {
    let mut world = World::new(count, change);
    for at in 1..count {
        world.pools[at].join(world.now, "node-0", true).unwrap();
        world.run(Duration::from_millis(300));
    }
    world.run(Duration::from_secs(5));
    assert!(
        world.all_see(count, MemberStatus::Alive),
        "{:?}",
        (0..count).map(|at| world.statuses(at)).collect::<Vec<_>>()
    );
    world
}

fn encrypted(_: usize, config: &mut PoolConfig<'static>) {
    config.keys = Box::leak(Box::new([Key::new(&[7; 32]).unwrap()]));
}

#[test]
fn ten_join_plain_encrypted_and_labelled() {
    let world = joined(10, |_, _| {});
    assert_eq!(world.log.iter().filter(|(_, what)| what == "finished Joined(1)").count(), 9);
    assert!(world.pools.iter().all(|pool| pool.stats().malformed == 0), "{:?}", world.pools[0].stats());
    let world = joined(10, encrypted);
    assert!(world.pools.iter().all(|pool| pool.stats().undecryptable == 0 && pool.stats().malformed == 0));
    joined(4, |at, config| {
        encrypted(at, config);
        config.label = "dc1.prod";
    });
}

#[test]
fn a_quiet_pool_stays_alive_for_an_hour() {
    let mut world = joined(6, encrypted);
    world.log.clear();
    world.run(Duration::from_secs(3600));
    assert!(world.log.is_empty(), "{:?}", world.log);
    assert!(world.all_see(6, MemberStatus::Alive));
    assert!(world.pools.iter().all(|pool| pool.stats().suspected == 0 && pool.queued() == 0));
}

#[test]
fn a_killed_member_fails_and_comes_back_with_a_higher_incarnation() {
    let mut world = joined(6, |_, _| {});
    world.up[3] = false;
    world.run(Duration::from_secs(30));
    assert!((0..6).filter(|&at| at != 3).all(|at| world.statuses(at)["node-3"] == MemberStatus::Failed));
    let failed = world.log.iter().filter(|(_, what)| what == "Failed node-3").count();
    assert_eq!(failed, 5);
    world.pools[3] = World::start(config(3), 99, world.now);
    world.up[3] = true;
    world.pools[3].join(world.now, "10.0.0.1", true).unwrap();
    world.run(Duration::from_secs(5));
    assert!(world.all_see(6, MemberStatus::Alive));
    assert!(world.pools[3].local().incarnation > 1);
}

#[test]
fn a_member_that_leaves_is_left_not_failed() {
    let mut world = joined(6, encrypted);
    world.pools[2].leave(world.now).unwrap();
    world.run(Duration::from_secs(10));
    assert!(world.log.contains(&(2, "finished Ok".into())));
    world.up[2] = false;
    world.run(Duration::from_secs(60));
    assert!((0..6).filter(|&at| at != 2).all(|at| world.statuses(at)["node-2"] == MemberStatus::Left));
    assert!(!world.log.iter().any(|(_, what)| what.starts_with("Failed")), "{:?}", world.log);
}

#[test]
fn force_leave_makes_the_failed_left_and_prune_erases_them() {
    let mut world = joined(5, |_, _| {});
    world.up[4] = false;
    world.run(Duration::from_secs(30));
    world.pools[1].force_leave(world.now, "node-4", false).unwrap();
    world.run(Duration::from_secs(3));
    assert!((0..4).all(|at| world.statuses(at)["node-4"] == MemberStatus::Left));
    world.pools[1].force_leave(world.now, "node-4", true).unwrap();
    world.run(Duration::from_secs(3));
    assert!((0..4).all(|at| !world.statuses(at).contains_key("node-4")));
    assert_eq!(world.pools[0].force_leave(world.now, "nobody", false), Err(CommandError::Unknown));
}

/// An old table says of who has come back that it left, with a time later than any that it could know.
#[test]
fn who_has_come_back_is_not_leaving_by_an_old_table() {
    let mut world = joined(4, |_, _| {});
    world.up[3] = false;
    world.run(Duration::from_secs(30));
    world.pools[1].force_leave(world.now, "node-3", false).unwrap();
    world.run(Duration::from_secs(3));
    assert!((0..3).all(|at| world.statuses(at)["node-3"] == MemberStatus::Left));
    // It sleeps while the other returns.
    world.up[2] = false;
    let id = world.pools[2].members.find("node-3").unwrap();
    world.pools[2].members.get_mut(id).status_ltime += 100;
    world.pools[3] = World::start(config(3), 99, world.now);
    world.up[3] = true;
    world.pools[3].join(world.now, "10.0.0.1", true).unwrap();
    world.run(Duration::from_secs(2));
    assert_eq!(world.statuses(0)["node-3"], MemberStatus::Alive);
    world.up[2] = true;
    world.pools[2].join(world.now, "10.0.0.1", true).unwrap();
    world.run(Duration::from_secs(2));
    assert!((0..4).all(|at| world.statuses(at)["node-3"] == MemberStatus::Alive), "{:?}", world.statuses(0));
}

/// A device's stage does not hold the records of all the members that it knows, and still hears what follows them.
#[test]
fn a_small_stage_hears_of_every_status() {
    let mut world = joined(24, |_, _| {});
    let stage: &mut [u8] = Box::leak(vec![0; 1024].into_boxed_slice());
    world.pools[23].stage = stage;
    let id = world.pools[23].members.find("node-3").unwrap();
    let slot = world.pools[23].members.get_mut(id);
    slot.status_ltime = 0;
    slot.set_status(MemberStatus::Leaving);
    world.run(Duration::from_secs(120));
    assert_eq!(world.statuses(23)["node-3"], MemberStatus::Alive);
}

#[test]
fn an_event_reaches_everybody_once() {
    let mut world = joined(8, encrypted);
    world.pools[4].user_event(world.now, "deploy", b"v2", false).unwrap();
    world.run(Duration::from_secs(60));
    let heard: Vec<usize> = world.log.iter().filter(|(_, what)| what == "event deploy v2").map(|(at, _)| *at).collect();
    assert_eq!(heard.len(), 8, "{heard:?}");
    assert!(world.pools[0].user_event(world.now, "x", &[0; 600], false).is_err());
}

#[test]
fn who_comes_later_hears_of_old_events_if_it_wants_to() {
    let mut world = World::new(4, encrypted);
    world.pools[1].join(world.now, "node-0", true).unwrap();
    world.run(Duration::from_secs(5));
    for number in 0..24u8 {
        world.pools[0].user_event(world.now, "old", &[b'0' + number], false).unwrap();
        world.run(Duration::from_millis(200));
    }
    world.run(Duration::from_secs(40));
    // The last 16 are what the test's memory keeps; the others are history.
    world.pools[2].join(world.now, "node-1", true).unwrap();
    world.pools[3].join(world.now, "node-1", false).unwrap();
    world.run(Duration::from_secs(120));
    let heard = |at: usize| -> Vec<&str> {
        let own = world.log.iter().filter(|(who, what)| *who == at && what.starts_with("event"));
        own.map(|(_, what)| what.as_str()).collect()
    };
    let numbers =
        |from: u8| -> Vec<String> { (from..24).map(|n| format!("event old {}", (b'0' + n) as char)).collect() };
    assert_eq!(heard(0), numbers(0));
    assert_eq!(heard(1).len(), 24);
    assert_eq!(heard(2), [""; 0], "it asked for no old ones, now or later");
    assert_eq!(heard(3), numbers(8));
    assert_eq!(world.pools[0].stats().events_dropped, 8);
}

#[test]
fn everybody_answers_a_query_once() {
    let mut world = joined(6, encrypted);
    world.log.clear();
    world.pools[2].query(world.now, "_serf_ping", &[], true, 0).unwrap();
    world.run(Duration::from_secs(10));
    let mut log: Vec<String> = world.log.iter().map(|(at, what)| format!("{at} {what}")).collect();
    // Ourselves at once, the others as they hear of it, and the end when no more can come.
    assert_eq!((log[0].as_str(), log[6].as_str()), ("2 answer node-2 ack", "2 finished Ok"), "{log:?}");
    log.sort();
    log.dedup();
    assert_eq!(log.len(), 7);
    assert!(world.pools[2].query(world.now, "q", &[0; 1100], false, 0).is_err());
    world.log.clear();
    for _ in 0..10 {
        world.pools[2].query(world.now, "q", &[], false, 0).unwrap();
    }
    // Agents do not answer what they do not know.
    world.run(Duration::from_secs(10));
    let ends = |how: &str| world.log.iter().filter(|(at, what)| *at == 2 && what == how).count();
    assert_eq!((ends("finished Failed(\"later queries took its place\")"), ends("finished Ok")), (2, 8));
    assert_eq!(world.log.len(), 10, "{:?}", world.log);
}

#[test]
fn keys_are_rotated_everywhere() {
    let mut world = joined(4, encrypted);
    world.log.clear();
    let (old, new) = ([7; 32], [9; 16]);
    for (name, key) in [("_serf_install-key", &new[..]), ("_serf_use-key", &new), ("_serf_remove-key", &old)] {
        let mut payload = [0; 64];
        let mut w = Writer::new(&mut payload);
        crate::wire::serf::emit_key_request(&mut w, key);
        let len = w.len();
        world.pools[1].query(world.now, name, &payload[..len], false, 0).unwrap();
        world.run(Duration::from_secs(5));
    }
    assert!(world.pools.iter().all(|pool| pool.keys() == [Key::new(&new).unwrap()]));
    assert_eq!(world.log.iter().filter(|(_, what)| what == "keys").count(), 3 * 4);
    assert_eq!(world.log.iter().filter(|(at, what)| *at == 1 && what.starts_with("answer")).count(), 3 * 4);
    world.run(Duration::from_secs(60));
    assert!(world.all_see(4, MemberStatus::Alive));
}

#[test]
fn a_restart_with_its_clocks_goes_on_where_it_was() {
    let mut world = joined(3, |_, _| {});
    for number in [b"1", b"2"] {
        world.pools[0].user_event(world.now, "old", number, false).unwrap();
        world.run(Duration::from_secs(3));
    }
    let (member, event, query) = world.pools[2].clocks();
    world.up[2] = false;
    world.run(Duration::from_secs(30));
    world.pools[0].user_event(world.now, "missed", b"3", false).unwrap();
    world.log.clear();
    let mut config = config(2);
    config.clocks = Clocks { member: member - 1, event: event - 1, query: query - 1 };
    world.pools[2] = World::start(config, 99, world.now);
    world.up[2] = true;
    assert_eq!(world.pools[2].clocks().1, event);
    world.pools[2].join(world.now, "node-1", false).unwrap();
    world.run(Duration::from_secs(10));
    let heard: Vec<&str> = world
        .log
        .iter()
        .filter(|(at, what)| *at == 2 && what.starts_with("event"))
        .map(|(_, what)| &what[..])
        .collect();
    assert_eq!(heard, ["event missed 3"]);
}

#[test]
fn impossible_clocks_of_a_damaged_file_silence_nobody() {
    let mut world = joined(2, |_, _| {});
    let mut config = config(2);
    config.clocks = Clocks { member: u64::MAX, event: u64::MAX, query: u64::MAX };
    world.pools.push(World::start(config, 99, world.now));
    world.up.push(true);
    world.pools[2].join(world.now, "node-1", false).unwrap();
    world.run(Duration::from_secs(10));
    world.pools[0].user_event(world.now, "new", b"1", false).unwrap();
    world.run(Duration::from_secs(5));
    assert!(world.log.iter().any(|(at, what)| *at == 2 && what == "event new 1"), "{:?}", world.log);
}

#[test]
fn new_tags_reach_everybody() {
    let mut world = joined(4, |_, _| {});
    world.pools[1].set_tags(world.now, &[("role", "node"), ("dc", "dc1"), ("id", "id-1"), ("new", "yes")]).unwrap();
    world.run(Duration::from_secs(3));
    for at in 0..4 {
        assert_eq!(world.pools[at].member("node-1").unwrap().tag("new"), Some("yes"));
    }
    assert!(world.log.contains(&(0, "Updated node-1".into())));
}

#[test]
fn strangers_are_not_admitted() {
    let mut world = World::new(3, |at, config| match at {
        1 => config.tags = &[("role", "node"), ("dc", "dc2"), ("id", "x")],
        2 => config.tags = &[("role", "node"), ("dc", "dc1"), ("id", "id-0")],
        _ => {}
    });
    for at in 1..3 {
        world.pools[at].join(world.now, "node-0", true).unwrap();
    }
    world.run(Duration::from_secs(10));
    assert_eq!(world.statuses(0).len(), 1);
    assert!(world.pools[0].stats().merges_refused >= 2);
}

#[test]
fn a_name_held_by_another_address_is_a_conflict() {
    let mut world = joined(3, |_, _| {});
    let twin = Box::leak(Box::new(PoolConfig { name: "node-1", ..config(3) }));
    world.pools.push(Pool::new(twin, Memory::new(32).regions(), &[77; 32], world.now).unwrap());
    world.up.push(true);
    world.pools[3].join(world.now, "node-0", true).unwrap();
    world.run(Duration::from_secs(10));
    assert_eq!(world.pools[0].member("node-1").unwrap().address, address(1));
    assert!(world.pools[0].stats().conflicts > 0);
    let told = troubles(&world, 0);
    assert_eq!(told.len(), 1, "{told:?}");
    for part in ["name node-1", "10.0.0.2:8301 has", "10.0.0.4:8301", "rename"] {
        assert!(told[0].contains(part), "{told:?}");
    }
}

#[test]
fn seeds_are_tried_until_somebody_is_there() {
    let mut world = World::new(2, |at, config| {
        if at == 1 {
            config.seeds = &["nowhere", "10.9.9.9", "node-0"];
        }
    });
    world.up[0] = false;
    world.run(Duration::from_secs(100));
    assert_eq!(world.statuses(1).len(), 1);
    world.up[0] = true;
    world.run(Duration::from_secs(35));
    assert!(world.all_see(2, MemberStatus::Alive));
}

#[test]
fn rounds_over_seeds_are_counted_while_nobody_answers() {
    let mut world = World::new(2, |at, config| {
        if at == 0 {
            (config.seeds, config.retry_join) = (&["10.9.9.1", "10.9.9.2"], Duration::from_secs(3));
        }
    });
    world.run(Duration::from_secs(40));
    let rounds = world.pools[0].stats().seed_rounds;
    assert!((1..=14).contains(&rounds), "{rounds} rounds");
    assert_eq!(world.pools[1].stats().seed_rounds, 0);
}

#[test]
fn a_pool_of_servers_refuses_others_and_keeps_where_they_are() {
    let wan = |at: usize, config: &mut PoolConfig<'static>| {
        (config.servers_only, config.timing) = (true, Timing::wan());
        config.tags = match at {
            0 => &[("role", "consul"), ("dc", "dc1")],
            1 => &[("role", "consul"), ("dc", "dc2")],
            _ => &[("role", "node"), ("dc", "dc1")],
        };
    };
    let mut world = World::new(3, wan);
    world.pools[0].keep_places(Box::leak(vec![None; 2].into_boxed_slice()));
    let seed = address(0).to_string();
    for at in 1..3 {
        world.pools[at].join(world.now, &seed, true).unwrap();
    }
    world.run(Duration::from_secs(30));
    let names: Vec<String> = world.pools[0].members().map(|member| member.name.to_owned()).collect();
    assert_eq!(names, ["node-0", "node-1"], "the client is not admitted");
    assert!(world.pools[0].place("node-1").is_some_and(|place| place.is_valid()));
    assert_eq!((world.pools[0].place("node-9"), world.pools[1].place("node-0")), (None, None));
}

#[test]
fn joining_only_ourselves_is_no_join() {
    let mut world = World::new(1, |_, _| {});
    world.pools[0].join(world.now, "node-0", true).unwrap();
    world.run(Duration::from_secs(15));
    assert!(world.log[0].1.contains("finished Joined(0)"), "{:?}", world.log);
}

#[test]
fn a_one_way_blocked_member_is_helped_by_the_others() {
    // Datagrams between 0 and 1 are lost both ways: indirect pings and TCP keep both alive.
    let mut world = joined(5, |_, _| {});
    world.log.clear();
    let end = world.now + Duration::from_secs(300);
    while world.now < end {
        world.settle_without(address(0), address(1));
        world.step(Duration::from_millis(50));
    }
    assert!(world.all_see(5, MemberStatus::Alive));
    assert!(!world.log.iter().any(|(_, what)| what.starts_with("Failed")), "{:?}", world.log);
    for (at, other) in [(0, "node-1 "), (1, "node-0 ")] {
        let told = troubles(&world, at);
        assert_eq!((told.len(), world.pools[at].stats().one_way), (1, 1), "{told:?}");
        assert!(told[0].contains(other), "{told:?}");
    }
    assert_eq!(world.pools[2].stats().one_way, 0);
}

impl World {
    fn step(&mut self, span: Duration) {
        self.now += span;
        for at in 0..self.pools.len() {
            self.pools[at].handle_timeout(self.now);
        }
    }

    fn settle_without(&mut self, a: SocketAddr, b: SocketAddr) {
        loop {
            let mut busy = false;
            for at in 0..self.pools.len() {
                while self.poll(at) {
                    busy = true;
                }
            }
            for (from, to, mut data) in std::mem::take(&mut self.datagrams) {
                busy = true;
                if (from, to) == (a, b) || (from, to) == (b, a) {
                    continue;
                }
                if let Some(at) = self.owner(to) {
                    self.pools[at].handle_datagram(self.now, from, &mut data);
                }
            }
            if !busy {
                return;
            }
        }
    }
}

/// What a pool's owner was told of trouble.
fn troubles(world: &World, at: usize) -> Vec<&str> {
    let own = world.log.iter().filter(|(who, what)| *who == at && what.starts_with("trouble "));
    own.map(|(_, what)| what.as_str()).collect()
}

#[test]
fn who_stood_still_accuses_nobody_and_doubts_itself() {
    let mut world = joined(6, |_, _| {});
    world.run(Duration::from_secs(20));
    // Its socket's queue was full: what came meanwhile is lost, so no late ack helps it.
    world.up[0] = false;
    world.run(Duration::from_secs(9));
    world.up[0] = true;
    let before = world.pools[0].health_score();
    world.pools[0].handle_timeout(world.now);
    assert_eq!((world.pools[0].stats().late, world.pools[0].health_score()), (1, before + 1));
    world.run(Duration::from_secs(30));
    assert_eq!(world.pools[0].stats().suspected, 0, "it accused others of its own sleep");
    assert!(world.all_see(6, MemberStatus::Alive));
}

#[test]
fn a_copied_node_id_is_told_with_both_names_and_the_cure() {
    let mut world = World::new(4, |at, config| {
        if at == 3 {
            config.tags = tags(2);
        }
    });
    for at in 1..4 {
        world.pools[at].join(world.now, "node-0", true).unwrap();
        world.run(Duration::from_secs(5));
    }
    let told = troubles(&world, 0);
    assert_eq!(told.len(), 1, "{told:?}");
    for part in ["node-3", "node-2", "node-id file"] {
        assert!(told[0].contains(part), "{told:?}");
    }
    world.run(Duration::from_secs(30));
    assert_eq!(troubles(&world, 0).len(), 1, "once");
    assert!(world.pools[0].stats().id_conflicts >= 1);
}

#[test]
fn answers_come_by_way_of_others_too() {
    let mut world = joined(8, encrypted);
    let heard = |world: &World, from: &str| {
        world.log.iter().filter(|(at, what)| *at == 2 && what.starts_with("answer") && what.contains(from)).count()
    };
    world.pools[2].query(world.now, "_serf_ping", &[], true, 3).unwrap();
    world.run(Duration::from_secs(5));
    // Directly, and through three of the other seven each time; ourselves directly alone.
    for at in [0, 1, 3, 4, 5, 6, 7] {
        let name = format!("node-{at}");
        let times = heard(&world, &name);
        assert!((3..=4).contains(&times), "{name} was heard {times} times");
    }
    assert!(world.pools[2].query(world.now, "q", &[], false, 6).is_err());
}

#[test]
fn a_lost_ping_is_repeated_and_a_full_relay_says_no_at_once() {
    let mut world = joined(2, |_, _| {});
    world.run(Duration::from_secs(5));
    // Of the datagrams from 0 to 1 every second one is lost: without repeated pings half of the probes would fail.
    let suspected = world.pools[0].stats().suspected;
    let (end, mut lost) = (world.now + Duration::from_secs(60), 0);
    while world.now < end {
        while (0..2).any(|at| world.poll(at)) {}
        for (from, to, mut data) in std::mem::take(&mut world.datagrams) {
            if from == address(0) {
                lost += 1;
                if lost % 2 == 1 {
                    continue;
                }
            }
            let at = world.owner(to).unwrap();
            world.pools[at].handle_datagram(world.now, from, &mut data);
        }
        world.step(Duration::from_millis(50));
    }
    assert_eq!(world.pools[0].stats().suspected, suspected);
    assert_eq!(world.pools[0].stats().udp_broken, 0, "TCP was not needed");

    // As many requests as there are slots, and one more.
    let slots = Memory::new(2).regions().relays.len();
    let mut refused = Vec::new();
    for seq in 0..=slots as u32 {
        let mut octets = [0; 128];
        let mut writer = Writer::new(&mut octets);
        let ask = IndirectPing { node: "x", target: address(9), seq, nack: true, source: None, source_node: "" };
        ask.emit(&mut writer);
        let len = writer.finish().unwrap();
        world.pools[0].handle_datagram(world.now, address(7), &mut octets[..len]);
        while world.poll(0) {}
        for (_, to, data) in std::mem::take(&mut world.datagrams) {
            if to == address(7) {
                assert!(data.len() <= len, "an unknown address gets no more than it sent");
                refused.push(seq);
            }
        }
    }
    assert_eq!(refused, [slots as u32], "a nack at once for the last one only");
    assert_eq!(world.pools[0].stats().relays_refused, 1);
}

#[test]
fn an_accuser_who_missed_the_refutation_hears_it_with_the_ack() {
    let mut world = joined(4, |_, _| {});
    world.run(Duration::from_secs(5));
    world.pools[1].refute(1);
    world.run(Duration::from_secs(20));
    assert_eq!(world.pools[1].queued(), 0, "the refutation has been told as often as it may");
    let (mut octets, own) = ([0; 256], world.pools[1].local().incarnation);
    let mut writer = Writer::new(&mut octets);
    gossip::Claim { node: "node-1", incarnation: own - 1, from: "node-9" }.emit(&mut writer, gossip::SUSPECT);
    let len = writer.finish().unwrap();
    world.pools[1].handle_datagram(world.now, address(2), &mut octets[..len]);
    assert_eq!((world.pools[1].queued(), world.pools[1].local().incarnation), (1, own), "said again, not anew");
}
