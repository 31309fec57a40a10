//! What is left of a cluster whose quorum is lost for ever: one server's directory, and a new configuration for it.
//!
//! A [`Survivor`] reads a stopped server's newest snapshot and its log, and carries out every entry of it, decided or not:
//! whether the lost servers had decided the last ones nobody can know any more, and what a client was told is better kept
//! than lost. [`Survivor::recover`] then writes one snapshot with all of it and the new configuration, as Consul does. The
//! snapshot's name is the moment at which it is done; until then, and if the power goes, the directory is as it was.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use raft::Storage as _;
use raft::eraftpb::{Entry, EntryType};
use raft::{GetEntriesContext, StorageError as LibraryError};

use super::codec::{self, Body};
use super::log::{Batch, Log};
use super::node::{StateMachine, assemble, newest_good};
use super::servers::{Server, Servers, raft_id};
use super::snapshot::{Meta, Snapshots};
use super::storage::{Disk, DiskFile, StorageError};

/// Why a server cannot be the one that is left.
#[derive(Debug, thiserror::Error)]
pub enum SurvivorError {
    /// Its directory.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// It was never part of a cluster.
    #[error("there is nothing to recover here: this server never belonged to a cluster")]
    Empty,
    /// The new configuration makes no sense.
    #[error("{0}")]
    Configuration(String),
}

/// One server's part of a cluster.
pub struct Survivor<S> {
    id: u64,
    log: Log,
    snapshots: Snapshots,
    machine: S,
    found: Found,
    hard: codec::HardRecord,
    unix_millis: u64,
}

/// What a directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Index and term of the snapshot it was read from.
    pub snapshot: (u64, u64),
    /// Index and term of the last entry: what is kept.
    pub last: (u64, u64),
    /// This server knows that entries up to this one were decided; those after it may have been.
    pub known_decided: u64,
    /// The newest term this server has heard of.
    pub term: u64,
    /// The servers as of the last entry.
    pub servers: Servers,
}

impl<S: StateMachine> Survivor<S> {
    /// Reads the directory of the server with this node id. Give it a [`ReadOnly`] to look without touching.
    ///
    /// # Errors
    /// The directory is damaged, empty or another server's.
    pub fn open(node_id: &str, disk: Arc<dyn Disk>, mut machine: S) -> Result<Self, SurvivorError> {
        let id = raft_id(node_id);
        let snapshots = Snapshots::new(disk.clone(), id);
        let (log, loaded) = Log::open(disk, id)?;
        let found = newest_good(&snapshots, &mut machine)?;
        let newest = found.newest.ok_or(SurvivorError::Empty)?;
        let store = assemble(loaded.hard, loaded.entries, Some(&newest), found.older.as_ref())?;
        let (known_decided, hard) = (store.hard_record().commit, store.hard_record());
        let mut survivor = Self {
            id,
            log,
            snapshots,
            machine,
            hard,
            unix_millis: newest.unix_millis,
            found: Found {
                snapshot: (newest.index, newest.term),
                last: (newest.index, newest.term),
                known_decided,
                term: hard.term,
                servers: newest.servers(),
            },
        };
        let entries = match store.entries(newest.index + 1, store.last() + 1, None, GetEntriesContext::empty(false)) {
            Ok(entries) => entries,
            Err(raft::Error::Store(LibraryError::Unavailable)) => Vec::new(),
            Err(error) => return Err(StorageError::Library(error.to_string()).into()),
        };
        entries.iter().try_for_each(|entry| survivor.carry_out(entry))?;
        Ok(survivor)
    }

    fn carry_out(&mut self, entry: &Entry) -> Result<(), StorageError> {
        self.found.last = (entry.index, entry.term);
        let change = entry.get_entry_type() != EntryType::EntryNormal;
        let bytes = if change { &entry.context } else { &entry.data };
        if bytes.is_empty() {
            return Ok(());
        }
        let unknown = |what| StorageError::Entry { index: entry.index, what };
        let (time, body) = codec::parse_body(bytes).map_err(|error| unknown(error.0))?;
        self.unix_millis = self.unix_millis.max(time);
        match body {
            Body::Command(command) => drop(self.machine.apply(entry.index, self.unix_millis, &command)),
            Body::Change(change) => self.found.servers.apply(&change),
        }
        Ok(())
    }

    /// What there is.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// The state, with every entry carried out.
    pub fn machine(&self) -> &S {
        &self.machine
    }

    /// Makes `servers` the cluster. To be done once, on servers that do not run; the lost ones must never come back with
    /// what they have on disk.
    ///
    /// # Errors
    /// The configuration has no voter or not this server, or the disk failed: then nothing is lost, try again.
    pub fn recover(mut self, servers: &Servers) -> Result<(), SurvivorError> {
        check(servers, self.id).map_err(SurvivorError::Configuration)?;
        let (index, term) = self.found.last;
        let meta = Meta::new(index, term, self.unix_millis, servers);
        self.snapshots.write(&meta, self.machine.snapshot())?;
        let hard = codec::HardRecord { commit: index, term: self.hard.term.max(term), ..self.hard };
        self.log.write(&Batch { reset: Some(index), entries: &[], hard: Some(hard) })?;
        self.snapshots.prune()?;
        Ok(())
    }
}

/// Whether a server could go on with this configuration.
fn check(servers: &Servers, own: u64) -> Result<(), String> {
    if servers.voters() == 0 {
        return Err("the new configuration has no voter: without one there is no leader".into());
    }
    if servers.by_raft_id(own).is_none() {
        return Err("the new configuration does not have this server; recover a server that it has".into());
    }
    let mut addresses = BTreeMap::new();
    for Server { id, address, .. } in servers.iter() {
        if let Some(other) = addresses.insert(*address, id) {
            return Err(format!("the new configuration has {address} twice, for {other} and {id}"));
        }
    }
    Ok(())
}

/// A disk that is read and never written: what would change it is done to nothing.
pub struct ReadOnly<D>(pub D);

struct ReadOnlyFile(Option<Box<dyn DiskFile>>);

impl<D: Disk> Disk for ReadOnly<D> {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(ReadOnlyFile(Some(self.0.open(name)?))))
    }

    fn create(&self, _: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(ReadOnlyFile(None)))
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for ReadOnlyFile {
    fn len(&self) -> io::Result<u64> {
        self.0.as_ref().map_or(Ok(0), |file| file.len())
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.as_ref().map_or(Ok(0), |file| file.read_at(buf, at))
    }

    fn write_at(&mut self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}
