//! `/v1/agent`: the agent itself and its pool (http spec §5).

use serde_json::json;

use super::{Api, Ask, HttpError, Reply, Result, enable, maintenance_check};
use crate::{cli::product, http::url};

const NODE_MAINTENANCE: &str = "_node_maintenance";
const NODE_REASON: &str =
    "Maintenance mode is enabled for this node, but no reason was provided. This is a default message.";

pub(super) async fn itself(api: &Api) -> Result {
    let itself = api.local.itself().await;
    let settings = &api.settings;
    let config = json!({
        "Datacenter": settings.datacenter, "NodeName": settings.node_name, "NodeID": settings.node_id,
        "Revision": "", "Server": settings.server, "Version": product::CONSUL_VERSION,
    });
    let debug = json!({
        "Datacenter": settings.datacenter, "NodeName": settings.node_name, "NodeID": settings.node_id,
        "ServerMode": settings.server, "EnableRemoteScriptChecks": settings.enable_script_checks,
        "KVMaxValueSize": settings.kv_max_value_size, "HTTPMaxConnsPerClient": settings.max_conns_per_client,
        "Version": product::CONSUL_VERSION, "LictorVersion": product::VERSION,
        "EncryptKey": "hidden",
    });
    Ok(Reply::json(&json!({
        "Config": config, "DebugConfig": debug, "Coord": itself.coordinate, "Member": itself.member,
        "Stats": itself.stats, "Meta": itself.meta,
    })))
}

pub(super) async fn members(api: &Api, ask: &Ask) -> Result {
    let wan = !matches!(ask.params.first("wan"), "" | "0" | "false");
    let segment = ask.params.first("segment");
    if wan && !matches!(segment, "" | "_all") {
        return Err(HttpError::bad("Cannot provide a segment with wan=true"));
    }
    Ok(Reply::json(&api.local.members(wan).await))
}

pub(super) async fn join(api: &Api, ask: &Ask) -> Result {
    let wan = !matches!(ask.params.first("wan"), "" | "0" | "false");
    api.local.join(ask.rest.clone(), wan).await?;
    Ok(Reply::empty())
}

pub(super) async fn leave(api: &Api) -> Result {
    api.local.leave().await?;
    Ok(Reply::empty())
}

pub(super) async fn force_leave(api: &Api, ask: &Ask) -> Result {
    // Clients may have escaped the name twice; a name never holds a percent sign.
    let node = url::unescape(&ask.rest, false).unwrap_or_else(|_| ask.rest.clone());
    api.local.force_leave(node, ask.params.has("prune")).await?;
    Ok(Reply::empty())
}

pub(super) async fn reload(api: &Api) -> Result {
    api.local.reload().await?;
    Ok(Reply::empty())
}

pub(super) async fn maintenance(api: &Api, ask: &Ask) -> Result {
    if enable(ask)? {
        let reason = ask.params.first("reason");
        let check = maintenance_check(NODE_MAINTENANCE, "Node Maintenance Mode", "", reason, NODE_REASON);
        api.local.register_check(check).await?;
    } else {
        api.local.deregister_check(NODE_MAINTENANCE.to_owned()).await?;
    }
    Ok(Reply::empty())
}
