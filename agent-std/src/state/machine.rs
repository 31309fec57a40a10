//! The store as raft drives it.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use super::{State, Store};
use crate::raft::{RestoreError, SnapshotSource, StateMachine};

/// Applies raft's log to a store that others read.
pub struct Machine(pub Arc<Store>);

impl StateMachine for Machine {
    fn apply(&mut self, index: u64, unix_millis: u64, command: &[u8]) -> Vec<u8> {
        self.0.apply(index, unix_millis, command)
    }

    fn snapshot(&self) -> Box<dyn SnapshotSource> {
        Box::new(Image(self.0.state()))
    }

    fn restore(&mut self, reader: &mut dyn Read) -> Result<(), RestoreError> {
        self.0.restore(reader).map_err(|error| RestoreError(error.to_string()))
    }
}

struct Image(Arc<State>);

impl SnapshotSource for Image {
    fn write_to(self: Box<Self>, out: &mut dyn Write) -> io::Result<()> {
        // Many small records: collected, so that the file sees few large ones.
        let mut out = io::BufWriter::new(out);
        self.0.write_snapshot(&mut out)?;
        out.flush()
    }
}
