//! One server's consensus without threads, clock or network: facts go in, messages come out.
//!
//! [`Node`] ties the library's state machine to the durable log, the snapshots and the replicated state machine. The
//! driver feeds it ticks, messages and requests and calls [`Node::process`], which does everything that has become
//! possible: write a batch (one sync), send, apply, answer. The simulation in `sim` drives it the same way.
//!
//! `open` brings it up from its directory, `messages` judges what other servers send, `requests` takes what this server's
//! users ask for, and `ready` is the loop that carries all of it out.

mod messages;
mod open;
mod ready;
mod requests;

pub(super) use open::{assemble, newest_good};

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::time::Duration;

use raft::eraftpb::Message;
use raft::{RawNode, StateRole};
use tokio::sync::oneshot;

use super::config::{Config, ELECTION_TICKS};
use super::log::Log;
use super::servers::{Server, Servers};
use super::snapshot::{Meta, Received, SnapshotSource, Snapshots};
use super::storage::StorageError;
use super::store::Store;

/// What raft replicates: the state behind the commands.
pub trait StateMachine: Send + 'static {
    /// Carries out the command of entry `index`. Must depend on nothing but its arguments and the state: every server does
    /// the same. `unix_millis` is the leader's clock at the proposal and never goes back. Returns the proposer's answer.
    fn apply(&mut self, index: u64, unix_millis: u64, command: &[u8]) -> Vec<u8>;
    /// An immutable view of the state as of the last `apply`, cheap to take.
    fn snapshot(&self) -> Box<dyn SnapshotSource>;
    /// Replaces the state by a snapshot's.
    ///
    /// # Errors
    /// The content is not a state of this program; the server stops.
    fn restore(&mut self, reader: &mut dyn Read) -> Result<(), RestoreError>;
}

/// Why a state machine refuses a snapshot.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RestoreError(pub String);

/// Why a request was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another server leads; ask it. Nothing was proposed.
    #[error("not the leader")]
    NotLeader {
        /// Who leads.
        leader: Box<Server>,
    },
    /// Nobody is known to lead. Nothing was proposed.
    #[error("no cluster leader")]
    NoLeader,
    /// Leadership went while the proposal was under way: it may or may not be carried out.
    #[error("leadership lost while committing log")]
    LeadershipLost,
    /// No answer in time: the proposal may or may not be carried out.
    #[error("timed out waiting for the raft log")]
    Timeout,
    /// The server has stopped. The proposal may or may not be carried out.
    #[error("raft is stopped")]
    Stopped,
    /// The command is too long. Nothing was proposed.
    #[error("command of {octets} octets is larger than the {limit} allowed")]
    TooLarge {
        /// Its length.
        octets: usize,
        /// The limit.
        limit: usize,
    },
    /// Too much is under way, or another change of the configuration is; try again. Nothing was proposed.
    #[error("raft is busy, try again")]
    Busy,
    /// The change makes no sense. Nothing was proposed.
    #[error("{0}")]
    Refused(&'static str),
}

/// Where answers go.
pub(super) type Reply<T> = oneshot::Sender<Result<T, ProposeError>>;

/// What a server does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// A look at one server's consensus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// This server's part at the moment.
    pub role: Role,
    /// Current term.
    pub term: u64,
    /// Who leads, as far as known.
    pub leader: Option<Server>,
    /// Index of the last entry in the log.
    pub last_log_index: u64,
    /// Its term.
    pub last_log_term: u64,
    /// All entries up to this one are decided.
    pub commit_index: u64,
    /// All entries up to this one have been carried out here.
    pub applied_index: u64,
    /// Index of the newest snapshot on disk; 0: none.
    pub last_snapshot_index: u64,
    /// Its term.
    pub last_snapshot_term: u64,
    /// When the leader was last heard, in the driver's time; `None`: never.
    pub last_contact: Option<Duration>,
    /// Index of the entry that made the present configuration.
    pub configuration_index: u64,
}

/// What [`Node::process`] leaves to its driver.
#[derive(Default)]
pub(super) struct Outbox {
    /// To be sent. A snapshot message means: send the snapshot file of that index with it.
    pub(super) messages: Vec<Message>,
    /// To be sent after the new status has been made public, so that who gets an answer finds its effect.
    pub(super) answers: Vec<Done>,
    /// To be run on another thread; its result goes to [`Node::on_snapshot_written`].
    pub(super) job: Option<SnapshotJob>,
}

/// A request that succeeded.
pub(super) enum Done {
    Command(Reply<Vec<u8>>, Vec<u8>),
    Change(Reply<()>),
    Read(Reply<u64>, u64),
}

impl Done {
    /// Tells the one who asked. Nobody minds when that one has given up.
    pub(super) fn send(self) {
        match self {
            Done::Command(reply, answer) => drop(reply.send(Ok(answer))),
            Done::Change(reply) => drop(reply.send(Ok(()))),
            Done::Read(reply, index) => drop(reply.send(Ok(index))),
        }
    }
}

/// A snapshot to be written.
pub(super) struct SnapshotJob {
    snapshots: Snapshots,
    pub(super) meta: Meta,
    source: Box<dyn SnapshotSource>,
}

impl SnapshotJob {
    pub(super) fn run(self) -> Result<Meta, StorageError> {
        self.snapshots.write(&self.meta, self.source)?;
        Ok(self.meta)
    }
}

