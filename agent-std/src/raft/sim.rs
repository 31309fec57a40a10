//! Simulation: three to five servers, a virtual network and clock, disks that lose power; all from one seed.
//!
//! Each run loses, delays, repeats and reorders messages, cuts servers off, kills them and cuts their power, adds and
//! removes servers and takes snapshots, while clients propose and read. Checked all the time: one leader per term, the same
//! entry at the same index everywhere, no acknowledged command lost, a read never older than what was acknowledged before
//! it was asked. A failing run prints its seed.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raft::eraftpb::{Message, MessageType};
use tokio::sync::oneshot;

use super::codec::{MessageRecord, Wire};
use super::config::Config;
use super::faulty::{Fault, MemoryDisk};
use super::node::{Node, Outbox, ProposeError, RestoreError, StateMachine};
use super::servers::{Server, Servers, Suffrage};
use super::snapshot::SnapshotSource;
use super::storage::{Disk, StorageError};

/// Remembers every command it applied.
#[derive(Default, Clone)]
struct History {
    commands: Vec<(u64, u64, Vec<u8>)>,
}

impl StateMachine for History {
    fn apply(&mut self, index: u64, unix_millis: u64, command: &[u8]) -> Vec<u8> {
        let last = self.commands.last().map_or(0, |(_, time, _)| *time);
        assert!(unix_millis >= last, "the time of entry {index} went back");
        self.commands.push((index, unix_millis, command.to_vec()));
        index.to_le_bytes().to_vec()
    }

    fn snapshot(&self) -> Box<dyn SnapshotSource> {
        Box::new(self.clone())
    }

    fn restore(&mut self, reader: &mut dyn Read) -> Result<(), RestoreError> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(|error| RestoreError(error.to_string()))?;
        self.commands = super::codec::parse_exact(&bytes).map_err(|error| RestoreError(error.to_string()))?;
        Ok(())
    }
}

