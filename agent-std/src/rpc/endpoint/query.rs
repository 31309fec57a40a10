//! `PreparedQuery`: no stored queries yet, but anybody may send one along (rpc spec §9: our devices' look-up).

use rand::seq::SliceRandom as _;

use super::*;

pub(super) async fn execute(call: Call<'_>) -> Answer {
    let args: &QueryExecuteRequest = &call.decode()?;
    let freshness = Freshness::of(&args.options);
    let local = || async { Err(CallError::refused("Query not found").into()) };
    call.shared.answer(&args.datacenter, freshness, call.method, call.args, local).await
}

pub(super) async fn execute_remote(call: Call<'_>) -> Answer {
    let args: &QueryExecuteRemoteRequest = &call.decode()?;
    let freshness = Freshness::of(&args.options);
    let local = || async move {
        call.shared.may_read(freshness).await?;
        let state = call.shared.config.store.state();
        let look = Look { state: &state, shared: call.shared, token: &args.options.token };
        let query = &args.query.service;
        let (_, instances) = state.instances(&query.service);
        let mut instances: Vec<_> = instances
            .filter(|(node, service)| {
                is_healthy(node, service, query)
                    && has_tags(service, query)
                    && has_meta(node.node.meta.as_ref(), query.node_meta.as_ref())
                    && has_meta(service.meta.as_ref(), query.service_meta.as_ref())
                    && look.may_read_instance(node, service)
            })
            .collect();
        instances.shuffle(&mut rand::rng());
        if let Some(limit) = usize::try_from(args.limit).ok().filter(|&limit| limit > 0) {
            instances.truncate(limit);
        }
        reply(&QueryExecuteReply {
            service: query.service.clone(),
            nodes: Some(instances.iter().map(|(node, service)| node.instance(service)).collect()),
            dns: args.query.dns.clone(),
            datacenter: call.shared.config.datacenter.clone(),
            failovers: 0,
            meta: call.meta(0),
        })
    };
    call.shared.answer(&args.datacenter, freshness, call.method, call.args, local).await
}

fn is_healthy(node: &NodeEntry, service: &NodeService, query: &ServiceQuery) -> bool {
    node.checks_of(&service.id).all(|check| {
        let ignored = query.ignore_check_ids.iter().flatten().any(|id| *id == check.check_id);
        ignored || (check.status != CRITICAL && !(query.only_passing && check.status != PASSING))
    })
}

/// All tags, and none of those with `!` in front.
fn has_tags(service: &NodeService, query: &ServiceQuery) -> bool {
    let has = |tag: &str| service.tags.iter().flatten().any(|own| own.eq_ignore_ascii_case(tag));
    query.tags.iter().flatten().all(|tag| match tag.strip_prefix('!') {
        Some(tag) => !has(tag),
        None => has(tag),
    })
}
