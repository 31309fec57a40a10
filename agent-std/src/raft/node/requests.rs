//! What this server's users ask for: commands, changes of the configuration, reads, and the handover of leadership.

use raft::ProgressState;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use tokio::sync::oneshot;

use super::{Answer, Done, Lease, Node, Outbox, Proposal, ProposeError, Reply, StateMachine};
use crate::raft::codec;
use crate::raft::servers::{Change, Server, Suffrage};

/// A learner this close behind the leader has caught up.
const CAUGHT_UP_ENTRIES: u64 = 64;

impl<S: StateMachine> Node<S> {
    /// Proposes a command.
    pub(in crate::raft) fn propose(&mut self, command: &[u8], reply: Reply<Vec<u8>>) {
        let limit = self.config.max_command_octets;
        if command.len() > limit {
            let _ = reply.send(Err(ProposeError::TooLarge { octets: command.len(), limit }));
            return;
        }
        let data = codec::emit_command(self.proposal_time(), command).into();
        let entry = Entry { data, ..Entry::default() };
        self.propose_entry(entry, Answer::Command(reply));
    }

    /// Adds a server or changes what is known of one.
    pub(in crate::raft) fn add_server(&mut self, server: Server, reply: Reply<()>) {
        let mut server = server;
        let known = self.servers.by_raft_id(server.raft_id());
        if known.is_some_and(|known| known.suffrage == Suffrage::Voter) && server.suffrage == Suffrage::Staging {
            server.suffrage = Suffrage::Voter;
        }
        if known == Some(&server) && self.is_leader() {
            let _ = reply.send(Ok(()));
            return;
        }
        self.propose_change(Change::Put(server), Answer::Change(reply));
    }

    /// Removes a server.
    pub(in crate::raft) fn remove_server(&mut self, id: &str, reply: Reply<()>) {
        self.propose_change(Change::Remove(id.to_owned()), Answer::Change(reply));
    }

    /// A linearizable read: answered with an index that is applied here and as new as the moment of asking.
    pub(in crate::raft) fn read_barrier(&mut self, reply: Reply<u64>) {
        match self.not_leader() {
            Some(error) => drop(reply.send(Err(error))),
            None => self.reads.waiting.push(reply),
        }
    }

    /// Hands leadership to `target`, or to the voter that is furthest.
    pub(in crate::raft) fn transfer(&mut self, target: Option<&str>, reply: Reply<()>) {
        if let Some(error) = self.not_leader() {
            let _ = reply.send(Err(error));
            return;
        }
        let progress = self.raw.raft.prs();
        let candidates = self.servers.iter().filter(|server| {
            let named = target.is_none_or(|id| server.id.eq_ignore_ascii_case(id));
            named && server.suffrage == Suffrage::Voter && server.raft_id() != self.id
        });
        let reach =
            |server: &&Server| progress.get(server.raft_id()).map_or(0, |at| at.matched + u64::from(at.recent_active));
        let Some(best) = candidates.max_by_key(reach).map(Server::raft_id) else {
            let _ = reply.send(Err(ProposeError::Refused("there is no other voter to hand leadership to")));
            return;
        };
        self.handover_term = self.raw.raft.term;
        self.lease = None;
        self.raw.transfer_leader(best);
        self.handovers.push(reply);
    }

    /// Makes a staging server a voter when it has caught up. The leader does this by itself.
    pub(super) fn promote(&mut self) {
        if !self.is_leader() || self.raw.raft.has_pending_conf() {
            return;
        }
        let last = self.raw.raft.raft_log.last_index();
        let ready = |server: &&Server| {
            let progress = self.raw.raft.prs().get(server.raft_id());
            server.suffrage == Suffrage::Staging
                && progress.is_some_and(|at| {
                    at.recent_active && at.state == ProgressState::Replicate && at.matched + CAUGHT_UP_ENTRIES >= last
                })
        };
        let caught_up = self.servers.iter().find(ready).cloned();
        if let Some(server) = caught_up {
            let (reply, _) = oneshot::channel();
            self.propose_change(Change::Put(Server { suffrage: Suffrage::Voter, ..server }), Answer::Change(reply));
        }
    }

