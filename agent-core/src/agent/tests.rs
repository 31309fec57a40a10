//! An agent, a driver that cuts every stream into small pieces, and a fake server.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::{
    config::PoolConfig,
    dns::Rules,
    local::{CheckDef, CheckKind, ServiceDef},
    pool::MAX_DATAGRAM,
    rpc::fake::Server,
    wire::{gossip::Alive, tags},
};

crate::lictor_memory! {
    struct Memory { members: 8, services: 4, checks: 8, connections: 3, queries: 2 }
}

/// What the other side of a check's connection does.
#[derive(Clone, Copy)]
enum Peer {
    Refuses,
    Silent,
    Says(&'static str),
}

struct World {
    now: Instant,
    agent: Agent<'static>,
    server: Server,
    server_up: bool,
    peer: Peer,
    /// What the agent has sent on each stream, and whether it is for a server.
    open: BTreeMap<StreamId, (bool, Vec<u8>)>,
    dialled: usize,
    asked: Vec<(CheckId, u32)>,
    answers: Vec<(SocketAddr, Vec<u8>)>,
    requests: Vec<String>,
    /// Replies are cut into pieces of so many octets.
    piece: usize,
}

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 9)), 8301);

impl World {
    fn new(sync: bool) -> Self {
        let mut pool = PoolConfig::lan("n1", "10.0.0.1:8301".parse().unwrap(), &[("role", "node"), ("dc", "dc1")]);
        pool.consul_rules = false;
        // The fake server answers calls, not pings.
        pool.timing.probe_interval = secs(100_000);
        let config = Config {
            pool,
            node_id: "6f1e2d3c-0000-4000-8000-000000000001",
            datacenter: "dc1",
            domain: "consul",
            token: "",
            meta: &[],
            tagged_addresses: &[],
            check_update_interval: Duration::from_secs(300),
            sync,
            dns: Rules::new("consul", "dc1"),
        };
        let (config, memory) = (Box::leak(Box::new(config)), Box::leak(Box::new(Memory::new())));
        World {
            now: Instant::ZERO,
            agent: Agent::new(config, memory.regions(), [7; 32], Instant::ZERO).unwrap(),
            server: Server::default(),
            server_up: true,
            peer: Peer::Refuses,
            open: BTreeMap::new(),
            dialled: 0,
            asked: vec![],
            answers: vec![],
            requests: vec![],
            piece: 5,
        }
    }

    /// Gossip tells of a server.
    fn meet_server(&mut self) {
        let tags = [("role", "consul"), ("dc", "dc1"), ("port", "8300"), ("id", "s")];
        let mut meta = [0; 128];
        let mut w = Writer::new(&mut meta);
        tags::emit(&mut w, &tags);
        let len = w.finish().unwrap();
        let alive =
            Alive { node: "s1", address: SERVER, meta: &meta[..len], incarnation: 1, vsn: Some([1, 5, 2, 2, 5, 4]) };
        let mut packet = [0; 512];
        let mut w = Writer::new(&mut packet);
        alive.emit(&mut w);
        let len = w.finish().unwrap();
        self.agent.handle_datagram(self.now, Port::Gossip, SERVER, &mut packet[..len]);
        self.pump();
    }

    fn feed(&mut self, id: StreamId, octets: &[u8]) {
        for piece in octets.chunks(self.piece) {
            assert_eq!(self.agent.handle_stream(self.now, id, StreamInput::Data(piece)), piece.len());
        }
    }

