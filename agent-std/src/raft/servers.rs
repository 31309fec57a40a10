//! Which servers belong to the cluster: the configuration that raft replicates.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use raft::eraftpb::{ConfChange, ConfChangeType, ConfState};
use serde::{Deserialize, Serialize};

/// Part that a server plays. Append only: numbers are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Suffrage {
    /// Votes and counts for the quorum.
    Voter,
    /// Receives the log, never votes.
    NonVoter,
    /// Receives the log; becomes a voter by itself when it has caught up.
    Staging,
}

/// One server of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Node id (a UUID in text), from which the raft id is derived.
    pub id: String,
    /// Node name.
    pub name: String,
    /// Where it accepts raft connections: its server port.
    pub address: SocketAddr,
    /// Its part.
    pub suffrage: Suffrage,
}

impl Server {
    /// The number that the consensus library knows this server by.
    pub fn raft_id(&self) -> u64 {
        raft_id(&self.id)
    }
}

/// FNV-1a of the node id's text in lower case; never 0, which the library reserves.
///
/// 64 bits: among the at most a dozen servers of a cluster two equal ones are not to be expected, and
/// the leader refuses them.
pub fn raft_id(node_id: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in node_id.bytes() {
        hash = (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash.max(1)
}

/// A change of one server, as an entry of the log carries it. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Change {
    /// Adds a server, or gives a known one another address, name or part.
    Put(Server),
    /// Removes the server of this node id.
    Remove(String),
}

impl Change {
    /// For the library, which only knows numbers and parts.
    pub(super) fn to_library(&self) -> ConfChange {
        let mut change = ConfChange::default();
        match self {
            Change::Put(server) => {
                change.node_id = server.raft_id();
                change.set_change_type(match server.suffrage {
                    Suffrage::Voter => ConfChangeType::AddNode,
                    Suffrage::NonVoter | Suffrage::Staging => ConfChangeType::AddLearnerNode,
                });
            }
            Change::Remove(id) => {
                change.node_id = raft_id(id);
                change.set_change_type(ConfChangeType::RemoveNode);
            }
        }
        change
    }
}

/// All servers, by raft id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Servers {
    by_raft_id: BTreeMap<u64, Server>,
}

impl Servers {
    /// Of this list; a server with the number of another one replaces it.
    pub fn new(servers: impl IntoIterator<Item = Server>) -> Self {
        Self { by_raft_id: servers.into_iter().map(|server| (server.raft_id(), server)).collect() }
    }

    /// All, ordered by raft id.
    pub fn iter(&self) -> impl Iterator<Item = &Server> {
        self.by_raft_id.values()
    }

    /// The server with this raft id.
    pub fn by_raft_id(&self, id: u64) -> Option<&Server> {
        self.by_raft_id.get(&id)
    }

    /// The server with this node id.
    pub fn by_id(&self, id: &str) -> Option<&Server> {
        self.by_raft_id.get(&raft_id(id)).filter(|server| server.id.eq_ignore_ascii_case(id))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_raft_id.len()
    }

    /// None at all: this server has not been bootstrapped or added.
    pub fn is_empty(&self) -> bool {
        self.by_raft_id.is_empty()
    }

    /// How many vote.
    pub fn voters(&self) -> usize {
        self.iter().filter(|server| server.suffrage == Suffrage::Voter).count()
    }

    /// Why this change must not be proposed, if so.
    pub(super) fn refusal(&self, change: &Change) -> Option<&'static str> {
        match change {
            Change::Put(server) => {
                let known = self.by_raft_id.get(&server.raft_id());
                if known.is_some_and(|known| !known.id.eq_ignore_ascii_case(&server.id)) {
                    return Some("its node id has the same raft id as another server's; give it a new node id");
                }
                if known.is_some_and(|known| known.suffrage == Suffrage::Voter) && server.suffrage != Suffrage::Voter {
                    return Some("a voter cannot become a non-voter; remove it first");
                }
                let taken = |other: &Server| other.address == server.address && other.raft_id() != server.raft_id();
                self.iter()
                    .any(taken)
                    .then_some("another server of the configuration has this address; remove that one first")
            }
            Change::Remove(id) => match self.by_id(id) {
                None => Some("no such server in the raft configuration"),
                Some(server) if server.suffrage == Suffrage::Voter && self.voters() == 1 => {
                    Some("it is the only voter; without it there is no cluster")
                }
                Some(_) => None,
            },
        }
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Put(server) => {
                self.by_raft_id.insert(server.raft_id(), server.clone());
            }
            Change::Remove(id) => {
                self.by_raft_id.remove(&raft_id(id));
            }
        }
    }

    /// For the library.
    pub(super) fn conf_state(&self) -> ConfState {
        let mut state = ConfState::default();
        for (id, server) in &self.by_raft_id {
            match server.suffrage {
                Suffrage::Voter => state.voters.push(*id),
                Suffrage::NonVoter | Suffrage::Staging => state.learners.push(*id),
            }
        }
        state
    }
}