    /// Fails what only a leader can answer.
    pub(super) fn settle_leadership(&mut self) {
        if self.is_leader() {
            return;
        }
        self.lease = None;
        let error = self.not_leader().unwrap_or(ProposeError::NoLeader);
        for (_, proposal) in std::mem::take(&mut self.proposals) {
            proposal.reply.fail(ProposeError::LeadershipLost);
        }
        let reads = std::mem::take(&mut self.reads);
        self.reads.next = reads.next;
        let asked = reads.asked.into_iter().flat_map(|(_, _, replies)| replies);
        let confirmed = reads.confirmed.into_iter().flat_map(|(_, replies)| replies);
        for reply in reads.waiting.into_iter().chain(asked).chain(confirmed) {
            let _ = reply.send(Err(error.clone()));
        }
        for reply in self.handovers.drain(..) {
            let _ = reply.send(Ok(()));
        }
    }

    /// A handover that did not come about within an election timeout was given up by the library.
    pub(super) fn end_handovers(&mut self) {
        if self.raw.raft.lead_transferee.is_none() && self.is_leader() {
            for reply in self.handovers.drain(..) {
                let _ = reply.send(Err(ProposeError::Timeout));
            }
        }
    }

    /// Asks the quorum once for all reads that wait.
    pub(super) fn ask_reads(&mut self) {
        if self.reads.waiting.is_empty() || !self.is_leader() || !self.raw.raft.commit_to_current_term() {
            return;
        }
        self.reads.next += 1;
        let number = self.reads.next;
        let replies = std::mem::take(&mut self.reads.waiting);
        self.reads.asked.push_back((number, self.now, replies));
        self.raw.read_index(number.to_le_bytes().to_vec());
    }

    pub(super) fn confirm_reads(&mut self, states: Vec<raft::ReadState>) {
        for state in states {
            let Ok(number) = state.request_ctx.as_slice().try_into().map(u64::from_le_bytes) else { continue };
            // A later confirmation confirms all before it.
            while let Some((first, asked_at, _)) = self.reads.asked.front()
                && *first <= number
            {
                let until = *asked_at + self.config.lease();
                let term = self.raw.raft.term;
                if self.handover_term != term {
                    self.lease = Some(Lease { term, until });
                }
                if let Some((_, _, replies)) = self.reads.asked.pop_front() {
                    self.reads.confirmed.push((state.index, replies));
                }
            }
        }
    }

    pub(super) fn answer_reads(&mut self, out: &mut Outbox) {
        let applied = self.applied.0;
        let ready = self.reads.confirmed.extract_if(.., |(index, _)| *index <= applied);
        out.answers.extend(ready.flat_map(|(_, replies)| replies).map(|reply| Done::Read(reply, applied)));
    }

    fn propose_change(&mut self, change: Change, answer: Answer) {
        let refusal = self.servers.refusal(&change);
        let own_removal =
            matches!(&change, Change::Remove(id) if self.servers.by_id(id).is_some_and(|s| s.raft_id() == self.id));
        if self.is_leader() {
            let error = match refusal {
                Some(why) => Some(ProposeError::Refused(why)),
                None if own_removal => {
                    Some(ProposeError::Refused("a leader cannot remove itself; hand leadership over first"))
                }
                None if self.raw.raft.has_pending_conf() => Some(ProposeError::Busy),
                None => None,
            };
            if let Some(error) = error {
                answer.fail(error);
                return;
            }
        }
        let mut entry = Entry::default();
        entry.set_entry_type(EntryType::EntryConfChange);
        entry.context = codec::emit_change(self.proposal_time(), &change).into();
        self.propose_entry(entry, answer);
    }

    fn propose_entry(&mut self, entry: Entry, answer: Answer) {
        if let Some(error) = self.not_leader() {
            answer.fail(error);
            return;
        }
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.id;
        message.set_entries(vec![entry].into());
        match self.raw.step(message) {
            Ok(()) => {
                let index = self.raw.raft.raft_log.last_index();
                self.proposals.insert(index, Proposal { term: self.raw.raft.term, reply: answer });
            }
            // The limit of uncommitted octets, or a handover under way.
            Err(_) => answer.fail(ProposeError::Busy),
        }
    }

    fn proposal_time(&self) -> u64 {
        self.unix_millis.max(self.applied_millis)
    }
}