    /// Does everything the agent asks for; returns when it wants to be woken.
    fn pump(&mut self) -> Option<Instant> {
        let mut buf = [0; MAX_DATAGRAM];
        for _ in 0..10_000 {
            match self.agent.poll_output(&mut buf) {
                Output::Wait { until, .. } => return until,
                Output::Transmit { port: Port::Dns, to, len } => self.answers.push((to, buf[..len].to_vec())),
                Output::Connect { id, purpose: Purpose::Rpc, to, .. } => {
                    assert_eq!(to, Target::Address("10.0.0.9:8300".parse().unwrap()));
                    self.dialled += 1;
                    self.open.insert(id, (true, vec![]));
                    self.connected(id, self.server_up);
                }
                Output::Connect { id, purpose: Purpose::Check { .. }, .. } => {
                    self.open.insert(id, (false, vec![]));
                    self.connected(id, !matches!(self.peer, Peer::Refuses));
                }
                Output::Connect { id, .. } => {
                    self.agent.handle_stream(self.now, id, StreamInput::Failed);
                }
                Output::Writable { id } => self.write(id),
                Output::Close { id } => drop(self.open.remove(&id)),
                Output::RunCheck { id, check, .. } => self.asked.push((id, check.key)),
                Output::Transmit { .. } | Output::Resume { .. } | Output::Resolve { .. } | Output::Event(_) => {}
            }
        }
        panic!("the agent never rests");
    }

    fn connected(&mut self, id: StreamId, well: bool) {
        if !well {
            self.open.remove(&id);
        }
        let input = if well { StreamInput::Open } else { StreamInput::Failed };
        self.agent.handle_stream(self.now, id, input);
    }

    fn write(&mut self, id: StreamId) {
        let mut piece = [0; 7];
        loop {
            let len = self.agent.fill_stream(self.now, id, &mut piece);
            let Some((is_rpc, sent)) = self.open.get_mut(&id) else { return };
            sent.extend_from_slice(&piece[..len]);
            if len == 0 {
                break;
            }
            let (is_rpc, octets) = (*is_rpc, sent.clone());
            if is_rpc {
                if let Some((taken, reply)) = self.server.answer(&octets) {
                    assert_eq!(taken, octets.len());
                    self.open.insert(id, (true, vec![]));
                    self.feed(id, &reply);
                    return;
                }
            }
        }
        let Some((false, sent)) = self.open.get(&id) else { return };
        self.requests.push(String::from_utf8(sent.clone()).unwrap());
        if let Peer::Says(text) = self.peer {
            self.feed(id, text.as_bytes());
            self.agent.handle_stream(self.now, id, StreamInput::Eof);
        }
    }

