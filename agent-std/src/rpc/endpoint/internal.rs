//! `Internal`

use super::{catalog::readable_nodes, sort::by_distance, *};

pub(super) async fn node_info(call: Call<'_>) -> Answer {
    let interests = |args: &NodeRequest| vec![node_topic(&args.node)];
    call.read(interests, |look, args| {
        let found = look.state.node(&args.node).filter(|entry| look.may_read(Resource::Node(&entry.node.node)));
        let dump = found.map(|entry| readable_info(look, entry)).into_iter().collect();
        Ok((look.state.catalog_index(), NodeDumpReply { dump: Some(dump), ..<_>::default() }))
    })
    .await
}

pub(super) async fn node_dump(call: Call<'_>) -> Answer {
    let interests = |_: &DcRequest| [Topic::Nodes, Topic::Services, Topic::Checks].map(topic).into();
    call.read(interests, |look, args| {
        let mut dump: Vec<NodeInfo> = readable_nodes(look, args).map(|entry| readable_info(look, entry)).collect();
        by_distance(look, &args.source, &mut dump, |info| &info.node);
        Ok((look.state.catalog_index(), NodeDumpReply { dump: Some(dump), ..<_>::default() }))
    })
    .await
}

fn readable_info(look: &Look<'_>, entry: &NodeEntry) -> NodeInfo {
    let mut info = entry.info();
    info.services.iter_mut().for_each(|all| all.retain(|s| look.may_read(Resource::Service(&s.service))));
    info.checks.iter_mut().for_each(|all| all.retain(|check| look.may_read_check(check)));
    info
}

pub(super) async fn service_dump(call: Call<'_>) -> Answer {
    let interests = |_: &ServiceDumpRequest| [Topic::Nodes, Topic::Services, Topic::Checks].map(topic).into();
    call.read(interests, |look, args| {
        let all = look.state.nodes().flat_map(|node| node.services.values().map(move |service| (node, service)));
        let wanted = all.filter(|(node, service)| {
            (!args.use_service_kind || args.service_kind == service.kind) && look.may_read_instance(node, service)
        });
        let mut nodes: Vec<CheckServiceNode> = wanted.map(|(node, service)| node.instance(service)).collect();
        by_distance(look, &args.source, &mut nodes, |instance| &instance.node.node);
        Ok((look.state.catalog_index(), CheckServiceNodesReply { nodes: Some(nodes), ..<_>::default() }))
    })
    .await
}

/// Any server of the datacenter will do: the event spreads by gossip.
pub(super) async fn event_fire(call: Call<'_>) -> Answer {
    let args: &EventFireRequest = &call.decode()?;
    let local = || async move {
        call.require(&args.options.token, Access::Write, Resource::Event(&args.name))?;
        let payload = args.payload.as_ref().map_or(&[][..], |payload| &payload.0);
        (call.shared.config.fire_event)(&args.name, payload).map_err(CallError::refused)?;
        reply(&EventFireReply { meta: QueryMeta { index: 0, ..call.meta(0) } })
    };
    call.shared.answer(&args.datacenter, Freshness::Stale, call.method, call.args, local).await
}
