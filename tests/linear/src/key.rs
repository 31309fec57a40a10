//! One key of the store as a single process would have it.
//!
//! Two things the clients cannot know are left open. The index that a write got is unknown until a read shows it. What
//! a call did whose answer never came is decided by the state it meets: every operation but a read is a function of it.

/// A key as a read shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// What was written; every write of a history writes another value.
    pub value: u64,
    /// `ModifyIndex`
    pub index: u64,
    /// The session that holds it, by the test's own number.
    pub session: Option<u64>,
}

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A read that must be as new as its beginning.
    Get,
    /// Writes the value.
    Set(u64),
    /// Writes the value if the key has this index; 0: if there is no such key.
    Cas {
        /// The expected index. A client may only use one that a [`Op::Get`] of this history has shown.
        index: u64,
        /// What to write.
        value: u64,
    },
    /// Removes the key.
    Delete,
    /// Writes the value and takes the key for a session, unless another one has it.
    Acquire {
        /// Which session.
        session: u64,
        /// What to write.
        value: u64,
    },
    /// Writes the value and gives the key free, if this session has it.
    Release {
        /// Which session.
        session: u64,
        /// What to write.
        value: u64,
    },
    /// Ends a session, which gives the key free if it has it.
    End(
        /// Which session.
        u64,
    ),
}

impl Op {
    /// What it writes.
    pub(crate) fn value(self) -> Option<u64> {
        match self {
            Op::Get | Op::Delete | Op::End(_) => None,
            Op::Set(value) | Op::Cas { value, .. } | Op::Acquire { value, .. } | Op::Release { value, .. } => {
                Some(value)
            }
        }
    }
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Of a write that always succeeds.
    Done,
    /// Of cas, acquire and release.
    Did(bool),
    /// Of a read.
    Found(Option<Row>),
}

/// The key between two operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    held: Option<Held>,
    /// The greatest index seen so far: later changes have a greater one.
    floor: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Held {
    value: u64,
    /// `None`: no read has shown it yet.
    index: Option<u64>,
    session: Option<u64>,
}

impl Key {
    /// The key after `op` was answered so; `None`: it would have answered otherwise. Without an answer it did what it
    /// does in this state.
    pub(crate) fn after(self, op: Op, answer: Option<Answer>) -> Option<Key> {
        if let Op::Get = op {
            return match answer {
                Some(Answer::Found(row)) => self.shown(row),
                _ => Some(self),
            };
        }
        let (next, did) = self.changed(op);
        match answer {
            Some(Answer::Did(said)) if said != did => None,
            Some(Answer::Found(_)) => None,
            _ => Some(next),
        }
    }

    fn shown(self, row: Option<Row>) -> Option<Key> {
        let (row, held) = match (row, self.held) {
            (None, None) => return Some(self),
            (Some(row), Some(held)) => (row, held),
            _ => return None,
        };
        if row.value != held.value || row.session != held.session {
            return None;
        }
        match held.index {
            Some(index) => (index == row.index).then_some(self),
            None if row.index <= self.floor => None,
            None => Some(Key { held: Some(Held { index: Some(row.index), ..held }), floor: row.index }),
        }
    }

    /// The key after a write, and whether it did anything.
    fn changed(self, op: Op) -> (Key, bool) {
        let holder = self.held.and_then(|held| held.session);
        let written = |value, session| (Key { held: Some(Held { value, index: None, session }), ..self }, true);
        let refused = (self, false);
        match op {
            Op::Get => refused,
            Op::Set(value) => written(value, holder),
            Op::Cas { index: 0, value } if self.held.is_none() => written(value, None),
            // An index that no read has shown yet is none that a client can expect.
            Op::Cas { index, value } if index > 0 && self.held.is_some_and(|held| held.index == Some(index)) => {
                written(value, holder)
            }
            Op::Cas { .. } => refused,
            Op::Delete => (Key { held: None, ..self }, true),
            Op::Acquire { session, value } if holder.is_none_or(|holder| holder == session) => {
                written(value, Some(session))
            }
            Op::Release { session, value } if holder == Some(session) => written(value, None),
            Op::Acquire { .. } | Op::Release { .. } => refused,
            Op::End(session) => {
                let freed = |held| Held { index: None, session: None, ..held };
                let held = if holder == Some(session) { self.held.map(freed) } else { self.held };
                (Key { held, ..self }, true)
            }
        }
    }
}