/// One server's consensus.
pub(super) struct Node<S> {
    config: Config,
    id: u64,
    raw: RawNode<Store>,
    log: Log,
    snapshots: Snapshots,
    machine: S,
    servers: Servers,
    configuration_index: u64,
    applied: (u64, u64),
    applied_millis: u64,
    now: Duration,
    unix_millis: u64,
    ticks: u64,
    random: u64,
    drawn: Drawn,
    proposals: BTreeMap<u64, Proposal>,
    reads: Reads,
    lease: Option<Lease>,
    /// In this term leadership was to be handed over: the lease is no proof of leadership any more.
    handover_term: u64,
    handovers: Vec<Reply<()>>,
    last_contact: Option<Duration>,
    /// Just started: an only voter need not wait for an election timeout.
    fresh: bool,
    /// A snapshot is being written.
    writing: bool,
    /// Received snapshots that the library has not decided on.
    received: Option<Received>,
    /// Index of the snapshot before the newest: the log reaches back to here.
    older_snapshot: u64,
}

struct Proposal {
    term: u64,
    reply: Answer,
}

enum Answer {
    Command(Reply<Vec<u8>>),
    Change(Reply<()>),
}

/// A confirmed leadership, good until `until` in `term`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) term: u64,
    pub(super) until: Duration,
}

/// What the election timeout was last drawn for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Drawn {
    term: u64,
    role: StateRole,
    leader: u64,
    timeout: usize,
}

#[derive(Default)]
struct Reads {
    next: u64,
    /// Not asked yet: the leader has not committed an entry of its term.
    waiting: Vec<Reply<u64>>,
    /// Asked, by number: when, and who wants to know.
    asked: VecDeque<(u64, Duration, Vec<Reply<u64>>)>,
    /// Confirmed, to be answered when the index is applied.
    confirmed: Vec<(u64, Vec<Reply<u64>>)>,
}

impl<S: StateMachine> Node<S> {
    /// The driver's clocks: monotonic time since any beginning, and the wall clock.
    pub(super) fn set_time(&mut self, now: Duration, unix_millis: u64) {
        self.now = now;
        self.unix_millis = unix_millis;
    }

    /// One tick has passed. Late ticks are skipped, never made up for.
    pub(super) fn tick(&mut self) {
        self.ticks += 1;
        self.raw.tick();
        let campaigned = self.raw.raft.election_elapsed == 0;
        self.draw(campaigned && !self.is_leader());
        self.promote();
        self.end_handovers();
    }

    pub(super) fn status(&self) -> Status {
        let raft = &self.raw.raft;
        let store = self.raw.store();
        let snapshot = store.newest_snapshot();
        Status {
            role: match raft.state {
                StateRole::Leader => Role::Leader,
                StateRole::Follower => Role::Follower,
                StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            },
            term: raft.term,
            leader: self.leader().cloned(),
            last_log_index: raft.raft_log.last_index(),
            last_log_term: raft.raft_log.last_term(),
            commit_index: raft.raft_log.committed,
            applied_index: self.applied.0,
            last_snapshot_index: snapshot.map_or(0, |meta| meta.index),
            last_snapshot_term: snapshot.map_or(0, |meta| meta.term),
            last_contact: if self.is_leader() { Some(self.now) } else { self.last_contact },
            configuration_index: self.configuration_index,
        }
    }

    pub(super) fn servers(&self) -> &Servers {
        &self.servers
    }

    pub(super) fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    /// Until when this server surely leads.
    pub(super) fn lease(&self) -> Option<Lease> {
        self.lease
    }

    pub(super) fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    #[cfg(test)]
    pub(super) fn store(&self) -> &Store {
        self.raw.store()
    }

    #[cfg(test)]
    pub(super) fn machine(&self) -> &S {
        &self.machine
    }

    #[cfg(test)]
    pub(super) fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    fn leader(&self) -> Option<&Server> {
        self.servers.by_raft_id(self.raw.raft.leader_id)
    }

    fn not_leader(&self) -> Option<ProposeError> {
        if self.is_leader() {
            return None;
        }
        Some(match self.leader() {
            Some(leader) => ProposeError::NotLeader { leader: Box::new(leader.clone()) },
            None => ProposeError::NoLeader,
        })
    }

    /// Replaces the election timeout that the library drew from the system by one of ours.
    fn draw(&mut self, again: bool) {
        let raft = &self.raw.raft;
        let (term, role, leader) = (raft.term, raft.state, raft.leader_id);
        let same = (self.drawn.term, self.drawn.role, self.drawn.leader) == (term, role, leader);
        if again || !same {
            let timeout = ELECTION_TICKS + (self.next_random() % ELECTION_TICKS as u64) as usize;
            self.drawn = Drawn { term, role, leader, timeout };
        }
        self.raw.raft.set_randomized_election_timeout(self.drawn.timeout);
    }

    /// SplitMix64.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Answer {
    fn succeed(self, answer: Vec<u8>) -> Done {
        match self {
            Answer::Command(reply) => Done::Command(reply, answer),
            Answer::Change(reply) => Done::Change(reply),
        }
    }

    fn fail(self, error: ProposeError) {
        match self {
            Answer::Command(reply) => drop(reply.send(Err(error))),
            Answer::Change(reply) => drop(reply.send(Err(error))),
        }
    }
}
