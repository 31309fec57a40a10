//! `PreparedQuery` (http spec §9). Anybody may also send a query along instead of storing it: our devices' look-up (rpc
//! spec §9). A stored query that finds nothing here asks other datacenters, as far as it says so.

use rand::seq::SliceRandom as _;

use super::{template, *};
use crate::text::{parse_duration, uuid};

const NOT_FOUND: &str = "Query not found";

pub(super) async fn apply(call: Call<'_>) -> Answer {
    let args: &QueryRequest = &call.decode()?;
    let local = || async move {
        let mut request = args.clone();
        let state = call.shared.config.store.state();
        let known = state.query(&request.query.id);
        let name = known.map_or("", |known| known.name.as_str());
        for name in [name, request.query.name.as_str()] {
            call.require(&args.token, Access::Write, Resource::Query(name))?;
        }
        match request.op.as_str() {
            "create" if !request.query.id.is_empty() => {
                return Err(CallError::refused("ID must be empty when creating a new prepared query").into());
            }
            "create" => request.query.id = uuid(),
            "update" | "delete" if known.is_none() => {
                let id = &request.query.id;
                let text = format!("Cannot modify non-existent prepared query ID: '{id}'");
                return Err(CallError::refused(text).into());
            }
            "update" | "delete" => {}
            op => return Err(CallError::refused(format!("Unknown prepared query operation: {op}")).into()),
        }
        if request.op != "delete" {
            check(&request.query).map_err(|why| CallError::refused(format!("Invalid prepared query: {why}")))?;
            template::check(&request.query).map_err(CallError::refused)?;
        }
        let outcome = call.shared.propose(Command::Query(request)).await?;
        reply(&outcome.text)
    };
    call.shared.answer(&args.datacenter, Freshness::Default, call.method, call.args, local).await
}

/// What a query must have, in Consul's words.
fn check(query: &PreparedQuery) -> Result<(), String> {
    let is_template = !query.template.kind.is_empty();
    if query.name.is_empty() && query.session.is_empty() && !is_template {
        return Err("Must be bound to a session".into());
    }
    if query.token == "<hidden>" {
        return Err("Bad Token '<hidden>', it looks like a query definition with a redacted token was submitted".into());
    }
    if query.service.service.is_empty() {
        return Err("Must provide a Service name to query".into());
    }
    if query.service.failover.nearest_n < 0 {
        return Err(format!("Bad NearestN '{}', must be >= 0", query.service.failover.nearest_n));
    }
    if !query.dns.ttl.is_empty() {
        let bad = |why: String| format!("Bad DNS TTL '{}': {why}", query.dns.ttl);
        let ttl = parse_duration(&query.dns.ttl).map_err(|error| bad(error.to_string()))?;
        if ttl.0 < 0 {
            return Err(format!("Bad DNS TTL '{}', must be >=0", query.dns.ttl));
        }
    }
    Ok(())
}

fn query_interests<A>(_: &A) -> Vec<Interest> {
    vec![topic(Topic::Queries)]
}

pub(super) async fn get(call: Call<'_>) -> Answer {
    call.read(query_interests, |look, args: &QuerySpecificRequest| {
        if args.query_id.len() != 36 {
            let text = "failed prepared query lookup: index error: UUID must be 36 characters";
            return Err(CallError::refused(text));
        }
        let found = look.state.query(&args.query_id).filter(|query| look.may_read(Resource::Query(&query.name)));
        let found = found.ok_or_else(|| CallError::refused(NOT_FOUND))?;
        let queries = Some(vec![(**found).clone()]);
        Ok((look.state.queries_index(), QueriesReply { queries, ..QueriesReply::default() }))
    })
    .await
}

pub(super) async fn list(call: Call<'_>) -> Answer {
    call.read(query_interests, |look, _: &DcRequest| {
        let readable = look.state.queries().filter(|query| look.may_read(Resource::Query(&query.name)));
        let queries = Some(readable.map(|query| (**query).clone()).collect());
        Ok((look.state.queries_index(), QueriesReply { queries, ..QueriesReply::default() }))
    })
    .await
}

/// The stored query that `args` mean, its template filled in.
fn resolved(state: &State, args: &QueryExecuteRequest) -> Result<PreparedQuery, CallError> {
    let query = state.query_for(&args.query).ok_or_else(|| CallError::refused(NOT_FOUND))?;
    template::filled(query, &args.query, &args.source.segment).map_err(CallError::refused)
}

pub(super) async fn explain(call: Call<'_>) -> Answer {
    let args: &QueryExecuteRequest = &call.decode()?;
    let freshness = Freshness::of(&args.options);
    let local = || async move {
        call.shared.may_read(freshness).await?;
        let query = resolved(&call.shared.config.store.state(), args)?;
        call.require(&args.options.token, Access::Read, Resource::Query(&query.name))?;
        reply(&QueryExplainReply { query, meta: call.meta(0) })
    };
    call.shared.answer(&args.datacenter, freshness, call.method, call.args, local).await
}

