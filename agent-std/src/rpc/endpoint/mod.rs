//! The methods, one file per family (rpc spec §6). Each says what it reads or writes; where and how fresh, blocking and
//! forwarding are the same for all and live here and in [`super::server`].

mod catalog;
mod coordinate;
mod health;
mod internal;
mod keyring;
mod kv;
mod operator;
mod query;
mod session;
mod sort;
mod status;
mod template;
mod txn;

use std::{sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use super::{
    RpcError,
    acl::{Access, Resource},
    codec,
    server::{CallError, Freshness, Shared, reply},
};
use crate::{
    filter::{Filter, Shape, shape},
    model::*,
    state::{
        Interest, NodeEntry, State, Topic,
        command::{Command, Outcome},
    },
};

/// `default_query_time`: how long a read blocks that does not say.
const DEFAULT_BLOCK: Duration = Duration::from_secs(300);
/// `max_query_time`
const MAX_BLOCK: Duration = Duration::from_secs(600);
/// Blocking reads last up to this part longer, so that they do not all return at once.
const JITTER_PART: u32 = 16;

type Answer = Result<Vec<u8>, CallError>;

/// Calls `method`.
pub(super) async fn dispatch(shared: &Arc<Shared>, method: &str, args: &[u8]) -> Answer {
    let call = Call { shared, method, args };
    match method {
        "Status.Ping" => status::ping(call),
        "Status.Leader" => status::leader(call).await,
        "Status.Peers" => status::peers(call).await,
        "Status.RaftStats" => status::raft_stats(call),
        "Catalog.Register" => catalog::register(call).await,
        "Catalog.Deregister" => catalog::deregister(call).await,
        "Catalog.ListDatacenters" => catalog::list_datacenters(call),
        "Catalog.ListNodes" => catalog::list_nodes(call).await,
        "Catalog.ListServices" => catalog::list_services(call).await,
        "Catalog.ServiceList" => catalog::service_list(call).await,
        "Catalog.ServiceNodes" => catalog::service_nodes(call).await,
        "Catalog.NodeServices" => catalog::node_services(call).await,
        "Catalog.NodeServiceList" => catalog::node_service_list(call).await,
        "Health.NodeChecks" => health::node_checks(call).await,
        "Health.ServiceChecks" => health::service_checks(call).await,
        "Health.ChecksInState" => health::checks_in_state(call).await,
        "Health.ServiceNodes" => health::service_nodes(call).await,
        "KVS.Apply" => kv::apply(call).await,
        "KVS.Get" => kv::get(call).await,
        "KVS.List" => kv::list(call).await,
        "KVS.ListKeys" => kv::list_keys(call).await,
        "Session.Apply" => session::apply(call).await,
        "Session.Get" => session::get(call).await,
        "Session.List" => session::list(call).await,
        "Session.NodeSessions" => session::node_sessions(call).await,
        "Session.Renew" => session::renew(call).await,
        "Coordinate.Update" => coordinate::update(call).await,
        "Coordinate.ListNodes" => coordinate::list_nodes(call).await,
        "Coordinate.Node" => coordinate::node(call).await,
        "Coordinate.ListDatacenters" => coordinate::list_datacenters(call),
        "Internal.NodeInfo" => internal::node_info(call).await,
        "Internal.NodeDump" => internal::node_dump(call).await,
        "Internal.ServiceDump" => internal::service_dump(call).await,
        "Internal.EventFire" => internal::event_fire(call).await,
        "Internal.KeyringOperation" => keyring::operation(call).await,
        "PreparedQuery.Apply" => query::apply(call).await,
        "PreparedQuery.Get" => query::get(call).await,
        "PreparedQuery.List" => query::list(call).await,
        "PreparedQuery.Explain" => query::explain(call).await,
        "PreparedQuery.Execute" => query::execute(call).await,
        "PreparedQuery.ExecuteRemote" => query::execute_remote(call).await,
        "Operator.RaftGetConfiguration" => operator::raft_get_configuration(call).await,
        "Operator.RaftRemovePeerByAddress" | "Operator.RaftRemovePeerByID" => operator::raft_remove_peer(call).await,
        "Operator.AutopilotGetConfiguration" => operator::autopilot_get(call).await,
        "Operator.AutopilotSetConfiguration" => operator::autopilot_set(call).await,
        "Operator.ServerHealth" => operator::server_health(call).await,
        "Txn.Apply" => txn::apply(call).await,
        "Txn.Read" => txn::read(call).await,
        _ => Err(CallError::Fatal(no_such_method(method))),
    }
}

/// The reference's texts; clients fall back to older methods when they read the first one.
fn no_such_method(method: &str) -> String {
    const SERVICES: [&str; 10] =
        ["Status", "Catalog", "Health", "KVS", "Session", "Coordinate", "Internal", "PreparedQuery", "Txn", "Operator"];
    match method.rsplit_once('.') {
        None => format!("rpc: service/method request ill-formed: {method}"),
        Some((service, _)) if SERVICES.contains(&service) => format!("rpc: can't find method {method}"),
        Some(_) => format!("rpc: can't find service {method}"),
    }
}

/// One call under way.
#[derive(Clone, Copy)]
struct Call<'a> {
    shared: &'a Arc<Shared>,
    method: &'a str,
    args: &'a [u8],
}

