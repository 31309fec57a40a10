//! Two datacenters, a server each, with their listeners on ports of the system's.

use super::*;

struct Site {
    bench: Bench,
    router: Router,
}

impl Site {
    async fn start(datacenter: &str) -> Self {
        let bench = Bench::start_in(datacenter).await;
        let router = bench.server.router().clone();
        Site { bench, router }
    }

    /// The WAN pool knows these servers of another datacenter.
    fn knows(&self, datacenter: &str, addresses: &[SocketAddr]) {
        let server = |(n, address): (usize, &SocketAddr)| WanServer {
            name: format!("s{n}"),
            datacenter: datacenter.into(),
            rpc: Some(*address),
            alive: true,
            place: None,
        };
        self.router.replace(addresses.iter().enumerate().map(server).collect(), None);
    }
}

/// `dc1`, which knows `dc2`.
async fn federation() -> (Site, Site) {
    let (one, two) = (Site::start("dc1").await, Site::start("dc2").await);
    one.knows("dc2", &[two.bench.address]);
    (one, two)
}

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn there(key: &str) -> KeyRequest {
    KeyRequest { datacenter: "dc2".into(), key: key.into(), ..<_>::default() }
}

fn text<T>(result: Result<T, RpcError>) -> String {
    result.err().map(|error| error.to_string()).unwrap_or_default()
}

#[tokio::test]
async fn calls_go_where_their_datacenter_is() {
    let (one, two) = federation().await;
    // From the server's own agent, and from a client through its server.
    for rpc in [one.bench.local(), one.bench.client()] {
        let write = KvsRequest { datacenter: "dc2".into(), ..set("a", "there") };
        let _: bool = rpc.call("KVS.Apply", &write).await.unwrap();
        let reply: DirEntriesReply = rpc.call("KVS.Get", &there("a")).await.unwrap();
        assert_eq!(reply.entries.unwrap()[0].value, Some("there".into()));
        let reply: DirEntriesReply = rpc.call("KVS.Get", &key("a")).await.unwrap();
        assert_eq!(reply.entries, None, "nothing was written at home");
        let nowhere = KeyRequest { datacenter: "dc3".into(), ..key("a") };
        assert!(text(rpc.call::<_, DirEntriesReply>("KVS.Get", &nowhere).await).ends_with("No path to datacenter"));
        let refused = RegisterRequest { datacenter: "dc2".into(), ..<_>::default() };
        let refused = text(rpc.call::<_, Empty>("Catalog.Register", &refused).await);
        assert!(refused.ends_with("rpc error making call: Must provide node"), "{refused}");
        let names: Vec<String> = rpc.call("Catalog.ListDatacenters", &Empty {}).await.unwrap();
        assert_eq!(names, ["dc1", "dc2"]);
    }
    // The other side knows no way back, and needs none.
    let names: Vec<String> = two.bench.local().call("Catalog.ListDatacenters", &Empty {}).await.unwrap();
    assert_eq!(names, ["dc2"]);
}

#[tokio::test]
async fn a_server_that_is_gone_is_passed_over() {
    let (one, two) = federation().await;
    let gone = nobody().await;
    one.knows("dc2", &[gone, two.bench.address]);
    let rpc = one.bench.local();
    for _ in 0..3 {
        let write = KvsRequest { datacenter: "dc2".into(), ..set("a", "1") };
        let _: bool = rpc.call("KVS.Apply", &write).await.unwrap();
    }
    assert_eq!(one.router.route("dc2").unwrap()[0], two.bench.address);
    one.knows("dc2", &[gone]);
    let error = text(rpc.call::<_, DirEntriesReply>("KVS.Get", &there("a")).await);
    assert!(error.starts_with("rpc error getting client: ") && error.contains(&gone.to_string()), "{error}");
}

