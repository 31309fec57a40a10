//! `/v1/query` (http spec §9): prepared queries.

use serde::Serialize;
use serde_json::{Value, json};

use super::{Api, Ask, HttpError, Reply, Result};
use crate::{
    http::{
        body,
        read::{options, shown, uncached},
    },
    model::{
        CheckServiceNode, DcRequest, PreparedQuery, QueriesReply, QueryDns, QueryExecuteReply, QueryExecuteRequest,
        QueryExplainReply, QueryMeta, QueryRequest, QuerySource, QuerySpecificRequest,
    },
    rpc::RpcError,
};

pub(super) async fn all(api: &Api, ask: &Ask) -> Result {
    if ask.method == "POST" {
        let id = apply(api, ask, "create", decoded(ask)?).await?;
        return Ok(Reply::json(&json!({ "ID": id })));
    }
    let request = DcRequest { datacenter: api.datacenter(ask), ..DcRequest::default() };
    let reply: QueriesReply =
        api.read(ask, "PreparedQuery.List", |options| DcRequest { options, ..request.clone() }).await?;
    Ok(shown(ask, &reply.queries.unwrap_or_default(), &reply.meta))
}

/// `/v1/query/<id>`, and `/execute` and `/explain` below an id or a name.
pub(super) async fn one(api: &Api, ask: &Ask) -> Result {
    if let Some(query) = ask.rest.strip_suffix("/execute") {
        return execute(api, ask, query).await;
    }
    if let Some(query) = ask.rest.strip_suffix("/explain") {
        return explain(api, ask, query).await;
    }
    let id = ask.rest.clone();
    match ask.method.as_str() {
        "GET" => {
            let (datacenter, query_id) = (api.datacenter(ask), id);
            let request = QuerySpecificRequest { datacenter, query_id, ..QuerySpecificRequest::default() };
            let reply: QueriesReply = api
                .read(ask, "PreparedQuery.Get", |options| QuerySpecificRequest { options, ..request.clone() })
                .await
                .map_err(|error| missing(error, "Query not found"))?;
            Ok(shown(ask, &reply.queries.unwrap_or_default(), &reply.meta))
        }
        "PUT" => {
            apply(api, ask, "update", PreparedQuery { id, ..decoded(ask)? }).await?;
            Ok(Reply::empty())
        }
        _ => {
            apply(api, ask, "delete", PreparedQuery { id, ..PreparedQuery::default() }).await?;
            Ok(Reply::empty())
        }
    }
}

/// 404 for a query that is not there, whatever way the answer took.
fn missing(error: HttpError, text: &str) -> HttpError {
    if error.text.contains(text) { HttpError::new(404, error.text) } else { error }
}

fn known() -> Value {
    json!({
        "ID": 0, "Name": 0, "Session": 0, "Token": 0, "CreateIndex": 0, "ModifyIndex": 0,
        "Template": {"Type": 0, "Regexp": 0, "RemoveEmptyTags": 0},
        "Service": {
            "Service": 0, "Failover": {"NearestN": 0, "Datacenters": 0}, "OnlyPassing": 0, "IgnoreCheckIDs": 0,
            "Near": 0, "Tags": 0, "NodeMeta": 0, "ServiceMeta": 0, "Connect": 0,
        },
        "DNS": {"TTL": 0},
    })
}

fn decoded(ask: &Ask) -> std::result::Result<PreparedQuery, HttpError> {
    body::decode(&ask.body, &known(), false)
}

async fn apply(api: &Api, ask: &Ask, op: &str, query: PreparedQuery) -> std::result::Result<String, RpcError> {
    let (datacenter, token) = (api.datacenter(ask), ask.token.clone());
    api.rpc.call("PreparedQuery.Apply", &QueryRequest { datacenter, op: op.to_owned(), query, token }).await
}

fn execution(api: &Api, ask: &Ask, query: &str) -> std::result::Result<QueryExecuteRequest, HttpError> {
    let limit = match ask.params.first("limit") {
        "" => 0,
        text => text
            .parse()
            .map_err(|_| HttpError::new(500, format!("Bad limit: strconv.Atoi: parsing {text:?}: invalid syntax")))?,
    };
    Ok(QueryExecuteRequest {
        datacenter: api.datacenter(ask),
        query: query.to_owned(),
        limit,
        source: api.source(ask),
        agent: QuerySource {
            datacenter: api.settings.datacenter.clone(),
            node: api.settings.node_name.clone(),
            ..QuerySource::default()
        },
        options: options(api, ask)?,
        ..QueryExecuteRequest::default()
    })
}

/// These two answers carry in their bodies what others have in headers.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Executed<'a> {
    service: &'a str,
    nodes: &'a [CheckServiceNode],
    #[serde(rename = "DNS")]
    dns: &'a QueryDns,
    datacenter: &'a str,
    failovers: i64,
    #[serde(flatten)]
    meta: QueryMeta,
}

fn meta_of(ask: &Ask, meta: &QueryMeta) -> QueryMeta {
    QueryMeta { consistency_level: crate::http::read::consistency(ask).to_owned(), ..meta.clone() }
}

async fn execute(api: &Api, ask: &Ask, query: &str) -> Result {
    let request = execution(api, ask, query)?;
    let reply: std::result::Result<QueryExecuteReply, _> = api.rpc.call("PreparedQuery.Execute", &request).await;
    let mut reply = reply.map_err(|error| missing(error.into(), "Query not found"))?;
    let nodes = reply.nodes.get_or_insert_default();
    for instance in nodes.iter_mut() {
        instance.service.for_json();
        instance.checks.get_or_insert_default().iter_mut().for_each(|check| check.for_json());
    }
    let executed = Executed {
        service: &reply.service,
        nodes,
        dns: &reply.dns,
        datacenter: &reply.datacenter,
        failovers: reply.failovers,
        meta: meta_of(ask, &reply.meta),
    };
    Ok(uncached(ask, shown(ask, &executed, &reply.meta)))
}

async fn explain(api: &Api, ask: &Ask, query: &str) -> Result {
    let request = execution(api, ask, query)?;
    let reply: std::result::Result<QueryExplainReply, _> = api.rpc.call("PreparedQuery.Explain", &request).await;
    let mut reply = reply.map_err(|error| missing(error.into(), "Query not found"))?;
    let meta = std::mem::take(&mut reply.meta);
    reply.meta = meta_of(ask, &meta);
    Ok(shown(ask, &reply, &meta))
}
