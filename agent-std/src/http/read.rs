//! What all reads share: consistency, blocking, and the headers of their answers (http spec §1.1–§1.3).

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Api,
    reply::{HttpError, Reply},
    server::Ask,
};
use crate::{
    model::{
        CheckServiceNodesReply, CoordinatesReply, DirEntriesReply, HealthChecksReply, KeysReply, Map, Nanos,
        NodeServiceListReply, NodeServicesReply, NodesReply, QueriesReply, QueryMeta, QueryOptions, QuerySource,
        ServiceNodesReply, ServicesReply, SessionsReply,
    },
    rpc::RpcError,
    text,
};

/// A reply that carries index headers.
pub trait Indexed: DeserializeOwned {
    /// The headers' values.
    fn meta(&self) -> &QueryMeta;
}

macro_rules! indexed {
    ($($name:ident),*) => {$(
        impl Indexed for $name {
            fn meta(&self) -> &QueryMeta {
                &self.meta
            }
        }
    )*};
}

indexed!(
    CheckServiceNodesReply,
    CoordinatesReply,
    DirEntriesReply,
    HealthChecksReply,
    KeysReply,
    NodeServiceListReply,
    NodeServicesReply,
    NodesReply,
    QueriesReply,
    ServiceNodesReply,
    ServicesReply,
    SessionsReply
);

impl Api {
    /// Asks the cluster, with the options of the request. `args` puts them into the method's arguments. A refusal carries
    /// the index headers too, as Consul's does.
    pub(super) async fn read<A, R>(
        &self,
        ask: &Ask,
        method: &'static str,
        args: impl Fn(QueryOptions) -> A,
    ) -> Result<R, HttpError>
    where
        A: Serialize + Sync,
        R: Indexed,
    {
        let options = options(self, ask)?;
        Box::pin(self.read_with(options, method, args))
            .await
            .map_err(|error| HttpError { indexed: true, ..error.into() })
    }

    async fn read_with<A, R>(
        &self,
        options: QueryOptions,
        method: &'static str,
        args: impl Fn(QueryOptions) -> A,
    ) -> Result<R, RpcError>
    where
        A: Serialize + Sync,
        R: Indexed,
    {
        let most = options.max_stale_duration;
        let mut reply: R = self.rpc.call(method, &args(options.clone())).await?;
        // Too old an answer is asked again at the leader.
        if options.allow_stale && most > Nanos(0) && reply.meta().last_contact > most {
            let fresh = QueryOptions { allow_stale: false, max_stale_duration: Nanos(0), ..options };
            reply = self.rpc.call(method, &args(fresh)).await?;
        }
        Ok(reply)
    }

    /// The datacenter that a request is about.
    pub(super) fn datacenter(&self, ask: &Ask) -> String {
        match ask.params.first("dc") {
            "" => self.settings.datacenter.clone(),
            given => given.to_owned(),
        }
    }

    /// Where `?near=` sorts from.
    pub(super) fn source(&self, ask: &Ask) -> QuerySource {
        let node = match ask.params.first("near") {
            "" => return QuerySource::default(),
            "_agent" => self.settings.node_name.clone(),
            given => given.to_owned(),
        };
        // Ours, also when another datacenter is asked: there the node means nothing.
        QuerySource { datacenter: self.settings.datacenter.clone(), node, ..QuerySource::default() }
    }
}

/// `?node-meta=k:v`, repeatable.
pub(super) fn node_meta(ask: &Ask) -> Option<Map<String>> {
    let pairs: Map<String> = ask
        .params
        .all("node-meta")
        .map(|pair| {
            let (key, value) = pair.split_once(':').unwrap_or((pair, ""));
            (key.to_owned(), value.to_owned())
        })
        .collect();
    (!pairs.is_empty()).then_some(pairs)
}

/// The options in query and headers.
///
/// # Errors
/// 400 for what is malformed or contradicts itself.
pub(super) fn options(api: &Api, ask: &Ask) -> Result<QueryOptions, HttpError> {
    let params = &ask.params;
    let duration = |text: &str| text::parse_duration(text).ok().filter(|span| span.0 >= 0);
    let wait = match params.first("wait") {
        "" => None,
        text => Some(duration(text).ok_or_else(|| HttpError::bad("Invalid wait time"))?),
    };
    let index = match params.first("index") {
        "" => 0,
        text => text.parse().map_err(|_| HttpError::bad("Invalid index"))?,
    };
    let mut options = QueryOptions {
        token: ask.token.clone(),
        min_query_index: index,
        allow_stale: params.has("stale"),
        require_consistent: params.has("consistent"),
        filter: params.first("filter").to_owned(),
        ..QueryOptions::default()
    };
    if index > 0 {
        let wait = wait.map_or(api.settings.default_query_time, Nanos::duration);
        // Consul waits its default when asked to wait for no time at all.
        let wait = if wait == Duration::ZERO { api.settings.default_query_time } else { wait };
        options.max_query_time = wait.min(api.settings.max_query_time).into();
    }
    if params.has("max_stale") {
        let text = params.first("max_stale");
        let span = duration(text).ok_or_else(|| HttpError::bad(format!("Invalid max_stale value {text:?}")))?;
        options.max_stale_duration = span;
        options.allow_stale = true;
    }
    if options.allow_stale && options.require_consistent {
        return Err(HttpError::bad("Cannot specify ?stale with ?consistent, conflicting semantics."));
    }
    if params.has("cached") && options.require_consistent {
        return Err(HttpError::bad("Cannot specify ?cached with ?consistent, conflicting semantics."));
    }
    Ok(options)
}

/// The word in `X-Consul-Effective-Consistency`.
pub(super) fn consistency(ask: &Ask) -> &'static str {
    if ask.params.has("consistent") {
        "consistent"
    } else if ask.params.has("stale") || ask.params.has("max_stale") {
        "stale"
    } else {
        "leader"
    }
}

/// Says that `?cached` was answered from no cache: every answer of ours is as fresh as one that was not found in it.
pub(super) fn uncached(ask: &Ask, reply: Reply) -> Reply {
    if ask.params.has("cached") { reply.with_header("X-Cache", "MISS") } else { reply }
}

/// An answer of the catalog or health family.
pub(super) fn shown<T: Serialize + ?Sized>(ask: &Ask, value: &T, meta: &QueryMeta) -> Reply {
    Reply { consistency: Some(consistency(ask)), ..Reply::read(value, meta) }
}
