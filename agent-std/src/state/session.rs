//! Writes to sessions (rpc spec §6 Session, http spec §3).

use std::sync::Arc;

use super::{
    Refusal,
    tables::{Change, Name, fold},
    watch::Topic,
};
use crate::model::{CRITICAL, DirEntry, Session};

/// 60 s: Consul's longest lock delay.
const MAX_LOCK_DELAY_MILLIS: u64 = 60_000;

impl Change {
    /// Operation `op` of `Session.Apply`. The answer is the session's id.
    pub fn session(&mut self, op: &str, session: Session) -> Result<String, Refusal> {
        match op {
            "create" => self.create_session(session),
            "destroy" => {
                self.end_session(&session.id);
                Ok(String::new())
            }
            _ => Err(Refusal(format!("Invalid session operation '{op}'"))),
        }
    }

    fn create_session(&mut self, mut session: Session) -> Result<String, Refusal> {
        let key = fold(&session.node);
        let Some(entry) = self.state.nodes.get(&key) else { return Err(Refusal::new("Missing node registration")) };
        match session.behavior.as_str() {
            "" => session.behavior = "release".into(),
            "release" | "delete" => {}
            other => return Err(Refusal(format!("Invalid Behavior setting '{other}'"))),
        }
        for id in checks_of(&session) {
            match entry.checks.get(id) {
                None => return Err(Refusal(format!("Missing check '{id}' registration"))),
                Some(check) if check.status == CRITICAL => {
                    return Err(Refusal(format!("Check '{id}' is in {CRITICAL} state")));
                }
                Some(_) => {}
            }
        }
        let id: Name = session.id.as_str().into();
        session.create_index = self.index;
        session.modify_index = self.index;
        self.with_node(&key, |entry| entry.sessions.insert(Arc::clone(&id)));
        self.state.sessions.insert(Arc::clone(&id), Arc::new(session));
        self.state.indexes.sessions = self.index;
        self.touch(Topic::Sessions);
        Ok(id.to_string())
    }

    /// Ends a session: its keys are released or deleted, and cannot be locked for a while.
    pub(super) fn end_session(&mut self, id: &str) {
        let Some((id, session)) = self.state.sessions.remove_with_key(id) else { return };
        self.with_node(&fold(&session.node), |entry| entry.sessions.remove(&id));
        self.state.indexes.sessions = self.index;
        self.touch(Topic::Sessions);
        self.end_queries_of(&id);
        let Some(keys) = self.state.held.remove(&id) else { return };
        let delay = u64::try_from(session.lock_delay.0 / 1_000_000).unwrap_or(0).min(MAX_LOCK_DELAY_MILLIS);
        self.forget_lock_delays();
        for key in keys {
            if delay > 0 {
                self.state.lock_delays.insert(Arc::clone(&key), self.unix_millis + delay);
            }
            if session.behavior == "delete" {
                self.kv_delete(&key);
            } else if let Some(entry) = self.state.kv.get(&key) {
                let released = DirEntry { session: String::new(), ..(**entry).clone() };
                self.kv_put(released);
            }
        }
    }

    /// Ends the sessions that die with check `id` of node `key`.
    pub(super) fn end_sessions_of_check(&mut self, key: &Name, id: &str) {
        let Some(entry) = self.state.nodes.get(key) else { return };
        let dying: Vec<Name> = entry
            .sessions
            .iter()
            .filter(|session| {
                let session = self.state.sessions.get(&**session);
                session.is_some_and(|session| checks_of(session).any(|check| check == id))
            })
            .cloned()
            .collect();
        dying.iter().for_each(|session| self.end_session(session));
    }

    fn forget_lock_delays(&mut self) {
        let now = self.unix_millis;
        let over: Vec<Name> =
            self.state.lock_delays.iter().filter(|(_, until)| **until <= now).map(|(key, _)| Arc::clone(key)).collect();
        over.iter().for_each(|key| {
            self.state.lock_delays.remove(key);
        });
    }
}

/// The checks a session dies with, under whichever name they came.
fn checks_of(session: &Session) -> impl Iterator<Item = &str> {
    let services = session.service_checks.iter().flatten().map(|check| &check.id);
    session.node_checks.iter().flatten().chain(session.checks.iter().flatten()).chain(services).map(String::as_str)
}