    /// Lets time pass.
    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..100_000 {
            match self.pump() {
                Some(next) if next <= end => {
                    self.now = self.now.max(next);
                    self.agent.handle_timeout(self.now);
                }
                _ => {
                    self.now = end;
                    self.agent.handle_timeout(end);
                    self.pump();
                    return;
                }
            }
        }
        panic!("time does not pass");
    }

    fn register(&mut self, kind: CheckKind<'static>) {
        let check = CheckDef { id: "c", ..check(kind) };
        self.agent.command(self.now, Command::RegisterCheck(&check)).unwrap();
    }

    fn check(&self) -> (Health, String) {
        let check = self.agent.local().check("c").unwrap();
        (check.health(), check.output().to_string())
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn check(kind: CheckKind<'static>) -> CheckDef<'static> {
    CheckDef {
        id: "",
        name: "",
        notes: "",
        service_id: "",
        token: "",
        status: Health::Critical,
        kind,
        deregister_critical_after: Duration::ZERO,
        success_before_passing: 0,
        failures_before_critical: 0,
    }
}

const TTL: CheckKind<'static> = CheckKind::Ttl { ttl: Duration::from_secs(30) };

fn http(url: &'static str) -> CheckKind<'static> {
    CheckKind::Http {
        url,
        method: "",
        headers: &[("X-One", "1")],
        body: "",
        tls_skip_verify: false,
        interval: secs(10),
        timeout: secs(2),
    }
}

#[test]
fn a_service_reaches_the_catalog_and_stays_right_on_one_connection() {
    let mut world = World::new(true);
    world.run(secs(5));
    assert_eq!(world.dialled, 0, "there is nobody to call");
    let checks = [check(TTL)];
    let web = ServiceDef { name: "web", port: 80, checks: &checks, ..ServiceDef::default() };
    world.agent.command(world.now, Command::Register(&web)).unwrap();
    world.meet_server();
    world.run(secs(5));
    assert_eq!(world.server.services["web"]["Port"], 80);
    assert_eq!(world.server.checks["service:web"]["Status"], "critical");
    assert!(world.agent.local().service("web").unwrap().in_sync());
    let update = Command::UpdateTtl { id: "service:web", health: Health::Passing, output: "fine" };
    world.agent.command(world.now, update).unwrap();
    world.pump();
    assert_eq!(world.server.checks["service:web"]["Status"], "passing");
    world.agent.command(world.now, Command::Deregister { id: "web" }).unwrap();
    world.pump();
    assert!(world.server.services.is_empty() && world.server.checks.is_empty());
    world.run(secs(300));
    assert_eq!(world.dialled, 1);
    let methods = world.server.take_methods();
    let count = |name: &str| methods.iter().filter(|method| *method == name).count();
    assert!((2..=7).contains(&count("NodeServiceList")), "{methods:?}");
    assert!((9..=21).contains(&count("Update")), "{methods:?}");
    assert!(world.agent.stats().calls > 10 && world.agent.stats().calls_failed == 0);
}

#[test]
fn a_lost_server_is_dialled_again() {
    let mut world = World::new(true);
    world.server_up = false;
    world.meet_server();
    world.run(secs(40));
    assert!((1..=4).contains(&world.dialled), "dialled {} times in 40 s", world.dialled);
    world.server_up = true;
    world.run(secs(31));
    let methods = world.server.take_methods();
    assert!(methods.contains(&"NodeServiceList".to_string()), "{methods:?} {:?}", world.agent.sync);
    // The server restarts between two calls: the next one goes out on a new connection at once.
    let dialled = world.dialled;
    let id = *world.open.keys().next().unwrap();
    world.agent.handle_stream(world.now, id, StreamInput::Eof);
    world.open.remove(&id);
    world.agent.command(world.now, Command::Sync).unwrap();
    world.pump();
    assert_eq!(world.server.take_methods()[..2], ["NodeServiceList", "NodeChecks"]);
    assert_eq!(world.dialled, dialled + 1);
    // Nonsense from the server: the connection is closed, the call made again later.
    let id = *world.open.keys().next().unwrap();
    world.agent.handle_stream(world.now, id, StreamInput::Data(&[0xc1; 50]));
    world.pump();
    assert!(world.open.is_empty());
    world.run(secs(130));
    assert!(!world.open.is_empty());
}

#[test]
fn ttl_checks_expire() {
    let mut world = World::new(false);
    world.register(TTL);
    world.run(secs(20));
    assert_eq!(world.check(), (Health::Critical, String::new()));
    let update = Command::UpdateTtl { id: "c", health: Health::Passing, output: "ok" };
    world.agent.command(world.now, update).unwrap();
    world.run(secs(29));
    assert_eq!(world.check(), (Health::Passing, "ok".into()));
    world.run(secs(2));
    assert_eq!(world.check(), (Health::Critical, "TTL expired (last output before timeout follows): ok".into()));
    // Registering again keeps the state.
    world.register(CheckKind::Ttl { ttl: secs(60) });
    assert_eq!(world.check().0, Health::Critical);
    assert!(world.check().1.starts_with("TTL expired"));
    world.run(secs(61));
    assert_eq!(
        world.agent.command(world.now, Command::UpdateTtl { id: "x", health: Health::Passing, output: "" }),
        Err(CommandError::Unknown)
    );
}

#[test]
fn tcp_checks_connect() {
    let mut world = World::new(false);
    world.register(CheckKind::Tcp { target: "127.0.0.1:80", interval: secs(5), timeout: secs(1) });
    world.run(secs(6));
    assert_eq!(world.check(), (Health::Critical, "dial tcp 127.0.0.1:80: connect: connection refused".into()));
    world.peer = Peer::Silent;
    world.run(secs(6));
    assert_eq!(world.check(), (Health::Passing, "TCP connect 127.0.0.1:80: Success".into()));
    assert!(world.open.is_empty(), "the connection is closed again");
}

#[test]
fn http_checks_judge_the_status() {
    for (response, health, output) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine", Health::Passing, "200 OK Output: fine"),
        ("HTTP/1.1 429 Too Many\r\n\r\nslow", Health::Warning, "429 Too Many Output: slow"),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", Health::Critical, "404 Not Found Output: "),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n",
            Health::Passing,
            "200 OK Output: abcde",
        ),
        ("HTTP/1.0 200 OK\n\n\u{1f600}x", Health::Passing, "200 OK Output: \u{1f600}x"),
    ] {
        let mut world = World::new(false);
        world.peer = Peer::Says(response);
        world.register(http("http://127.0.0.1:80/h?x=1"));
        world.run(secs(11));
        assert_eq!(world.check(), (health, format!("HTTP GET http://127.0.0.1:80/h?x=1: {output}")), "{response}");
        assert!(world.requests[0].starts_with("GET /h?x=1 HTTP/1.1\r\nX-One: 1\r\nHost: 127.0.0.1:80\r\n"));
        assert!(world.requests[0].ends_with("Connection: close\r\n\r\n"));
    }
    for (peer, output) in [
        (Peer::Refuses, "dial tcp 127.0.0.1:80: connect: connection refused"),
        (Peer::Silent, "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"),
        (Peer::Says("HTTP/1.1 20"), "EOF"),
        (Peer::Says("SSH-2.0 hello\r\n"), "malformed HTTP status code"),
    ] {
        let mut world = World::new(false);
        world.peer = peer;
        world.register(http("http://127.0.0.1"));
        world.run(secs(13));
        let want = format!("Get \"http://127.0.0.1\": {output}");
        assert_eq!(world.check().0, Health::Critical);
        assert!(want.starts_with(&world.check().1) && world.check().1.len() > 25, "{:?} for {want}", world.check());
        assert!(world.open.is_empty());
    }
}

#[test]
fn a_long_body_is_cut_and_thresholds_hold_the_state() {
    let mut world = World::new(false);
    world.peer = Peer::Says("HTTP/1.1 200 OK\r\n\r\nééééééééééééééééééééééééééééééééééééééééééééééééééééééééééé");
    let def = CheckDef { id: "c", success_before_passing: 3, failures_before_critical: 2, ..check(http("http://h/")) };
    world.agent.command(world.now, Command::RegisterCheck(&def)).unwrap();
    world.run(secs(19));
    assert_eq!(world.check(), (Health::Critical, String::new()), "two good runs are not enough");
    world.run(secs(12));
    assert_eq!(world.check().0, Health::Passing);
    assert!(world.check().1.starts_with("HTTP GET http://h/: 200 OK Output: éé"));
    world.peer = Peer::Refuses;
    world.run(secs(10));
    assert_eq!(world.check().0, Health::Passing, "one bad run is not enough");
    world.run(secs(10));
    assert_eq!(world.check().0, Health::Critical);
}

#[test]
fn the_host_runs_its_checks_and_silence_is_critical() {
    let mut world = World::new(false);
    world.register(CheckKind::Host { key: 42, label: "", interval: secs(5), timeout: secs(1) });
    world.run(secs(5));
    let (id, key) = world.asked.pop().unwrap();
    assert_eq!(key, 42);
    world.agent.handle_check(world.now, id, Health::Warning, "hmm");
    assert_eq!(world.check(), (Health::Warning, "hmm".into()));
    world.run(secs(9));
    assert_eq!(world.check(), (Health::Critical, "Timed out (1s) running check".into()));
    // A late result of an older registration is nobody's.
    world.register(CheckKind::Host { key: 43, label: "", interval: secs(5), timeout: secs(1) });
    world.agent.handle_check(world.now, id, Health::Passing, "late");
    assert_eq!(world.check().0, Health::Critical);
}

#[test]
fn a_service_critical_for_too_long_is_deregistered() {
    let mut world = World::new(false);
    let checks = [CheckDef { deregister_critical_after: secs(60), ..check(TTL) }];
    let web = ServiceDef { name: "web", checks: &checks, ..ServiceDef::default() };
    world.agent.command(world.now, Command::Register(&web)).unwrap();
    world.run(secs(59));
    assert!(world.agent.local().service("web").is_some());
    world.run(secs(2));
    assert!(world.agent.local().service("web").is_none());
}

/// A DNS query for `name`.
fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut out = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.extend_from_slice(&[0, (kind >> 8) as u8, kind as u8, 0, 1]);
    out
}

