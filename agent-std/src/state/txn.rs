//! Transactions (http spec §4): every operation sees what those before it did; one failure undoes all.

use std::sync::Arc;

use super::{
    Refusal,
    kv::with_prefix,
    tables::{Change, Name, fold},
};
use crate::model::{
    DirEntry, HealthCheck, Node, NodeService, TxnCheckOp, TxnError, TxnKvOp, TxnNodeOp, TxnOp, TxnReply, TxnResult,
    TxnServiceOp,
};

type Results = Result<Vec<TxnResult>, Refusal>;

fn refused<T>(what: String) -> Result<T, Refusal> {
    Err(Refusal(what))
}

impl Change {
    /// Carries out all operations. With errors in the answer the caller drops this change.
    pub fn txn(&mut self, ops: Vec<TxnOp>) -> TxnReply {
        let (mut results, mut errors) = (Vec::new(), Vec::new());
        for (index, op) in ops.into_iter().enumerate() {
            match self.txn_op(op) {
                Ok(result) => results.extend(result),
                Err(Refusal(what)) => errors.push(TxnError { op_index: index as i64, what }),
            }
        }
        if errors.is_empty() {
            TxnReply { results: Some(results), errors: None }
        } else {
            TxnReply { results: None, errors: Some(errors) }
        }
    }

    fn txn_op(&mut self, op: TxnOp) -> Results {
        match op {
            TxnOp { kv: Some(op), .. } => self.txn_kv(op),
            TxnOp { node: Some(op), .. } => self.txn_node(op),
            TxnOp { service: Some(op), .. } => self.txn_service(op),
            TxnOp { check: Some(op), .. } => self.txn_check(op),
            _ => refused("no operation specified".into()),
        }
    }

    fn txn_kv(&mut self, TxnKvOp { verb, dir_ent }: TxnKvOp) -> Results {
        let key = dir_ent.key.clone();
        let known = self.state.kv.get(key.as_str()).cloned();
        let written = match verb.as_str() {
            "set" => self.kv_set(dir_ent),
            "cas" => match self.kv_cas(dir_ent) {
                Some(entry) => entry,
                None => return refused(format!("failed to set key {key:?}, index is stale")),
            },
            "lock" => match self.kv_lock(dir_ent)? {
                Some(entry) => entry,
                None => return refused(format!("failed to lock key {key:?}, lock is already held")),
            },
            "unlock" => match self.kv_unlock(dir_ent)? {
                Some(entry) => entry,
                None => {
                    return refused(format!(
                        "failed to unlock key {key:?}, lock isn't held, or is held by another session"
                    ));
                }
            },
            "delete" => {
                self.kv_delete(&key);
                return Ok(vec![]);
            }
            "delete-tree" => {
                self.kv_delete_tree(&key);
                return Ok(vec![]);
            }
            "delete-cas" if self.kv_delete_cas(&key, dir_ent.modify_index) => return Ok(vec![]),
            "delete-cas" => return refused(format!("failed to delete key {key:?}, index is stale")),
            "get" => match known {
                Some(entry) => return Ok(vec![of_kv((*entry).clone())]),
                None => return refused(format!("key {key:?} doesn't exist")),
            },
            "get-tree" => {
                return Ok(with_prefix(&self.state.kv, &key).map(|(_, entry)| of_kv((**entry).clone())).collect());
            }
            "check-not-exists" if known.is_none() => return Ok(vec![]),
            "check-not-exists" => return refused(format!("key {key:?} exists")),
            "check-index" | "check-session" => return checked(&verb, known.as_deref(), &dir_ent),
            verb => return refused(format!("unknown KV verb {verb:?}")),
        };
        Ok(vec![of_kv(DirEntry { value: None, ..(*written).clone() })])
    }

    fn txn_node(&mut self, TxnNodeOp { verb, node }: TxnNodeOp) -> Results {
        let by_id = self.state.node_ids.get(&fold(&node.id)).cloned();
        let key = by_id.unwrap_or_else(|| fold(&node.node));
        let known = self.state.nodes.get(&key).map(|entry| Arc::clone(&entry.node));
        let index = known.as_ref().map_or(0, |known| known.modify_index);
        let name = node.node.clone();
        match verb.as_str() {
            "get" => {
                let known = known.ok_or_else(|| Refusal(format!("node {name:?} doesn't exist")))?;
                return Ok(vec![of_node(&known)]);
            }
            "cas" if index != node.modify_index => {
                return refused(format!("failed to set node {name:?}, index is stale"));
            }
            "set" | "cas" => self.put_node(node)?,
            "delete-cas" if known.is_some() && index != node.modify_index => {
                return refused(format!("failed to delete node {name:?}, index is stale"));
            }
            "delete" | "delete-cas" => {
                self.remove_node(&key);
                return Ok(vec![]);
            }
            verb => return refused(format!("unknown Node verb {verb:?}")),
        }
        Ok(self.state.nodes.get(&fold(&name)).map(|entry| of_node(&entry.node)).into_iter().collect())
    }

