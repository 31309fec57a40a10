//! A server on a port of the system's choice, a cluster that answers from a table, an agent that keeps maps.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use agent_core::checks::Health;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{
    config::Config,
    definition::{Check, CheckKind, Service},
    http::{
        Api, Settings,
        local::{Itself, LocalAgent, LocalError, Member, UserEvent},
        serve,
    },
    model::{HealthCheck, KeyringRequest, KeyringResponse, Map, NodeService, Weights},
    rpc::{BoxFuture, Caller, Rpc, RpcError, codec},
};

/// Answers to come; the last one is repeated.
type Replies = Vec<Result<Value, RpcError>>;

/// A cluster that answers every method with what the table says, and remembers the arguments.
#[derive(Clone, Default)]
pub(super) struct Cluster {
    pub replies: Arc<Mutex<HashMap<&'static str, Replies>>>,
    pub calls: Arc<Mutex<Vec<(&'static str, Value)>>>,
}

impl Cluster {
    /// The next answer to `method`; the last one is repeated.
    pub fn answer(&self, method: &'static str, reply: Result<Value, RpcError>) {
        self.replies.lock().unwrap().entry(method).or_default().push(reply);
    }

    /// The arguments of the last call.
    pub fn last(&self) -> (&'static str, Value) {
        self.calls.lock().unwrap().last().cloned().expect("somebody called")
    }
}

impl Caller for Cluster {
    fn call(&self, method: &'static str, args: Vec<u8>) -> BoxFuture<'_, Result<Vec<u8>, RpcError>> {
        let args: Value = codec::from_slice(&args).unwrap();
        self.calls.lock().unwrap().push((method, args));
        let mut replies = self.replies.lock().unwrap();
        let reply = match replies.get_mut(method) {
            Some(list) if list.len() > 1 => list.remove(0),
            Some(list) => list[0].clone(),
            None => panic!("the test did not expect {method}"),
        };
        Box::pin(async move { reply.map(|reply| codec::to_vec(&reply).unwrap()) })
    }
}

/// An agent that keeps what it is told.
#[derive(Clone)]
pub(super) struct Local {
    pub services: Arc<Mutex<Map<NodeService>>>,
    pub checks: Arc<Mutex<Map<HealthCheck>>>,
    pub events: Arc<Mutex<Vec<UserEvent>>>,
    pub log: Arc<Mutex<Vec<String>>>,
    pub changes: Arc<watch::Sender<u64>>,
}

impl Local {
    fn note(&self, text: String) -> BoxFuture<'_, Result<(), LocalError>> {
        self.log.lock().unwrap().push(text);
        Box::pin(async { Ok(()) })
    }

    pub fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    fn keep(&self, check: &Check) {
        let known = HealthCheck {
            node: "n1".into(),
            check_id: check.id.clone(),
            name: check.name.clone(),
            status: check.status.as_str().into(),
            notes: check.notes.clone(),
            service_id: check.service_id.clone(),
            kind: check.kind.as_str().into(),
            ..HealthCheck::default()
        };
        self.checks.lock().unwrap().insert(check.id.clone(), known);
        self.changes.send_modify(|count| *count += 1);
    }
}

impl LocalAgent for Local {
    fn itself(&self) -> BoxFuture<'_, Itself> {
        Box::pin(async { Itself { member: Member { name: "n1".into(), ..Member::default() }, ..Itself::default() } })
    }

