//! A server with its listener on a port of the system's, driven over real sockets.

mod elsewhere;

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use super::{exchange::Exchange, solo::Solo, *};
use crate::{model::*, raft};

struct Bench {
    address: SocketAddr,
    server: Server,
    solo: Arc<Solo>,
    task: JoinHandle<()>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bench {
    async fn start() -> Self {
        Bench::start_in("dc1").await
    }

    async fn start_in(datacenter: &str) -> Self {
        let (server, solo) = solo::server_of(datacenter);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(listener::serve(listener, server.clone(), listener::Limits::default()));
        Bench { address, server, solo, task }
    }

    async fn connect(&self, first: u8) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_u8(first).await.unwrap();
        stream
    }

    /// A client agent that knows only this server.
    fn client(&self) -> Rpc {
        let (_, known) = watch::channel(vec![ServerInfo { name: "s1".into(), address: self.address }]);
        Rpc::new(std::sync::Arc::new(Client::new(Pool::default(), known)))
    }

    fn local(&self) -> Rpc {
        Rpc::new(self.server.clone())
    }
}

fn key(key: &str) -> KeyRequest {
    KeyRequest { datacenter: "dc1".into(), key: key.into(), ..<_>::default() }
}

fn set(key: &str, value: &str) -> KvsRequest {
    let dir_ent = DirEntry { key: key.into(), value: Some(value.into()), ..<_>::default() };
    KvsRequest { datacenter: "dc1".into(), op: "set".into(), dir_ent, ..<_>::default() }
}

fn web(node: &str, tag: &str) -> RegisterRequest {
    RegisterRequest {
        datacenter: "dc1".into(),
        node: node.into(),
        address: "10.0.0.1".into(),
        service: Some(NodeService {
            service: "web".into(),
            tags: Some(vec![tag.into()]),
            port: 80,
            tagged_addresses: Some(Map::new()),
            ..<_>::default()
        }),
        ..<_>::default()
    }
}

fn service(name: &str) -> ServiceRequest {
    ServiceRequest { datacenter: "dc1".into(), service_name: name.into(), ..<_>::default() }
}

#[tokio::test]
async fn a_plain_connection_follows_the_framing_rules() {
    let bench = Bench::start().await;
    let mut stream = bench.connect(0).await;
    stream.write_all(b"\x82\xa3Seq\x01\xadServiceMethod\xabStatus.Ping\x80").await.unwrap();
    let mut reply = [0; 40];
    stream.read_exact(&mut reply).await.unwrap();
    assert_eq!(&reply, b"\x83\xa5Error\xa0\xa3Seq\x01\xadServiceMethod\xabStatus.Ping\x80");

    let mut exchange = Exchange::new(stream);
    let refused = codec::to_vec(&RegisterRequest::default()).unwrap();
    let error = exchange.call(2, "Catalog.Register", &refused).await.unwrap_err();
    assert_eq!(error.to_string(), "Must provide node");
    assert!(exchange.call(3, "Status.Ping", &[0x80]).await.is_ok(), "an endpoint's error leaves the connection open");
    let error = exchange.call(4, "Status.Nope", &[0x80]).await.unwrap_err();
    assert_eq!(error.to_string(), "rpc: can't find method Status.Nope");
    assert!(
        matches!(exchange.call(5, "Status.Ping", &[0x80]).await, Err(RpcError::Broken(_))),
        "an unknown method ends it"
    );

    for (method, args, text) in [
        ("Bogus.Ping", &b"\x80"[..], "rpc: can't find service Bogus.Ping"),
        ("Ping", b"\x80", "rpc: service/method request ill-formed: Ping"),
        ("KVS.Get", b"\x81\xa3Key\x80", "KVS.Get: msgpack: text expected at octet 5"),
    ] {
        let mut exchange = Exchange::new(bench.connect(0).await);
        assert_eq!(exchange.call(1, method, args).await.unwrap_err().to_string(), text);
        assert!(exchange.value(99).await.unwrap().is_none());
    }
    // An unreadable header (a negative Seq) and an unknown first octet: closed without a word.
    for (first, octets) in [(0, &b"\x81\xa3Seq\xff\x80"[..]), (2, b""), (8, b"")] {
        let mut stream = bench.connect(first).await;
        stream.write_all(octets).await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert_eq!(rest, b"");
    }
}

