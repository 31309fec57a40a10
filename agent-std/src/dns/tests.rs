use std::{
    collections::HashMap,
    net::Ipv4Addr,
    ops::ControlFlow,
    sync::atomic::{AtomicUsize, Ordering},
};

use agent_core::dns::{Found, Instance, Kind};
use hickory_proto::op::{Message, ResponseCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::*;

/// Services by name; `slow` never comes back, `broken` fails, `here` is known at once.
#[derive(Default)]
struct Catalog {
    services: HashMap<&'static str, Vec<Row>>,
    lookups: AtomicUsize,
}

/// Knows `here`.
struct Here;

impl Directory for Here {
    fn find(&self, lookup: &Lookup, visit: &mut dyn FnMut(Instance<'_>) -> ControlFlow<()>) -> Found {
        if lookup.name() != "here" {
            return Found::Ask;
        }
        let _ = visit(instance(0).instance());
        Found::Yes
    }
}

impl Source for Catalog {
    type Now<'a> = Here;

    fn now(&self) -> Here {
        Here
    }

    fn look_up<'a>(&'a self, lookup: &'a Lookup) -> LookUp<'a> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            match (lookup.kind(), lookup.name()) {
                (_, "slow") => std::future::pending().await,
                (_, "broken") => Err(Failed),
                (Kind::Service, name) => Ok(self.services.get(name).cloned()),
                _ => Ok(None),
            }
        })
    }
}

fn instance(number: u8) -> Row {
    Row {
        node: format!("n{number}"),
        address: HostAddress::Ip(Ipv4Addr::new(10, 0, 0, number).into()),
        port: 80,
        weights: (1, 1),
        health: agent_core::checks::Health::Passing,
        ..Row::default()
    }
}

fn catalog() -> Arc<Catalog> {
    let alias = Row { service_address: HostAddress::from("web.service.consul".to_string()), ..instance(9) };
    let services =
        [("web", (1..=2).map(instance).collect()), ("many", (0..=250).map(instance).collect()), ("alias", vec![alias])];
    Arc::new(Catalog { services: services.into(), lookups: AtomicUsize::new(0) })
}

fn open(settings: Settings) -> (Server, watch::Sender<Arc<Settings>>, Arc<Catalog>) {
    let catalog = catalog();
    let (sender, receiver) = watch::channel(Arc::new(settings));
    let server = Server::open(Ipv4Addr::LOCALHOST.into(), 0, 2, catalog.clone(), receiver).unwrap();
    (server, sender, catalog)
}

pub(super) fn question(name: &str, kind: u8) -> Vec<u8> {
    let mut out = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.extend([0, 0, kind, 0, 1]);
    out
}

const PATIENCE: Duration = Duration::from_secs(10);

async fn udp(server: SocketAddr, query: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(query, server).await.unwrap();
    let mut buf = [0; 4096];
    let len = timeout(PATIENCE, socket.recv(&mut buf)).await.expect("a reply in time").unwrap();
    Message::from_vec(&buf[..len]).unwrap()
}

async fn tcp(stream: &mut TcpStream, query: &[u8]) -> Message {
    stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], query].concat()).await.unwrap();
    let len = timeout(PATIENCE, stream.read_u16()).await.expect("a reply in time").unwrap();
    let mut reply = vec![0; usize::from(len)];
    stream.read_exact(&mut reply).await.unwrap();
    Message::from_vec(&reply).unwrap()
}

