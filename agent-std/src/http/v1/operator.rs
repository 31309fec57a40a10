//! `/v1/operator` (http spec §8): the servers themselves.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Api, Ask, HttpError, Reply, Result};
use crate::{
    config::duration::RawDuration,
    http::{body, read::options},
    model::{
        AutopilotConfig, AutopilotRequest, DcRequest, Empty, GoTime, Nanos, RaftConfigurationReply,
        RaftRemovePeerRequest, ServerHealth, ServerHealthReply,
    },
    text,
};

fn request(api: &Api, ask: &Ask) -> std::result::Result<DcRequest, HttpError> {
    Ok(DcRequest { datacenter: api.datacenter(ask), options: options(api, ask)?, ..DcRequest::default() })
}

pub(super) async fn raft_configuration(api: &Api, ask: &Ask) -> Result {
    let reply: RaftConfigurationReply = api.rpc.call("Operator.RaftGetConfiguration", &request(api, ask)?).await?;
    Ok(Reply::json(&reply))
}

pub(super) async fn raft_peer(api: &Api, ask: &Ask) -> Result {
    let (id, address) = (ask.params.first("id"), ask.params.first("address"));
    let method = match (id.is_empty(), address.is_empty()) {
        (true, true) => {
            return Err(HttpError::bad(
                "Bad request: Must specify either ?id with the server's ID or ?address with IP:port of peer to remove",
            ));
        }
        (false, false) => return Err(HttpError::bad("Bad request: Must specify only one of ?id or ?address")),
        (false, true) => "Operator.RaftRemovePeerByID",
        (true, false) => "Operator.RaftRemovePeerByAddress",
    };
    let request = RaftRemovePeerRequest {
        datacenter: api.datacenter(ask),
        address: address.to_owned(),
        id: id.to_owned(),
        token: ask.token.clone(),
    };
    let _: Empty = api.rpc.call(method, &request).await?;
    Ok(Reply::empty())
}

/// Autopilot's configuration as clients see it: durations are text.
#[derive(Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
struct Shown {
    cleanup_dead_servers: bool,
    last_contact_threshold: String,
    max_trailing_logs: u64,
    min_quorum: u64,
    server_stabilization_time: String,
    redundancy_zone_tag: String,
    disable_upgrade_migration: bool,
    upgrade_version_tag: String,
    create_index: u64,
    modify_index: u64,
}

impl From<AutopilotConfig> for Shown {
    fn from(config: AutopilotConfig) -> Self {
        Shown {
            cleanup_dead_servers: config.cleanup_dead_servers,
            last_contact_threshold: text::format_duration(config.last_contact_threshold),
            max_trailing_logs: config.max_trailing_logs,
            min_quorum: config.min_quorum,
            server_stabilization_time: text::format_duration(config.server_stabilization_time),
            redundancy_zone_tag: config.redundancy_zone_tag,
            disable_upgrade_migration: config.disable_upgrade_migration,
            upgrade_version_tag: config.upgrade_version_tag,
            create_index: config.create_index,
            modify_index: config.modify_index,
        }
    }
}

impl Default for Shown {
    fn default() -> Self {
        AutopilotConfig::default().into()
    }
}

/// What is not given keeps Consul's default, except that switches are off.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Wanted {
    cleanup_dead_servers: bool,
    last_contact_threshold: RawDuration,
    max_trailing_logs: u64,
    min_quorum: u64,
    server_stabilization_time: RawDuration,
    redundancy_zone_tag: String,
    disable_upgrade_migration: bool,
    upgrade_version_tag: String,
}

fn span(given: &RawDuration) -> std::result::Result<Nanos, HttpError> {
    match given {
        RawDuration::Absent => Ok(Nanos(0)),
        RawDuration::Nanos(nanos) => Ok(Nanos(*nanos)),
        RawDuration::Text(text) => text::parse_duration(text)
            .map_err(|error| HttpError::bad(format!("Bad request: Error parsing autopilot config: {error}"))),
    }
}

pub(super) async fn autopilot_configuration(api: &Api, ask: &Ask) -> Result {
    if ask.method == "GET" {
        let config: AutopilotConfig = api.rpc.call("Operator.AutopilotGetConfiguration", &request(api, ask)?).await?;
        return Ok(Reply::json(&Shown::from(config)));
    }
    let known = json!({
        "CleanupDeadServers": 0, "LastContactThreshold": 0, "MaxTrailingLogs": 0, "MinQuorum": 0,
        "ServerStabilizationTime": 0, "RedundancyZoneTag": 0, "DisableUpgradeMigration": 0, "UpgradeVersionTag": 0,
        "CreateIndex": 0, "ModifyIndex": 0,
    });
    let wanted: Wanted = body::decode(&ask.body, &known, true).map_err(|error| {
        let why = error.text.strip_prefix("Request decode failed: ").unwrap_or(&error.text);
        HttpError::bad(format!("Bad request: Error parsing autopilot config: {why}"))
    })?;
    let cas = ask.params.first("cas");
    let modify_index = match cas {
        "" => 0,
        text => text.parse().map_err(|_| {
            HttpError::bad(format!(
                "Bad request: Error parsing cas value: strconv.ParseUint: parsing {text:?}: invalid syntax"
            ))
        })?,
    };
    let request = AutopilotRequest {
        datacenter: api.datacenter(ask),
        config: AutopilotConfig {
            cleanup_dead_servers: wanted.cleanup_dead_servers,
            last_contact_threshold: span(&wanted.last_contact_threshold)?,
            max_trailing_logs: wanted.max_trailing_logs,
            min_quorum: wanted.min_quorum,
            server_stabilization_time: span(&wanted.server_stabilization_time)?,
            redundancy_zone_tag: wanted.redundancy_zone_tag,
            disable_upgrade_migration: wanted.disable_upgrade_migration,
            upgrade_version_tag: wanted.upgrade_version_tag,
            create_index: 0,
            modify_index,
        },
        cas: !cas.is_empty(),
        token: ask.token.clone(),
    };
    let done: bool = api.rpc.call("Operator.AutopilotSetConfiguration", &request).await?;
    Ok(Reply::json(&(done || !request.cas)))
}

/// A server's health as clients see it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownHealth {
    #[serde(rename = "ID")]
    id: String,
    name: String,
    address: String,
    serf_status: &'static str,
    version: String,
    leader: bool,
    last_contact: String,
    last_term: u64,
    last_index: u64,
    healthy: bool,
    voter: bool,
    stable_since: GoTime,
}

impl From<ServerHealth> for ShownHealth {
    fn from(server: ServerHealth) -> Self {
        ShownHealth {
            id: server.id,
            name: server.name,
            address: server.address,
            serf_status: match server.serf_status {
                1 => "alive",
                2 => "leaving",
                3 => "left",
                4 => "failed",
                _ => "none",
            },
            version: server.version,
            leader: server.leader,
            last_contact: text::format_duration(server.last_contact),
            last_term: server.last_term,
            last_index: server.last_index,
            healthy: server.healthy,
            voter: server.voter,
            stable_since: server.stable_since,
        }
    }
}

pub(super) async fn autopilot_health(api: &Api, ask: &Ask) -> Result {
    let reply: ServerHealthReply = api.rpc.call("Operator.ServerHealth", &request(api, ask)?).await?;
    let servers: Vec<ShownHealth> = reply.servers.unwrap_or_default().into_iter().map(Into::into).collect();
    let shown = json!({"Healthy": reply.healthy, "FailureTolerance": reply.failure_tolerance, "Servers": servers});
    Ok(Reply::json(&shown).with_status(if reply.healthy { 200 } else { 429 }))
}
