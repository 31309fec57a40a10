//! The real store, watched: every server must answer every command alike.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::raft::node::{RestoreError, StateMachine};
use crate::raft::snapshot::SnapshotSource;
use crate::state::{Machine, State, Store};

/// What the first server to carry out each command made of it.
#[derive(Clone, Default)]
pub(super) struct Reference(Arc<Mutex<BTreeMap<u64, Applied>>>);

struct Applied {
    unix_millis: u64,
    command: Vec<u8>,
    answer: Vec<u8>,
    state: Arc<State>,
}

impl Reference {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Applied>> {
        self.0.lock().expect("a run ends with the first panic")
    }

    /// The state after the entry at `index`.
    pub(super) fn state(&self, index: u64) -> Arc<State> {
        let applied = self.lock();
        applied.range(..=index).next_back().map(|(_, applied)| Arc::clone(&applied.state)).unwrap_or_default()
    }
}

/// The store of one server.
pub(super) struct Watched {
    machine: Machine,
    reference: Reference,
}

impl Watched {
    pub(super) fn new(reference: &Reference) -> Self {
        Self { machine: Machine(Arc::new(Store::default())), reference: reference.clone() }
    }

    pub(super) fn state(&self) -> Arc<State> {
        self.machine.0.state()
    }
}

impl StateMachine for Watched {
    fn apply(&mut self, index: u64, unix_millis: u64, command: &[u8]) -> Vec<u8> {
        let answer = self.machine.apply(index, unix_millis, command);
        let mut reference = self.reference.lock();
        if let Some(known) = reference.get(&index) {
            assert_eq!(known.command, command, "entry {index} is another command here");
            assert_eq!(known.unix_millis, unix_millis, "entry {index} has another time here");
            assert_eq!(known.answer, answer, "entry {index} is answered otherwise here");
        } else {
            if let Some((last, known)) = reference.last_key_value() {
                assert!(*last < index, "entry {index} was none where {last} was carried out");
                assert!(known.unix_millis <= unix_millis, "the time of entry {index} went back");
            }
            let state = self.state();
            reference.insert(index, Applied { unix_millis, command: command.to_vec(), answer: answer.clone(), state });
        }
        answer
    }

    fn snapshot(&self) -> Box<dyn SnapshotSource> {
        self.machine.snapshot()
    }

    fn restore(&mut self, reader: &mut dyn Read) -> Result<(), RestoreError> {
        self.machine.restore(reader)
    }
}

/// Everything in a state, comparable.
pub(super) fn content(state: &State) -> Vec<u8> {
    let mut out = Vec::new();
    state.write_snapshot(&mut out).expect("memory takes it");
    out
}
