//! `Txn`

use super::*;

/// Verbs that change nothing.
const READS: [&str; 5] = ["get", "get-tree", "check-index", "check-session", "check-not-exists"];

pub(super) async fn apply(call: Call<'_>) -> Answer {
    let args: &TxnRequest = &call.decode()?;
    let local = || async move {
        let ops = args.ops.clone().unwrap_or_default();
        let errors = check(&call, &args.token, &ops);
        if !errors.is_empty() {
            return reply(&TxnReply { results: None, errors: Some(errors) });
        }
        let outcome =
            call.shared.propose(Command::Txn(ops.into_iter().map(|op| completed(op, &call)).collect())).await?;
        reply(&outcome.txn.unwrap_or_default())
    };
    call.shared.answer(&args.datacenter, Freshness::Default, call.method, call.args, local).await
}

pub(super) async fn read(call: Call<'_>) -> Answer {
    let args: &TxnReadRequest = &call.decode()?;
    let freshness = Freshness::of(&args.options);
    let local = || async move {
        call.shared.may_read(freshness).await?;
        let ops = args.ops.clone().unwrap_or_default();
        let mut errors = check(&call, &args.options.token, &ops);
        let writes = ops.iter().enumerate().filter(|(_, op)| !READS.contains(&verb(op)));
        errors.extend(writes.map(|(n, op)| error(n, format!("{:?} is not a read operation", verb(op)))));
        let TxnReply { results, errors } = if errors.is_empty() {
            call.shared.config.store.txn_read(ops)
        } else {
            TxnReply { results: None, errors: Some(errors) }
        };
        reply(&TxnReadReply { results, errors, meta: call.meta(0) })
    };
    call.shared.answer(&args.datacenter, freshness, call.method, call.args, local).await
}

fn error(index: usize, what: String) -> TxnError {
    TxnError { op_index: index as i64, what }
}

fn verb(op: &TxnOp) -> &str {
    match op {
        TxnOp { kv: Some(op), .. } => &op.verb,
        TxnOp { node: Some(op), .. } => &op.verb,
        TxnOp { service: Some(op), .. } => &op.verb,
        TxnOp { check: Some(op), .. } => &op.verb,
        _ => "",
    }
}

/// What the server fills in.
fn completed(mut op: TxnOp, call: &Call<'_>) -> TxnOp {
    if let Some(TxnNodeOp { node, .. }) = &mut op.node
        && node.datacenter.is_empty()
    {
        node.datacenter.clone_from(&call.shared.config.datacenter);
    }
    if let Some(TxnCheckOp { check, .. }) = &mut op.check
        && check.check_id.is_empty()
    {
        check.check_id.clone_from(&check.name);
    }
    op
}

/// What must not reach the log: missing rights, and what has no name to be filed under.
fn check(call: &Call<'_>, token: &str, ops: &[TxnOp]) -> Vec<TxnError> {
    let mut errors = Vec::new();
    for (n, op) in ops.iter().enumerate() {
        let access = if READS.contains(&verb(op)) { Access::Read } else { Access::Write };
        let sets = matches!(verb(op), "set" | "cas");
        let (resource, missing) = match op {
            TxnOp { kv: Some(op), .. } => {
                let tree = op.verb.ends_with("-tree");
                let key = op.dir_ent.key.as_str();
                let resource = if tree { Resource::KeyPrefix(key) } else { Resource::Key(key) };
                (resource, (key.is_empty() && !tree).then_some("Must provide key"))
            }
            TxnOp { node: Some(op), .. } => {
                let name = op.node.node.as_str();
                (Resource::Node(name), (name.is_empty() && sets).then_some("Must provide node"))
            }
            TxnOp { service: Some(op), .. } => {
                let name = op.service.service.as_str();
                (Resource::Service(name), (name.is_empty() && sets).then_some("Must provide service name with ID"))
            }
            TxnOp { check: Some(op), .. } => {
                let nameless = op.check.check_id.is_empty() && op.check.name.is_empty();
                (Resource::Node(&op.check.node), (nameless && sets).then_some("Must provide a check ID or name"))
            }
            _ => continue,
        };
        if let Some(missing) = missing {
            errors.push(error(n, missing.into()));
        } else if call.require(token, access, resource).is_err() {
            errors.push(error(n, "Permission denied".into()));
        }
    }
    errors
}
