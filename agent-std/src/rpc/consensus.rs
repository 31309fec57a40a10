//! What a server needs of raft, and nothing more.

use std::{net::SocketAddr, time::Duration};

use tokio::net::TcpStream;

use super::BoxFuture;
use crate::raft::{ProposeError, Raft, Role, Server, Status};

/// Why raft did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsensusError {
    /// Another server leads, or none is known to. Nothing was proposed.
    #[error("not the leader")]
    NotLeader,
    /// The command may or may not be carried out.
    #[error("{0}")]
    Unclear(String),
    /// Refused. Nothing was proposed.
    #[error("{0}")]
    Refused(String),
}

/// A look at raft.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsensusView {
    /// Raft's term.
    pub term: u64,
    /// This server leads.
    pub is_leader: bool,
    /// Who leads: its RPC address.
    pub leader: Option<SocketAddr>,
    /// Time since the leader was heard; zero on the leader, none when it never was.
    pub last_contact: Option<Duration>,
    /// Index of the last log entry.
    pub last_index: u64,
    /// Its term.
    pub last_term: u64,
}

impl ConsensusView {
    /// Term, whether this server leads, and who does.
    pub(super) fn leadership(&self) -> (u64, bool, Option<SocketAddr>) {
        (self.term, self.is_leader, self.leader)
    }
}

/// Raft as a server uses it.
pub trait Consensus: Send + Sync + 'static {
    /// Has a command carried out; the answer is the store's.
    fn propose(&self, command: Vec<u8>) -> BoxFuture<'_, Result<Vec<u8>, ConsensusError>>;
    /// Waits until this leader's store is as new as now, asking a majority.
    fn read_barrier(&self) -> BoxFuture<'_, Result<(), ConsensusError>>;
    /// As [`Consensus::read_barrier`], but trusts the leader's lease.
    fn lease_read(&self) -> BoxFuture<'_, Result<(), ConsensusError>>;
    /// A look at the present state. Cheap: every read takes one.
    fn view(&self) -> ConsensusView;
    /// Returns when the term, the leader, or whether it is this server are others than in `seen`.
    fn leadership_change(&self, seen: &ConsensusView) -> BoxFuture<'_, ()>;
    /// The servers, and the index of the entry that made this configuration.
    fn configuration(&self) -> (Vec<Server>, u64);
    /// Takes the server of this node id out of the configuration. Only the leader can; a leader that is to go itself hands
    /// leadership over first, and the next one is to be asked.
    fn remove_server(&self, id: &str) -> BoxFuture<'_, Result<(), ConsensusError>>;
    /// Takes over a server's connection whose first octet was 1.
    fn accept(&self, stream: TcpStream, peer: SocketAddr);
}

impl From<ProposeError> for ConsensusError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader { .. } | ProposeError::NoLeader => ConsensusError::NotLeader,
            ProposeError::LeadershipLost | ProposeError::Timeout | ProposeError::Stopped => {
                ConsensusError::Unclear(error.to_string())
            }
            ProposeError::TooLarge { .. } | ProposeError::Busy | ProposeError::Refused(_) => {
                ConsensusError::Refused(error.to_string())
            }
        }
    }
}

impl Consensus for Raft {
    fn propose(&self, command: Vec<u8>) -> BoxFuture<'_, Result<Vec<u8>, ConsensusError>> {
        Box::pin(async move { Ok(Raft::propose(self, command).await?) })
    }

    fn read_barrier(&self) -> BoxFuture<'_, Result<(), ConsensusError>> {
        Box::pin(async move { Ok(Raft::read_barrier(self).await.map(drop)?) })
    }

    fn lease_read(&self) -> BoxFuture<'_, Result<(), ConsensusError>> {
        Box::pin(async move { Ok(Raft::lease_read(self).await.map(drop)?) })
    }

    fn view(&self) -> ConsensusView {
        let status = self.status();
        ConsensusView {
            term: status.term,
            is_leader: status.role == Role::Leader,
            leader: status.leader.map(|leader| leader.address),
            last_contact: self.last_contact(),
            last_index: status.last_log_index,
            last_term: status.last_log_term,
        }
    }

    fn leadership_change(&self, seen: &ConsensusView) -> BoxFuture<'_, ()> {
        let (mut status, seen) = (self.status_changes(), seen.leadership());
        Box::pin(async move {
            let changed = |status: &Status| {
                let leader = status.leader.as_ref().map(|leader| leader.address);
                (status.term, status.role == Role::Leader, leader) != seen
            };
            // Raft has stopped: nothing changes any more.
            if status.wait_for(changed).await.is_err() {
                std::future::pending().await
            }
        })
    }

    fn configuration(&self) -> (Vec<Server>, u64) {
        let index = self.status().configuration_index;
        (self.servers().iter().cloned().collect(), index)
    }

    fn remove_server(&self, id: &str) -> BoxFuture<'_, Result<(), ConsensusError>> {
        let id = id.to_owned();
        Box::pin(async move {
            let own = self.status().leader.is_some_and(|leader| leader.id.eq_ignore_ascii_case(&id));
            if own && self.servers().voters() > 1 {
                Raft::transfer_leadership(self, None).await?;
                return Err(ConsensusError::NotLeader);
            }
            Ok(Raft::remove_server(self, &id).await?)
        })
    }

    fn accept(&self, stream: TcpStream, peer: SocketAddr) {
        Raft::accept(self, stream, peer);
    }
}