    fn members(&self, wan: bool) -> BoxFuture<'_, Vec<Member>> {
        let member = Member { name: "n1".into(), addr: "127.0.0.1".into(), port: 8301, status: 1, ..Member::default() };
        Box::pin(async move { if wan { Vec::new() } else { vec![member] } })
    }

    fn services(&self) -> BoxFuture<'_, Map<NodeService>> {
        Box::pin(async { self.services.lock().unwrap().clone() })
    }

    fn checks(&self) -> BoxFuture<'_, Map<HealthCheck>> {
        Box::pin(async { self.checks.lock().unwrap().clone() })
    }

    fn events(&self) -> BoxFuture<'_, Vec<UserEvent>> {
        Box::pin(async { self.events.lock().unwrap().clone() })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn register_service(&self, service: Service, replace: bool) -> BoxFuture<'_, Result<(), LocalError>> {
        service.checks.iter().for_each(|check| self.keep(check));
        let known = NodeService {
            id: service.id.clone(),
            service: service.name.clone(),
            port: service.port.into(),
            weights: Some(Weights { passing: service.weights.0.into(), warning: service.weights.1.into() }),
            ..NodeService::default()
        };
        self.services.lock().unwrap().insert(service.id.clone(), known);
        self.changes.send_modify(|count| *count += 1);
        self.note(format!("service {} replace={replace}", service.id))
    }

    fn deregister_service(&self, id: String) -> BoxFuture<'_, Result<(), LocalError>> {
        self.services.lock().unwrap().remove(&id);
        self.note(format!("no service {id}"))
    }

    fn register_check(&self, check: Check) -> BoxFuture<'_, Result<(), LocalError>> {
        self.keep(&check);
        self.note(format!("check {} {} {}", check.id, matches!(check.kind, CheckKind::Ttl(_)), check.notes))
    }

    fn deregister_check(&self, id: String) -> BoxFuture<'_, Result<(), LocalError>> {
        self.checks.lock().unwrap().remove(&id);
        self.note(format!("no check {id}"))
    }

    fn update_ttl(&self, id: String, health: Health, output: String) -> BoxFuture<'_, Result<(), LocalError>> {
        match self.checks.lock().unwrap().get_mut(&id).filter(|check| check.kind == "ttl") {
            Some(check) => check.status = health.as_str().into(),
            None => {
                let text = format!("CheckID {id:?} does not have associated TTL");
                return Box::pin(async move { Err(LocalError::Unknown(text)) });
            }
        }
        self.note(format!("{id} is {} {output}", health.as_str()))
    }

    fn join(&self, address: String, wan: bool) -> BoxFuture<'_, Result<(), LocalError>> {
        self.note(format!("join {address} wan={wan}"))
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), LocalError>> {
        self.note("leave".into())
    }

    fn force_leave(&self, node: String, prune: bool) -> BoxFuture<'_, Result<(), LocalError>> {
        if node != "n2" {
            let text = format!("agent: No node found with name '{node}'");
            return Box::pin(async move { Err(LocalError::Unknown(text)) });
        }
        self.note(format!("force-leave {node} prune={prune}"))
    }

    fn reload(&self) -> BoxFuture<'_, Result<(), LocalError>> {
        self.note("reload".into())
    }

    fn keyring(&self, request: KeyringRequest) -> BoxFuture<'_, KeyringResponse> {
        let noted = self.note(format!("{request:?}"));
        Box::pin(async move {
            noted.await.map_or_else(|_| <_>::default(), |()| KeyringResponse { num_nodes: 1, ..<_>::default() })
        })
    }

    fn fire(&self, event: UserEvent, dc: String, _token: String) -> BoxFuture<'_, Result<(), LocalError>> {
        self.events.lock().unwrap().push(UserEvent { ltime: 7, ..event.clone() });
        self.changes.send_modify(|count| *count += 1);
        self.note(format!("fire {} {dc}", event.name))
    }
}

/// A running API.
pub(super) struct Bench {
    pub address: SocketAddr,
    pub cluster: Cluster,
    pub local: Local,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Answer {
    /// A header by its lower-case name; empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

impl Bench {
    pub async fn start() -> Self {
        Bench::start_with(json!({})).await
    }

    /// With these settings beside the usual ones.
    pub async fn start_with(mut settings: Value) -> Self {
        let base = settings.as_object_mut().unwrap();
        for (key, value) in [("node_name", "n1"), ("data_dir", "/nonexistent/lictor"), ("bind_addr", "127.0.0.1")] {
            base.insert(key.to_owned(), value.into());
        }
        let config = Config::resolve(serde_json::from_value(settings).unwrap(), false).unwrap();
        let (cluster, local) = (
            Cluster::default(),
            Local {
                services: Arc::default(),
                checks: Arc::default(),
                events: Arc::default(),
                log: Arc::default(),
                changes: Arc::new(watch::Sender::new(0)),
            },
        );
        let api = Api {
            rpc: Rpc::new(cluster.clone()),
            local: Arc::new(local.clone()),
            settings: Arc::new(Settings::new(&config, "node-id")),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { serve(listener, api).await.unwrap() });
        Bench { address, cluster, local, server }
    }

    /// Sends the octets as they are and reads until the server closes.
    pub async fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut octets = Vec::new();
        stream.read_to_end(&mut octets).await.unwrap();
        let text = String::from_utf8(octets).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        });
        Answer { status, headers: headers.collect(), body: body.to_owned() }
    }

    pub async fn send(&self, method: &str, target: &str, body: &str) -> Answer {
        let length = body.len();
        let head =
            format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        self.raw(format!("{head}{body}").as_bytes()).await
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.send("GET", target, "").await
    }

    pub async fn put(&self, target: &str, body: impl ToString) -> Answer {
        self.send("PUT", target, &body.to_string()).await
    }
}
