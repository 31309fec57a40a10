//! `/v1/session` (http spec §3).

use serde::Deserialize;
use serde_json::json;

use super::{Api, Ask, HttpError, Reply, Result, named};
use crate::{
    config::duration::RawDuration,
    http::body,
    model::{
        DcRequest, Nanos, NodeRequest, SERF_HEALTH, ServiceCheck, Session, SessionRequest, SessionSpecificRequest,
        SessionsReply,
    },
};

/// A session as the client describes it.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Wanted {
    name: String,
    node: String,
    lock_delay: RawDuration,
    behavior: String,
    #[serde(rename = "TTL")]
    ttl: String,
    node_checks: Option<Vec<String>>,
    service_checks: Option<Vec<ServiceCheck>>,
    checks: Option<Vec<String>>,
}

/// A number below this is seconds: what old clients send.
const SECONDS_BELOW: i64 = 1000;

pub(super) async fn create(api: &Api, ask: &Ask) -> Result {
    let known = json!({
        "Name": 0, "Node": 0, "LockDelay": 0, "Behavior": 0, "TTL": 0, "NodeChecks": 0, "Checks": 0,
        "ServiceChecks": [{"ID": 0, "Namespace": 0}],
    });
    let wanted: Wanted = match ask.body.is_empty() {
        true => Wanted::default(),
        false => body::decode(&ask.body, &known, false)?,
    };
    let lock_delay = match &wanted.lock_delay {
        RawDuration::Absent => Nanos(15_000_000_000),
        RawDuration::Nanos(seconds) if *seconds < SECONDS_BELOW => Nanos(seconds.saturating_mul(1_000_000_000)),
        RawDuration::Nanos(nanos) => Nanos(*nanos),
        RawDuration::Text(text) => crate::text::parse_duration(text)
            .map_err(|error| HttpError::bad(format!("Request decode failed: {error}")))?,
    };
    // `Checks` is the old name; without either, the node's own health counts.
    let node_checks = match (wanted.node_checks, wanted.checks) {
        (Some(checks), _) | (None, Some(checks)) => checks,
        (None, None) => vec![SERF_HEALTH.to_owned()],
    };
    let session = Session {
        name: wanted.name,
        node: if wanted.node.is_empty() { api.settings.node_name.clone() } else { wanted.node },
        lock_delay,
        behavior: if wanted.behavior.is_empty() { "release".to_owned() } else { wanted.behavior },
        ttl: wanted.ttl,
        node_checks: Some(node_checks),
        service_checks: wanted.service_checks,
        ..Session::default()
    };
    let id = apply(api, ask, "create", session).await?;
    Ok(Reply::json(&json!({ "ID": id })))
}

pub(super) async fn destroy(api: &Api, ask: &Ask) -> Result {
    let id = named(ask, "Missing session")?.to_owned();
    apply(api, ask, "destroy", Session { id, ..Session::default() }).await?;
    Ok(Reply::json(&true))
}

async fn apply(api: &Api, ask: &Ask, op: &str, session: Session) -> std::result::Result<String, HttpError> {
    let (datacenter, token) = (api.datacenter(ask), ask.token.clone());
    Ok(api.rpc.call("Session.Apply", &SessionRequest { datacenter, op: op.to_owned(), session, token }).await?)
}

fn about(api: &Api, ask: &Ask) -> std::result::Result<SessionSpecificRequest, HttpError> {
    let id = named(ask, "Missing session")?.to_owned();
    let datacenter = api.datacenter(ask);
    Ok(SessionSpecificRequest { datacenter, session_id: id.clone(), session: id, ..SessionSpecificRequest::default() })
}

pub(super) async fn renew(api: &Api, ask: &Ask) -> Result {
    let mut request = about(api, ask)?;
    request.options.token = ask.token.clone();
    let reply: SessionsReply = api.rpc.call("Session.Renew", &request).await?;
    match reply.sessions {
        Some(sessions) if !sessions.is_empty() => Ok(Reply::json(&sessions)),
        _ => Err(HttpError::new(404, format!("Session id '{}' not found", ask.rest))),
    }
}

fn list_reply(reply: SessionsReply) -> Result {
    Ok(Reply::read(&reply.sessions.unwrap_or_default(), &reply.meta))
}

pub(super) async fn info(api: &Api, ask: &Ask) -> Result {
    let request = about(api, ask)?;
    let reply = api.read(ask, "Session.Get", |options| SessionSpecificRequest { options, ..request.clone() }).await?;
    list_reply(reply)
}

pub(super) async fn list(api: &Api, ask: &Ask) -> Result {
    let request = DcRequest { datacenter: api.datacenter(ask), ..DcRequest::default() };
    list_reply(api.read(ask, "Session.List", |options| DcRequest { options, ..request.clone() }).await?)
}

pub(super) async fn node(api: &Api, ask: &Ask) -> Result {
    let (datacenter, node) = (api.datacenter(ask), named(ask, "Missing node name")?.to_owned());
    let request = NodeRequest { datacenter, node, ..NodeRequest::default() };
    list_reply(api.read(ask, "Session.NodeSessions", |options| NodeRequest { options, ..request.clone() }).await?)
}
