//! TCP connections of the simulation: reliable pipes that are slow, stall while the network is cut, and can break.
//!
//! A connection has two ends and a queue of pieces towards each. Only the first piece of a queue is under way, so that
//! a stream's order is never lost. Who carries the pieces is [`super::model`].

use std::collections::VecDeque;

use agent_core::time::Instant;

/// Octets under way in one direction before the sender's socket is full.
pub const WINDOW: usize = 32 * 1024;

/// One side of a connection. `S` is the machine's name for it.
#[derive(Debug)]
pub struct End<S> {
    /// The node.
    pub node: usize,
    /// Which of the node's lives; a later one knows nothing of this connection.
    pub life: u32,
    /// The machine's name, once it has one and until the machine has closed it.
    pub stream: Option<S>,
    /// Pieces on their way to this end.
    pub coming: VecDeque<Piece>,
    /// Since when the first of them cannot get through.
    pub stalled: Option<Instant>,
    /// Octets that have arrived and were not taken.
    pub waiting: Vec<u8>,
    /// The machine has said that it has octets to send, and the last asking did not find the end of them.
    pub writing: bool,
}

/// What travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Octets.
    Data(Vec<u8>),
    /// The sender has closed.
    Eof,
    /// The connection is broken.
    Reset,
}

/// Two ends: who connected, and who was connected to.
#[derive(Debug)]
pub struct Connection<S> {
    /// `ends[0]` connected.
    pub ends: [End<S>; 2],
    /// The second end has accepted, and the first knows.
    pub open: bool,
}

impl<S> End<S> {
    /// An end without pieces.
    pub fn new(node: usize, life: u32, stream: Option<S>) -> Self {
        End { node, life, stream, coming: VecDeque::new(), stalled: None, waiting: Vec::new(), writing: false }
    }

    /// Octets on their way to this end and waiting there.
    pub fn load(&self) -> usize {
        let coming: usize =
            self.coming.iter().map(|piece| if let Piece::Data(data) = piece { data.len() } else { 0 }).sum();
        coming + self.waiting.len()
    }
}
