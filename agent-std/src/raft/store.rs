//! What the consensus library reads: the log's entries in memory, and the numbers around them.
//!
//! Entries since the older kept snapshot stay in memory; `log` has the same ones on disk. Bodies are shared, so handing
//! entries out copies no payload.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::codec::HardRecord;
use super::snapshot::Meta;

/// The library's view of what is stored.
pub(super) struct Store {
    hard: HardState,
    /// Configuration at the snapshot that the state machine was restored from.
    conf: ConfState,
    /// Index and term of the entry before the first one here.
    base: (u64, u64),
    entries: VecDeque<Entry>,
    octets: usize,
    /// The newest snapshot on disk.
    snapshot: Option<Meta>,
}

impl Store {
    pub(super) fn new(
        hard: HardState,
        conf: ConfState,
        base: (u64, u64),
        entries: Vec<Entry>,
        snapshot: Option<Meta>,
    ) -> Self {
        let octets = entries.iter().map(size).sum();
        Self { hard, conf, base, entries: entries.into(), octets, snapshot }
    }

    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        let keep = first.index.saturating_sub(self.base.0 + 1) as usize;
        for gone in self.entries.drain(keep.min(self.entries.len())..) {
            self.octets -= size(&gone);
        }
        debug_assert_eq!(self.last() + 1, first.index);
        self.octets += entries.iter().map(size).sum::<usize>();
        self.entries.extend(entries.iter().cloned());
    }

    pub(super) fn set_hard(&mut self, hard: HardState) {
        self.hard = hard;
    }

    pub(super) fn hard_record(&self) -> HardRecord {
        HardRecord::from_library(&self.hard)
    }

    pub(super) fn hard_mut(&mut self) -> &mut HardState {
        &mut self.hard
    }

    /// A snapshot replaces everything.
    pub(super) fn reset(&mut self, meta: Meta) {
        self.entries.clear();
        self.octets = 0;
        self.base = (meta.index, meta.term);
        self.hard.commit = meta.index;
        self.hard.term = self.hard.term.max(meta.term);
        self.conf = meta.servers().conf_state();
        self.snapshot = Some(meta);
    }

    /// A new snapshot of our own is on disk.
    pub(super) fn set_snapshot(&mut self, meta: Meta) {
        self.snapshot = Some(meta);
    }

    /// Forgets entries up to `index`, which must have been applied.
    pub(super) fn compact(&mut self, index: u64) {
        while let Some(first) = self.entries.front()
            && first.index <= index
        {
            self.base = (first.index, first.term);
            self.octets -= size(first);
            self.entries.pop_front();
        }
    }

    pub(super) fn newest_snapshot(&self) -> Option<&Meta> {
        self.snapshot.as_ref()
    }

    pub(super) fn last(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }

    pub(super) fn first(&self) -> u64 {
        self.base.0 + 1
    }

    /// Octets of all entries in memory.
    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }
}

fn size(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + 64
}

impl Storage for Store {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard.clone(), self.conf.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.base.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        let max = max.into().unwrap_or(u64::MAX);
        let from = (low - self.base.0 - 1) as usize;
        let mut octets = 0;
        let wanted = self.entries.iter().skip(from).take((high - low) as usize);
        let within = wanted.enumerate().take_while(|(position, entry)| {
            octets += size(entry) as u64;
            *position == 0 || octets <= max
        });
        Ok(within.map(|(_, entry)| entry.clone()).collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.base.0 {
            return Ok(self.base.1);
        }
        if index < self.base.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let entry = self.entries.get((index - self.base.0 - 1) as usize);
        entry.map(|entry| entry.term).ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let unavailable = raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable);
        let meta = self.snapshot.as_ref().filter(|meta| meta.index >= request_index).ok_or(unavailable)?;
        Ok(library_snapshot(meta))
    }
}

/// The library's form of a snapshot. Its state stays in the file.
pub(super) fn library_snapshot(meta: &Meta) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let metadata = snapshot.mut_metadata();
    metadata.index = meta.index;
    metadata.term = meta.term;
    metadata.set_conf_state(meta.servers().conf_state());
    snapshot
}
