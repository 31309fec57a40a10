//! `/v1/coordinate`: network coordinates.

use serde_json::json;

use super::{Api, Ask, Reply, Result, named};
use crate::{
    http::body,
    model::{CoordinateRequest, CoordinatesReply, DatacenterCoordinates, DcRequest, Empty, NodeRequest},
};

pub(super) async fn datacenters(api: &Api) -> Result {
    let list: Option<Vec<DatacenterCoordinates>> = api.rpc.call("Coordinate.ListDatacenters", &Empty {}).await?;
    Ok(Reply::json(&list.unwrap_or_default()))
}

pub(super) async fn nodes(api: &Api, ask: &Ask) -> Result {
    let datacenter = api.datacenter(ask);
    let reply: CoordinatesReply = api
        .read(ask, "Coordinate.ListNodes", |options| DcRequest {
            datacenter: datacenter.clone(),
            options,
            ..DcRequest::default()
        })
        .await?;
    Ok(Reply::read(&reply.coordinates.unwrap_or_default(), &reply.meta))
}

pub(super) async fn node(api: &Api, ask: &Ask) -> Result {
    let (datacenter, node) = (api.datacenter(ask), named(ask, "Missing node name")?.to_owned());
    let reply: CoordinatesReply = api
        .read(ask, "Coordinate.Node", |options| NodeRequest {
            datacenter: datacenter.clone(),
            node: node.clone(),
            options,
        })
        .await?;
    let found = reply.coordinates.unwrap_or_default();
    if found.is_empty() {
        return Ok(Reply { meta: Some(reply.meta), ..Reply::empty().with_status(404) });
    }
    Ok(Reply::read(&found, &reply.meta))
}

pub(super) async fn update(api: &Api, ask: &Ask) -> Result {
    let coord = json!({"Vec": 0, "Error": 0, "Adjustment": 0, "Height": 0});
    let known = json!({"Datacenter": 0, "Node": 0, "Segment": 0, "Coord": coord});
    let mut request: CoordinateRequest = body::decode(&ask.body, &known, false)?;
    if request.datacenter.is_empty() {
        request.datacenter = api.datacenter(ask);
    }
    request.token = ask.token.clone();
    let _: Empty = api.rpc.call("Coordinate.Update", &request).await?;
    Ok(Reply::empty())
}
