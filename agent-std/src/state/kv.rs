//! Writes to keys (rpc spec §6 KV, http spec §2).

use std::sync::Arc;

use imbl::OrdMap;

use super::{
    Refusal,
    tables::{Change, Name, Tombstone},
    watch::Topic,
};
use crate::model::DirEntry;

/// 15 min: how long a deleted key is remembered, so that prefix reads notice; Consul's own time.
const TOMBSTONE_MILLIS: u64 = 15 * 60 * 1000;

/// Length of a UUID as text.
const UUID_LEN: usize = 36;

/// The entries whose key begins with `prefix`.
pub(super) fn with_prefix<'a, 'p, V: Clone>(
    map: &'a OrdMap<Name, V>,
    prefix: &'p str,
) -> impl Iterator<Item = (&'a Name, &'a V)> + use<'a, 'p, V> {
    map.range::<_, str>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded))
        .take_while(move |(key, _)| key.starts_with(prefix))
}

impl Change {
    /// Operation `op` of `KVS.Apply`. The answer means something for cas, delete-cas, lock and unlock.
    pub fn kvs(&mut self, op: &str, entry: DirEntry) -> Result<bool, Refusal> {
        match op {
            "set" => {
                self.kv_set(entry);
                Ok(false)
            }
            "delete" => {
                self.kv_delete(&entry.key);
                Ok(false)
            }
            "delete-cas" => Ok(self.kv_delete_cas(&entry.key, entry.modify_index)),
            "delete-tree" => {
                self.kv_delete_tree(&entry.key);
                Ok(false)
            }
            "cas" => Ok(self.kv_cas(entry).is_some()),
            "lock" => Ok(self.kv_lock(entry)?.is_some()),
            "unlock" => Ok(self.kv_unlock(entry)?.is_some()),
            _ => Err(Refusal(format!("Invalid KVS operation '{op}'"))),
        }
    }

    /// Writes a key and returns what is stored. Its session stays; its lock index is the writer's.
    pub fn kv_set(&mut self, mut entry: DirEntry) -> Arc<DirEntry> {
        entry.session = self.kv(&entry.key).map(|known| known.session.clone()).unwrap_or_default();
        self.kv_put(entry)
    }

    /// Writes a key if its index is the expected one; 0: if there is none.
    pub fn kv_cas(&mut self, entry: DirEntry) -> Option<Arc<DirEntry>> {
        let index = self.kv(&entry.key).map_or(0, |known| known.modify_index);
        (index == entry.modify_index).then(|| self.kv_set(entry))
    }

    /// Writes a key and gives it to a session.
    pub fn kv_lock(&mut self, mut entry: DirEntry) -> Result<Option<Arc<DirEntry>>, Refusal> {
        self.session_is_there(&entry.session)?;
        if self.state.lock_delays.get(entry.key.as_str()).is_some_and(|&until| until > self.unix_millis) {
            return Ok(None);
        }
        entry.lock_index = match self.kv(&entry.key) {
            Some(known) if known.session == entry.session => known.lock_index,
            Some(known) if !known.session.is_empty() => return Ok(None),
            Some(known) => known.lock_index + 1,
            None => 1,
        };
        Ok(Some(self.kv_put(entry)))
    }

    /// Writes a key and takes it from its session.
    pub fn kv_unlock(&mut self, mut entry: DirEntry) -> Result<Option<Arc<DirEntry>>, Refusal> {
        self.session_is_there(&entry.session)?;
        match self.kv(&entry.key) {
            Some(known) if known.session == entry.session => entry.lock_index = known.lock_index,
            _ => return Ok(None),
        }
        entry.session.clear();
        Ok(Some(self.kv_put(entry)))
    }

    fn session_is_there(&self, id: &str) -> Result<(), Refusal> {
        if id.is_empty() {
            return Err(Refusal::new("missing session"));
        }
        if id.len() != UUID_LEN {
            return Err(Refusal::new("failed session lookup: index error: UUID must be 36 characters"));
        }
        if !self.state.sessions.contains_key(id) {
            return Err(Refusal(format!("invalid session {id:?}")));
        }
        Ok(())
    }

    fn kv(&self, key: &str) -> Option<&Arc<DirEntry>> {
        self.state.kv.get(key)
    }

    /// Stores an entry as it is; writing what is there already moves nothing.
    pub(super) fn kv_put(&mut self, mut entry: DirEntry) -> Arc<DirEntry> {
        let key: Name = entry.key.as_str().into();
        let known = self.kv(&key).cloned();
        entry.create_index = known.as_ref().map_or(self.index, |known| known.create_index);
        if let Some(known) = &known {
            entry.modify_index = known.modify_index;
            if entry == **known {
                return Arc::clone(known);
            }
            self.unhold(&known.session, &key);
        }
        entry.modify_index = self.index;
        if !entry.session.is_empty() {
            self.hold(&entry.session, &key);
        }
        let entry = Arc::new(entry);
        self.state.kv.insert(Arc::clone(&key), Arc::clone(&entry));
        self.state.indexes.kv = self.index;
        self.touch(Topic::Key(key));
        entry
    }

    /// Removes a key; it may be locked.
    pub fn kv_delete(&mut self, key: &str) {
        if self.kv_take(key) {
            self.bury(key);
        }
    }

    /// Removes a key if its index is the expected one. A key that is not there counts as removed.
    pub fn kv_delete_cas(&mut self, key: &str, index: u64) -> bool {
        match self.kv(key) {
            None => true,
            Some(known) if known.modify_index != index => false,
            Some(_) => {
                self.kv_delete(key);
                true
            }
        }
    }

    /// Removes every key that begins with `prefix`.
    pub fn kv_delete_tree(&mut self, prefix: &str) {
        let keys: Vec<Name> = with_prefix(&self.state.kv, prefix).map(|(key, _)| Arc::clone(key)).collect();
        if !keys.is_empty() {
            keys.iter().for_each(|key| {
                self.kv_take(key);
            });
            self.bury(prefix);
        }
    }

    fn kv_take(&mut self, key: &str) -> bool {
        let Some((key, entry)) = self.state.kv.remove_with_key(key) else { return false };
        self.unhold(&entry.session, &key);
        self.state.indexes.kv = self.index;
        self.touch(Topic::Key(key));
        true
    }

    /// Remembers that a key or a tree went, and forgets what went long ago. By the log's clock, so that every server
    /// forgets the same.
    fn bury(&mut self, key: &str) {
        let old = self.unix_millis.saturating_sub(TOMBSTONE_MILLIS);
        let forget: Vec<Name> =
            self.state.tombstones.iter().filter(|(_, t)| t.unix_millis < old).map(|(key, _)| Arc::clone(key)).collect();
        forget.iter().for_each(|key| {
            self.state.tombstones.remove(key);
        });
        let tombstone = Tombstone { index: self.index, unix_millis: self.unix_millis };
        self.state.tombstones.insert(key.into(), tombstone);
    }

    fn hold(&mut self, session: &str, key: &Name) {
        let mut keys = self.state.held.get(session).cloned().unwrap_or_default();
        keys.insert(Arc::clone(key));
        self.state.held.insert(session.into(), keys);
    }

    fn unhold(&mut self, session: &str, key: &Name) {
        let Some(keys) = self.state.held.get_mut(session) else { return };
        keys.remove(key);
        if keys.is_empty() {
            self.state.held.remove(session);
        }
    }
}
