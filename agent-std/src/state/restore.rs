//! Replacing everything by an archive, through the log: all servers do it at the same entry, or none does.
//!
//! The leader sends a whole snapshot ([`State::write_snapshot`], in gzip) as pieces of one command's size. They are kept
//! beside the tables, which stay as they are, until the last one has come. A restore that stops half way is forgotten
//! when the next one begins.

use std::{io::Read, sync::Arc};

use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};

use super::{
    Refusal, persist,
    tables::{Change, Staged, State},
};
use crate::model::Octets;

/// One piece.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RestorePiece {
    /// Which restore it belongs to.
    pub id: String,
    /// From 0.
    pub number: u64,
    /// With this one the archive is whole.
    pub last: bool,
    /// Its octets.
    pub octets: Octets,
}

impl Change {
    /// Keeps a piece; with the last one the archive's tables take the place of these. `true`: done.
    pub fn restore(&mut self, piece: RestorePiece) -> Result<bool, Refusal> {
        let mut staged = match &self.state.staged {
            Some(staged) if piece.number > 0 && staged.id == piece.id => (**staged).clone(),
            _ => Staged { id: piece.id, pieces: Vec::new() },
        };
        if staged.pieces.len() as u64 != piece.number {
            return Err(Refusal::new("the restore was interrupted by another one; start it again"));
        }
        staged.pieces.push(piece.octets.0.into());
        if !piece.last {
            self.state.staged = Some(Arc::new(staged));
            return Ok(false);
        }
        let reader = GzDecoder::new(Pieces { pieces: &staged.pieces, at: 0 });
        let mut state = persist::read(&mut std::io::BufReader::new(reader))
            .map_err(|error| Refusal(format!("the archive cannot be restored: {error}")))?;
        let raft_index = self.index.saturating_sub(self.state.indexes.offset);
        // Above all that clients have seen, before and in the archive: what they wait for is over.
        let index = self.index.max(state.newest_index() + 1);
        state.indexes.offset = index - raft_index;
        state.indexes.restored = index;
        self.state = state;
        Ok(true)
    }
}

impl State {
    /// The index at which an archive was restored last; 0: never.
    pub fn restored_index(&self) -> u64 {
        self.indexes.restored
    }

    /// The index of an archive of this state: the one of raft's entry `raft_index`, and above all in the tables.
    pub fn archive_index(&self, raft_index: u64) -> u64 {
        self.newest_index().max(raft_index + self.indexes.offset)
    }

    /// The greatest index in any table.
    pub(super) fn newest_index(&self) -> u64 {
        let tables = self.indexes;
        let nodes = self.nodes.values().map(|entry| entry.node.modify_index);
        let services = self.services.values().map(|entry| entry.index);
        let keys = self.kv.values().map(|entry| entry.modify_index);
        let sessions = self.sessions.values().map(|session| session.modify_index);
        let queries = self.queries.values().map(|query| query.modify_index);
        [
            tables.nodes,
            tables.services,
            tables.checks,
            tables.extinction,
            tables.kv,
            tables.sessions,
            tables.coordinates,
            tables.queries,
            tables.restored,
            self.autopilot.as_ref().map_or(0, |config| config.modify_index),
        ]
        .into_iter()
        .chain(nodes)
        .chain(services)
        .chain(keys)
        .chain(sessions)
        .chain(queries)
        .max()
        .unwrap_or(0)
    }
}

/// The pieces as one stream.
struct Pieces<'a> {
    pieces: &'a [Arc<[u8]>],
    at: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while let Some((first, rest)) = self.pieces.split_first() {
            let left = first.get(self.at..).unwrap_or_default();
            if left.is_empty() {
                (self.pieces, self.at) = (rest, 0);
                continue;
            }
            let count = left.len().min(out.len());
            out[..count].copy_from_slice(&left[..count]);
            self.at += count;
            return Ok(count);
        }
        Ok(0)
    }
}