/// What a query sees: the tables, and what the caller may.
struct Look<'a> {
    state: &'a State,
    shared: &'a Shared,
    token: &'a str,
}

impl Look<'_> {
    fn may_read(&self, resource: Resource<'_>) -> bool {
        self.shared.config.authorizer.allows(self.token, Access::Read, resource)
    }

    /// Node and service readable.
    fn may_read_instance(&self, node: &NodeEntry, service: &NodeService) -> bool {
        self.may_read(Resource::Node(&node.node.node)) && self.may_read(Resource::Service(&service.service))
    }

    /// A node check needs the node, a service check the service too.
    fn may_read_check(&self, check: &HealthCheck) -> bool {
        self.may_read(Resource::Node(&check.node))
            && (check.service_name.is_empty() || self.may_read(Resource::Service(&check.service_name)))
    }
}

impl<'a> Call<'a> {
    fn decode<A: DeserializeOwned>(&self) -> Result<A, CallError> {
        codec::from_request(self.args).map_err(|error| CallError::Fatal(format!("{}: {error}", self.method)))
    }

    fn require(&self, token: &str, access: Access, resource: Resource<'_>) -> Result<(), CallError> {
        let allowed = self.shared.config.authorizer.allows(token, access, resource);
        if allowed { Ok(()) } else { Err(CallError::refused("Permission denied")) }
    }

