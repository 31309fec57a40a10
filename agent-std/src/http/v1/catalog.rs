//! `/v1/catalog` (http spec §6).

use serde_json::{Value, json};

use super::{Api, Ask, Reply, Result, named};
use crate::{
    http::{
        body,
        read::{node_meta, shown, uncached},
    },
    model::{
        DcRequest, DeregisterRequest, Empty, NodeRequest, NodeServiceListReply, NodeServicesReply, NodesReply,
        RegisterRequest, ServiceNodesReply, ServiceRequest, ServicesReply,
    },
};

/// Names in a registration; zero stands for what is taken as it is.
pub(super) fn registration() -> Value {
    let check = json!({
        "Node": 0, "CheckID": 0, "Name": 0, "Status": 0, "Notes": 0, "Output": 0, "ServiceID": 0, "ServiceName": 0,
        "ServiceTags": 0, "Type": 0, "CreateIndex": 0, "ModifyIndex": 0,
        "Definition": {
            "HTTP": 0, "TLSSkipVerify": 0, "Header": 0, "Method": 0, "Body": 0, "TCP": 0, "Interval": 0, "Timeout": 0,
            "DeregisterCriticalServiceAfter": 0, "OutputMaxSize": 0, "ScriptArgs": 0, "DockerContainerID": 0, "Shell": 0,
            "GRPC": 0, "GRPCUseTLS": 0, "AliasNode": 0, "AliasService": 0, "TTL": 0,
        },
    });
    json!({
        "Datacenter": 0, "ID": 0, "Node": 0, "Address": 0, "TaggedAddresses": 0, "NodeMeta": 0, "SkipNodeUpdate": 0,
        "Check": check.clone(), "Checks": [check],
        "Service": {
            "Kind": 0, "ID": 0, "Service": 0, "Tags": 0, "Address": 0, "TaggedAddresses": 0, "Meta": 0, "Port": 0,
            "Weights": {"Passing": 0, "Warning": 0}, "EnableTagOverride": 0, "Proxy": 0, "Connect": 0,
            "CreateIndex": 0, "ModifyIndex": 0,
        },
    })
}

pub(super) async fn register(api: &Api, ask: &Ask) -> Result {
    let mut request: RegisterRequest = body::decode(&ask.body, &registration(), true)?;
    if request.datacenter.is_empty() {
        request.datacenter = api.datacenter(ask);
    }
    request.token = ask.token.clone();
    let _: Empty = api.rpc.call("Catalog.Register", &request).await?;
    Ok(Reply::json(&true))
}

pub(super) async fn deregister(api: &Api, ask: &Ask) -> Result {
    let known = json!({"Datacenter": 0, "Node": 0, "Address": 0, "ServiceID": 0, "CheckID": 0, "Namespace": 0});
    let mut request: DeregisterRequest = body::decode(&ask.body, &known, true)?;
    if request.datacenter.is_empty() {
        request.datacenter = api.datacenter(ask);
    }
    request.token = ask.token.clone();
    let _: Empty = api.rpc.call("Catalog.Deregister", &request).await?;
    Ok(Reply::json(&true))
}

pub(super) async fn datacenters(api: &Api) -> Result {
    let names: Option<Vec<String>> = api.rpc.call("Catalog.ListDatacenters", &Empty {}).await?;
    Ok(Reply::json(&names.unwrap_or_default()))
}

/// A read about a whole datacenter.
fn whole(api: &Api, ask: &Ask) -> DcRequest {
    DcRequest {
        datacenter: api.datacenter(ask),
        node_meta_filters: node_meta(ask),
        source: api.source(ask),
        ..DcRequest::default()
    }
}

pub(super) async fn nodes(api: &Api, ask: &Ask) -> Result {
    let request = whole(api, ask);
    let reply: NodesReply =
        api.read(ask, "Catalog.ListNodes", |options| DcRequest { options, ..request.clone() }).await?;
    Ok(shown(ask, &reply.nodes.unwrap_or_default(), &reply.meta))
}

pub(super) async fn services(api: &Api, ask: &Ask) -> Result {
    let request = whole(api, ask);
    let reply: ServicesReply =
        api.read(ask, "Catalog.ListServices", |options| DcRequest { options, ..request.clone() }).await?;
    let mut services = reply.services.unwrap_or_default();
    for tags in services.values_mut() {
        tags.get_or_insert_default();
    }
    Ok(uncached(ask, shown(ask, &services, &reply.meta)))
}

/// A read about one service, with `?tag=`, `?near=` and `?node-meta=`.
pub(super) fn about(api: &Api, ask: &Ask, name: &str) -> ServiceRequest {
    let tags: Vec<String> = ask.params.all("tag").map(str::to_owned).collect();
    ServiceRequest {
        datacenter: api.datacenter(ask),
        node_meta_filters: node_meta(ask),
        service_name: name.to_owned(),
        tag_filter: !tags.is_empty(),
        service_tags: (!tags.is_empty()).then_some(tags),
        source: api.source(ask),
        ..ServiceRequest::default()
    }
}

/// Instances of a service; with `connect` those that take its connections in the mesh.
pub(super) async fn service(api: &Api, ask: &Ask, connect: bool) -> Result {
    let request = ServiceRequest { connect, ..about(api, ask, named(ask, "Missing service name")?) };
    let reply: ServiceNodesReply =
        api.read(ask, "Catalog.ServiceNodes", |options| ServiceRequest { options, ..request.clone() }).await?;
    let mut found = reply.service_nodes.unwrap_or_default();
    for instance in &mut found {
        instance.for_json();
    }
    Ok(uncached(ask, shown(ask, &found, &reply.meta)))
}

pub(super) async fn node(api: &Api, ask: &Ask) -> Result {
    let (datacenter, node) = (api.datacenter(ask), named(ask, "Missing node name")?.to_owned());
    let reply: NodeServicesReply = api
        .read(ask, "Catalog.NodeServices", |options| NodeRequest {
            datacenter: datacenter.clone(),
            node: node.clone(),
            options,
        })
        .await?;
    let mut found = reply.node_services;
    for service in found.iter_mut().flat_map(|found| found.services.get_or_insert_default().values_mut()) {
        service.for_json();
    }
    Ok(shown(ask, &found, &reply.meta))
}

pub(super) async fn node_services(api: &Api, ask: &Ask) -> Result {
    let (datacenter, node) = (api.datacenter(ask), named(ask, "Missing node name")?.to_owned());
    let reply: NodeServiceListReply = api
        .read(ask, "Catalog.NodeServiceList", |options| NodeRequest {
            datacenter: datacenter.clone(),
            node: node.clone(),
            options,
        })
        .await?;
    let mut found = reply.node_services;
    for service in found.services.iter_mut().flatten() {
        service.for_json();
    }
    Ok(shown(ask, &found, &reply.meta))
}
