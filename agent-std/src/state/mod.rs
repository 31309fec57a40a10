//! The replicated store: what the raft log says, as tables that can be read while they change.
//!
//! [`Store::apply`] turns one committed command into the next [`State`]; it is deterministic, takes time only from the
//! log entry, refuses without a trace ([`Refusal`]) and cannot panic on any command. A [`State`] never changes: readers
//! keep theirs as long as they like ([`Store::state`]), since the maps share structure. A write wakes exactly the
//! blocking reads that it concerns ([`Store::watch`]).
//!
//! `catalog`, `kv`, `session`, `coordinate`, `query`, `operator` and `txn` hold the writes, `read` the reads, `command`
//! what the log stores, `transitions` what checks have been, `persist` the snapshot, `consul` the content of Consul's archives, `restore` how one takes over.

mod catalog;
pub mod command;
mod consul;
mod coordinate;
mod kv;
mod machine;
mod operator;
mod persist;
mod query;
mod read;
mod restore;
mod session;
mod tables;
mod transitions;
mod txn;
mod watch;

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::model::{TxnOp, TxnReply};

use command::{Command, Outcome};
pub use consul::{ArchiveStateError, NotHeld};
pub use machine::Machine;
pub use persist::RestoreError;
pub use restore::RestorePiece;
use tables::Change;
pub use tables::{NodeEntry, State};
pub use transitions::Transition;
pub use watch::{Interest, Topic, Watch};

/// Why a write was refused, in Consul's words. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl Refusal {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Refusal(text.into())
    }
}

/// The store. One writer (the raft log), any number of readers.
#[derive(Default)]
pub struct Store {
    state: RwLock<Arc<State>>,
    watches: watch::Watches,
    /// Serialises writers; readers never take it.
    writing: Mutex<()>,
}

impl Store {
    /// The tables as they are now.
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Applies the command of the log entry at `index`, made at `unix_millis` by the leader's clock. The answer is an
    /// encoded [`Outcome`].
    pub fn apply(&self, index: u64, unix_millis: u64, command: &[u8]) -> Vec<u8> {
        let outcome = match Command::decode(command) {
            Ok(command) => self.run(index, unix_millis, command),
            Err(error) => Outcome::refused(format!("log entry {index}: {error}")),
        };
        outcome.encode()
    }

    fn run(&self, index: u64, unix_millis: u64, command: Command) -> Outcome {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state();
        let mut change = Change::new(&state, index + state.indexes.offset, unix_millis);
        let mut everything = false;
        let outcome = match command {
            Command::Register(request) => Outcome::of(change.register(&request)),
            Command::Deregister(request) => {
                change.deregister(&request);
                Outcome::default()
            }
            Command::Kvs(request) => Outcome::of_bool(change.kvs(&request.op, request.dir_ent)),
            Command::Session(request) => Outcome::of_text(change.session(&request.op, request.session)),
            Command::Coordinates(updates) => {
                change.coordinates(updates);
                Outcome::default()
            }
            Command::Txn(ops) => Outcome { txn: Some(change.txn(ops)), ..Outcome::default() },
            Command::Query(request) => Outcome::of_text(change.query(&request.op, request.query)),
            Command::Autopilot(request) => Outcome::of_bool(Ok(change.autopilot(request.config, request.cas))),
            Command::Restore(piece) => {
                let done = change.restore(piece);
                everything = done == Ok(true);
                Outcome::of_bool(done)
            }
        };
        let failed = outcome.txn.as_ref().is_some_and(|reply| reply.errors.is_some());
        if outcome.error.is_empty() && !failed {
            let touched = std::mem::take(&mut change.touched);
            *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(change.state);
            match everything {
                true => self.watches.wake_all(),
                false => self.watches.wake(touched),
            }
        }
        outcome
    }

    /// Carries out operations that only read.
    pub fn txn_read(&self, ops: Vec<TxnOp>) -> TxnReply {
        Change::new(&self.state(), 0, 0).txn(ops)
    }

    /// Tells when something that concerns `interests` changes. Subscribe first, then read [`Store::state`].
    pub fn watch(&self, interests: Vec<Interest>) -> Watch<'_> {
        self.watches.watch(interests)
    }

    /// Replaces everything by a snapshot that [`State::write_snapshot`] wrote, and wakes everybody. On an error
    /// nothing is changed.
    ///
    /// # Errors
    /// When the snapshot cannot be read, is damaged, or is of a later version.
    pub fn restore(&self, from: &mut dyn std::io::Read) -> Result<(), RestoreError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let state = persist::read(from)?;
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
        self.watches.wake_all();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
