//! The endpoints, one file per family.

mod agent;
mod catalog;
mod checks;
mod coordinate;
mod event;
mod health;
mod keyring;
mod kv;
mod operator;
mod query;
mod services;
mod session;
mod snapshot;
mod status;
mod txn;

use super::{
    Api,
    reply::{HttpError, Reply, Result},
    router::Endpoint,
    server::Ask,
};

/// Hands a request to its handler.
pub(super) async fn call(api: &Api, endpoint: Endpoint, ask: &Ask) -> Result {
    use agent_core::checks::Health::{Critical, Passing, Warning};
    // The largest ones on the heap: everybody who waits here would take their room.
    match endpoint {
        Endpoint::Root => Ok(Reply::text(200, "Consul Agent")),
        Endpoint::AgentCheckDeregister => checks::deregister(api, ask).await,
        Endpoint::AgentCheckFail => checks::set(api, ask, Critical).await,
        Endpoint::AgentCheckPass => checks::set(api, ask, Passing).await,
        Endpoint::AgentCheckRegister => checks::register(api, ask).await,
        Endpoint::AgentCheckUpdate => checks::update(api, ask).await,
        Endpoint::AgentCheckWarn => checks::set(api, ask, Warning).await,
        Endpoint::AgentChecks => checks::list(api, ask).await,
        Endpoint::AgentForceLeave => agent::force_leave(api, ask).await,
        Endpoint::AgentHealthId => services::health_by_id(api, ask).await,
        Endpoint::AgentHealthName => services::health_by_name(api, ask).await,
        Endpoint::AgentJoin => agent::join(api, ask).await,
        Endpoint::AgentLeave => agent::leave(api).await,
        Endpoint::AgentMaintenance => agent::maintenance(api, ask).await,
        Endpoint::AgentMembers => agent::members(api, ask).await,
        Endpoint::AgentReload => agent::reload(api).await,
        Endpoint::AgentSelf => agent::itself(api).await,
        Endpoint::AgentService => services::one(api, ask).await,
        Endpoint::AgentServiceDeregister => services::deregister(api, ask).await,
        Endpoint::AgentServiceMaintenance => services::maintenance(api, ask).await,
        Endpoint::AgentServiceRegister => services::register(api, ask).await,
        Endpoint::AgentServices => services::list(api, ask).await,
        Endpoint::CatalogConnect => catalog::service(api, ask, true).await,
        Endpoint::CatalogDatacenters => catalog::datacenters(api).await,
        Endpoint::CatalogDeregister => catalog::deregister(api, ask).await,
        Endpoint::CatalogNode => catalog::node(api, ask).await,
        Endpoint::CatalogNodeServices => catalog::node_services(api, ask).await,
        Endpoint::CatalogNodes => catalog::nodes(api, ask).await,
        Endpoint::CatalogRegister => Box::pin(catalog::register(api, ask)).await,
        Endpoint::CatalogService => catalog::service(api, ask, false).await,
        Endpoint::CatalogServices => catalog::services(api, ask).await,
        Endpoint::CoordinateDatacenters => coordinate::datacenters(api).await,
        Endpoint::CoordinateNode => coordinate::node(api, ask).await,
        Endpoint::CoordinateNodes => coordinate::nodes(api, ask).await,
        Endpoint::CoordinateUpdate => coordinate::update(api, ask).await,
        Endpoint::EventFire => event::fire(api, ask).await,
        Endpoint::EventList => event::list(api, ask).await,
        Endpoint::HealthChecks => health::checks(api, ask).await,
        Endpoint::HealthConnect => health::service(api, ask, true).await,
        Endpoint::HealthNode => health::node(api, ask).await,
        Endpoint::HealthService => health::service(api, ask, false).await,
        Endpoint::HealthState => health::state(api, ask).await,
        Endpoint::Kv => kv::call(api, ask).await,
        Endpoint::Keyring => keyring::call(api, ask).await,
        Endpoint::AutopilotConfiguration => operator::autopilot_configuration(api, ask).await,
        Endpoint::AutopilotHealth => operator::autopilot_health(api, ask).await,
        Endpoint::Queries => Box::pin(query::all(api, ask)).await,
        Endpoint::Query => Box::pin(query::one(api, ask)).await,
        Endpoint::RaftConfiguration => operator::raft_configuration(api, ask).await,
        Endpoint::RaftPeer => operator::raft_peer(api, ask).await,
        Endpoint::Snapshot => snapshot::call(api, ask).await,
        Endpoint::SessionCreate => session::create(api, ask).await,
        Endpoint::SessionDestroy => session::destroy(api, ask).await,
        Endpoint::SessionInfo => session::info(api, ask).await,
        Endpoint::SessionList => session::list(api, ask).await,
        Endpoint::SessionNode => session::node(api, ask).await,
        Endpoint::SessionRenew => session::renew(api, ask).await,
        Endpoint::StatusLeader => status::leader(api, ask).await,
        Endpoint::StatusPeers => status::peers(api, ask).await,
        Endpoint::Txn => txn::call(api, ask).await,
    }
}

/// What follows the path, which must not be empty.
fn named<'a>(ask: &'a Ask, missing: &str) -> std::result::Result<&'a str, HttpError> {
    if ask.rest.is_empty() { Err(HttpError::bad(missing)) } else { Ok(&ask.rest) }
}

/// `?enable=` of the two maintenance endpoints.
fn enable(ask: &Ask) -> std::result::Result<bool, HttpError> {
    match ask.params.first("enable") {
        "" => Err(HttpError::bad("Missing value for enable")),
        text => crate::cli::goflags::parse_bool(text)
            .ok_or_else(|| HttpError::bad(format!("Invalid value for enable: {text:?}"))),
    }
}

/// A check that only says: in maintenance.
fn maintenance_check(id: &str, name: &str, service_id: &str, reason: &str, default: &str) -> crate::definition::Check {
    crate::definition::Check {
        id: id.to_owned(),
        name: name.to_owned(),
        notes: if reason.is_empty() { default.to_owned() } else { reason.to_owned() },
        service_id: service_id.to_owned(),
        token: Default::default(),
        status: agent_core::checks::Health::Critical,
        kind: crate::definition::CheckKind::Never,
        deregister_critical_after: std::time::Duration::ZERO,
        success_before_passing: 0,
        failures_before_critical: 0,
        output_max_size: 4096,
    }
}
