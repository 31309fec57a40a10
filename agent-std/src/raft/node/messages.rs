//! What other servers send: judged first, because the library would panic at what cannot be.

use raft::eraftpb::{Message, MessageType};
use raft::{INVALID_ID, SnapshotStatus};

use super::{Node, StateMachine};
use crate::raft::config::LEASE_TICKS;
use crate::raft::snapshot::Received;
use crate::raft::store::library_snapshot;

/// Above any term that elections can reach; a peer's message may not bring us to the end of the numbers.
const MAX_TERM: u64 = 1 << 62;

impl<S: StateMachine> Node<S> {
    /// A message of another server. Impossible ones are dropped: the library would panic at them.
    pub(in crate::raft) fn step(&mut self, message: Message) {
        if let Err(what) = self.check(&message) {
            log::warn!("raft: dropped a message of server {:x}: {what}", message.from);
            return;
        }
        let from_leader = matches!(
            message.get_msg_type(),
            MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot
        );
        let sender = message.from;
        // The library refuses answers of servers it does not know; that is no event worth a word.
        let _ = self.raw.step(message);
        if from_leader && self.raw.raft.leader_id == sender {
            self.last_contact = Some(self.now);
        }
        self.draw(false);
    }

    /// A whole snapshot arrived, with the message that carried it.
    pub(in crate::raft) fn step_snapshot(&mut self, mut message: Message, received: Received) {
        message.set_snapshot(library_snapshot(&received.meta));
        if let Some(old) = self.received.replace(received) {
            self.snapshots.discard(&old);
        }
        self.step(message);
        let wanted = self.raw.snap().is_some_and(|snapshot| !snapshot.is_empty());
        if !wanted && let Some(unwanted) = self.received.take() {
            self.snapshots.discard(&unwanted);
        }
    }

    /// How sending a snapshot ended.
    pub(in crate::raft) fn on_snapshot_sent(&mut self, to: u64, stored: bool) {
        let status = if stored { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raw.report_snapshot(to, status);
    }

    /// Messages to this server were lost.
    pub(in crate::raft) fn on_unreachable(&mut self, to: u64) {
        self.raw.report_unreachable(to);
    }

    /// Why the library would trip over this message.
    fn check(&self, message: &Message) -> Result<(), &'static str> {
        let raft = &self.raw.raft;
        let kind = message.get_msg_type();
        if message.to != self.id || message.from == self.id || message.from == INVALID_ID {
            return Err("it is not for this server");
        }
        if message.term == 0 || message.term > MAX_TERM || message.term < message.log_term {
            return Err("its term is impossible");
        }
        let last = raft.raft_log.last_index();
        match kind {
            MessageType::MsgHeartbeat if message.commit > last => {
                return Err(
                    "the leader counts on entries that this server had and has lost; remove this server and add it anew",
                );
            }
            MessageType::MsgAppend => {
                if (message.index == 0) != (message.log_term == 0) {
                    return Err("its entries follow one that cannot be");
                }
                let mut before = (message.index, message.log_term);
                for entry in &message.entries {
                    if entry.index != before.0.wrapping_add(1) || entry.term < before.1 || entry.term > message.term {
                        return Err("its entries do not follow each other");
                    }
                    before = (entry.index, entry.term);
                    let decided = entry.index <= raft.raft_log.committed && entry.index >= self.raw.store().first();
                    if decided && raft.raft_log.term(entry.index).unwrap_or(0) != entry.term {
                        return Err("it contradicts a decided entry");
                    }
                }
            }
            MessageType::MsgAppendResponse if message.index > last => {
                return Err("it confirms entries that do not exist");
            }
            // A leader relies on followers that heard it less than a lease ago; a fresh start has forgotten when that was.
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote if self.ticks <= u64::from(LEASE_TICKS) => {
                return Err("just started, no votes yet");
            }
            MessageType::MsgSnapshot if message.get_snapshot().get_metadata().index == 0 => {
                return Err("a snapshot without content");
            }
            _ => {}
        }
        Ok(())
    }
}