#[test]
fn names_are_answered_from_members_services_and_servers() {
    let asker: SocketAddr = "10.0.0.77:5353".parse().unwrap();
    let mut world = World::new(true);
    let ask = |world: &mut World, name: &str, kind: u16| {
        world.agent.handle_datagram(world.now, Port::Dns, asker, &mut query(7, name, kind));
        world.pump();
        let (to, answer) = world.answers.pop().unwrap_or_else(|| panic!("no answer for {name}"));
        assert_eq!((to, &answer[..2]), (asker, &[0, 7][..]));
        // Response code, answers, the last four octets.
        (answer[3] & 15, answer[7], answer[answer.len() - 4..].to_vec())
    };
    let web = ServiceDef { name: "web", port: 80, ..ServiceDef::default() };
    world.agent.command(world.now, Command::Register(&web)).unwrap();
    assert_eq!(ask(&mut world, "n1.node.consul", 1), (0, 1, vec![10, 0, 0, 1]));
    assert_eq!(ask(&mut world, "web.service.consul", 1), (0, 1, vec![10, 0, 0, 1]), "nobody to ask: our own");
    world.meet_server();
    world.run(secs(5));
    assert_eq!(ask(&mut world, "s1.node.consul", 1), (0, 1, vec![10, 0, 0, 9]));
    world.server.take_methods();
    let instance = |ip: &str, status: &str| {
        json!({"Node": {"Node": "x", "Address": ip}, "Service": {"Address": "", "Port": 9},
            "Checks": [{"Status": status}]})
    };
    world.server.canned.insert("ExecuteRemote", json!({"Nodes": [instance("10.0.0.5", "passing")], "Index": 1}));
    assert_eq!(ask(&mut world, "db.service.consul", 1), (0, 1, vec![10, 0, 0, 5]));
    assert_eq!(ask(&mut world, "db.service.consul", 1), (0, 1, vec![10, 0, 0, 5]));
    assert_eq!(world.server.take_methods(), ["ExecuteRemote"], "asked once in two seconds");
    world.server.canned.insert("ExecuteRemote", json!({"Nodes": null}));
    assert_eq!(ask(&mut world, "no.service.consul", 1).0, 3);
    world
        .server
        .canned
        .insert("NodeServices", json!({"NodeServices": {"Node": {"Node": "ext", "Address": "10.9.9.9"}}}));
    assert_eq!(ask(&mut world, "ext.node.consul", 1), (0, 1, vec![10, 9, 9, 9]));
    world.server.errors.insert("ExecuteRemote", "No cluster leader".into());
    assert_eq!(ask(&mut world, "bad.service.consul", 1).0, 2);
    world.server.errors.insert("ExecuteRemote", "No path to datacenter".into());
    assert_eq!(ask(&mut world, "x.service.dc9.consul", 1).0, 3);
    // More queries than slots are dropped, not mixed up; garbage is survived.
    for id in 0..5u16 {
        world.agent.handle_datagram(world.now, Port::Dns, asker, &mut query(id, "n1.node.consul", 1));
    }
    world.agent.handle_datagram(world.now, Port::Dns, asker, &mut [1, 2, 3]);
    world.pump();
    assert_eq!(world.answers.len(), 2);
    assert_eq!(world.agent.stats().queries_dropped, 4);
}

#[test]
fn a_server_that_does_not_answer_costs_the_asker_five_seconds() {
    let mut world = World::new(true);
    world.meet_server();
    world.run(secs(40));
    world.server.calls.clear();
    // The server takes octets and says nothing.
    world.server.canned.clear();
    let id = *world.open.keys().next().unwrap();
    world.open.remove(&id);
    let asker: SocketAddr = "10.0.0.77:5353".parse().unwrap();
    world.agent.handle_datagram(world.now, Port::Dns, asker, &mut query(7, "db.service.consul", 1));
    world.run(secs(4));
    assert!(world.answers.is_empty());
    world.run(secs(2));
    assert_eq!(world.answers.pop().unwrap().1[3] & 15, 2);
}
