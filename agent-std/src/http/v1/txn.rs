//! `/v1/txn` (http spec §4): several operations, all or none.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Api, Ask, HttpError, Reply, Result, catalog::registration};
use crate::{
    http::{body, read::options},
    model::{
        DirEntry, Octets, TxnCheckOp, TxnError, TxnKvOp, TxnNodeOp, TxnOp, TxnReadReply, TxnReadRequest, TxnReply,
        TxnRequest, TxnResult, TxnServiceOp,
    },
};

/// Operations that one transaction may have: Consul's number.
const MAX_OPS: usize = 64;
/// Verbs on keys that change nothing; a transaction of these and of `get` alone is a read.
const READS: [&str; 5] = ["get", "get-tree", "check-index", "check-session", "check-not-exists"];

/// An operation as clients write it: only the one on a key differs from what servers take.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Op {
    #[serde(rename = "KV")]
    kv: Option<KvOp>,
    node: Option<TxnNodeOp>,
    service: Option<TxnServiceOp>,
    check: Option<TxnCheckOp>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct KvOp {
    verb: String,
    key: String,
    value: Option<Octets>,
    flags: u64,
    index: u64,
    session: String,
}

/// The answer to a transaction that only reads.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ReadAnswer {
    results: Option<Vec<TxnResult>>,
    errors: Option<Vec<TxnError>>,
    index: u64,
    last_contact: i64,
    known_leader: bool,
    consistency_level: String,
}

fn known() -> Value {
    let registration = registration();
    let node = json!({
        "ID": 0, "Node": 0, "Address": 0, "Datacenter": 0, "TaggedAddresses": 0, "Meta": 0, "CreateIndex": 0,
        "ModifyIndex": 0,
    });
    json!([{
        "KV": {"Verb": 0, "Key": 0, "Value": 0, "Flags": 0, "Index": 0, "Session": 0},
        "Node": {"Verb": 0, "Node": node},
        "Service": {"Verb": 0, "Node": 0, "Service": registration["Service"]},
        "Check": {"Verb": 0, "Check": registration["Check"]},
    }])
}

pub(super) async fn call(api: &Api, ask: &Ask) -> Result {
    let ops: Vec<Op> = body::decode(&ask.body, &known(), false).map_err(|error| {
        let why = error.text.strip_prefix("Request decode failed: ").unwrap_or(&error.text);
        HttpError::bad(format!("Failed to parse body: {why}"))
    })?;
    if ops.len() > MAX_OPS {
        let text = format!("Transaction contains too many operations ({} > {MAX_OPS})", ops.len());
        return Err(HttpError::new(413, text));
    }
    let reads = ops.iter().all(Op::is_read);
    // What names no kind is nothing.
    let ops: Vec<TxnOp> = ops.into_iter().map(Op::for_servers).filter(|op| *op != TxnOp::default()).collect();
    if reads { read(api, ask, ops).await } else { apply(api, ask, ops).await }
}

impl Op {
    fn is_read(&self) -> bool {
        let get = |verb: &str| verb == "get";
        self.kv.as_ref().is_none_or(|op| READS.contains(&op.verb.as_str()))
            && self.node.as_ref().is_none_or(|op| get(&op.verb))
            && self.service.as_ref().is_none_or(|op| get(&op.verb))
            && self.check.as_ref().is_none_or(|op| get(&op.verb))
    }

    fn for_servers(self) -> TxnOp {
        let kv = self.kv.map(|KvOp { verb, key, value, flags, index, session }| TxnKvOp {
            verb,
            dir_ent: DirEntry { key, value, flags, session, modify_index: index, ..DirEntry::default() },
        });
        TxnOp { kv, node: self.node, service: self.service, check: self.check }
    }
}

async fn read(api: &Api, ask: &Ask, ops: Vec<TxnOp>) -> Result {
    let (datacenter, options) = (api.datacenter(ask), options(api, ask)?);
    let request = TxnReadRequest { datacenter, ops: Some(ops), options };
    let TxnReadReply { results, errors, meta } = api.rpc.call("Txn.Read", &request).await?;
    let failed = errors.is_some();
    let answer = ReadAnswer {
        results,
        errors,
        index: 0,
        last_contact: meta.last_contact.0,
        known_leader: meta.known_leader,
        consistency_level: String::new(),
    };
    let leader = if meta.known_leader { "true" } else { "false" };
    let contact = meta.last_contact.duration().as_millis().to_string();
    Ok(Reply::json(&answer)
        .with_status(if failed { 409 } else { 200 })
        .with_header("X-Consul-Knownleader", leader)
        .with_header("X-Consul-Lastcontact", contact))
}

async fn apply(api: &Api, ask: &Ask, ops: Vec<TxnOp>) -> Result {
    let request = TxnRequest { datacenter: api.datacenter(ask), ops: Some(ops), token: ask.token.clone() };
    let reply: TxnReply = api.rpc.call("Txn.Apply", &request).await?;
    let status = if reply.errors.is_some() { 409 } else { 200 };
    Ok(Reply::json(&reply).with_status(status))
}