#[tokio::test]
async fn a_read_outlives_the_other_sides_restart() {
    let (one, two) = federation().await;
    let rpc = one.bench.local();
    let _: DirEntriesReply = rpc.call("KVS.Get", &there("a")).await.unwrap();
    // Its connections end, and it listens again at the same address.
    let address = two.bench.address;
    two.bench.task.abort();
    let listener = timeout(Duration::from_secs(10), async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    let listener = listener.await.unwrap();
    let again = tokio::spawn(listener::serve(listener, two.bench.server.clone(), listener::Limits::default()));
    let _: DirEntriesReply = rpc.call("KVS.Get", &there("a")).await.unwrap();
    again.abort();
}

#[tokio::test]
async fn snapshots_are_taken_elsewhere() {
    let (one, two) = federation().await;
    let _: bool =
        two.bench.local().call("KVS.Apply", &KvsRequest { datacenter: "dc2".into(), ..set("a", "1") }).await.unwrap();
    let request = |datacenter: &str| SnapshotRequest {
        datacenter: datacenter.into(),
        op: SnapshotRequest::SAVE,
        ..<_>::default()
    };
    let (_, archive) = one.bench.local().snapshot(request("dc2"), Vec::new()).await.unwrap();
    let (meta, ()) = crate::archive::read(&archive[..], |state| {
        std::io::copy(state, &mut std::io::sink()).map(drop).map_err(|error| error.to_string())
    })
    .unwrap();
    assert_eq!(meta.version, 1);
    assert_eq!(text(one.bench.local().snapshot(request("dc3"), Vec::new()).await), "No path to datacenter");
}

/// A query for `web` of that failover, run in `dc1`.
async fn executed(one: &Site, failover: QueryFailover) -> QueryExecuteReply {
    let rpc = one.bench.local();
    let service = ServiceQuery { service: "web".into(), failover, ..<_>::default() };
    let query = PreparedQuery { name: "q".into(), service, ..<_>::default() };
    let create = QueryRequest { datacenter: "dc1".into(), op: "create".into(), query, ..<_>::default() };
    let id: String = rpc.call("PreparedQuery.Apply", &create).await.unwrap();
    let execute = QueryExecuteRequest { datacenter: "dc1".into(), query: id.clone(), ..<_>::default() };
    let reply = rpc.call("PreparedQuery.Execute", &execute).await.unwrap();
    let query = PreparedQuery { id, ..<_>::default() };
    let delete = QueryRequest { datacenter: "dc1".into(), op: "delete".into(), query, ..<_>::default() };
    let _: String = rpc.call("PreparedQuery.Apply", &delete).await.unwrap();
    reply
}

#[tokio::test]
async fn queries_fail_over() {
    let (one, two) = federation().await;
    let web = RegisterRequest { datacenter: "dc2".into(), ..web("n1", "v1") };
    let _: Empty = two.bench.local().call("Catalog.Register", &web).await.unwrap();
    let named = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    for (nearest_n, datacenters, expected) in [
        (0, None, ("dc1", 0, 0)),
        (1, None, ("dc2", 1, 1)),
        (0, named(&["dc3", "dc2"]), ("dc2", 1, 1)),
        // Asked once, however often it is meant.
        (1, named(&["dc2"]), ("dc2", 1, 1)),
        (0, named(&["dc3", "dc1"]), ("dc1", 0, 0)),
    ] {
        let reply = executed(&one, QueryFailover { nearest_n, datacenters: datacenters.clone() }).await;
        let found = (reply.datacenter.as_str(), reply.failovers, reply.nodes.unwrap_or_default().len());
        assert_eq!(found, expected, "{nearest_n} {datacenters:?}");
    }
    // What is here is not looked for elsewhere, and a datacenter that does not answer costs only its try.
    one.knows("dc2", &[nobody().await]);
    let reply = executed(&one, QueryFailover { nearest_n: 1, datacenters: None }).await;
    assert_eq!((reply.datacenter.as_str(), reply.failovers, reply.nodes), ("dc1", 1, Some(vec![])));
    let _: Empty = one.bench.local().call("Catalog.Register", &super::web("n1", "v1")).await.unwrap();
    let reply = executed(&one, QueryFailover { nearest_n: 1, datacenters: None }).await;
    assert_eq!((reply.datacenter.as_str(), reply.failovers, reply.nodes.unwrap().len()), ("dc1", 0, 1));
}

#[tokio::test]
async fn keys_are_changed_in_all_pools() {
    let (one, _two) = federation().await;
    let rpc = one.bench.local();
    let asked = async |request: &KeyringRequest| {
        let reply: KeyringReply = rpc.call("Internal.KeyringOperation", request).await.unwrap();
        let row = |r: KeyringResponse| {
            (r.wan, r.datacenter, r.keys.unwrap_or_default().into_keys().collect::<String>(), r.error)
        };
        reply.responses.unwrap().into_iter().map(row).collect::<Vec<_>>()
    };
    let row = |wan: bool, dc: &str, key: &str| (wan, dc.to_owned(), key.to_owned(), String::new());
    let mut request = KeyringRequest { operation: "use".into(), key: "k".into(), ..<_>::default() };
    assert_eq!(
        asked(&request).await,
        [row(true, "dc1", "use k"), row(false, "dc1", "use k"), row(false, "dc2", "use k")]
    );
    request.forwarded = true;
    assert_eq!(asked(&request).await, [row(false, "dc1", "use k")]);
    request = KeyringRequest { operation: "list".into(), local_only: true, ..<_>::default() };
    assert_eq!(asked(&request).await, [row(false, "dc1", "list ")]);
    // Whoever cannot be asked is named.
    one.knows("dc2", &[nobody().await]);
    request.local_only = false;
    let answers = asked(&request).await;
    assert!(answers.len() == 3 && answers[2].1 == "dc2" && answers[2].3.starts_with("rpc error getting client"));
    let refused = KeyringRequest { operation: "use".into(), local_only: true, ..<_>::default() };
    let refused = rpc.call::<_, KeyringReply>("Internal.KeyringOperation", &refused).await;
    assert_eq!(text(refused), "argument error: LocalOnly can only be used for List operations");
}

#[tokio::test]
async fn what_is_near_is_near_at_home_only() {
    let (_one, two) = federation().await;
    let rpc = two.bench.local();
    let at = |x: f64| Coordinate { vec: Some([vec![x], vec![0.0; 7]].concat()), ..<_>::default() };
    for (name, x) in [("a", 3.0), ("b", 2.0), ("c", 1.0)] {
        let register = RegisterRequest { datacenter: "dc2".into(), ..web(name, "v1") };
        let _: Empty = rpc.call("Catalog.Register", &register).await.unwrap();
        let update =
            CoordinateRequest { datacenter: "dc2".into(), node: name.into(), coord: Some(at(x)), ..<_>::default() };
        let _: Empty = rpc.call("Coordinate.Update", &update).await.unwrap();
    }
    let batch = two.bench.server.take_coordinates(9);
    two.bench.server.propose(crate::state::command::Command::Coordinates(batch)).await.unwrap();
    for (datacenter, order) in [("dc2", "cba"), ("", "cba"), ("dc1", "abc")] {
        let source = QuerySource { datacenter: datacenter.into(), node: "c".into(), ..<_>::default() };
        let request = ServiceRequest { datacenter: "dc2".into(), source, ..service("web") };
        let reply: ServiceNodesReply = rpc.call("Catalog.ServiceNodes", &request).await.unwrap();
        let found: String = reply.service_nodes.unwrap().into_iter().map(|row| row.node).collect();
        assert_eq!(found, order, "{datacenter:?}");
    }
}
