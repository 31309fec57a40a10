//! Answers from the replicated store: what a server does for its own datacenter, without any call.
//!
//! The store knows nothing of ACLs, so this is for clusters without them; with ACLs, [`RpcSource`] asks the endpoints,
//! which do. Prepared queries, mesh services and other datacenters go that way in any case.

use std::{net::IpAddr, ops::ControlFlow, sync::Arc};

use agent_core::{
    checks::Health,
    dns::{Address, Directory, Found, Instance, Kind, Lookup, Pairs},
};

use super::{
    LookUp, RpcSource, Source,
    lookup::{SERVERS, short, worst},
};
use crate::{
    model::{HealthCheck, Map, Node, NodeService, Weights},
    state::{NodeEntry, State, Store},
};

/// Answers from `store`, and the rest by RPC.
pub struct StoreSource {
    store: Arc<Store>,
    datacenter: String,
    rest: RpcSource,
}

impl StoreSource {
    /// `datacenter` is the store's; `rest` answers what it cannot.
    pub fn new(store: Arc<Store>, datacenter: &str, rest: RpcSource) -> Self {
        StoreSource { store, datacenter: datacenter.into(), rest }
    }
}

impl Source for StoreSource {
    type Now<'a> = StoreView<'a>;

    fn now(&self) -> StoreView<'_> {
        StoreView { state: self.store.state(), datacenter: &self.datacenter }
    }

    fn look_up<'a>(&'a self, lookup: &'a Lookup) -> LookUp<'a> {
        self.rest.look_up(lookup)
    }
}

/// The store at one moment.
pub struct StoreView<'a> {
    state: Arc<State>,
    datacenter: &'a str,
}

type Visit<'v> = &'v mut dyn FnMut(Instance<'_>) -> ControlFlow<()>;

impl Directory for StoreView<'_> {
    fn find(&self, lookup: &Lookup, visit: &mut dyn FnMut(Instance<'_>) -> ControlFlow<()>) -> Found {
        let ours = lookup.datacenter().is_empty() || lookup.datacenter().eq_ignore_ascii_case(self.datacenter);
        match lookup.kind() {
            Kind::Servers => self.service(SERVERS, "", visit),
            Kind::Reverse => lookup.address().map_or(Found::No, |address| self.reverse(address, visit)),
            _ if !ours => Found::Ask,
            Kind::Node => match self.state.node(lookup.name()) {
                Some(entry) => {
                    let _ = visit(Instance { meta: &Meta(&entry.node.meta), ..node(&entry.node) });
                    Found::Yes
                }
                None => Found::No,
            },
            Kind::Service => self.service(lookup.name(), lookup.tag(), visit),
            Kind::Query | Kind::Connect | Kind::Ingress => Found::Ask,
        }
    }
}

impl StoreView<'_> {
    fn service(&self, name: &str, tag: &str, visit: Visit<'_>) -> Found {
        let mut found = Found::No;
        for (entry, service) in self.state.instances(name).1.filter(|(_, service)| has_tag(service, tag)) {
            found = Found::Yes;
            let meta = Meta(&entry.node.meta);
            if visit(Instance { meta: &meta, ..instance(entry, service) }).is_break() {
                break;
            }
        }
        found
    }

    /// A node's address counts before a service's.
    fn reverse(&self, address: IpAddr, visit: Visit<'_>) -> Found {
        let is_it = |text: &str| text.parse() == Ok(address);
        if let Some(entry) = self.state.nodes().find(|entry| is_it(&entry.node.address)) {
            let _ = visit(node(&entry.node));
            return Found::Yes;
        }
        let mut services =
            self.state.nodes().flat_map(|entry| entry.services.values().map(move |service| (entry, service)));
        if let Some((entry, service)) = services.find(|(_, service)| is_it(&service.address)) {
            let _ = visit(Instance { service: &service.service, ..node(&entry.node) });
            return Found::Yes;
        }
        Found::No
    }
}

fn has_tag(service: &NodeService, tag: &str) -> bool {
    tag.is_empty() || service.tags.iter().flatten().any(|own| own.eq_ignore_ascii_case(tag))
}

fn node(node: &Node) -> Instance<'_> {
    Instance::new(&node.node, Address::parse(&node.address))
}

