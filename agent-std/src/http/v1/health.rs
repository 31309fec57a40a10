//! `/v1/health` (http spec §7).

use super::{Api, Ask, HttpError, Result, catalog::about, named};
use crate::{
    cli::goflags::parse_bool,
    http::read::{node_meta, shown, uncached},
    model::{CheckServiceNodesReply, ChecksInStateRequest, HealthChecksReply, NodeRequest, PASSING, ServiceRequest},
};

fn checks_reply(ask: &Ask, reply: HealthChecksReply) -> Result {
    let mut checks = reply.health_checks.unwrap_or_default();
    for check in &mut checks {
        check.for_json();
    }
    Ok(shown(ask, &checks, &reply.meta))
}

pub(super) async fn node(api: &Api, ask: &Ask) -> Result {
    let (datacenter, node) = (api.datacenter(ask), named(ask, "Missing node name")?.to_owned());
    let reply = api
        .read(ask, "Health.NodeChecks", |options| NodeRequest {
            datacenter: datacenter.clone(),
            node: node.clone(),
            options,
        })
        .await?;
    checks_reply(ask, reply)
}

pub(super) async fn checks(api: &Api, ask: &Ask) -> Result {
    let mut request = about(api, ask, named(ask, "Missing service name")?);
    // This method refuses tags.
    (request.tag_filter, request.service_tags) = (false, None);
    let reply = api.read(ask, "Health.ServiceChecks", |options| ServiceRequest { options, ..request.clone() }).await?;
    checks_reply(ask, reply)
}

pub(super) async fn state(api: &Api, ask: &Ask) -> Result {
    let request = ChecksInStateRequest {
        datacenter: api.datacenter(ask),
        node_meta_filters: node_meta(ask),
        state: named(ask, "Missing check state")?.to_owned(),
        source: api.source(ask),
        ..ChecksInStateRequest::default()
    };
    let reply =
        api.read(ask, "Health.ChecksInState", |options| ChecksInStateRequest { options, ..request.clone() }).await?;
    checks_reply(ask, reply)
}

/// Instances of a service; with `connect` those that take its connections in the mesh.
pub(super) async fn service(api: &Api, ask: &Ask, connect: bool) -> Result {
    let request = ServiceRequest { connect, ..about(api, ask, named(ask, "Missing service name")?) };
    let passing = match ask.params.first("passing") {
        "" => ask.params.has("passing"),
        text => parse_bool(text).ok_or_else(|| HttpError::bad("Invalid value for ?passing"))?,
    };
    let reply: CheckServiceNodesReply =
        api.read(ask, "Health.ServiceNodes", |options| ServiceRequest { options, ..request.clone() }).await?;
    let mut found = reply.nodes.unwrap_or_default();
    if passing {
        found.retain(|instance| instance.checks.iter().flatten().all(|check| check.status == PASSING));
    }
    for instance in &mut found {
        instance.service.for_json();
        instance.checks.get_or_insert_default().iter_mut().for_each(|check| check.for_json());
    }
    Ok(uncached(ask, shown(ask, &found, &reply.meta)))
}
