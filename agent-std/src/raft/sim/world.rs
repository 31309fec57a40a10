//! Servers, their disks, the network between them and the clock, all from one seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raft::eraftpb::{Message, MessageType};

use super::clients::{Client, Histories};
use super::machine::{Reference, Watched};
use crate::raft::codec::{MessageRecord, Wire};
use crate::raft::config::Config;
use crate::raft::faulty::MemoryDisk;
use crate::raft::node::{Node, Outbox};
use crate::raft::servers::{Server, Servers, Suffrage};
use crate::raft::storage::{Disk, StorageError, read_all};

/// Clients at a time.
const CLIENTS: usize = 4;
/// 13 September 2020.
const WALL: u64 = 1_600_000_000_000;

pub(super) struct Random(u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(super) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

/// What happened, as one number (FNV-1a).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trace(pub(super) u64);

impl Trace {
    pub(super) fn add(&mut self, facts: &[u64]) {
        for byte in facts.iter().flat_map(|fact| fact.to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

pub(super) struct Host {
    pub(super) server: Server,
    pub(super) disk: MemoryDisk,
    pub(super) node: Option<Node<Watched>>,
    pub(super) starts: u64,
    /// Ticks at a pace of its own: clocks differ by up to a few percent.
    pace: u64,
    next_tick: u64,
    /// Neither hears nor does anything before this time.
    pub(super) paused_until: u64,
    /// Milliseconds that each sync takes.
    pub(super) slow: u64,
    /// Milliseconds that its wall clock is ahead.
    pub(super) ahead: u64,
    /// The file in which a bit was flipped since it stopped.
    pub(super) flipped: Option<String>,
}

struct Flying {
    at: u64,
    order: u64,
    message: Message,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) seed: u64,
    /// Virtual milliseconds.
    pub(super) now: u64,
    pub(super) hosts: Vec<Host>,
    flying: Vec<Flying>,
    sent: u64,
    /// Groups that hear each other; all the same: no partition.
    pub(super) group: Vec<u64>,
    pub(super) loss: u64,
    pub(super) clients: Vec<Client>,
    /// Clients begin nothing new.
    pub(super) quiet: bool,
    /// Values and sessions are numbered.
    pub(super) numbers: u64,
    pub(super) histories: Histories,
    pub(super) reference: Reference,
    /// Leader of each term.
    leaders: BTreeMap<u64, u64>,
    /// Index → (term, content) as the first server applied it.
    decided: BTreeMap<u64, (u64, Bytes)>,
    checked: Vec<u64>,
    pub(super) trace: Trace,
    pub(super) acknowledged: u64,
    pub(super) lease_reads: u64,
    /// Leaders that went on after a pause and found their lease over.
    pub(super) late_leaders: u64,
    /// A fault of the program under test, to see that it is found: leaders read without looking at their lease.
    pub(super) careless: bool,
    /// Flipped bits that were named.
    pub(super) found: u64,
}

impl World {
    pub(super) fn new(seed: u64, count: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let hosts = (1..=count)
            .map(|number| Host {
                server: server(number),
                disk: MemoryDisk::new(random.next()),
                node: None,
                starts: 0,
                pace: 97 + random.below(7),
                next_tick: 0,
                paused_until: 0,
                slow: 0,
                // Wall clocks are wrong by seconds, each in its own way.
                ahead: number * 3_000,
                flipped: None,
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
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            quiet: false,
            numbers: 0,
            histories: Histories::default(),
            reference: Reference::default(),
            leaders: BTreeMap::new(),
            decided: BTreeMap::new(),
            checked: vec![0; count as usize],
            trace: Trace(0xcbf2_9ce4_8422_2325),
            acknowledged: 0,
            lease_reads: 0,
            late_leaders: 0,
            careless: false,
            found: 0,
        };
        for host in 0..world.hosts.len() {
            world.start(host);
        }
        world
    }

    pub(super) fn bootstrap(&mut self) {
        // With five, two start empty and wait to be added.
        let founders = self.hosts.len().min(4 - self.hosts.len() / 5);
        let servers = Servers::new(self.hosts[..founders].iter().map(|host| host.server.clone()));
        for host in 0..founders {
            self.node(host).bootstrap(servers.clone()).expect("a healthy disk");
            self.process(host);
        }
    }

    pub(super) fn node(&mut self, host: usize) -> &mut Node<Watched> {
        self.hosts[host].node.as_mut().expect("running")
    }

    /// Whether it runs and is not paused.
    pub(super) fn answers(&self, host: usize) -> bool {
        self.hosts[host].node.is_some() && self.hosts[host].paused_until <= self.now
    }

    pub(super) fn start(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        host.starts += 1;
        host.paused_until = 0;
        let mut config = Config::new(host.server.clone(), 1, self.seed ^ (host.starts << 32));
        config.snapshot_threshold = 40;
        config.trailing_logs = 10;
        let node = Node::open(config, Arc::new(host.disk.clone()), Watched::new(&self.reference));
        let mut node = match (node, host.flipped.take()) {
            (Ok(node), None) => node,
            // The newest two snapshots safeguard each other.
            (Ok(node), Some(file)) if file.starts_with("snapshot-") => node,
            (Ok(_), Some(file)) => panic!("server {number}: a flipped bit in {file} goes unnoticed"),
            (Err(StorageError::Corrupt { .. }), Some(_)) => return self.replace(number),
            // The disk failed again; nothing was changed.
            (Err(StorageError::Io { .. }), _) => return self.hosts[number].disk.crash(),
            (Err(error), _) => panic!("server {number} does not open: {error}"),
        };
        node.log_mut().set_segment_octets(2000);
        host.node = Some(node);
        host.next_tick = self.now + host.pace;
        self.checked[number] = 0;
        self.process(number);
    }

    /// The operator does what the error says: a new, empty server takes the damaged one's place.
    fn replace(&mut self, number: usize) {
        self.found += 1;
        let fresh = self.random.next();
        let host = &mut self.hosts[number];
        host.disk = MemoryDisk::new(fresh);
        host.server = Server { address: host.server.address, ..server(number as u64 + 1 + 100 * self.found) };
        self.start(number);
    }

    /// Ends the process; with `power` the disk loses what was not synced.
    pub(super) fn stop(&mut self, number: usize, power: bool) {
        let host = &mut self.hosts[number];
        host.node = None;
        if power { host.disk.crash() } else { host.disk.kill() }
    }

    pub(super) fn process(&mut self, number: usize) {
        let now = Duration::from_millis(self.now);
        let host = &mut self.hosts[number];
        let (wall, syncs) = (WALL + self.now + host.ahead, host.disk.syncs());
        let mut out = Outbox::default();
        let Some(node) = host.node.as_mut() else { return };
        node.set_time(now, wall);
        match node.process(&mut out) {
            Ok(()) => {}
            Err(StorageError::Io { .. }) => {
                // A failed disk: the server stops at once, what it had not sent is not sent.
                self.stop(number, true);
                return;
            }
            Err(error) => panic!("server {number}: {error}"),
        }
        let busy = host.slow * (host.disk.syncs() - syncs);
        if busy > 0 {
            host.paused_until = host.paused_until.max(self.now + busy);
        }
        self.check(number);
        for answer in out.answers.drain(..) {
            answer.send();
        }
        for message in out.messages.drain(..) {
            self.fly(message, busy);
        }
        if let Some(job) = out.job.take() {
            let written = job.run();
            let node = self.node(number);
            if node.on_snapshot_written(written).is_err() {
                self.stop(number, true);
            }
        }
    }

    fn fly(&mut self, message: Message, later: u64) {
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
            self.flying.push(Flying { at: self.now + later + delay, order: self.sent, message: message.clone() });
        }
    }

    pub(super) fn by_raft_id(&self, id: u64) -> Option<usize> {
        self.hosts.iter().position(|host| host.server.raft_id() == id)
    }

    fn deliver(&mut self, message: Message) {
        let (Some(from), Some(to)) = (self.by_raft_id(message.from), self.by_raft_id(message.to)) else { return };
        let cut = self.group[from] != self.group[to];
        let awake = self.hosts[to].paused_until;
        if self.hosts[to].node.is_some() && awake > self.now {
            // It waits in the system's buffers.
            self.sent += 1;
            self.flying.push(Flying { at: awake + 1, order: self.sent, message });
            return;
        }
        let is_snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
        if cut || self.hosts[to].node.is_none() {
            if is_snapshot && let Some(node) = self.hosts[from].node.as_mut() {
                node.on_snapshot_sent(message.to, false);
            }
            return;
        }
        self.trace.add(&[self.now, message.from, message.to, message.msg_type as u64, message.term, message.index]);
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
        let file = self.hosts[from].disk.open(&crate::raft::snapshot::name_of(index))?;
        let bytes = read_all(&*file)?;
        let node = self.node(to);
        let mut incoming = node.snapshots().receive(message.from)?;
        incoming.write(&bytes)?;
        let received = node.snapshots().check(incoming).map_err(std::io::Error::other)?;
        node.step_snapshot(message, received);
        Ok(())
    }

    /// One virtual millisecond.
    pub(super) fn step(&mut self) {
        self.now += 1;
        for number in 0..self.hosts.len() {
            let host = &mut self.hosts[number];
            if host.paused_until == self.now && host.node.is_some() {
                self.wake(number);
            }
            if self.answers(number) && self.hosts[number].next_tick <= self.now {
                let host = &mut self.hosts[number];
                host.next_tick = self.now + host.pace;
                let (now, wall) = (Duration::from_millis(self.now), WALL + self.now + host.ahead);
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
        self.clients();
    }

    /// Its readers go on before it has heard anything.
    fn wake(&mut self, number: usize) {
        let now = Duration::from_millis(self.now);
        let node = self.node(number);
        if node.is_leader() {
            self.late_leaders += u64::from(self.node(number).lease().is_none_or(|lease| lease.until <= now));
            self.read_at(number);
        }
    }

    pub(super) fn run(&mut self, millis: u64) {
        for _ in 0..millis {
            self.step();
        }
    }

    pub(super) fn leader(&self) -> Option<usize> {
        let leading = |host: &&Host| host.node.as_ref().is_some_and(Node::is_leader);
        let newest =
            self.hosts.iter().filter(leading).max_by_key(|host| host.node.as_ref().map(|node| node.status().term));
        newest.and_then(|host| self.by_raft_id(host.server.raft_id()))
    }

    /// A server that believes that it leads.
    pub(super) fn some_leader(&mut self) -> Option<usize> {
        let leaders: Vec<usize> = (0..self.hosts.len())
            .filter(|number| self.answers(*number) && self.hosts[*number].node.as_ref().is_some_and(Node::is_leader))
            .collect();
        leaders.get(self.random.below(leaders.len().max(1) as u64) as usize).copied()
    }

    /// Safety, after every step of a server.
    fn check(&mut self, number: usize) {
        let id = self.hosts[number].server.raft_id();
        let Some(node) = self.hosts[number].node.as_ref() else { return };
        let status = node.status();
        if node.is_leader() {
            let known = *self.leaders.entry(status.term).or_insert(id);
            assert_eq!(known, id, "two leaders in term {}", status.term);
        }
        let from = self.checked[number];
        let decided = node.store().iter().filter(|entry| entry.index > from && entry.index <= status.applied_index);
        for entry in decided {
            let content = if entry.data.is_empty() { entry.context.clone() } else { entry.data.clone() };
            let known = self.decided.entry(entry.index).or_insert_with(|| (entry.term, content.clone()));
            assert_eq!(*known, (entry.term, content), "entry {} differs at {number}", entry.index);
        }
        self.checked[number] = status.applied_index;
    }
}

pub(super) fn server(number: u64) -> Server {
    Server {
        id: format!("00000000-0000-4000-8000-{number:012}"),
        name: format!("s{number}"),
        address: format!("127.0.0.1:{}", 1000 + number).parse().expect("an address"),
        suffrage: Suffrage::Voter,
    }
}