fn instance<'a>(entry: &'a NodeEntry, service: &'a NodeService) -> Instance<'a> {
    let Weights { passing, warning } = service.weights.unwrap_or(Weights::ONE);
    Instance {
        service: &service.service,
        service_address: Address::parse(&service.address),
        port: short(service.port),
        weights: (short(passing), short(warning)),
        health: health(entry, service),
        ..node(&entry.node)
    }
}

fn health(entry: &NodeEntry, service: &NodeService) -> Health {
    worst(entry.checks_of(&service.id).map(|check| -> &HealthCheck { check }))
}

/// Node metadata as registered.
struct Meta<'a>(&'a Option<Map<String>>);

impl Pairs for Meta<'_> {
    fn each(&self, visit: &mut dyn FnMut(&str, &str)) {
        self.0.iter().flatten().for_each(|(key, value)| visit(key, value));
    }
}

#[cfg(test)]
mod tests {
    use agent_core::dns::Transport;
    use hickory_proto::op::{Message, ResponseCode};

    use super::*;
    use crate::{
        dns::{LookupOptions, Settings, Stats, resolve, tests::question},
        model::{CRITICAL, PASSING, RegisterRequest},
        rpc::{BoxFuture, Caller, Rpc, RpcError},
        state::command::Command,
    };

    /// Says no to everything, so that a call shows.
    struct Nobody;

    impl Caller for Nobody {
        fn call(&self, _: &'static str, _: Vec<u8>) -> BoxFuture<'_, Result<Vec<u8>, RpcError>> {
            Box::pin(std::future::ready(Err(RpcError::NoServers)))
        }
    }

    fn register(store: &Store, index: u64, number: u8, status: &str, own: &str) {
        let request = RegisterRequest {
            datacenter: "dc1".into(),
            node: format!("Node-{number}"),
            address: format!("10.0.0.{number}"),
            node_meta: Some([("rack".to_string(), "r1".to_string())].into()),
            service: Some(NodeService {
                id: "web-1".into(),
                service: "Web".into(),
                tags: Some(vec!["V1".into()]),
                address: own.into(),
                port: 80,
                ..NodeService::default()
            }),
            check: Some(HealthCheck {
                check_id: "c".into(),
                service_id: "web-1".into(),
                status: status.into(),
                ..HealthCheck::default()
            }),
            ..RegisterRequest::default()
        };
        store.apply(index, 0, &Command::Register(Box::new(request)).encode().unwrap());
    }

    async fn ask(source: &StoreSource, name: &str, kind: u8) -> Message {
        let settings = Settings::default();
        let reply = resolve(source, &settings, &Stats::default(), &question(name, kind), Transport::Udp).await;
        Message::from_vec(&reply.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn answers_without_any_call() {
        let store = Arc::new(Store::default());
        register(&store, 1, 1, PASSING, "");
        register(&store, 2, 2, CRITICAL, "");
        register(&store, 3, 3, PASSING, "10.9.9.9");
        let rest = RpcSource::new(Rpc::new(Nobody), LookupOptions::new("dc1"));
        let source = StoreSource::new(store, "dc1", rest);
        for name in ["web.service.consul", "v1.web.service.dc1.consul"] {
            assert_eq!(ask(&source, name, 1).await.answers.len(), 2, "{name}");
        }
        let node = ask(&source, "node-1.node.consul", 255).await;
        assert_eq!(node.answers.len(), 2, "address and metadata");
        let code = |message: Message| message.metadata.response_code;
        assert_eq!(code(ask(&source, "v2.web.service.consul", 1).await), ResponseCode::NXDomain);
        assert_eq!(code(ask(&source, "none.node.consul", 1).await), ResponseCode::NXDomain);
        let reverse = ask(&source, "2.0.0.10.in-addr.arpa", 12).await;
        assert_eq!(reverse.answers[0].data.to_string(), "Node-2.node.dc1.consul.");
        let reverse = ask(&source, "9.9.9.10.in-addr.arpa", 12).await;
        assert_eq!(reverse.answers[0].data.to_string(), "Web.service.dc1.consul.");
        // Others must be asked for these.
        assert_eq!(code(ask(&source, "web.service.dc2.consul", 1).await), ResponseCode::ServFail);
        assert_eq!(code(ask(&source, "q.query.consul", 1).await), ResponseCode::ServFail);
    }
}