#[tokio::test]
async fn pipelined_and_piecewise_calls_are_answered_in_order() {
    let bench = Bench::start().await;
    let mut stream = bench.connect(0).await;
    let mut calls = Vec::new();
    for seq in 1..=3u64 {
        let header = header::Request { seq, service_method: "Status.Leader".into() };
        codec::append(&mut calls, &header).unwrap();
        codec::append(&mut calls, &DcRequest::default()).unwrap();
    }
    for piece in calls.chunks(7) {
        stream.write_all(piece).await.unwrap();
    }
    let mut exchange = Exchange::new(stream);
    for seq in 1..=3 {
        let head: header::Response = codec::from_slice(&exchange.value(999).await.unwrap().unwrap()).unwrap();
        assert_eq!(head.seq, seq);
        let leader: String = codec::from_slice(&exchange.value(999).await.unwrap().unwrap()).unwrap();
        assert_eq!(leader, "127.0.0.1:8300");
    }
}

#[tokio::test]
async fn a_client_agent_works_through_the_pool() {
    let bench = Bench::start().await;
    let client = bench.client();
    let _: Empty = client.call("Catalog.Register", &web("n1", "v1")).await.unwrap();
    let _: Empty = client.call("Catalog.Register", &web("n2", "v2")).await.unwrap();
    let reply: CheckServiceNodesReply = client.call("Health.ServiceNodes", &service("WEB")).await.unwrap();
    assert_eq!((reply.nodes.unwrap().len(), reply.meta.index, reply.meta.known_leader), (2, 2, true));
    let tagged = ServiceRequest { service_tags: Some(vec!["V2".into()]), tag_filter: true, ..service("web") };
    let reply: ServiceNodesReply = client.call("Catalog.ServiceNodes", &tagged).await.unwrap();
    assert_eq!(reply.service_nodes.unwrap()[0].node, "n2");
    let mut filtered = service("web");
    filtered.options.filter = r#"Node.Node == n1 and "v1" in Service.Tags"#.into();
    let reply: CheckServiceNodesReply = client.call("Health.ServiceNodes", &filtered).await.unwrap();
    assert_eq!(reply.nodes.unwrap().len(), 1);
    filtered.options.filter = "Bogus == 1".into();
    let error = client.call::<_, CheckServiceNodesReply>("Health.ServiceNodes", &filtered).await.unwrap_err();
    let text = "Failed to create boolean expression evaluator: Selector \"Bogus\" is not valid";
    assert_eq!(error.to_string(), format!("rpc error making call: {text}"));
    let of_node = NodeRequest { datacenter: "dc1".into(), node: "n1".into(), ..<_>::default() };
    let reply: NodeServiceListReply = client.call("Catalog.NodeServiceList", &of_node).await.unwrap();
    let services = reply.node_services.services.unwrap();
    assert_eq!((services[0].tagged_addresses.as_ref(), services[0].meta.as_ref()), (Some(&Map::new()), None));
    let query = QueryExecuteRemoteRequest {
        datacenter: "dc1".into(),
        limit: 1,
        query: PreparedQuery { service: ServiceQuery { service: "web".into(), ..<_>::default() }, ..<_>::default() },
        ..<_>::default()
    };
    let reply: QueryExecuteReply = client.call("PreparedQuery.ExecuteRemote", &query).await.unwrap();
    assert_eq!(reply.nodes.unwrap().len(), 1);
    let query = QueryExecuteRequest { datacenter: "dc1".into(), query: "x".into(), ..<_>::default() };
    let error = client.call::<_, QueryExecuteReply>("PreparedQuery.Execute", &query).await.unwrap_err();
    assert_eq!(error.to_string(), "rpc error making call: Query not found");
    let other = KeyRequest { datacenter: "dc9".into(), ..key("a") };
    let error = bench.local().call::<_, DirEntriesReply>("KVS.Get", &other).await.unwrap_err();
    assert_eq!(error.to_string(), "No path to datacenter");
}