    fn txn_service(&mut self, TxnServiceOp { verb, node, mut service }: TxnServiceOp) -> Results {
        let key = fold(&node);
        if service.id.is_empty() {
            service.id.clone_from(&service.service);
        }
        let id = service.id.clone();
        let find =
            |change: &Change| change.state.nodes.get(&key).and_then(|entry| entry.services.get(id.as_str()).cloned());
        let known = find(self);
        let index = known.as_ref().map_or(0, |known| known.modify_index);
        match verb.as_str() {
            "get" => {
                let known = known.ok_or_else(|| Refusal(format!("service {id:?} on node {node:?} doesn't exist")))?;
                return Ok(vec![of_service(&known)]);
            }
            "cas" if index != service.modify_index => {
                return refused(format!("failed to set service {id:?} on node {node:?}, index is stale"));
            }
            "set" | "cas" => self.put_service(&key, service)?,
            "delete-cas" if known.is_some() && index != service.modify_index => {
                return refused(format!("failed to delete service {id:?} on node {node:?}, index is stale"));
            }
            "delete" | "delete-cas" => {
                self.remove_service(&key, &id);
                return Ok(vec![]);
            }
            verb => return refused(format!("unknown Service verb {verb:?}")),
        }
        Ok(find(self).map(|service| of_service(&service)).into_iter().collect())
    }

    fn txn_check(&mut self, TxnCheckOp { verb, check }: TxnCheckOp) -> Results {
        let key: Name = fold(&check.node);
        let (node, id) = (check.node.clone(), check.check_id.clone());
        let find =
            |change: &Change| change.state.nodes.get(&key).and_then(|entry| entry.checks.get(id.as_str()).cloned());
        let known = find(self);
        let index = known.as_ref().map_or(0, |known| known.modify_index);
        match verb.as_str() {
            "get" => {
                let known = known.ok_or_else(|| Refusal(format!("check {id:?} on node {node:?} doesn't exist")))?;
                return Ok(vec![of_check(&known)]);
            }
            "cas" if index != check.modify_index => {
                return refused(format!("failed to set check {id:?} on node {node:?}, index is stale"));
            }
            "set" | "cas" => self.put_check(&key, check)?,
            "delete-cas" if known.is_some() && index != check.modify_index => {
                return refused(format!("failed to delete check {id:?} on node {node:?}, index is stale"));
            }
            "delete" | "delete-cas" => {
                self.remove_check(&key, &id);
                return Ok(vec![]);
            }
            verb => return refused(format!("unknown Check verb {verb:?}")),
        }
        Ok(find(self).map(|check| of_check(&check)).into_iter().collect())
    }
}

fn checked(verb: &str, known: Option<&DirEntry>, wanted: &DirEntry) -> Results {
    let key = &wanted.key;
    let what = verb.trim_start_matches("check-");
    let Some(known) = known else { return refused(format!("failed to check {what}, key {key:?} doesn't exist")) };
    if what == "index" && known.modify_index != wanted.modify_index {
        let (is, was) = (known.modify_index, wanted.modify_index);
        return refused(format!("failed index check for key {key:?}, current modify index {is} != {was}"));
    }
    if what == "session" && known.session != wanted.session {
        let (is, was) = (&known.session, &wanted.session);
        return refused(format!("failed session check for key {key:?}, current session {is:?} != {was:?}"));
    }
    Ok(vec![of_kv(DirEntry { value: None, ..known.clone() })])
}

fn of_kv(entry: DirEntry) -> TxnResult {
    TxnResult { kv: Some(entry), ..TxnResult::default() }
}

fn of_node(node: &Node) -> TxnResult {
    TxnResult { node: Some(node.clone()), ..TxnResult::default() }
}

fn of_service(service: &NodeService) -> TxnResult {
    TxnResult { service: Some(service.clone()), ..TxnResult::default() }
}

fn of_check(check: &HealthCheck) -> TxnResult {
    TxnResult { check: Some(check.clone()), ..TxnResult::default() }
}
