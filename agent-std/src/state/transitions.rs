//! What a check's status has been: the last changes, for whoever asks how long something has been wrong.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::tables::{Name, NodeEntry};
use crate::model::HealthCheck;

/// Changes kept per check.
const KEPT: usize = 16;
/// Octets kept of an output. A flapping check of each of 10,000 nodes must not cost more than the catalog itself.
const MAX_OUTPUT: usize = 512;

/// A check's status changed. Its first registration is no change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Transition {
    /// When, by the leader's clock in Unix milliseconds.
    pub unix_millis: u64,
    /// Status before.
    pub from: String,
    /// Status since.
    pub to: String,
    /// What the check said then, its beginning.
    pub output: String,
}

impl NodeEntry {
    /// The last changes of a check's status, the oldest first.
    pub fn transitions(&self, check_id: &str) -> &[Transition] {
        self.transitions.get(check_id).map_or(&[], |all| &all[..])
    }

    /// Remembers that `check` was `from`.
    pub(super) fn note_transition(&mut self, id: &Name, from: &str, check: &HealthCheck, unix_millis: u64) {
        let known = self.transitions(id);
        let mut all = known[known.len().saturating_sub(KEPT - 1)..].to_vec();
        let end = check.output.floor_char_boundary(MAX_OUTPUT);
        all.push(Transition {
            unix_millis,
            from: from.to_owned(),
            to: check.status.clone(),
            output: check.output[..end].to_owned(),
        });
        self.transitions.insert(Arc::clone(id), all.into());
    }
}