    /// A read that can block: `query` gives its result and the index at which it last changed; `interests` name all
    /// that can change it.
    async fn read<A: ReadArgs, R: Reply>(
        self,
        interests: impl Fn(&A) -> Vec<Interest> + Sync,
        query: impl Fn(&Look<'_>, &A) -> Result<(u64, R), CallError> + Sync,
    ) -> Answer {
        // Thousands may wait here: on the heap each takes the room of its own method, not of the largest of all.
        Box::pin(self.read_or_forward(interests, query)).await
    }

    async fn read_or_forward<A: ReadArgs, R: Reply>(
        self,
        interests: impl Fn(&A) -> Vec<Interest> + Sync,
        query: impl Fn(&Look<'_>, &A) -> Result<(u64, R), CallError> + Sync,
    ) -> Answer {
        let args: &A = &self.decode()?;
        let options = args.options();
        let filter = match (options.filter.as_str(), R::SHAPE) {
            ("", _) | (_, None) => None,
            (text, Some(shape)) => Some(Filter::new(text, shape).map_err(|error| {
                CallError::refused(format!("Failed to create boolean expression evaluator: {error}"))
            })?),
        };
        let filter = &filter;
        let freshness = Freshness::of(options);
        let (interests, query) = (&interests, &query);
        let local = || async move {
            self.shared.may_read(freshness).await?;
            let (index, mut result) = self.block(options, || interests(args), |look| query(look, args)).await?;
            if let Some(filter) = filter {
                result.keep(filter);
            }
            *result.meta() = self.meta(index);
            reply(&result)
        };
        self.shared.answer(args.datacenter(), freshness, self.method, self.args, local).await
    }

    async fn block<R>(
        &self,
        options: &QueryOptions,
        interests: impl Fn() -> Vec<Interest> + Sync,
        query: impl Fn(&Look<'_>) -> Result<(u64, R), CallError> + Sync,
    ) -> Result<(u64, R), CallError> {
        let store = &self.shared.config.store;
        let mut blocking = options.min_query_index > 0;
        let deadline = Instant::now() + block_time(options);
        let restored = store.state().restored_index();
        loop {
            // Before reading, so that no change is missed in between.
            let watch = blocking.then(|| store.watch(interests()));
            let (index, result, replaced) = {
                let state = store.state();
                let (index, result) = query(&Look { state: &state, shared: self.shared, token: &options.token })?;
                (index, result, state.restored_index() != restored)
            };
            let index = index.max(1);
            // After a restore the result may be another one although its index is lower.
            let Some(mut watch) = watch.filter(|_| index <= options.min_query_index && !replaced) else {
                return Ok((index, result));
            };
            // Made anew when the wait is over: kept, it would be held once per waiting client.
            drop(result);
            tokio::select! {
                () = watch.changed() => {}
                () = tokio::time::sleep_until(deadline) => blocking = false,
            }
        }
    }

    fn meta(&self, index: u64) -> QueryMeta {
        let view = self.shared.view();
        QueryMeta {
            index,
            last_contact: view.last_contact.unwrap_or_default().into(),
            known_leader: view.leader.is_some() || view.is_leader,
            consistency_level: String::new(),
        }
    }

    /// A write: `prepare` checks the request and makes a command of it, on the leader; `finish` makes the reply.
    async fn write<A: WriteArgs, R: Serialize>(
        self,
        prepare: impl Fn(&A) -> Result<Command, CallError> + Sync,
        finish: impl Fn(Outcome) -> R + Sync,
    ) -> Answer {
        Box::pin(self.write_or_forward(prepare, finish)).await
    }

    async fn write_or_forward<A: WriteArgs, R: Serialize>(
        self,
        prepare: impl Fn(&A) -> Result<Command, CallError> + Sync,
        finish: impl Fn(Outcome) -> R + Sync,
    ) -> Answer {
        let args: &A = &self.decode()?;
        let (prepare, finish) = (&prepare, &finish);
        let local = || async move {
            let outcome = self.shared.propose(prepare(args)?).await?;
            reply(&finish(outcome))
        };
        self.shared.answer(args.datacenter(), Freshness::Default, self.method, self.args, local).await
    }

    /// A reply that needs nobody else.
    fn done<R: Serialize>(&self, result: &R) -> Answer {
        Ok(codec::to_vec(result).map_err(RpcError::from)?)
    }
}

fn block_time(options: &QueryOptions) -> Duration {
    let wanted = options.max_query_time.duration();
    let wait = if wanted.is_zero() { DEFAULT_BLOCK } else { wanted.min(MAX_BLOCK) };
    wait + rand::random_range(Duration::ZERO..=wait / JITTER_PART)
}

fn topic(topic: Topic) -> Interest {
    Interest::Topic(topic)
}

fn node_topic(name: &str) -> Interest {
    topic(Topic::Node(name.to_lowercase().into()))
}

fn service_topic(name: &str) -> Interest {
    topic(Topic::Service(name.to_lowercase().into()))
}

/// Whether `meta` has all of `wanted`.
fn has_meta(meta: Option<&Map<String>>, wanted: Option<&Map<String>>) -> bool {
    wanted.into_iter().flatten().all(|(key, value)| meta.and_then(|meta| meta.get(key)) == Some(value))
}

/// Arguments of a read.
trait ReadArgs: DeserializeOwned + Sync {
    fn datacenter(&self) -> &str;
    fn options(&self) -> &QueryOptions;
}

/// Arguments of a write.
trait WriteArgs: DeserializeOwned + Sync {
    fn datacenter(&self) -> &str;
}

/// A reply with metadata.
trait Reply: Serialize + Send {
    /// What filters see of each result; none: they are ignored.
    const SHAPE: Option<&'static Shape> = None;

    fn meta(&mut self) -> &mut QueryMeta;

    /// Drops the results that do not satisfy a filter.
    fn keep(&mut self, _: &Filter) {}
}

macro_rules! reads {
    ($($name:ty),*) => {$(
        impl ReadArgs for $name {
            fn datacenter(&self) -> &str {
                &self.datacenter
            }

            fn options(&self) -> &QueryOptions {
                &self.options
            }
        }
    )*};
}

macro_rules! writes {
    ($($name:ty),*) => {$(
        impl WriteArgs for $name {
            fn datacenter(&self) -> &str {
                &self.datacenter
            }
        }
    )*};
}

macro_rules! with_meta {
    ($($name:ident $(by $shape:ident in $field:ident $(. $inner:ident)?)?),*) => {$(
        impl Reply for $name {
            $(const SHAPE: Option<&'static Shape> = Some(&shape::$shape);)?

            fn meta(&mut self) -> &mut QueryMeta {
                &mut self.meta
            }

            $(fn keep(&mut self, filter: &Filter) {
                self.$field$(.$inner)?.iter_mut().for_each(|all| all.retain(|item| filter.matches(item)));
            })?
        }
    )*};
}

reads!(
    DcRequest,
    NodeRequest,
    ServiceRequest,
    ChecksInStateRequest,
    KeyRequest,
    KeyListRequest,
    SessionSpecificRequest,
    ServiceDumpRequest,
    EventFireRequest,
    TxnReadRequest,
    QueryExecuteRequest,
    QueryExecuteRemoteRequest,
    QuerySpecificRequest
);
writes!(RegisterRequest, DeregisterRequest, KvsRequest, SessionRequest, CoordinateRequest, TxnRequest);
with_meta!(
    NodesReply by NODE in nodes,
    ServicesReply,
    ServiceListReply,
    ServiceNodesReply by SERVICE_NODE in service_nodes,
    NodeServiceListReply by SERVICE in node_services.services,
    HealthChecksReply by CHECK in health_checks,
    CheckServiceNodesReply by INSTANCE in nodes,
    DirEntriesReply,
    KeysReply,
    SessionsReply,
    QueriesReply,
    CoordinatesReply,
    NodeDumpReply by NODE_INFO in dump
);

impl Reply for NodeServicesReply {
    const SHAPE: Option<&'static Shape> = Some(&shape::SERVICE);

    fn meta(&mut self) -> &mut QueryMeta {
        &mut self.meta
    }

    fn keep(&mut self, filter: &Filter) {
        let services = self.node_services.iter_mut().filter_map(|node| node.services.as_mut());
        services.for_each(|all| all.retain(|_, service| filter.matches(service)));
    }
}
