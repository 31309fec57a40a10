//! Look-ups by RPC, for names that this agent does not know itself (rpc spec §10, point 6).

use std::{net::IpAddr, ops::ControlFlow, time::Duration};

use agent_core::{
    checks::Health,
    dns::{Directory, Found, Instance, Kind, Lookup},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{Failed, LookUp, Row, Source};
use crate::{
    model::{
        CRITICAL, CheckServiceNode, CheckServiceNodesReply, DcRequest, HealthCheck, Node, NodeRequest,
        NodeServicesReply, NodesReply, PASSING, QueryExecuteReply, QueryExecuteRequest, QueryMeta, QueryOptions,
        QuerySource, ServiceNodesReply, ServiceRequest, Weights,
    },
    rpc::{Rpc, RpcError},
    text,
};

/// Name of the service that the servers register for themselves.
pub(super) const SERVERS: &str = "consul";

/// Answers everything by asking a server, or on a server the local dispatcher.
pub struct RpcSource {
    rpc: Rpc,
    options: LookupOptions,
}

/// How look-ups are made (Consul `dns_config`).
#[derive(Clone, Debug)]
pub struct LookupOptions {
    /// Our datacenter: asked when the name has none.
    pub datacenter: String,
    /// Our node name and segment, for queries that prefer what is near.
    pub agent: QuerySource,
    /// ACL token; empty: the anonymous one.
    pub token: String,
    /// Let any server answer. `true` in Consul.
    pub allow_stale: bool,
    /// Ask the leader after all when the answer is older than this. 87,600 h in Consul.
    pub max_stale: Duration,
}

impl LookupOptions {
    /// Consul's defaults.
    pub fn new(datacenter: &str) -> Self {
        LookupOptions {
            datacenter: datacenter.into(),
            agent: QuerySource { datacenter: datacenter.into(), ..QuerySource::default() },
            token: String::new(),
            allow_stale: true,
            max_stale: Duration::from_secs(87_600 * 3600),
        }
    }
}

/// A directory that knows nothing itself.
#[derive(Clone, Copy, Debug)]
pub struct AskAll;

impl Directory for AskAll {
    fn find(&self, _: &Lookup, _: &mut dyn FnMut(Instance<'_>) -> ControlFlow<()>) -> Found {
        Found::Ask
    }
}

impl Source for RpcSource {
    type Now<'a> = AskAll;

    fn now(&self) -> AskAll {
        AskAll
    }

    fn look_up<'a>(&'a self, lookup: &'a Lookup) -> LookUp<'a> {
        Box::pin(async move {
            match self.rows(lookup).await {
                Ok(rows) => Ok(rows),
                Err(error) if is_unknown(&error) => Ok(None),
                Err(error) => {
                    log::warn!("dns: looking up {:?} {}: {error}", lookup.kind(), lookup.name());
                    Err(Failed)
                }
            }
        })
    }
}

/// Refusals that mean "no such name". Matched within the text: every hop puts words before it (rpc spec §5).
fn is_unknown(error: &RpcError) -> bool {
    let RpcError::Endpoint(text) = error else { return false };
    ["Query not found", "No path to datacenter"].iter().any(|known| text.contains(known))
}

impl RpcSource {
    /// Look-ups through `rpc`.
    pub fn new(rpc: Rpc, options: LookupOptions) -> Self {
        RpcSource { rpc, options }
    }

    async fn rows(&self, lookup: &Lookup) -> Result<Option<Vec<Row>>, RpcError> {
        let datacenter = match lookup.datacenter() {
            "" => self.options.datacenter.clone(),
            named => named.into(),
        };
        match lookup.kind() {
            Kind::Node => self.node(datacenter, lookup.name()).await,
            Kind::Query => self.query(datacenter, lookup.name()).await,
            Kind::Servers => self.service(self.request(self.options.datacenter.clone(), SERVERS)).await,
            Kind::Reverse => match lookup.address() {
                Some(address) => self.reverse(address).await,
                None => Ok(None),
            },
            Kind::Service => {
                let tags = (!lookup.tag().is_empty()).then(|| vec![lookup.tag().to_string()]);
                let tag_filter = tags.is_some();
                let request = self.request(datacenter, lookup.name());
                self.service(ServiceRequest { service_tags: tags, tag_filter, ..request }).await
            }
            Kind::Connect => {
                let request = self.request(datacenter, lookup.name());
                self.service(ServiceRequest { connect: true, ..request }).await
            }
            Kind::Ingress => {
                let request = self.request(datacenter, lookup.name());
                self.service(ServiceRequest { ingress: true, ..request }).await
            }
        }
    }

    fn request(&self, datacenter: String, service: &str) -> ServiceRequest {
        ServiceRequest { datacenter, service_name: service.into(), ..ServiceRequest::default() }
    }

    async fn node(&self, datacenter: String, node: &str) -> Result<Option<Vec<Row>>, RpcError> {
        let request = |options| NodeRequest { datacenter: datacenter.clone(), node: node.into(), options };
        let reply: NodeServicesReply =
            self.read("Catalog.NodeServices", request, |reply: &NodeServicesReply| &reply.meta).await?;
        let node = reply.node_services.and_then(|known| known.node);
        Ok(node.map(|node| vec![node_row(node)]))
    }

    async fn service(&self, request: ServiceRequest) -> Result<Option<Vec<Row>>, RpcError> {
        let request = |options| ServiceRequest { options, ..request.clone() };
        let reply: CheckServiceNodesReply =
            self.read("Health.ServiceNodes", request, |reply: &CheckServiceNodesReply| &reply.meta).await?;
        let rows: Vec<_> = reply.nodes.unwrap_or_default().into_iter().map(instance_row).collect();
        Ok((!rows.is_empty()).then_some(rows))
    }

    async fn query(&self, datacenter: String, query: &str) -> Result<Option<Vec<Row>>, RpcError> {
        let request = |options| QueryExecuteRequest {
            datacenter: datacenter.clone(),
            query: query.into(),
            source: self.options.agent.clone(),
            agent: self.options.agent.clone(),
            options,
            ..QueryExecuteRequest::default()
        };
        let reply: QueryExecuteReply =
            self.read("PreparedQuery.Execute", request, |reply: &QueryExecuteReply| &reply.meta).await?;
        // Validated when the query was stored; an old or odd one means no override.
        let ttl = text::parse_duration(&reply.dns.ttl).ok().filter(|_| !reply.dns.ttl.is_empty());
        let ttl = ttl.map(|ttl| u32::try_from(ttl.duration().as_secs()).unwrap_or(u32::MAX));
        let rows = reply.nodes.unwrap_or_default().into_iter().map(instance_row);
        let rows: Vec<_> = rows.map(|row| Row { ttl, datacenter: reply.datacenter.clone(), ..row }).collect();
        Ok((!rows.is_empty()).then_some(rows))
    }

    /// The node with this address, or else a service with it.
    async fn reverse(&self, address: IpAddr) -> Result<Option<Vec<Row>>, RpcError> {
        let datacenter = self.options.datacenter.clone();
        let request = |options| DcRequest { datacenter: datacenter.clone(), options, ..DcRequest::default() };
        let reply: NodesReply = self.read("Catalog.ListNodes", request, |reply: &NodesReply| &reply.meta).await?;
        let mut nodes = reply.nodes.unwrap_or_default().into_iter();
        if let Some(node) = nodes.find(|node| node.address.parse() == Ok(address)) {
            return Ok(Some(vec![node_row(node)]));
        }
        let request = |options| ServiceRequest {
            service_address: address.to_string(),
            options,
            ..self.request(datacenter.clone(), "")
        };
        let reply: ServiceNodesReply =
            self.read("Catalog.ServiceNodes", request, |reply: &ServiceNodesReply| &reply.meta).await?;
        let found = reply.service_nodes.unwrap_or_default().into_iter().next();
        Ok(found.map(|found| vec![Row { service: found.service_name, node: found.node, ..Row::default() }]))
    }

    /// One read: stale if that is allowed, and again by the leader if the answer is too old.
    async fn read<A: Serialize + Sync, R: DeserializeOwned>(
        &self,
        method: &'static str,
        request: impl Fn(QueryOptions) -> A,
        meta: impl Fn(&R) -> &QueryMeta,
    ) -> Result<R, RpcError> {
        let LookupOptions { token, allow_stale, max_stale, .. } = &self.options;
        let options = QueryOptions { token: token.clone(), allow_stale: *allow_stale, ..QueryOptions::default() };
        let reply: R = self.rpc.call(method, &request(options.clone())).await?;
        if !allow_stale || meta(&reply).last_contact.duration() <= *max_stale {
            return Ok(reply);
        }
        self.rpc.call(method, &request(QueryOptions { allow_stale: false, ..options })).await
    }
}

fn node_row(node: Node) -> Row {
    Row {
        node: node.node,
        datacenter: node.datacenter,
        address: node.address.into(),
        meta: node.meta.unwrap_or_default().into_iter().collect(),
        ..Row::default()
    }
}

fn instance_row(instance: CheckServiceNode) -> Row {
    let CheckServiceNode { node, service, checks } = instance;
    let Weights { passing, warning } = service.weights.unwrap_or(Weights::ONE);
    Row {
        service: service.service,
        service_address: service.address.into(),
        port: short(service.port),
        weights: (short(passing), short(warning)),
        health: worst(checks.iter().flatten()),
        ..node_row(node)
    }
}

/// Registered numbers may be anything; what DNS can carry is 16 bits.
pub(super) fn short(number: i64) -> u16 {
    number.clamp(0, i64::from(u16::MAX)) as u16
}

/// The worst status; one that nobody defined is no better than a warning.
pub(super) fn worst<'a>(checks: impl Iterator<Item = &'a HealthCheck>) -> Health {
    let status = |check: &HealthCheck| match check.status.as_str() {
        PASSING => Health::Passing,
        CRITICAL => Health::Critical,
        _ => Health::Warning,
    };
    checks.map(status).max().unwrap_or(Health::Passing)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use agent_core::{
        dns::{Outcome, Rules, Transport, respond},
        rand::Rng,
    };

    use super::*;
    use crate::{
        dns::{HostAddress, Settings, Stats, resolve, tests::question},
        model::{Map, Nanos, NodeService, NodeServices, QueryDns, ServiceNode},
        rpc::{BoxFuture, Caller, codec},
    };

    /// What was asked, and the answers by method.
    #[derive(Clone, Default)]
    struct Fake {
        calls: Arc<Mutex<Vec<(&'static str, serde_json::Value)>>>,
        replies: Map<Result<Vec<u8>, RpcError>>,
    }

    impl Caller for Fake {
        fn call(&self, method: &'static str, args: Vec<u8>) -> BoxFuture<'_, Result<Vec<u8>, RpcError>> {
            let args = codec::from_slice(&args).unwrap();
            self.calls.lock().unwrap().push((method, args));
            let reply = self.replies.get(method).cloned().unwrap_or_else(|| Err(RpcError::endpoint("boom")));
            Box::pin(std::future::ready(reply))
        }
    }

    fn fake<R: Serialize>(method: &str, reply: &R) -> Fake {
        Fake { replies: [(method.to_string(), Ok(codec::to_vec(reply).unwrap()))].into(), ..Fake::default() }
    }

    fn refusing(method: &str, text: &str) -> Fake {
        Fake { replies: [(method.to_string(), Err(RpcError::endpoint(text)))].into(), ..Fake::default() }
    }

    fn lookup(name: &str, kind: u8) -> Lookup {
        let (rules, mut rng) = (Rules::new("consul", "dc1"), Rng::from_seed(&[0; 32]));
        match respond(&rules, &AskAll, &question(name, kind), Transport::Udp, &mut rng, &mut [0; 512]) {
            Outcome::Ask(lookup) => lookup,
            other => panic!("{other:?}"),
        }
    }

    async fn rows(fake: &Fake, name: &str) -> Result<Option<Vec<Row>>, Failed> {
        let source = RpcSource::new(Rpc::new(fake.clone()), LookupOptions::new("dc1"));
        source.look_up(&lookup(name, 1)).await
    }

    fn node(name: &str, address: &str) -> Node {
        let meta = Some([("rack".to_string(), "r1".to_string())].into());
        Node { node: name.into(), address: address.into(), datacenter: "dc1".into(), meta, ..Node::default() }
    }

    fn instance(status: &[&str]) -> CheckServiceNode {
        let check = |status: &&str| HealthCheck { status: status.to_string(), ..HealthCheck::default() };
        CheckServiceNode {
            node: node("n1", "10.0.0.1"),
            service: NodeService {
                service: "web".into(),
                address: "www.example.com".into(),
                port: 70_000,
                weights: Some(Weights { passing: -1, warning: 7 }),
                ..NodeService::default()
            },
            checks: Some(status.iter().map(check).collect()),
        }
    }

    #[tokio::test]
    async fn a_node() {
        let known = NodeServices { node: Some(node("n1", "10.0.0.1")), services: None };
        let fake =
            fake("Catalog.NodeServices", &NodeServicesReply { node_services: Some(known), meta: QueryMeta::default() });
        let rows = rows(&fake, "N1.node.dc2.consul").await.unwrap().unwrap();
        assert_eq!((rows[0].node.as_str(), &rows[0].meta[0].1), ("n1", &"r1".to_string()));
        assert_eq!(rows[0].address, HostAddress::Ip([10, 0, 0, 1].into()));
        let calls = fake.calls.lock().unwrap();
        assert_eq!(calls[0].1["Datacenter"], "dc2");
        assert_eq!(calls[0].1["Node"], "n1");
        assert_eq!(calls[0].1["AllowStale"], true);
    }

    #[tokio::test]
    async fn a_service_with_a_tag() {
        let nodes = vec![instance(&["passing", "odd"]), instance(&["critical", "passing"]), instance(&[])];
        let reply = CheckServiceNodesReply { nodes: Some(nodes), meta: QueryMeta::default() };
        let fake = fake("Health.ServiceNodes", &reply);
        let rows = rows(&fake, "v1.web.service.consul").await.unwrap().unwrap();
        let health: Vec<_> = rows.iter().map(|row| row.health).collect();
        assert_eq!(health, [Health::Warning, Health::Critical, Health::Passing]);
        assert_eq!((rows[0].port, rows[0].weights), (u16::MAX, (0, 7)));
        assert_eq!(rows[0].service_address, HostAddress::Name("www.example.com".into()));
        let calls = fake.calls.lock().unwrap();
        assert_eq!(calls[0].1["ServiceTags"], serde_json::json!(["v1"]));
        assert_eq!(calls[0].1["TagFilter"], true);
    }

    #[tokio::test]
    async fn a_prepared_query() {
        let reply = QueryExecuteReply {
            service: "web".into(),
            nodes: Some(vec![instance(&[])]),
            dns: QueryDns { ttl: "12s".into() },
            datacenter: "dc2".into(),
            ..QueryExecuteReply::default()
        };
        let fake = fake("PreparedQuery.Execute", &reply);
        let rows = rows(&fake, "q.query.consul").await.unwrap().unwrap();
        assert_eq!((rows[0].ttl, rows[0].datacenter.as_str()), (Some(12), "dc2"));
        assert_eq!(fake.calls.lock().unwrap()[0].1["QueryIDOrName"], "q");
    }

    #[tokio::test]
    async fn an_address() {
        let nodes = NodesReply { nodes: Some(vec![node("n1", "10.0.0.1")]), meta: QueryMeta::default() };
        let service = ServiceNode { service_name: "web".into(), ..ServiceNode::default() };
        let services = ServiceNodesReply { service_nodes: Some(vec![service]), meta: QueryMeta::default() };
        let mut fake = fake("Catalog.ListNodes", &nodes);
        fake.replies.insert("Catalog.ServiceNodes".into(), Ok(codec::to_vec(&services).unwrap()));
        let found = rows(&fake, "1.0.0.10.in-addr.arpa").await.unwrap().unwrap();
        assert_eq!((found[0].node.as_str(), found[0].service.as_str()), ("n1", ""));
        let found = rows(&fake, "9.0.0.10.in-addr.arpa").await.unwrap().unwrap();
        assert_eq!(found[0].service, "web");
        assert_eq!(fake.calls.lock().unwrap()[2].1["ServiceAddress"], "10.0.0.9");
    }

    #[tokio::test]
    async fn refusals() {
        let none = CheckServiceNodesReply { nodes: None, meta: QueryMeta::default() };
        assert_eq!(rows(&fake("Health.ServiceNodes", &none), "web.service.consul").await, Ok(None));
        let hop = "rpc error making call: Query not found";
        assert_eq!(rows(&refusing("PreparedQuery.Execute", hop), "q.query.consul").await, Ok(None));
        let nowhere = "No path to datacenter";
        assert_eq!(rows(&refusing("Catalog.NodeServices", nowhere), "n.node.dc9.consul").await, Ok(None));
        let denied = refusing("Health.ServiceNodes", "No cluster leader");
        assert_eq!(rows(&denied, "web.service.consul").await, Err(Failed));
        // SERVFAIL on the wire.
        let source = RpcSource::new(Rpc::new(denied), LookupOptions::new("dc1"));
        let query = question("web.service.consul", 1);
        let (settings, stats) = (Settings::default(), Stats::default());
        let reply = resolve(&source, &settings, &stats, &query, Transport::Udp).await.unwrap();
        assert_eq!(reply[3] & 0x0f, 2);
    }

    #[tokio::test]
    async fn too_stale_an_answer_is_asked_again() {
        let meta = QueryMeta { last_contact: Nanos::from(Duration::from_secs(5)), ..QueryMeta::default() };
        let fake = fake("Health.ServiceNodes", &CheckServiceNodesReply { nodes: None, meta });
        let options = LookupOptions { max_stale: Duration::from_secs(1), ..LookupOptions::new("dc1") };
        let source = RpcSource::new(Rpc::new(fake.clone()), options);
        assert_eq!(source.look_up(&lookup("web.service.consul", 1)).await, Ok(None));
        let calls = fake.calls.lock().unwrap();
        assert_eq!((calls.len(), &calls[0].1["AllowStale"]), (2, &serde_json::json!(true)));
        assert_ne!(calls[1].1["AllowStale"], true);
    }
}
