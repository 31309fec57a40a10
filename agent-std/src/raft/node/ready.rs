//! The ready loop: whatever the library has decided is made durable, sent and carried out, in this order.

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, HardState, Message};
use raft::{INVALID_ID, StateRole};

use super::open::restore;
use super::{Node, Outbox, ProposeError, SnapshotJob, StateMachine};
use crate::raft::codec::{self, Body};
use crate::raft::log::Batch;
use crate::raft::servers::{Server, Suffrage};
use crate::raft::snapshot::{Meta, name_of};
use crate::raft::storage::StorageError;

impl<S: StateMachine> Node<S> {
    /// Does all that has become possible.
    ///
    /// # Errors
    /// The disk failed, or an entry cannot be carried out: the server must stop.
    pub(in crate::raft) fn process(&mut self, out: &mut Outbox) -> Result<(), StorageError> {
        loop {
            self.draw(false);
            self.settle_leadership();
            self.ask_reads();
            if !self.raw.has_ready() && !self.campaign_if_alone() {
                break;
            }
            let mut ready = self.raw.ready();
            self.send(ready.take_messages(), out);
            if !ready.snapshot().is_empty() {
                self.install(ready.snapshot().get_metadata().index)?;
            }
            let entries = ready.take_entries();
            self.persist(&entries, ready.hs().cloned(), ready.must_sync())?;
            self.send(ready.take_persisted_messages(), out);
            self.confirm_reads(ready.take_read_states());
            self.apply(ready.take_committed_entries(), out)?;
            let mut light = self.raw.advance_append(ready);
            if let Some(commit) = light.commit_index() {
                self.raw.mut_store().hard_mut().commit = commit;
            }
            self.send(light.take_messages(), out);
            self.apply(light.take_committed_entries(), out)?;
            self.raw.advance_apply_to(self.applied.0);
        }
        self.answer_reads(out);
        self.begin_snapshot(out);
        Ok(())
    }

    /// A [`SnapshotJob`] has ended.
    pub(in crate::raft) fn on_snapshot_written(
        &mut self,
        result: Result<Meta, StorageError>,
    ) -> Result<(), StorageError> {
        self.writing = false;
        let meta = result?;
        let newest = self.raw.store().newest_snapshot().map_or(0, |meta| meta.index);
        if meta.index <= newest {
            return Ok(());
        }
        self.older_snapshot = newest;
        let index = meta.index;
        self.raw.mut_store().set_snapshot(meta);
        self.snapshots.prune()?;
        let cut = self.older_snapshot.min(index.saturating_sub(self.config.trailing_logs));
        self.raw.mut_store().compact(cut);
        self.log.compact(cut)
    }

    fn send(&self, messages: Vec<Message>, out: &mut Outbox) {
        out.messages.extend(messages.into_iter().filter(|message| message.to != self.id));
    }

    fn persist(&mut self, entries: &[Entry], hard: Option<HardState>, must_sync: bool) -> Result<(), StorageError> {
        if let Some(hard) = hard {
            self.raw.mut_store().set_hard(hard);
        }
        // A commit index alone is not worth a sync: the leader tells it again.
        if must_sync {
            let hard = self.raw.store().hard_record();
            self.log.write(&Batch { reset: None, entries, hard: Some(hard) })?;
        }
        self.raw.mut_store().append(entries);
        Ok(())
    }

    /// Replaces log and state by the snapshot that was received.
    fn install(&mut self, index: u64) -> Result<(), StorageError> {
        let received = self.received.take().filter(|received| received.meta.index == index);
        let received = received
            .ok_or_else(|| StorageError::Library(format!("snapshot {index} was asked for but not received")))?;
        self.snapshots.adopt(&received)?;
        let meta = received.meta;
        self.raw.mut_store().reset(meta.clone());
        let hard = self.raw.store().hard_record();
        self.log.write(&Batch { reset: Some(index), entries: &[], hard: Some(hard) })?;
        let name = name_of(index);
        restore(&self.snapshots, &name, &mut self.machine)?;
        self.servers = meta.servers();
        self.configuration_index = index;
        self.applied = (index, meta.term);
        self.applied_millis = meta.unix_millis;
        self.older_snapshot = index;
        self.snapshots.prune()?;
        log::info!("raft: restored the snapshot of index {index} from the leader");
        Ok(())
    }

    fn apply(&mut self, entries: Vec<Entry>, out: &mut Outbox) -> Result<(), StorageError> {
        for entry in entries {
            let answer = self.apply_entry(&entry)?;
            self.applied = (entry.index, entry.term);
            let Some(proposal) = self.proposals.remove(&entry.index) else { continue };
            if proposal.term == entry.term {
                out.answers.push(proposal.reply.succeed(answer));
            } else {
                proposal.reply.fail(ProposeError::LeadershipLost);
            }
        }
        Ok(())
    }

    fn apply_entry(&mut self, entry: &Entry) -> Result<Vec<u8>, StorageError> {
        let change = entry.get_entry_type() != EntryType::EntryNormal;
        let bytes: &Bytes = if change { &entry.context } else { &entry.data };
        // A new leader's first entry, or a change that the library refused.
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        let unknown = |what| StorageError::Entry { index: entry.index, what };
        let (time, body) = codec::parse_body(bytes).map_err(|error| unknown(error.0))?;
        self.applied_millis = self.applied_millis.max(time);
        match body {
            Body::Command(command) if !change => Ok(self.machine.apply(entry.index, self.applied_millis, &command)),
            Body::Change(change_body) if change => {
                let state = self.raw.apply_conf_change(&change_body.to_library());
                state.map_err(|error| StorageError::Library(format!("entry {}: {error}", entry.index)))?;
                self.servers.apply(&change_body);
                self.configuration_index = entry.index;
                // A follower that was to be removed may be elected before it knows. The library cannot lead without itself.
                if self.is_leader() && self.servers.by_raft_id(self.id).is_none() {
                    self.raw.raft.become_follower(self.raw.raft.term, INVALID_ID);
                }
                log::info!("raft: configuration of index {}: {change_body:?}", entry.index);
                Ok(Vec::new())
            }
            _ => Err(unknown("body and type of the entry do not belong together")),
        }
    }

    /// Starts a snapshot when enough has been applied since the last.
    fn begin_snapshot(&mut self, out: &mut Outbox) {
        let store = self.raw.store();
        let newest = store.newest_snapshot().map_or(0, |meta| meta.index);
        let since = self.applied.0.saturating_sub(newest);
        let large = store.octets() > self.config.snapshot_octets && since > self.config.snapshot_threshold / 16;
        if self.writing || self.servers.is_empty() {
            return;
        }
        let wanted = store.take_wanted() && since > 0;
        if !(wanted || large || since >= self.config.snapshot_threshold) {
            return;
        }
        self.writing = true;
        let meta = Meta::new(self.applied.0, self.applied.1, self.applied_millis, &self.servers);
        out.job = Some(SnapshotJob { snapshots: self.snapshots.clone(), meta, source: self.machine.snapshot() });
    }

    /// The only voter need not wait for anybody, once it has applied what was decided.
    fn campaign_if_alone(&mut self) -> bool {
        let votes = |server: &Server| server.suffrage == Suffrage::Voter;
        let alone = self.servers.voters() == 1 && self.servers.by_raft_id(self.id).is_some_and(votes);
        let begin = alone && std::mem::take(&mut self.fresh) && self.raw.raft.state == StateRole::Follower;
        begin && self.raw.campaign().is_ok()
    }
}