impl SnapshotSource for History {
    fn write_to(self: Box<Self>, out: &mut dyn Write) -> std::io::Result<()> {
        out.write_all(&super::codec::emit(Vec::new(), &self.commands))
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

struct Host {
    server: Server,
    disk: MemoryDisk,
    node: Option<Node<History>>,
    starts: u64,
    /// Ticks at a pace of its own: clocks differ by up to a few percent.
    pace: u64,
    next_tick: u64,
}

struct Flying {
    at: u64,
    order: u64,
    message: Message,
}

struct Asked {
    answer: oneshot::Receiver<Result<Vec<u8>, ProposeError>>,
    command: Vec<u8>,
}

struct Reading {
    answer: oneshot::Receiver<Result<u64, ProposeError>>,
    /// Highest index acknowledged before the read was asked.
    at_least: u64,
}

struct World {
    random: Random,
    seed: u64,
    /// Virtual milliseconds.
    now: u64,
    hosts: Vec<Host>,
    flying: Vec<Flying>,
    sent: u64,
    /// Groups that hear each other; all the same: no partition.
    group: Vec<u64>,
    loss: u64,
    asked: Vec<Asked>,
    reading: Vec<Reading>,
    commands: u64,
    /// Index and content of everything acknowledged.
    acknowledged: BTreeMap<u64, Vec<u8>>,
    /// Index → (term, hash) as the first server applied or committed it.
    leaders: BTreeMap<u64, u64>,
    decided: BTreeMap<u64, (u64, Bytes)>,
    checked: Vec<u64>,
    lease_reads: u64,
}

impl World {
    fn new(seed: u64, count: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let hosts = (1..=count)
            .map(|number| Host {
                server: server(number),
                disk: MemoryDisk::new(random.next()),
                node: None,
                starts: 0,
                pace: 97 + random.below(7),
                next_tick: 0,
            })
            .collect();
        let mut world = Self {
            random,
            seed,
            now: 0,
            hosts,
            flying: Vec::new(),
            sent: 0,
            group: vec![0; count as usize],
            loss: 0,
            asked: Vec::new(),
            reading: Vec::new(),
            commands: 0,
            acknowledged: BTreeMap::new(),
            leaders: BTreeMap::new(),
            decided: BTreeMap::new(),
            checked: vec![0; count as usize],
            lease_reads: 0,
        };
        for host in 0..world.hosts.len() {
            world.start(host);
        }
        world
    }

    fn bootstrap(&mut self) {
        let servers = Servers::new(self.hosts.iter().map(|host| host.server.clone()));
        for host in 0..self.hosts.len() {
            self.node(host).bootstrap(servers.clone()).expect("a healthy disk");
            self.process(host);
        }
    }

    fn node(&mut self, host: usize) -> &mut Node<History> {
        self.hosts[host].node.as_mut().expect("running")
    }

    fn start(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        host.starts += 1;
        let mut config = Config::new(host.server.clone(), 1, self.seed ^ (host.starts << 32));
        config.snapshot_threshold = 40;
        config.trailing_logs = 10;
        let node = Node::open(config, Arc::new(host.disk.clone()), History::default());
        let mut node = node.unwrap_or_else(|error| panic!("server {number} does not open: {error}"));
        node.log_mut().set_segment_octets(2000);
        host.node = Some(node);
        host.next_tick = self.now + host.pace;
        self.checked[number] = 0;
        self.process(number);
    }

    /// Ends the process; with `power` the disk loses what was not synced.
    fn stop(&mut self, number: usize, power: bool) {
        let host = &mut self.hosts[number];
        host.node = None;
        if power { host.disk.crash() } else { host.disk.kill() }
    }

    fn process(&mut self, number: usize) {
        let now = Duration::from_millis(self.now);
        // Wall clocks are wrong by seconds, each in its own way.
        let wall = 1_600_000_000_000 + self.now + number as u64 * 3_000;
        let mut out = Outbox::default();
        let Some(node) = self.hosts[number].node.as_mut() else { return };
        node.set_time(now, wall);
        match node.process(&mut out) {
            Ok(()) => {}
            Err(StorageError::Io { .. }) => {
                // A failed disk: the server stops at once, what it had not sent is not sent.
                self.stop(number, true);
                return;
            }
            Err(error) => panic!("seed {}: server {number}: {error}", self.seed),
        }
        self.check(number);
        for answer in out.answers.drain(..) {
            answer.send();
        }
        for message in out.messages.drain(..) {
            self.fly(message);
        }
        if let Some(job) = out.job.take() {
            let written = job.run();
            let node = self.node(number);
            if node.on_snapshot_written(written).is_err() {
                self.stop(number, true);
            }
        }
    }

    fn fly(&mut self, message: Message) {
        if self.loss > 0 && self.random.below(100) < self.loss {
            // The transport knows how a snapshot ended and always says so.
            let sender = self.by_raft_id(message.from).filter(|_| message.get_msg_type() == MessageType::MsgSnapshot);
            if let Some(node) = sender.and_then(|sender| self.hosts[sender].node.as_mut()) {
                node.on_snapshot_sent(message.to, false);
            }
            return;
        }
        let copies = if self.random.one_in(50) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = if self.random.one_in(20) { self.random.below(1500) } else { 1 + self.random.below(20) };
            self.sent += 1;
            self.flying.push(Flying { at: self.now + delay, order: self.sent, message: message.clone() });
        }
    }

    fn by_raft_id(&self, id: u64) -> Option<usize> {
        self.hosts.iter().position(|host| host.server.raft_id() == id)
    }

    fn deliver(&mut self, message: Message) {
        let (Some(from), Some(to)) = (self.by_raft_id(message.from), self.by_raft_id(message.to)) else { return };
        let cut = self.group[from] != self.group[to];
        let is_snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
        if cut || self.hosts[to].node.is_none() {
            if is_snapshot && let Some(node) = self.hosts[from].node.as_mut() {
                node.on_snapshot_sent(message.to, false);
            }
            return;
        }
        // Through the codec, as on the wire.
        let record = MessageRecord::from_library(&message).expect("only messages that travel are sent");
        let Ok(Wire::Message(record)) = Wire::parse(&Wire::Message(record).emit().into()) else { panic!("codec") };
        let arrived = record.into_library().expect("codec");
        if is_snapshot {
            self.deliver_snapshot(from, to, arrived, message.get_snapshot().get_metadata().index);
        } else {
            self.node(to).step(arrived);
        }
        self.process(to);
    }

    fn deliver_snapshot(&mut self, from: usize, to: usize, message: Message, index: u64) {
        let stored = self.copy_snapshot(from, to, message, index).is_ok();
        let receiver = self.hosts[to].server.raft_id();
        if let Some(node) = self.hosts[from].node.as_mut() {
            node.on_snapshot_sent(receiver, stored);
        }
    }

    fn copy_snapshot(&mut self, from: usize, to: usize, message: Message, index: u64) -> std::io::Result<()> {
        let file = self.hosts[from].disk.open(&super::snapshot::name_of(index))?;
        let bytes = super::storage::read_all(&*file)?;
        let node = self.node(to);
        let mut incoming = node.snapshots().receive(message.from)?;
        incoming.write(&bytes)?;
        let received = node.snapshots().check(incoming).map_err(std::io::Error::other)?;
        node.step_snapshot(message, received);
        Ok(())
    }

    /// One virtual millisecond.
    fn step(&mut self) {
        self.now += 1;
        for number in 0..self.hosts.len() {
            if self.hosts[number].node.is_some() && self.hosts[number].next_tick <= self.now {
                self.hosts[number].next_tick = self.now + self.hosts[number].pace;
                let now = Duration::from_millis(self.now);
                let wall = 1_600_000_000_000 + self.now;
                self.node(number).set_time(now, wall);
                self.node(number).tick();
                self.process(number);
            }
        }
        self.flying.sort_by_key(|flying| (flying.at, flying.order));
        let due = self.flying.iter().take_while(|flying| flying.at <= self.now).count();
        let due: Vec<Flying> = self.flying.drain(..due).collect();
        for flying in due {
            self.deliver(flying.message);
        }
        self.collect();
    }

    fn run(&mut self, millis: u64) {
        for _ in 0..millis {
            self.step();
        }
    }

    fn collect(&mut self) {
        let Self { asked, acknowledged, reading, seed, .. } = self;
        asked.retain_mut(|asked| match asked.answer.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => true,
            Ok(Ok(answer)) => {
                let index = u64::from_le_bytes(answer.try_into().expect("an index"));
                let old = acknowledged.insert(index, asked.command.clone());
                assert_eq!(old, None, "seed {seed}: index {index} acknowledged twice");
                false
            }
            _ => false,
        });
        reading.retain_mut(|reading| match reading.answer.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => true,
            Ok(Ok(index)) => {
                assert!(index >= reading.at_least, "seed {seed}: stale read: {index} < {}", reading.at_least);
                false
            }
            _ => false,
        });
    }

    fn leader(&self) -> Option<usize> {
        let leading = |host: &&Host| host.node.as_ref().is_some_and(Node::is_leader);
        let newest =
            self.hosts.iter().filter(leading).max_by_key(|host| host.node.as_ref().map(|node| node.status().term));
        newest.and_then(|host| self.by_raft_id(host.server.raft_id()))
    }

    fn propose(&mut self) {
        let leaders: Vec<usize> = (0..self.hosts.len())
            .filter(|number| self.hosts[*number].node.as_ref().is_some_and(Node::is_leader))
            .collect();
        let Some(&number) = leaders.get(self.random.below(leaders.len().max(1) as u64) as usize) else { return };
        self.commands += 1;
        let mut command = format!("command {} ", self.commands).into_bytes();
        command.resize(command.len() + self.random.below(100) as usize, b'.');
        let (reply, answer) = oneshot::channel();
        self.node(number).propose(&command, reply);
        self.asked.push(Asked { answer, command });
        self.process(number);
    }

    /// A read at any server that believes that it leads.
    fn read(&mut self) {
        let at_least = self.acknowledged.keys().next_back().copied().unwrap_or(0);
        let now = Duration::from_millis(self.now);
        for number in 0..self.hosts.len() {
            let Some(node) = self.hosts[number].node.as_mut().filter(|node| node.is_leader()) else { continue };
            if let Some(lease) = node.lease().filter(|lease| now < lease.until) {
                let status = node.status();
                assert_eq!(lease.term, status.term);
                assert!(
                    status.applied_index >= at_least,
                    "seed {}: stale lease read at {number}: {} < {at_least}",
                    self.seed,
                    status.applied_index
                );
                self.lease_reads += 1;
            } else {
                let (reply, answer) = oneshot::channel();
                node.read_barrier(reply);
                self.reading.push(Reading { answer, at_least });
                self.process(number);
            }
        }
    }

    /// Safety, after every step of a server.
    fn check(&mut self, number: usize) {
        let id = self.hosts[number].server.raft_id();
        let Some(node) = self.hosts[number].node.as_ref() else { return };
        let status = node.status();
        if node.is_leader() {
            let known = *self.leaders.entry(status.term).or_insert(id);
            assert_eq!(known, id, "seed {}: two leaders in term {}", self.seed, status.term);
        }
        let from = self.checked[number];
        let decided = node.store().iter().filter(|entry| entry.index > from && entry.index <= status.applied_index);
        for entry in decided {
            let content = if entry.data.is_empty() { entry.context.clone() } else { entry.data.clone() };
            let known = self.decided.entry(entry.index).or_insert_with(|| (entry.term, content.clone()));
            assert_eq!(*known, (entry.term, content), "seed {}: entry {} differs at {number}", self.seed, entry.index);
        }
        self.checked[number] = status.applied_index;
    }

    fn change_servers(&mut self) {
        let Some(leader) = self.leader() else { return };
        let number = self.random.below(self.hosts.len() as u64) as usize;
        let mut server = self.hosts[number].server.clone();
        server.suffrage = Suffrage::Staging;
        let (reply, _) = oneshot::channel();
        // At least three voters stay, so that the run gets on.
        let voters = self.node(leader).servers().voters();
        if number != leader && voters > 3 && self.random.one_in(2) {
            self.node(leader).remove_server(&server.id, reply);
        } else {
            self.node(leader).add_server(server, reply);
        }
        self.process(leader);
    }

    fn trouble(&mut self) {
        let number = self.random.below(self.hosts.len() as u64) as usize;
        match self.random.below(12) {
            0 => self.loss = self.random.below(30),
            1 => self.loss = 0,
            2 | 3 => {
                for number in 0..self.hosts.len() {
                    self.group[number] = self.random.below(2);
                }
            }
            4 | 5 => self.group.fill(0),
            6 if self.hosts[number].node.is_some() => self.stop(number, true),
            7 if self.hosts[number].node.is_some() => self.stop(number, false),
            8 if self.hosts[number].node.is_some() => {
                let after = self.random.below(5);
                let fault = if self.random.one_in(2) { Fault::SyncFails(after) } else { Fault::Full(after * 100) };
                self.hosts[number].disk.set_fault(Some(fault));
            }
            9 => self.change_servers(),
            10 => {
                if let Some(leader) = self.leader() {
                    let (reply, _) = oneshot::channel();
                    self.node(leader).transfer(None, reply);
                    self.process(leader);
                }
            }
            _ => {
                for number in 0..self.hosts.len() {
                    if self.hosts[number].node.is_none() {
                        self.start(number);
                    }
                }
            }
        }
    }

    /// Everything heals; then everybody must agree on everything acknowledged.
    fn settle(&mut self) {
        self.loss = 0;
        self.group.fill(0);
        for number in 0..self.hosts.len() {
            self.hosts[number].disk.set_fault(None);
            if self.hosts[number].node.is_none() {
                self.start(number);
            }
        }
        let mut proposed = false;
        for _ in 0..60_000 {
            self.step();
            if self.now.is_multiple_of(1000) {
                self.propose();
                proposed = self.leader().is_some();
            }
            if proposed && self.agreed() {
                return self.compare();
            }
        }
        let states: Vec<_> = self.hosts.iter().map(|host| host.node.as_ref().map(Node::status)).collect();
        panic!("seed {}: no agreement a minute after all faults ended: {states:#?}", self.seed);
    }

    fn members(&self) -> Vec<usize> {
        let Some(leader) = self.leader() else { return Vec::new() };
        let servers = self.hosts[leader].node.as_ref().expect("leads").servers();
        (0..self.hosts.len()).filter(|number| servers.by_id(&self.hosts[*number].server.id).is_some()).collect()
    }

    fn agreed(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let status = |number: usize| self.hosts[number].node.as_ref().expect("all run").status();
        let reached = status(leader);
        let all = self.members().into_iter().all(|number| status(number).applied_index == reached.last_log_index);
        all && self.asked.is_empty() && reached.applied_index == reached.last_log_index
    }

    fn compare(&self) {
        let members = self.members();
        let history = |number: usize| &self.hosts[number].node.as_ref().expect("all run").machine().commands;
        let first = history(members[0]);
        for number in &members {
            assert_eq!(history(*number), first, "seed {}: histories differ", self.seed);
        }
        let applied: BTreeMap<u64, &Vec<u8>> = first.iter().map(|(index, _, command)| (*index, command)).collect();
        for (index, command) in &self.acknowledged {
            assert_eq!(applied.get(index), Some(&command), "seed {}: acknowledged entry {index} is lost", self.seed);
        }
        let mut commands: Vec<&Vec<u8>> = first.iter().map(|(_, _, command)| command).collect();
        let all = commands.len();
        commands.sort();
        commands.dedup();
        assert_eq!(commands.len(), all, "seed {}: a command was applied twice", self.seed);
    }
}

