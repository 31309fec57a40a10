//! `Health`

use super::{
    catalog::{matching_instances, service_interests},
    sort::by_distance,
    *,
};

pub(super) async fn node_checks(call: Call<'_>) -> Answer {
    let interests = |args: &NodeRequest| vec![node_topic(&args.node)];
    call.read(interests, |look, args| {
        let entry = look.state.node(&args.node);
        let checks = entry.into_iter().flat_map(|entry| entry.checks.values());
        let checks = checks.filter(|check| look.may_read_check(check)).map(|check| (**check).clone()).collect();
        Ok((look.state.node_checks_index(), HealthChecksReply { health_checks: Some(checks), ..<_>::default() }))
    })
    .await
}

pub(super) async fn service_checks(call: Call<'_>) -> Answer {
    let interests = |args: &ServiceRequest| vec![service_topic(&args.service_name), topic(Topic::Checks)];
    call.read(interests, |look, args| {
        if args.tag_filter {
            return Err(CallError::refused("Tag filtering is not supported"));
        }
        let wanted = |(node, check): &(&NodeEntry, &Arc<HealthCheck>)| {
            !check.service_id.is_empty()
                && check.service_name.eq_ignore_ascii_case(&args.service_name)
                && has_meta(node.node.meta.as_ref(), args.node_meta_filters.as_ref())
                && look.may_read_check(check)
        };
        let checks = look.state.checks().filter(wanted);
        let mut checks: Vec<HealthCheck> = checks.map(|(_, check)| (**check).clone()).collect();
        by_distance(look, &args.source, &mut checks, |check| &check.node);
        Ok((look.state.checks_index(), HealthChecksReply { health_checks: Some(checks), ..<_>::default() }))
    })
    .await
}

pub(super) async fn checks_in_state(call: Call<'_>) -> Answer {
    let interests = |args: &ChecksInStateRequest| {
        let nodes = args.node_meta_filters.is_some().then_some(topic(Topic::Nodes));
        [topic(Topic::Checks)].into_iter().chain(nodes).collect()
    };
    call.read(interests, |look, args| {
        let filters = args.node_meta_filters.as_ref();
        let wanted = |(node, check): &(&NodeEntry, &Arc<HealthCheck>)| {
            (args.state == "any" || args.state == check.status)
                && has_meta(node.node.meta.as_ref(), filters)
                && look.may_read_check(check)
        };
        let checks = look.state.checks().filter(wanted);
        let mut checks: Vec<HealthCheck> = checks.map(|(_, check)| (**check).clone()).collect();
        by_distance(look, &args.source, &mut checks, |check| &check.node);
        let index = if filters.is_some() { look.state.node_checks_index() } else { look.state.checks_index() };
        Ok((index, HealthChecksReply { health_checks: Some(checks), ..<_>::default() }))
    })
    .await
}

/// All instances, critical ones too: who asks decides.
pub(super) async fn service_nodes(call: Call<'_>) -> Answer {
    call.read(service_interests, |look, args: &ServiceRequest| {
        if args.service_name.is_empty() {
            return Err(CallError::refused("Must provide service name"));
        }
        let (index, instances) = matching_instances(look, args);
        let mut nodes: Vec<CheckServiceNode> =
            instances.into_iter().map(|(node, service)| node.instance(service)).collect();
        by_distance(look, &args.source, &mut nodes, |instance| &instance.node.node);
        Ok((index, CheckServiceNodesReply { nodes: Some(nodes), ..<_>::default() }))
    })
    .await
}