#[tokio::test]
async fn answers_over_udp_and_tcp() {
    let (server, _settings, catalog) = open(Settings::default());
    let reply = udp(server.address(), &question("web.service.consul", 1)).await;
    assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::NoError, 2));
    let reply = udp(server.address(), &question("alias.service.consul", 1)).await;
    assert_eq!(reply.answers.len(), 3, "an alias and both addresses behind it");
    let reply = udp(server.address(), &question("none.service.consul", 1)).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    let reply = udp(server.address(), &question("broken.service.consul", 1)).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);

    let before = catalog.lookups.load(Ordering::Relaxed);
    let reply = udp(server.address(), &question("here.service.consul", 1)).await;
    assert_eq!(reply.answers.len(), 1);
    assert_eq!(catalog.lookups.load(Ordering::Relaxed), before, "known at once");

    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    assert_eq!(tcp(&mut stream, &question("many.service.consul", 33)).await.answers.len(), 251);
    assert_eq!(tcp(&mut stream, &question("many.service.consul", 1)).await.answers.len(), 251);
    assert_eq!(server.stats().queries.load(Ordering::Relaxed), 7);
    assert_eq!(server.stats().failed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn too_many_lookups_are_refused_and_others_go_on() {
    let (server, _settings, catalog) = open(Settings { lookups: 1, ..Settings::default() });
    let stuck = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stuck.send_to(&question("slow.service.consul", 1), server.address()).await.unwrap();
    timeout(PATIENCE, async {
        while catalog.lookups.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the slow look-up begins");
    let reply = udp(server.address(), &question("web.service.consul", 1)).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    let reply = udp(server.address(), &question("here.service.consul", 1)).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert_eq!(server.stats().busy.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn settings_change_while_open() {
    let (server, settings, _) = open(Settings::default());
    assert_eq!(udp(server.address(), &question("here.service.consul", 1)).await.answers[0].ttl, 0);
    settings.send_replace(Arc::new(Settings { service_ttl: vec![("*".into(), 7)], ..Settings::default() }));
    assert_eq!(udp(server.address(), &question("here.service.consul", 1)).await.answers[0].ttl, 7);
}

#[tokio::test]
async fn hostile_connections_end() {
    let (server, _settings, _) = open(Settings::default());
    for bytes in [&[0xff, 0xff, 1][..], &[0, 0], &[0, 3, 1, 2, 3]] {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        // Closed or reset, whichever the kernel makes of unread octets.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("closed in time");
        assert!(rest.is_empty());
    }
    // A half message holds nobody up.
    let mut half = TcpStream::connect(server.address()).await.unwrap();
    half.write_all(&[0, 40, 1]).await.unwrap();
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    assert_eq!(tcp(&mut stream, &question("web.service.consul", 1)).await.answers.len(), 2);
}

/// A recursor that answers with `code`, or not at all.
async fn recursor(code: Option<u8>) -> (SocketAddr, JoinSet<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut buf = [0; 512];
        loop {
            let (len, from) = socket.recv_from(&mut buf).await.unwrap();
            assert_ne!(buf[..2], [0x12, 0x34], "the asker's id is not passed on");
            let Some(code) = code else { continue };
            // First a forgery with another id, then the answer.
            for id in [[buf[0], buf[1] ^ 1], [buf[0], buf[1]]] {
                let mut reply = buf[..len].to_vec();
                reply[..2].copy_from_slice(&id);
                reply[2] |= 0x80;
                reply[3] = code;
                socket.send_to(&reply, from).await.unwrap();
            }
        }
    });
    (address, tasks)
}

#[tokio::test]
async fn recursors_are_asked_in_turn() {
    let (silent, _a) = recursor(None).await;
    let (broken, _b) = recursor(Some(2)).await;
    let (good, _c) = recursor(Some(3)).await;
    let recursor_timeout = Duration::from_millis(100);
    let settings = Settings { recursors: vec![silent, broken, good], recursor_timeout, ..Settings::default() };
    let (server, settings, _) = {
        let opened = open(settings.clone());
        (opened.0, opened.1, opened.2)
    };
    let reply = udp(server.address(), &question("example.com", 1)).await;
    assert_eq!((reply.metadata.id, reply.metadata.response_code), (0x1234, ResponseCode::NXDomain));
    assert!(reply.metadata.recursion_available);

    let recursors = vec![broken];
    settings.send_replace(Arc::new(Settings { recursors, recursor_timeout, ..Settings::default() }));
    let reply = udp(server.address(), &question("example.com", 1)).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert!(reply.metadata.recursion_available && !reply.metadata.authoritative);
}