fn server(number: u64) -> Server {
    Server {
        id: format!("00000000-0000-4000-8000-{number:012}"),
        name: format!("s{number}"),
        address: format!("127.0.0.1:{}", 1000 + number).parse().expect("an address"),
        suffrage: Suffrage::Voter,
    }
}

/// A whole run; what it did, to see that it did something.
fn run(seed: u64) -> World {
    let mut world = World::new(seed, 3 + seed % 3);
    world.bootstrap();
    world.run(3000);
    for _ in 0..60 {
        for _ in 0..5 {
            let pause = 1 + world.random.below(120);
            world.run(pause);
            world.propose();
            if world.random.one_in(3) {
                world.read();
            }
        }
        world.trouble();
    }
    world.settle();
    world
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("RAFT_SIM_SEED").unwrap_or(1);
    first..first + number("RAFT_SIM_RUNS").unwrap_or(if number("RAFT_SIM_SEED").is_some() { 1 } else { 30 })
}

#[test]
fn nothing_acknowledged_is_lost_whatever_breaks() {
    let mut acknowledged = 0;
    let mut lease_reads = 0;
    for seed in seeds() {
        println!("seed {seed}");
        let world = run(seed);
        acknowledged += world.acknowledged.len();
        lease_reads += world.lease_reads;
    }
    println!("{acknowledged} commands acknowledged, {lease_reads} reads within a lease");
    assert!(acknowledged > 100, "the runs did nothing");
    assert!(lease_reads > 0, "no lease was ever tested");
}

