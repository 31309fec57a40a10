//! `/v1/agent/service…` (http spec §5).

use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::{
    Api, Ask, HttpError, Reply, Result,
    checks::{SCRIPTS_OFF, filter},
    enable, maintenance_check,
};
use crate::{
    config::{load, schema},
    definition::{CheckKind, RawService},
    filter::shape,
    http::body,
    model::{CRITICAL, HealthCheck, Map, NodeService, PASSING, ServiceAddress, WARNING, Weights},
    text,
};

const MAINTENANCE: &str = "_service_maintenance:";
const REASON: &str =
    "Maintenance mode is enabled for this service, but no reason was provided. This is a default message.";

/// A service as agents show it: without indexes and mesh parts.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    #[serde(skip_serializing_if = "String::is_empty")]
    kind: String,
    #[serde(rename = "ID")]
    id: String,
    service: String,
    tags: Vec<String>,
    meta: Map<String>,
    port: i64,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tagged_addresses: Option<Map<ServiceAddress>>,
    weights: Weights,
    enable_tag_override: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    content_hash: String,
}

impl From<NodeService> for Shown {
    fn from(service: NodeService) -> Self {
        Shown {
            kind: service.kind,
            id: service.id,
            service: service.service,
            tags: service.tags.unwrap_or_default(),
            meta: service.meta.unwrap_or_default(),
            port: service.port,
            address: service.address,
            tagged_addresses: service.tagged_addresses.filter(|map| !map.is_empty()),
            weights: service.weights.unwrap_or(Weights::ONE),
            enable_tag_override: service.enable_tag_override,
            content_hash: String::new(),
        }
    }
}

pub(super) async fn list(api: &Api, ask: &Ask) -> Result {
    let filter = filter(ask, &shape::SERVICE)?;
    let mut services = api.local.services().await;
    services.retain(|_, service| filter.as_ref().is_none_or(|filter| filter.matches(service)));
    let services: Map<Shown> = services.into_iter().map(|(id, service)| (id, service.into())).collect();
    Ok(Reply::json(&services))
}

/// One service; with `?hash=` waits while its content hash stays the same.
pub(super) async fn one(api: &Api, ask: &Ask) -> Result {
    let hash = ask.params.first("hash");
    let wait = match ask.params.first("wait") {
        "" => api.settings.default_query_time,
        given => text::parse_duration(given).map_err(|_| HttpError::bad("Invalid wait time"))?.duration(),
    };
    let deadline = Instant::now() + wait.min(api.settings.max_query_time);
    let mut changes = api.local.changes();
    loop {
        changes.borrow_and_update();
        let Some(service) = api.local.services().await.remove(&ask.rest) else {
            return Err(HttpError::new(404, format!("unknown service ID: {}", ask.rest)));
        };
        let mut shown = Shown::from(service);
        shown.content_hash = content_hash(&shown);
        let wait_on = !hash.is_empty() && shown.content_hash == hash;
        if !wait_on || !matches!(timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
            let value = shown.content_hash.clone();
            return Ok(Reply::json(&shown).with_header("X-Consul-Contenthash", value));
        }
    }
}

/// 16 hexadecimal digits over what is shown (FNV-1a). Clients only compare them.
fn content_hash(shown: &Shown) -> String {
    let octets = serde_json::to_vec(shown).unwrap_or_default();
    let hash = octets
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &octet| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

/// In the checks of a service, and only there, Consul also takes `CheckID` for `ID`.
fn check_ids(service: &mut serde_json::Value) {
    let Some(fields) = service.as_object_mut() else { return };
    for (name, value) in fields.iter_mut() {
        let checks = match (name.to_ascii_lowercase().as_str(), value) {
            ("check", check) => std::slice::from_mut(check),
            ("checks", serde_json::Value::Array(checks)) => checks.as_mut_slice(),
            _ => continue,
        };
        for check in checks.iter_mut().filter_map(serde_json::Value::as_object_mut) {
            let spelling = check.keys().find(|key| key.eq_ignore_ascii_case("CheckID")).cloned();
            if let Some(id) = spelling.and_then(|spelling| check.remove(&spelling)) {
                check.entry("ID").or_insert(id);
            }
        }
    }
}

pub(super) async fn register(api: &Api, ask: &Ask) -> Result {
    let mut value = body::value(&ask.body)?;
    let failed = |why: String| HttpError::bad(format!("Request decode failed: {why}"));
    check_ids(&mut value);
    load::parse_body(schema::SERVICE, &mut value).map_err(failed)?;
    let raw: RawService = serde_json::from_value(value).map_err(|error| failed(error.to_string()))?;
    let service = raw.resolve().map_err(HttpError::bad)?;
    let script = service.checks.iter().any(|check| matches!(check.kind, CheckKind::Script { .. }));
    if script && !api.settings.enable_script_checks {
        return Err(HttpError::new(500, SCRIPTS_OFF));
    }
    let replace = crate::cli::goflags::parse_bool(ask.params.first("replace-existing-checks")).unwrap_or(false);
    api.local.register_service(service, replace).await?;
    Ok(Reply::empty())
}

pub(super) async fn deregister(api: &Api, ask: &Ask) -> Result {
    if ask.rest.is_empty() {
        return Err(HttpError::new(500, "ServiceID missing"));
    }
    api.local.deregister_service(ask.rest.clone()).await?;
    Ok(Reply::empty())
}

pub(super) async fn maintenance(api: &Api, ask: &Ask) -> Result {
    let id = &ask.rest;
    if id.is_empty() {
        return Err(HttpError::bad("Missing service ID"));
    }
    let on = enable(ask)?;
    if !api.local.services().await.contains_key(id) {
        return Err(HttpError::new(404, format!("No service registered with ID {id:?}")));
    }
    let check_id = format!("{MAINTENANCE}{id}");
    if on {
        let reason = ask.params.first("reason");
        let check = maintenance_check(&check_id, "Service Maintenance Mode", id, reason, REASON);
        api.local.register_check(check).await?;
    } else {
        api.local.deregister_check(check_id).await?;
    }
    Ok(Reply::empty())
}

/// One instance with its health.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    aggregated_status: &'static str,
    service: Option<Shown>,
    checks: Option<Vec<HealthCheck>>,
}

