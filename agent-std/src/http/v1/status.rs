//! `/v1/status`: who leads.

use super::{Api, Ask, Reply, Result};
use crate::model::DcRequest;

fn request(api: &Api, ask: &Ask) -> DcRequest {
    DcRequest { datacenter: api.datacenter(ask), ..DcRequest::default() }
}

pub(super) async fn leader(api: &Api, ask: &Ask) -> Result {
    let leader: String = api.rpc.call("Status.Leader", &request(api, ask)).await?;
    Ok(Reply::json(&leader))
}

pub(super) async fn peers(api: &Api, ask: &Ask) -> Result {
    let peers: Option<Vec<String>> = api.rpc.call("Status.Peers", &request(api, ask)).await?;
    Ok(Reply::json(&peers.unwrap_or_default()))
}