#[test]
fn the_same_seed_replays_the_same_run() {
    let trace = |seed| {
        let world = run(seed);
        (world.now, world.sent, world.acknowledged, world.leaders)
    };
    assert_eq!(trace(7), trace(7));
}

#[test]
fn an_idle_cluster_writes_nothing() {
    let mut world = World::new(3, 3);
    world.bootstrap();
    world.run(5000);
    let look = |world: &World| -> Vec<_> {
        let hosts = world.hosts.iter();
        hosts
            .map(|host| {
                (host.node.as_ref().expect("runs").status().last_log_index, host.disk.syncs(), host.disk.written())
            })
            .collect()
    };
    let before = look(&world);
    assert!(world.leader().is_some());
    world.run(600_000);
    assert_eq!(look(&world), before);
}

#[test]
fn a_disk_that_lies_about_syncs_is_found_out_by_the_log_agreement() {
    // The harness must be able to fail: with lying disks and power cuts an acknowledged command does get lost.
    let lost = (1..40u64).any(|seed| {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, 3);
            world.bootstrap();
            world.run(3000);
            for host in &world.hosts {
                host.disk.set_fault(Some(Fault::SyncLies(0)));
            }
            for _ in 0..20 {
                world.propose();
                world.run(50);
            }
            for number in 0..3 {
                world.stop(number, true);
            }
            world.settle();
        });
        outcome.is_err()
    });
    assert!(lost);
}