/// The worst of `checks`; maintenance is worse than all.
fn worst<'a>(checks: impl Iterator<Item = &'a HealthCheck>) -> &'static str {
    let mut worst = PASSING;
    for check in checks {
        if check.check_id == "_node_maintenance" || check.check_id.starts_with(MAINTENANCE) {
            return "maintenance";
        }
        match check.status.as_str() {
            PASSING => {}
            WARNING if worst == PASSING => worst = WARNING,
            WARNING => {}
            _ => worst = CRITICAL,
        }
    }
    worst
}

fn status_of(word: &str) -> u16 {
    match word {
        PASSING => 200,
        WARNING => 429,
        _ => 503,
    }
}

/// The checks that count for a service: its own and the node's.
fn checks_of(checks: &Map<HealthCheck>, id: &str) -> Vec<HealthCheck> {
    let own = checks.values().filter(|check| check.service_id.is_empty() || check.service_id == id);
    let mut own: Vec<HealthCheck> = own.cloned().collect();
    own.iter_mut().for_each(HealthCheck::for_json);
    own
}

pub(super) async fn health_by_id(api: &Api, ask: &Ask) -> Result {
    let text = ask.params.first("format") == "text";
    if ask.rest.is_empty() {
        return Err(HttpError::new(500, "Bad request: Missing serviceID"));
    }
    let Some(service) = api.local.services().await.remove(&ask.rest) else {
        let reason = format!("ServiceId {} not found", ask.rest);
        let reply = match text {
            true => Reply::json(&reason),
            false => Reply::json(&Health { aggregated_status: CRITICAL, service: None, checks: None }),
        };
        return Ok(reply.with_status(404).with_header("X-Consul-Reason", reason));
    };
    let checks = checks_of(&api.local.checks().await, &ask.rest);
    let word = worst(checks.iter());
    let reply = match text {
        true => Reply::text(200, word),
        false => Reply::json(&Health { aggregated_status: word, service: Some(service.into()), checks: Some(checks) }),
    };
    Ok(judged(reply, word))
}

pub(super) async fn health_by_name(api: &Api, ask: &Ask) -> Result {
    let text = ask.params.first("format") == "text";
    if ask.rest.is_empty() {
        return Err(HttpError::new(500, "Bad request: Missing service Name"));
    }
    let all = api.local.checks().await;
    let found: Vec<Health> = api
        .local
        .services()
        .await
        .into_iter()
        .filter(|(_, service)| service.service == ask.rest)
        .map(|(id, service)| {
            let checks = checks_of(&all, &id);
            Health { aggregated_status: worst(checks.iter()), service: Some(service.into()), checks: Some(checks) }
        })
        .collect();
    if found.is_empty() {
        let reason = format!("ServiceName {} Not Found", ask.rest);
        let reply = if text { Reply::json(&reason) } else { Reply::json(&found) };
        return Ok(reply.with_status(404).with_header("X-Consul-Reason", reason));
    }
    let word = worst(found.iter().flat_map(|health| health.checks.iter().flatten()));
    let reply = if text { Reply::text(200, word) } else { Reply::json(&found) };
    Ok(judged(reply, word))
}

fn judged(reply: Reply, word: &'static str) -> Reply {
    match status_of(word) {
        200 => reply.with_status(200),
        status => reply.with_status(status).with_header("X-Consul-Reason", word),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn checks_of_services_may_say_check_id() {
        let mut service = json!({"Name": "web", "Check": {"CheckID": "a"}, "checks": [{"checkid": "b"}, {"ID": "c"}]});
        super::check_ids(&mut service);
        let wanted = json!({"Name": "web", "Check": {"ID": "a"}, "checks": [{"ID": "b"}, {"ID": "c"}]});
        assert_eq!(service, wanted);
    }
}