pub(super) async fn execute(call: Call<'_>) -> Answer {
    let args: &QueryExecuteRequest = &call.decode()?;
    let freshness = Freshness::of(&args.options);
    let local = || async move {
        call.shared.may_read(freshness).await?;
        let state = call.shared.config.store.state();
        let query = resolved(&state, args)?;
        // A query may be stored with a token of its own.
        let token = if query.token.is_empty() { &args.options.token } else { &query.token };
        let near = match query.service.near.as_str() {
            "" => args.source.clone(),
            "_agent" => args.agent.clone(),
            node => QuerySource { node: node.to_owned(), ..args.source.clone() },
        };
        let look = Look { state: &state, shared: call.shared, token };
        let mut found = found(&call, &look, &query, args.limit, &near);
        if found.nodes.as_ref().is_none_or(|nodes| nodes.is_empty()) {
            fail_over(&call, &query, args, &mut found).await;
        }
        reply(&found)
    };
    call.shared.answer(&args.datacenter, freshness, call.method, call.args, local).await
}

/// Asks other datacenters, one after the other, until one has something: first the nearest, then those that the query
/// names. One that does not answer is passed over.
async fn fail_over(call: &Call<'_>, query: &PreparedQuery, args: &QueryExecuteRequest, result: &mut QueryExecuteReply) {
    let QueryFailover { nearest_n, datacenters } = &query.service.failover;
    let known = call.shared.config.router.others();
    let nearest = known.iter().take(usize::try_from(*nearest_n).unwrap_or(0));
    let named = datacenters.iter().flatten().filter(|name| known.contains(name));
    let mut asked: Vec<&String> = Vec::new();
    for datacenter in nearest.chain(named) {
        if asked.contains(&datacenter) {
            continue;
        }
        asked.push(datacenter);
        let request = QueryExecuteRemoteRequest {
            datacenter: datacenter.clone(),
            query: query.clone(),
            limit: args.limit,
            options: args.options.clone(),
            ..QueryExecuteRemoteRequest::default()
        };
        let reply = async {
            let reply =
                call.shared.forward(datacenter, "PreparedQuery.ExecuteRemote", &codec::to_vec(&request)?).await?;
            Ok::<QueryExecuteReply, RpcError>(codec::from_slice(&reply)?)
        };
        match reply.await {
            Ok(reply) => *result = reply,
            Err(error) => log::warn!(
                "Failed querying for service in datacenter: service={} datacenter={datacenter} error=\"{error}\"",
                query.service.service
            ),
        }
        result.failovers = asked.len() as i64;
        if result.nodes.as_ref().is_some_and(|nodes| !nodes.is_empty()) {
            return;
        }
    }
}

pub(super) async fn execute_remote(call: Call<'_>) -> Answer {
    let args: &QueryExecuteRemoteRequest = &call.decode()?;
    let freshness = Freshness::of(&args.options);
    let local = || async move {
        call.shared.may_read(freshness).await?;
        let state = call.shared.config.store.state();
        let look = Look { state: &state, shared: call.shared, token: &args.options.token };
        reply(&found(&call, &look, &args.query, args.limit, &QuerySource::default()))
    };
    call.shared.answer(&args.datacenter, freshness, call.method, call.args, local).await
}

/// Carries a query out: the healthy instances that fit, shuffled or the nearest first.
fn found(call: &Call<'_>, look: &Look<'_>, query: &PreparedQuery, limit: i64, near: &QuerySource) -> QueryExecuteReply {
    let service = &query.service;
    let (_, instances) = look.state.instances(&service.service);
    let mut instances: Vec<_> = instances
        .filter(|(node, instance)| {
            is_healthy(node, instance, service)
                && has_tags(instance, service)
                && has_meta(node.node.meta.as_ref(), service.node_meta.as_ref())
                && has_meta(instance.meta.as_ref(), service.service_meta.as_ref())
                && look.may_read_instance(node, instance)
        })
        .collect();
    instances.shuffle(&mut rand::rng());
    sort::by_distance(look, near, &mut instances, |(node, _)| &node.node.node);
    if let Some(limit) = usize::try_from(limit).ok().filter(|&limit| limit > 0) {
        instances.truncate(limit);
    }
    QueryExecuteReply {
        service: service.service.clone(),
        nodes: Some(instances.iter().map(|(node, instance)| node.instance(instance)).collect()),
        dns: query.dns.clone(),
        datacenter: call.shared.config.datacenter.clone(),
        failovers: 0,
        meta: call.meta(0),
    }
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
