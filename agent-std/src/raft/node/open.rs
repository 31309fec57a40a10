//! From a directory to a node: the newest good snapshot, the log after it, or a first configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use raft::eraftpb::{Entry, HardState};
use raft::{INVALID_ID, RawNode, StateRole};

use super::{Drawn, Node, Reads, StateMachine};
use crate::raft::codec::HardRecord;
use crate::raft::config::{Config, ELECTION_TICKS, HEARTBEAT_TICKS};
use crate::raft::log::{Batch, Log};
use crate::raft::servers::Servers;
use crate::raft::snapshot::{Meta, Snapshots};
use crate::raft::storage::{Disk, StorageError};
use crate::raft::store::Store;

/// Octets of entries in one append message; also about what a log frame holds at most, next to one oversized entry.
const MAX_APPEND_OCTETS: u64 = 1 << 20;
/// Append messages under way to one follower.
const MAX_INFLIGHT: usize = 64;
/// Proposals that are not committed yet: octets after which new ones are refused.
const MAX_UNCOMMITTED_OCTETS: u64 = 32 << 20;
/// Committed octets applied before messages get their turn again.
const MAX_APPLY_OCTETS: u64 = 8 << 20;

impl<S: StateMachine> Node<S> {
    /// Opens the directory and brings the state machine to the newest snapshot. Entries after it are applied by the first
    /// calls of [`Node::process`].
    pub(in crate::raft) fn open(config: Config, disk: Arc<dyn Disk>, mut machine: S) -> Result<Self, StorageError> {
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
            fresh: true,
            writing: false,
            received: None,
            older_snapshot: older.map_or(0, |meta| meta.index),
        };
        node.draw(true);
        Ok(node)
    }

    /// Gives a new cluster its first configuration. Called with the same servers on each of them; on a server that already
    /// knows a cluster it does nothing.
    pub(in crate::raft) fn bootstrap(&mut self, servers: Servers) -> Result<(), StorageError> {
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
        self.fresh = true;
        Ok(())
    }

    /// Never bootstrapped, never heard of a leader's log.
    pub(in crate::raft) fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.raw.store().last() == 0
    }
}

pub(in crate::raft) struct Found {
    pub(in crate::raft) newest: Option<Meta>,
    pub(in crate::raft) older: Option<Meta>,
}

/// Restores the newest snapshot that is good. A damaged newest one is named and the older one taken; the log reaches back to it.
pub(in crate::raft) fn newest_good<S: StateMachine>(
    snapshots: &Snapshots,
    machine: &mut S,
) -> Result<Found, StorageError> {
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

pub(super) fn restore<S: StateMachine>(snapshots: &Snapshots, name: &str, machine: &mut S) -> Result<(), StorageError> {
    let (meta, mut reader) = snapshots.open(name)?;
    machine.restore(&mut reader).map_err(|error| StorageError::Restore { index: meta.index, reason: error.0 })
}

/// Puts log and snapshots together.
pub(in crate::raft) fn assemble(
    mut hard: HardState,
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