#[tokio::test]
async fn a_blocking_read_wakes_for_its_own_key_only() {
    let bench = Bench::start().await;
    let client = bench.client();
    let _: bool = client.call("KVS.Apply", &set("a", "1")).await.unwrap();
    let mut waiting = key("a");
    waiting.options.min_query_index = 1;
    let reader = tokio::spawn({
        let client = client.clone();
        async move { client.call::<_, DirEntriesReply>("KVS.Get", &waiting).await.unwrap() }
    });
    let _: bool = client.call("KVS.Apply", &set("b", "1")).await.unwrap();
    assert!(!reader.is_finished());
    let _: bool = client.call("KVS.Apply", &set("a", "2")).await.unwrap();
    let reply = timeout(Duration::from_secs(5), reader).await.unwrap().unwrap();
    assert_eq!((reply.meta.index, reply.entries.unwrap()[0].value.clone()), (3, Some("2".into())));
}

#[tokio::test(start_paused = true)]
async fn a_blocking_read_ends_with_its_time_and_jitter() {
    let (server, _) = solo::server();
    let rpc = Rpc::new(server);
    let mut request = key("none");
    request.options = QueryOptions { min_query_index: 7, max_query_time: Nanos(1_000_000_000), ..<_>::default() };
    let began = tokio::time::Instant::now();
    let reply: DirEntriesReply = rpc.call("KVS.Get", &request).await.unwrap();
    assert!((1000..=1064).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!((reply.meta.index, reply.entries), (1, None));
}

#[tokio::test(start_paused = true)]
async fn without_a_leader_calls_wait_and_then_say_so() {
    let (server, solo) = solo::server();
    solo.view.send_replace(ConsensusView::default());
    let rpc = Rpc::new(server);
    let began = tokio::time::Instant::now();
    let error = rpc.call::<_, bool>("KVS.Apply", &set("a", "1")).await.unwrap_err();
    assert_eq!(error, RpcError::NoLeader);
    assert!((7000..7500).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    let mut stale = key("a");
    stale.options.allow_stale = true;
    let reply: DirEntriesReply = rpc.call("KVS.Get", &stale).await.unwrap();
    assert!(!reply.meta.known_leader, "stale reads are answered all the same");
}

/// Writes, both kinds of reads and snapshots wait for the same thing.
#[tokio::test(start_paused = true)]
async fn an_election_wakes_the_calls_that_wait_for_it() {
    let (server, solo) = solo::server();
    let leads = solo.view.send_replace(ConsensusView::default());
    let rpc = Rpc::new(server);
    let mut consistent = key("a");
    consistent.options.require_consistent = true;
    let save = SnapshotRequest { datacenter: "dc1".into(), ..<_>::default() };
    let (set, default) = (set("a", "1"), key("a"));
    let began = tokio::time::Instant::now();
    let elect = async {
        // Long enough for everybody to have begun to wait, by a clock that only waiting moves.
        tokio::time::sleep(Duration::from_millis(1)).await;
        solo.view.send_replace(leads);
    };
    let (write, read, confirmed, saved, ()) = tokio::join!(
        rpc.call::<_, bool>("KVS.Apply", &set),
        rpc.call::<_, DirEntriesReply>("KVS.Get", &default),
        rpc.call::<_, DirEntriesReply>("KVS.Get", &consistent),
        rpc.snapshot(save, Vec::new()),
        elect
    );
    assert!(write.is_ok() && read.is_ok() && confirmed.is_ok() && saved.is_ok());
    assert!(began.elapsed() <= Duration::from_millis(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_follower_forwards_and_marks_the_hop() {
    let leader = Bench::start().await;
    let follower = Bench::start().await;
    follower.solo.view.send_replace(ConsensusView { leader: Some(leader.address), ..<_>::default() });
    let _: bool = follower.local().call("KVS.Apply", &set("a", "1")).await.unwrap();
    let reply: DirEntriesReply = follower.local().call("KVS.Get", &key("a")).await.unwrap();
    assert_eq!(reply.entries.unwrap().len(), 1);
    assert!(follower.server.store().state().kv("a").1.is_none());
    let error = follower.client().call::<_, Empty>("Catalog.Register", &RegisterRequest::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "rpc error making call: rpc error making call: Must provide node");
}

#[tokio::test]
async fn the_hundred_and_first_connection_is_closed() {
    let bench = Bench::start().await;
    let mut open = Vec::new();
    for _ in 0..100 {
        let mut exchange = Exchange::new(bench.connect(0).await);
        exchange.call(1, "Status.Ping", &[0x80]).await.unwrap();
        open.push(exchange);
    }
    let mut surplus = TcpStream::connect(bench.address).await.unwrap();
    assert!(matches!(surplus.read(&mut [0]).await, Ok(0) | Err(_)));
    drop(open.pop());
    let again = async {
        loop {
            let stream = TcpStream::connect(bench.address).await.unwrap();
            let mut exchange = Exchange::new(stream);
            // The first octet rides in front of the call.
            let header = header::Request { seq: 1, service_method: "Status.Ping".into() };
            let call = [&[0][..], &codec::to_vec(&header).unwrap(), &[0x80]].concat();
            let sent = exchange.send_raw(&call).await;
            if sent.is_ok() && matches!(exchange.value(999).await, Ok(Some(_))) {
                return;
            }
        }
    };
    timeout(Duration::from_secs(5), again).await.unwrap();
}

#[tokio::test]
async fn a_client_turns_to_another_server() {
    let bench = Bench::start().await;
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let servers = [dead, bench.address].map(|address| ServerInfo { name: address.to_string(), address });
    for _ in 0..8 {
        let (_, known) = watch::channel(servers.to_vec());
        let rpc = Rpc::new(std::sync::Arc::new(Client::new(Pool::default(), known)));
        let _: Empty = rpc.call("Status.Ping", &Empty {}).await.unwrap();
    }
    let (_, nobody) = watch::channel(vec![]);
    let error = Rpc::new(std::sync::Arc::new(Client::new(Pool::default(), nobody)))
        .call::<_, Empty>("Status.Ping", &Empty {})
        .await;
    assert_eq!(error, Err(RpcError::NoServers));
}

#[tokio::test]
async fn a_client_refuses_what_is_above_its_rate() {
    let bench = Bench::start().await;
    let (_, known) = watch::channel(vec![ServerInfo { name: "s1".into(), address: bench.address }]);
    let client = Client::new(Pool::default(), known).limited(Some(Rate { per_second: 0.0, burst: 2 }));
    let rpc = Rpc::new(std::sync::Arc::new(client));
    for _ in 0..2 {
        let _: Empty = rpc.call("Status.Ping", &Empty {}).await.unwrap();
    }
    let error = rpc.call::<_, Empty>("Status.Ping", &Empty {}).await.unwrap_err();
    assert_eq!(error.to_string(), "RPC rate limit exceeded");
}

#[tokio::test]
async fn sessions_lock_keys_and_can_be_renewed() {
    let (server, _) = solo::server();
    let rpc = Rpc::new(server);
    let _: Empty = rpc.call("Catalog.Register", &web("n1", "v1")).await.unwrap();
    let mut request = SessionRequest { op: "create".into(), ..<_>::default() };
    request.session = Session { node: "n1".into(), ttl: "1s".into(), ..<_>::default() };
    let error = rpc.call::<_, String>("Session.Apply", &request).await.unwrap_err();
    assert_eq!(error.to_string(), "Invalid Session TTL '1000000000', must be between [10s=24h0m0s]");
    request.session.ttl = "10s".into();
    let id: String = rpc.call("Session.Apply", &request).await.unwrap();
    let mut lock = set("k", "v");
    (lock.op, lock.dir_ent.session) = ("lock".into(), id.clone());
    assert!(rpc.call::<_, bool>("KVS.Apply", &lock).await.unwrap());
    let renew = SessionSpecificRequest { session_id: id.clone(), ..<_>::default() };
    let reply: SessionsReply = rpc.call("Session.Renew", &renew).await.unwrap();
    assert_eq!(reply.sessions.unwrap()[0].id, id);
    let unknown = SessionSpecificRequest { session: "nope".into(), ..<_>::default() };
    let reply: SessionsReply = rpc.call("Session.Renew", &unknown).await.unwrap();
    assert_eq!(reply.sessions, None);
}

/// The whole way once: listener, raft with its log on disk, store.
#[tokio::test]
async fn a_server_of_one_keeps_what_it_was_told() {
    let directory = tempfile::tempdir().unwrap();
    let start = async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let own = raft::Server { id: "s1".into(), name: "s1".into(), address, suffrage: raft::Suffrage::Voter };
        let store = Arc::new(crate::state::Store::default());
        let raft = raft::Raft::open(
            raft::Config { multiplier: 1, ..raft::Config::new(own.clone(), 1, 1) },
            Arc::new(raft::Directory::open(directory.path()).unwrap()),
            crate::state::Machine(Arc::clone(&store)),
            raft::tcp_connector(std::net::Ipv4Addr::LOCALHOST.into()),
            Arc::new(|_| true),
        )
        .unwrap();
        raft.bootstrap(vec![own]).await.unwrap();
        let server = Server::new(ServerConfig {
            datacenter: "dc1".into(),
            store,
            consensus: Arc::new(raft.clone()),
            pool: Pool::default(),
            authorizer: Arc::new(acl::AllowAll),
            fire_event: Arc::new(|_, _| Ok(())),
            router: Router::new("dc1"),
            keyring: solo::keyring("dc1"),
        });
        let task = tokio::spawn(listener::serve(listener, server.clone(), listener::Limits::default()));
        (Rpc::new(server), raft, task)
    };
    for round in 0..2 {
        let (rpc, raft, task) = start().await;
        if round == 0 {
            let _: bool = rpc.call("KVS.Apply", &set("a", "1")).await.unwrap();
            let _: Empty = rpc.call("Catalog.Register", &web("n1", "v1")).await.unwrap();
        }
        let mut consistent = key("a");
        consistent.options.require_consistent = true;
        let reply: DirEntriesReply = rpc.call("KVS.Get", &consistent).await.unwrap();
        assert_eq!(reply.entries.unwrap()[0].value, Some("1".into()));
        let reply: ServiceNodesReply = rpc.call("Catalog.ServiceNodes", &service("web")).await.unwrap();
        assert_eq!(reply.service_nodes.unwrap().len(), 1, "round {round}");
        raft.stop().await;
        task.abort();
        // The data directory is free when the last handle is gone.
        let _ = task.await;
    }
}

/// The table of `docs/servers.md`, seen from one server.
#[tokio::test(start_paused = true)]
async fn every_read_mode_asks_what_its_promise_needs() {
    use std::sync::atomic::Ordering::Relaxed;
    let (server, solo) = solo::server();
    let rpc = Rpc::new(server);
    let request = |allow_stale, require_consistent| {
        let options = QueryOptions { allow_stale, require_consistent, ..QueryOptions::default() };
        KeyRequest { datacenter: "dc1".into(), key: "k".into(), options }
    };
    let asked = || (solo.leases.swap(0, Relaxed), solo.barriers.swap(0, Relaxed));
    let (default, consistent, stale) = (request(false, false), request(false, true), request(true, false));
    for (request, wanted) in [(&default, (1, 0)), (&consistent, (0, 1)), (&stale, (0, 0))] {
        let reply: DirEntriesReply = rpc.call("KVS.Get", request).await.unwrap();
        assert_eq!((asked(), reply.meta.known_leader, reply.meta.last_contact), (wanted, true, Nanos(0)));
    }
    // Cut off: only what may be old is answered, and says how old.
    solo.view.send_replace(ConsensusView { last_contact: Some(Duration::from_secs(15)), ..ConsensusView::default() });
    let reply: DirEntriesReply = rpc.call("KVS.Get", &stale).await.unwrap();
    assert_eq!((reply.meta.known_leader, reply.meta.last_contact), (false, Nanos(15_000_000_000)));
    for request in [&default, &consistent] {
        let began = tokio::time::Instant::now();
        let refused = rpc.call::<_, DirEntriesReply>("KVS.Get", request).await.unwrap_err();
        assert_eq!(refused.to_string(), "No cluster leader");
        assert!((7.0..8.0).contains(&began.elapsed().as_secs_f32()), "{:?}", began.elapsed());
    }
    assert_eq!(asked(), (0, 0));
}

#[tokio::test]
async fn a_snapshot_is_saved_and_restored_over_its_own_connection() {
    let bench = Bench::start().await;
    let rpc = Rpc::new(bench.server.clone());
    let set = |key: &str| {
        let dir_ent = DirEntry { key: key.into(), ..DirEntry::default() };
        KvsRequest { datacenter: "dc1".into(), op: "set".into(), dir_ent, ..KvsRequest::default() }
    };
    let get = |key: &str, min_query_index| {
        let options = QueryOptions { min_query_index, ..QueryOptions::default() };
        KeyRequest { datacenter: "dc1".into(), key: key.into(), options }
    };
    let _: bool = rpc.call("KVS.Apply", &set("a")).await.unwrap();
    let save = SnapshotRequest { datacenter: "dc1".into(), ..SnapshotRequest::default() };
    let (meta, archive) = snapshot::call(bench.address, &save, &[]).await.unwrap();
    assert!(meta.index >= 1 && meta.known_leader);

    let _: bool = rpc.call("KVS.Apply", &set("b")).await.unwrap();
    let index = rpc.call::<_, DirEntriesReply>("KVS.Get", &get("b", 0)).await.unwrap().meta.index;
    let waiting = {
        let (rpc, request) = (rpc.clone(), get("b", index));
        tokio::spawn(async move { rpc.call::<_, DirEntriesReply>("KVS.Get", &request).await })
    };
    let restore = SnapshotRequest { op: SnapshotRequest::RESTORE, ..save.clone() };
    let half = snapshot::call(bench.address, &restore, &archive[..archive.len() / 2]).await.unwrap_err();
    assert_eq!(half.to_string(), "failed to decompress snapshot: unexpected EOF");
    snapshot::call(bench.address, &restore, &archive).await.unwrap();
    // Who waits for a change of what is gone learns that it is gone.
    let woken = timeout(Duration::from_secs(30), waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(woken.entries.unwrap_or_default(), []);
    assert!(rpc.call::<_, DirEntriesReply>("KVS.Get", &get("a", 0)).await.unwrap().entries.is_some());

    let elsewhere = SnapshotRequest { datacenter: "dc9".into(), ..save };
    let error = snapshot::call(bench.address, &elsewhere, &[]).await.unwrap_err();
    assert_eq!(error.to_string(), "No path to datacenter");
}

#[tokio::test]
async fn queries_are_stored_and_executed_by_name() {
    let (server, _) = solo::server();
    let rpc = Rpc::new(server);
    let service = |id: &str, status: &str| RegisterRequest {
        datacenter: "dc1".into(),
        node: "n".into(),
        address: "1.2.3.4".into(),
        service: Some(NodeService { id: id.into(), service: "web".into(), ..NodeService::default() }),
        check: Some(HealthCheck {
            check_id: id.into(),
            service_id: id.into(),
            status: status.into(),
            ..HealthCheck::default()
        }),
        ..RegisterRequest::default()
    };
    for (id, status) in [("up", PASSING), ("down", CRITICAL)] {
        let _: Empty = rpc.call("Catalog.Register", &service(id, status)).await.unwrap();
    }
    let request = |op: &str, query: PreparedQuery| QueryRequest {
        datacenter: "dc1".into(),
        op: op.into(),
        query,
        ..QueryRequest::default()
    };
    let query = |name: &str, kind: &str, service: &str| PreparedQuery {
        name: name.into(),
        template: QueryTemplate { kind: kind.into(), ..QueryTemplate::default() },
        service: ServiceQuery { service: service.into(), ..ServiceQuery::default() },
        ..PreparedQuery::default()
    };
    let plain = query("q", "", "web");
    let id: String = rpc.call("PreparedQuery.Apply", &request("create", plain.clone())).await.unwrap();
    let template = query("geo-", "name_prefix_match", "${name.suffix}");
    let _: String = rpc.call("PreparedQuery.Apply", &request("create", template)).await.unwrap();
    for (query, why) in [
        (plain.clone(), "name 'q' aliases an existing query name"),
        (query("", "", "web"), "Invalid prepared query: Must be bound to a session"),
        (query("x", "", ""), "Invalid prepared query: Must provide a Service name to query"),
        (query("x", "y", "web"), "failed compiling template: Bad Template.Type 'y'"),
    ] {
        let error = rpc.call::<_, String>("PreparedQuery.Apply", &request("create", query)).await.unwrap_err();
        assert_eq!(error.to_string(), why);
    }
    let execute = |query: &str| QueryExecuteRequest {
        datacenter: "dc1".into(),
        query: query.into(),
        ..QueryExecuteRequest::default()
    };
    for name in [id.as_str(), "q", "geo-web"] {
        let reply: QueryExecuteReply = rpc.call("PreparedQuery.Execute", &execute(name)).await.unwrap();
        let found: Vec<_> = reply.nodes.unwrap().into_iter().map(|instance| instance.service.id).collect();
        assert_eq!((reply.service.as_str(), found), ("web", vec!["up".to_owned()]));
    }
    let _: String = rpc.call("PreparedQuery.Apply", &request("delete", PreparedQuery { id, ..plain })).await.unwrap();
    let error = rpc.call::<_, QueryExecuteReply>("PreparedQuery.Execute", &execute("q")).await.unwrap_err();
    assert_eq!(error.to_string(), "Query not found");
}
