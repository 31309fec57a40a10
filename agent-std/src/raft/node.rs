//! One server's consensus without threads, clock or network: facts go in, messages come out.
//!
//! [`Node`] ties the library's state machine to the durable log, the snapshots and the replicated state machine. The
//! driver feeds it ticks, messages and requests and calls [`Node::process`], which does everything that has become
//! possible: write a batch (one sync), send, apply, answer. The simulation in `sim` drives it the same way.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::{INVALID_ID, ProgressState, RawNode, SnapshotStatus, StateRole};
use tokio::sync::oneshot;

use super::codec::{self, Body, HardRecord};
use super::config::{Config, ELECTION_TICKS, HEARTBEAT_TICKS, LEASE_TICKS};
use super::log::{Batch, Log};
use super::servers::{Change, Server, Servers, Suffrage};
use super::snapshot::{Meta, Received, SnapshotSource, Snapshots};
use super::storage::{Disk, StorageError};
use super::store::{Store, library_snapshot};

/// Octets of entries in one append message; also about what a log frame holds at most, next to one oversized entry.
const MAX_APPEND_OCTETS: u64 = 1 << 20;
/// Append messages under way to one follower.
const MAX_INFLIGHT: usize = 64;
/// Proposals that are not committed yet: octets after which new ones are refused.
const MAX_UNCOMMITTED_OCTETS: u64 = 32 << 20;
/// Committed octets applied before messages get their turn again.
const MAX_APPLY_OCTETS: u64 = 8 << 20;
/// Above any term that elections can reach; a peer's message may not bring us to the end of the numbers.
const MAX_TERM: u64 = 1 << 62;
/// A learner this close behind the leader has caught up.
const CAUGHT_UP_ENTRIES: u64 = 64;

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
    /// Opens the directory and brings the state machine to the newest snapshot. Entries after it are applied by the first
    /// calls of [`Node::process`].
    pub(super) fn open(config: Config, disk: Arc<dyn Disk>, mut machine: S) -> Result<Self, StorageError> {
        let id = config.server.raft_id();
        let snapshots = Snapshots::new(disk.clone(), id);
        snapshots.sweep()?;
        let (mut log, loaded) = Log::open(disk, id)?;
        let found = newest_good(&snapshots, &mut machine)?;
        let (newest, older) = (found.newest, found.older);
        let store = assemble(loaded.hard, loaded.entries, newest.as_ref(), older.as_ref())?;
        // A crash between a leader's snapshot and the reset of the log: reset it now, or its next entry would leave a hole.
        if loaded.next.is_some_and(|next| next != store.last() + 1) {
            let hard = Some(store.hard_record());
            log.write(&Batch { reset: Some(store.last()), entries: &[], hard })?;
        }

        let servers = newest.as_ref().map(Meta::servers).unwrap_or_default();
        let applied = newest.as_ref().map_or((0, 0), |meta| (meta.index, meta.term));
        let applied_millis = newest.as_ref().map_or(0, |meta| meta.unix_millis);
        let raw = library_node(id, applied.0, store)?;
        let drawn = Drawn { term: 0, role: StateRole::Follower, leader: INVALID_ID, timeout: 0 };
        let random = config.seed ^ id;
        let mut node = Self {
            config,
            id,
            raw,
            log,
            snapshots,
            machine,
            servers,
            configuration_index: applied.0,
            applied,
            applied_millis,
            now: Duration::ZERO,
            unix_millis: 0,
            ticks: 0,
            random,
            drawn,
            proposals: BTreeMap::new(),
            reads: Reads::default(),
            lease: None,
            handover_term: 0,
            handovers: Vec::new(),
            last_contact: None,
            writing: false,
            received: None,
            older_snapshot: older.map_or(0, |meta| meta.index),
        };
        node.draw(true);
        node.campaign_if_alone();
        Ok(node)
    }

    /// Gives a new cluster its first configuration. Called with the same servers on each of them; on a server that already
    /// knows a cluster it does nothing.
    pub(super) fn bootstrap(&mut self, servers: Servers) -> Result<(), StorageError> {
        if !self.is_empty() {
            return Ok(());
        }
        // A snapshot of the empty state at index 1, the same on all servers, so that servers added later get it too.
        let meta = Meta::new(1, 1, 0, &servers);
        self.snapshots.write(&meta, self.machine.snapshot())?;
        let hard = HardRecord { term: 1, vote: 0, commit: 1 };
        self.log.write(&Batch { reset: Some(1), entries: &[], hard: Some(hard) })?;
        let store = assemble(hard.to_library(), Vec::new(), Some(&meta), None)?;
        self.raw = library_node(self.id, 1, store)?;
        self.servers = servers;
        self.configuration_index = 1;
        self.applied = (1, 1);
        self.draw(true);
        self.campaign_if_alone();
        Ok(())
    }

    /// Never bootstrapped, never heard of a leader's log.
    pub(super) fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.raw.store().last() == 0
    }

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

    /// A message of another server. Impossible ones are dropped: the library would panic at them.
    pub(super) fn step(&mut self, message: Message) {
        if let Err(what) = self.check(&message) {
            log::warn!("raft: dropped a message of server {:x}: {what}", message.from);
            return;
        }
        let from_leader = matches!(
            message.get_msg_type(),
            MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot
        );
        let sender = message.from;
        // The library refuses answers of servers it does not know; that is no event worth a word.
        let _ = self.raw.step(message);
        if from_leader && self.raw.raft.leader_id == sender {
            self.last_contact = Some(self.now);
        }
        self.draw(false);
    }

    /// A whole snapshot arrived, with the message that carried it.
    pub(super) fn step_snapshot(&mut self, mut message: Message, received: Received) {
        message.set_snapshot(library_snapshot(&received.meta));
        if let Some(old) = self.received.replace(received) {
            self.snapshots.discard(&old);
        }
        self.step(message);
        let wanted = self.raw.snap().is_some_and(|snapshot| !snapshot.is_empty());
        if !wanted && let Some(unwanted) = self.received.take() {
            self.snapshots.discard(&unwanted);
        }
    }

    /// How sending a snapshot ended.
    pub(super) fn on_snapshot_sent(&mut self, to: u64, stored: bool) {
        let status = if stored { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raw.report_snapshot(to, status);
    }

    /// Messages to this server were lost.
    pub(super) fn on_unreachable(&mut self, to: u64) {
        self.raw.report_unreachable(to);
    }

    /// A [`SnapshotJob`] has ended.
    pub(super) fn on_snapshot_written(&mut self, result: Result<Meta, StorageError>) -> Result<(), StorageError> {
        self.writing = false;
        let meta = result?;
        let newest = self.raw.store().newest_snapshot().map_or(0, |meta| meta.index);
        if meta.index <= newest {
            return Ok(());
        }
        self.older_snapshot = newest;
        let index = meta.index;
        self.raw.mut_store().set_snapshot(meta);
        self.snapshots.prune()?;
        let cut = self.older_snapshot.min(index.saturating_sub(self.config.trailing_logs));
        self.raw.mut_store().compact(cut);
        self.log.compact(cut)
    }

    /// Proposes a command.
    pub(super) fn propose(&mut self, command: &[u8], reply: Reply<Vec<u8>>) {
        let limit = self.config.max_command_octets;
        if command.len() > limit {
            let _ = reply.send(Err(ProposeError::TooLarge { octets: command.len(), limit }));
            return;
        }
        let data = codec::emit_command(self.proposal_time(), command).into();
        let entry = Entry { data, ..Entry::default() };
        self.propose_entry(entry, Answer::Command(reply));
    }

    /// Adds a server or changes what is known of one.
    pub(super) fn add_server(&mut self, server: Server, reply: Reply<()>) {
        let mut server = server;
        let known = self.servers.by_raft_id(server.raft_id());
        if known.is_some_and(|known| known.suffrage == Suffrage::Voter) && server.suffrage == Suffrage::Staging {
            server.suffrage = Suffrage::Voter;
        }
        if known == Some(&server) && self.is_leader() {
            let _ = reply.send(Ok(()));
            return;
        }
        self.propose_change(Change::Put(server), Answer::Change(reply));
    }

    /// Removes a server.
    pub(super) fn remove_server(&mut self, id: &str, reply: Reply<()>) {
        self.propose_change(Change::Remove(id.to_owned()), Answer::Change(reply));
    }

    /// A linearizable read: answered with an index that is applied here and as new as the moment of asking.
    pub(super) fn read_barrier(&mut self, reply: Reply<u64>) {
        match self.not_leader() {
            Some(error) => drop(reply.send(Err(error))),
            None => self.reads.waiting.push(reply),
        }
    }

    /// Hands leadership to `target`, or to the voter that is furthest.
    pub(super) fn transfer(&mut self, target: Option<&str>, reply: Reply<()>) {
        if let Some(error) = self.not_leader() {
            let _ = reply.send(Err(error));
            return;
        }
        let progress = self.raw.raft.prs();
        let candidates = self.servers.iter().filter(|server| {
            let named = target.is_none_or(|id| server.id.eq_ignore_ascii_case(id));
            named && server.suffrage == Suffrage::Voter && server.raft_id() != self.id
        });
        let reach =
            |server: &&Server| progress.get(server.raft_id()).map_or(0, |at| at.matched + u64::from(at.recent_active));
        let Some(best) = candidates.max_by_key(reach).map(Server::raft_id) else {
            let _ = reply.send(Err(ProposeError::Refused("there is no other voter to hand leadership to")));
            return;
        };
        self.handover_term = self.raw.raft.term;
        self.lease = None;
        self.raw.transfer_leader(best);
        self.handovers.push(reply);
    }

    /// Does all that has become possible.
    ///
    /// # Errors
    /// The disk failed, or an entry cannot be carried out: the server must stop.
    pub(super) fn process(&mut self, out: &mut Outbox) -> Result<(), StorageError> {
        loop {
            self.draw(false);
            self.settle_leadership();
            self.ask_reads();
            if !self.raw.has_ready() {
                break;
            }
            let mut ready = self.raw.ready();
            self.send(ready.take_messages(), out);
            if !ready.snapshot().is_empty() {
                self.install(ready.snapshot().get_metadata().index)?;
            }
            let entries = ready.take_entries();
            self.persist(&entries, ready.hs().cloned(), ready.must_sync())?;
            self.send(ready.take_persisted_messages(), out);
            self.confirm_reads(ready.take_read_states());
            self.apply(ready.take_committed_entries(), out)?;
            let mut light = self.raw.advance_append(ready);
            if let Some(commit) = light.commit_index() {
                self.raw.mut_store().hard_mut().commit = commit;
            }
            self.send(light.take_messages(), out);
            self.apply(light.take_committed_entries(), out)?;
            self.raw.advance_apply_to(self.applied.0);
        }
        self.answer_reads(out);
        self.begin_snapshot(out);
        Ok(())
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

    fn proposal_time(&self) -> u64 {
        self.unix_millis.max(self.applied_millis)
    }

    fn propose_change(&mut self, change: Change, answer: Answer) {
        let refusal = self.servers.refusal(&change);
        let own_removal =
            matches!(&change, Change::Remove(id) if self.servers.by_id(id).is_some_and(|s| s.raft_id() == self.id));
        if self.is_leader() {
            let error = match refusal {
                Some(why) => Some(ProposeError::Refused(why)),
                None if own_removal => {
                    Some(ProposeError::Refused("a leader cannot remove itself; hand leadership over first"))
                }
                None if self.raw.raft.has_pending_conf() => Some(ProposeError::Busy),
                None => None,
            };
            if let Some(error) = error {
                answer.fail(error);
                return;
            }
        }
        let mut entry = Entry::default();
        entry.set_entry_type(EntryType::EntryConfChange);
        entry.context = codec::emit_change(self.proposal_time(), &change).into();
        self.propose_entry(entry, answer);
    }

    fn propose_entry(&mut self, entry: Entry, answer: Answer) {
        if let Some(error) = self.not_leader() {
            answer.fail(error);
            return;
        }
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.id;
        message.set_entries(vec![entry].into());
        match self.raw.step(message) {
            Ok(()) => {
                let index = self.raw.raft.raft_log.last_index();
                self.proposals.insert(index, Proposal { term: self.raw.raft.term, reply: answer });
            }
            // The limit of uncommitted octets, or a handover under way.
            Err(_) => answer.fail(ProposeError::Busy),
        }
    }

    /// Why the library would trip over this message.
    fn check(&self, message: &Message) -> Result<(), &'static str> {
        let raft = &self.raw.raft;
        let kind = message.get_msg_type();
        if message.to != self.id || message.from == self.id || message.from == INVALID_ID {
            return Err("it is not for this server");
        }
        if message.term == 0 || message.term > MAX_TERM || message.term < message.log_term {
            return Err("its term is impossible");
        }
        let last = raft.raft_log.last_index();
        match kind {
            MessageType::MsgHeartbeat if message.commit > last => {
                return Err(
                    "the leader counts on entries that this server had and has lost; remove this server and add it anew",
                );
            }
            MessageType::MsgAppend => {
                let mut before = (message.index, message.log_term);
                for entry in &message.entries {
                    if entry.index != before.0.wrapping_add(1) || entry.term < before.1 || entry.term > message.term {
                        return Err("its entries do not follow each other");
                    }
                    before = (entry.index, entry.term);
                    let decided = entry.index <= raft.raft_log.committed && entry.index >= self.raw.store().first();
                    if decided && raft.raft_log.term(entry.index).unwrap_or(0) != entry.term {
                        return Err("it contradicts a decided entry");
                    }
                }
            }
            MessageType::MsgAppendResponse if message.index > last => {
                return Err("it confirms entries that do not exist");
            }
            // A leader relies on followers that heard it less than a lease ago; a fresh start has forgotten when that was.
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote if self.ticks <= u64::from(LEASE_TICKS) => {
                return Err("just started, no votes yet");
            }
            MessageType::MsgSnapshot if message.get_snapshot().get_metadata().index == 0 => {
                return Err("a snapshot without content");
            }
            _ => {}
        }
        Ok(())
    }

    fn send(&self, messages: Vec<Message>, out: &mut Outbox) {
        out.messages.extend(messages.into_iter().filter(|message| message.to != self.id));
    }

    fn persist(
        &mut self,
        entries: &[Entry],
        hard: Option<raft::eraftpb::HardState>,
        must_sync: bool,
    ) -> Result<(), StorageError> {
        if let Some(hard) = hard {
            self.raw.mut_store().set_hard(hard);
        }
        // A commit index alone is not worth a sync: the leader tells it again.
        if must_sync {
            let hard = self.raw.store().hard_record();
            self.log.write(&Batch { reset: None, entries, hard: Some(hard) })?;
        }
        self.raw.mut_store().append(entries);
        Ok(())
    }

    /// Replaces log and state by the snapshot that was received.
    fn install(&mut self, index: u64) -> Result<(), StorageError> {
        let received = self.received.take().filter(|received| received.meta.index == index);
        let received = received
            .ok_or_else(|| StorageError::Library(format!("snapshot {index} was asked for but not received")))?;
        self.snapshots.adopt(&received)?;
        let meta = received.meta;
        self.raw.mut_store().reset(meta.clone());
        let hard = self.raw.store().hard_record();
        self.log.write(&Batch { reset: Some(index), entries: &[], hard: Some(hard) })?;
        let name = super::snapshot::name_of(index);
        restore(&self.snapshots, &name, &mut self.machine)?;
        self.servers = meta.servers();
        self.configuration_index = index;
        self.applied = (index, meta.term);
        self.applied_millis = meta.unix_millis;
        self.older_snapshot = index;
        self.snapshots.prune()?;
        log::info!("raft: restored the snapshot of index {index} from the leader");
        Ok(())
    }

    fn apply(&mut self, entries: Vec<Entry>, out: &mut Outbox) -> Result<(), StorageError> {
        for entry in entries {
            let answer = self.apply_entry(&entry)?;
            self.applied = (entry.index, entry.term);
            let Some(proposal) = self.proposals.remove(&entry.index) else { continue };
            if proposal.term == entry.term {
                out.answers.push(proposal.reply.succeed(answer));
            } else {
                proposal.reply.fail(ProposeError::LeadershipLost);
            }
        }
        Ok(())
    }

    fn apply_entry(&mut self, entry: &Entry) -> Result<Vec<u8>, StorageError> {
        let change = entry.get_entry_type() != EntryType::EntryNormal;
        let bytes: &Bytes = if change { &entry.context } else { &entry.data };
        // A new leader's first entry, or a change that the library refused.
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        let unknown = |what| StorageError::Entry { index: entry.index, what };
        let (time, body) = codec::parse_body(bytes).map_err(|error| unknown(error.0))?;
        self.applied_millis = self.applied_millis.max(time);
        match body {
            Body::Command(command) if !change => Ok(self.machine.apply(entry.index, self.applied_millis, &command)),
            Body::Change(change_body) if change => {
                let state = self.raw.apply_conf_change(&change_body.to_library());
                state.map_err(|error| StorageError::Library(format!("entry {}: {error}", entry.index)))?;
                self.servers.apply(&change_body);
                self.configuration_index = entry.index;
                // A follower that was to be removed may be elected before it knows. The library cannot lead without itself.
                if self.is_leader() && self.servers.by_raft_id(self.id).is_none() {
                    self.raw.raft.become_follower(self.raw.raft.term, INVALID_ID);
                }
                log::info!("raft: configuration of index {}: {change_body:?}", entry.index);
                Ok(Vec::new())
            }
            _ => Err(unknown("body and type of the entry do not belong together")),
        }
    }

    /// Starts a snapshot when enough has been applied since the last.
    fn begin_snapshot(&mut self, out: &mut Outbox) {
        let store = self.raw.store();
        let newest = store.newest_snapshot().map_or(0, |meta| meta.index);
        let since = self.applied.0.saturating_sub(newest);
        let large = store.octets() > self.config.snapshot_octets && since > self.config.snapshot_threshold / 16;
        if self.writing || self.servers.is_empty() || !(since >= self.config.snapshot_threshold || large) {
            return;
        }
        self.writing = true;
        let meta = Meta::new(self.applied.0, self.applied.1, self.applied_millis, &self.servers);
        out.job = Some(SnapshotJob { snapshots: self.snapshots.clone(), meta, source: self.machine.snapshot() });
    }

    /// Fails what only a leader can answer.
    fn settle_leadership(&mut self) {
        if self.is_leader() {
            return;
        }
        self.lease = None;
        let error = self.not_leader().unwrap_or(ProposeError::NoLeader);
        for (_, proposal) in std::mem::take(&mut self.proposals) {
            proposal.reply.fail(ProposeError::LeadershipLost);
        }
        let reads = std::mem::take(&mut self.reads);
        self.reads.next = reads.next;
        let asked = reads.asked.into_iter().flat_map(|(_, _, replies)| replies);
        let confirmed = reads.confirmed.into_iter().flat_map(|(_, replies)| replies);
        for reply in reads.waiting.into_iter().chain(asked).chain(confirmed) {
            let _ = reply.send(Err(error.clone()));
        }
        for reply in self.handovers.drain(..) {
            let _ = reply.send(Ok(()));
        }
    }

    /// A handover that did not come about within an election timeout was given up by the library.
    fn end_handovers(&mut self) {
        if self.raw.raft.lead_transferee.is_none() && self.is_leader() {
            for reply in self.handovers.drain(..) {
                let _ = reply.send(Err(ProposeError::Timeout));
            }
        }
    }

    /// Asks the quorum once for all reads that wait.
    fn ask_reads(&mut self) {
        if self.reads.waiting.is_empty() || !self.is_leader() || !self.raw.raft.commit_to_current_term() {
            return;
        }
        self.reads.next += 1;
        let number = self.reads.next;
        let replies = std::mem::take(&mut self.reads.waiting);
        self.reads.asked.push_back((number, self.now, replies));
        self.raw.read_index(number.to_le_bytes().to_vec());
    }

    fn confirm_reads(&mut self, states: Vec<raft::ReadState>) {
        for state in states {
            let Ok(number) = state.request_ctx.as_slice().try_into().map(u64::from_le_bytes) else { continue };
            // A later confirmation confirms all before it.
            while let Some((first, asked_at, _)) = self.reads.asked.front()
                && *first <= number
            {
                let until = *asked_at + self.config.lease();
                let term = self.raw.raft.term;
                if self.handover_term != term {
                    self.lease = Some(Lease { term, until });
                }
                if let Some((_, _, replies)) = self.reads.asked.pop_front() {
                    self.reads.confirmed.push((state.index, replies));
                }
            }
        }
    }

    fn answer_reads(&mut self, out: &mut Outbox) {
        let applied = self.applied.0;
        let ready = self.reads.confirmed.extract_if(.., |(index, _)| *index <= applied);
        out.answers.extend(ready.flat_map(|(_, replies)| replies).map(|reply| Done::Read(reply, applied)));
    }

    /// Makes a staging server a voter when it has caught up. The leader does this by itself.
    fn promote(&mut self) {
        if !self.is_leader() || self.raw.raft.has_pending_conf() {
            return;
        }
        let last = self.raw.raft.raft_log.last_index();
        let ready = |server: &&Server| {
            let progress = self.raw.raft.prs().get(server.raft_id());
            server.suffrage == Suffrage::Staging
                && progress.is_some_and(|at| {
                    at.recent_active && at.state == ProgressState::Replicate && at.matched + CAUGHT_UP_ENTRIES >= last
                })
        };
        let caught_up = self.servers.iter().find(ready).cloned();
        if let Some(server) = caught_up {
            let (reply, _) = oneshot::channel();
            self.propose_change(Change::Put(Server { suffrage: Suffrage::Voter, ..server }), Answer::Change(reply));
        }
    }

    /// The only voter need not wait for anybody.
    fn campaign_if_alone(&mut self) {
        let alone = self.servers.voters() == 1
            && self.servers.by_raft_id(self.id).is_some_and(|own| own.suffrage == Suffrage::Voter);
        if alone && self.raw.raft.raft_log.applied >= self.raw.raft.raft_log.committed {
            let _ = self.raw.campaign();
        }
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

struct Found {
    newest: Option<Meta>,
    older: Option<Meta>,
}

/// Restores the newest snapshot that is good. A damaged newest one is named and the older one taken; the log reaches back to it.
fn newest_good<S: StateMachine>(snapshots: &Snapshots, machine: &mut S) -> Result<Found, StorageError> {
    let names = snapshots.names()?;
    let mut damage = None;
    for (position, name) in names.iter().enumerate() {
        match snapshots.verify(name) {
            Ok(meta) => {
                restore(snapshots, name, machine)?;
                let older = names.get(position + 1).and_then(|name| snapshots.verify(name).ok());
                return Ok(Found { newest: Some(meta), older });
            }
            Err(error @ StorageError::Corrupt { .. }) => {
                log::error!("{error}. Trying the snapshot before it");
                damage.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    match damage {
        Some(error) => Err(error),
        None => Ok(Found { newest: None, older: None }),
    }
}

fn restore<S: StateMachine>(snapshots: &Snapshots, name: &str, machine: &mut S) -> Result<(), StorageError> {
    let (meta, mut reader) = snapshots.open(name)?;
    machine.restore(&mut reader).map_err(|error| StorageError::Restore { index: meta.index, reason: error.0 })
}

/// Puts log and snapshots together.
fn assemble(
    mut hard: raft::eraftpb::HardState,
    mut entries: Vec<Entry>,
    newest: Option<&Meta>,
    older: Option<&Meta>,
) -> Result<Store, StorageError> {
    let (index, term) = newest.map_or((0, 0), |meta| (meta.index, meta.term));
    let first = entries.first().map_or(index + 1, |entry| entry.index);
    if first > index + 1 {
        return Err(StorageError::corrupt("log", 0, "entries between the snapshot and the log are missing"));
    }
    let last = first + entries.len() as u64 - 1;
    let at_snapshot = index.checked_sub(first).and_then(|position| entries.get(position as usize));
    // A snapshot that came from the leader, and a crash before the log was reset: the old entries are void.
    if last < index || at_snapshot.is_some_and(|entry| entry.term != term) {
        entries.clear();
    }
    // Entries before the snapshot serve slow followers; their first needs a known entry before it.
    let base = older.map(|meta| (meta.index, meta.term)).filter(|(older, _)| *older + 1 >= first && *older <= index);
    let mut base = base.unwrap_or((index, term));
    if entries.is_empty() {
        base = (index, term);
    }
    entries.retain(|entry| entry.index > base.0);
    hard.term = hard.term.max(term);
    hard.commit = hard.commit.max(index);
    if hard.commit > base.0 + entries.len() as u64 {
        return Err(StorageError::corrupt("log", 0, "decided entries are missing"));
    }
    let conf = newest.map(|meta| meta.servers().conf_state()).unwrap_or_default();
    Ok(Store::new(hard, conf, base, entries, newest.cloned()))
}

fn library_node(id: u64, applied: u64, store: Store) -> Result<RawNode<Store>, StorageError> {
    let config = raft::Config {
        id,
        applied,
        election_tick: ELECTION_TICKS,
        heartbeat_tick: HEARTBEAT_TICKS,
        max_size_per_msg: MAX_APPEND_OCTETS,
        max_inflight_msgs: MAX_INFLIGHT,
        max_uncommitted_size: MAX_UNCOMMITTED_OCTETS,
        max_committed_size_per_ready: MAX_APPLY_OCTETS,
        check_quorum: true,
        pre_vote: true,
        ..raft::Config::default()
    };
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    RawNode::new(&config, store, &logger).map_err(|error| StorageError::Library(error.to_string()))
}
