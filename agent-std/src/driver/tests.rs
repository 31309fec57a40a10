//! Real pools on loopback sockets.

use agent_core::{
    config::{PoolConfig, Timing},
    pool::{MemberChange, MemberStatus, Pool},
    wire::crypt::Key,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    handle: Handle<PoolKind>,
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

/// Starts a pool on a port of its own.
async fn start(name: &'static str, key: Option<Key>) -> Node {
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(address).await.unwrap();
    let (handle, inbox) = channel();
    let task = tokio::spawn(async move {
        let tags = [("role", "node"), ("dc", "dc1"), ("id", name)];
        let keys: Vec<_> = key.into_iter().collect();
        let mut config = PoolConfig::lan(name, address, &tags);
        (config.keys, config.timing) =
            (&keys, Timing { gossip_interval: time::Duration::from_millis(20), ..Timing::local() });
        let mut heap = PoolHeap::new(PoolSizes { members: 64, streams: 8 });
        let clock = Clock::start();
        let seed = [name.as_bytes()[0]; 32];
        let pool = Pool::new(&config, heap.regions(), &seed, clock.now()).unwrap();
        let host = Host { dial: Arc::new(PlainDial), scripts: Scripts::default() };
        run::<PoolKind>(pool, clock, Sockets { udp, tcp: Some(tcp) }, host, inbox).await;
    });
    Node { handle, address, task }
}

impl Node {
    async fn join(&self, seed: String) -> Outcome {
        let joined = self.handle.finish(move |pool, now| pool.join(now, &seed, true));
        timeout(PATIENCE, joined).await.expect("the join ends").unwrap()
    }

    async fn members(&self) -> Vec<(String, MemberStatus)> {
        let list =
            |pool: &mut Pool<'_>| pool.members().map(|member| (member.name.to_string(), member.status)).collect();
        self.handle.with(move |pool, _| list(pool)).await.unwrap()
    }
}

/// Waits for a notice that `wanted` recognises.
async fn notice<T>(notices: &mut broadcast::Receiver<Notice>, wanted: impl Fn(&Notice) -> Option<T>) -> T {
    timeout(PATIENCE, async {
        loop {
            if let Some(found) = wanted(&notices.recv().await.expect("the loop runs")) {
                return found;
            }
        }
    })
    .await
    .expect("the event comes")
}

async fn a_cluster(key: Option<Key>) {
    let (a, b) = (start("a", key).await, start("b", key).await);
    let (mut at_a, mut at_b) = (a.handle.subscribe(), b.handle.subscribe());
    assert_eq!(b.join(a.address.to_string()).await, Outcome::Joined(1));
    let joined = notice(&mut at_a, |notice| match notice {
        Notice::Member(MemberChange::Joined, member) => Some(member.clone()),
        _ => None,
    });
    let joined = joined.await;
    assert_eq!((joined.name.as_str(), joined.address, joined.tag("id")), ("b", b.address, Some("b")));
    assert_eq!(b.members().await, [("b".into(), MemberStatus::Alive), ("a".into(), MemberStatus::Alive)]);

    let fired = a.handle.with(|pool, now| pool.user_event(now, "deploy", b"v2", false).is_ok()).await;
    assert_eq!(fired, Ok(true));
    let payload = notice(&mut at_b, |notice| match notice {
        Notice::User { name, payload, .. } if name == "deploy" => Some(payload.clone()),
        _ => None,
    });
    assert_eq!(payload.await, b"v2");

    assert_eq!(b.handle.finish(|pool, now| pool.leave(now)).await, Ok(Outcome::Ok));
    notice(&mut at_a, |notice| match notice {
        Notice::Member(MemberChange::Left, member) if member.name == "b" => Some(()),
        _ => None,
    })
    .await;

    // The loop ends with the last handle.
    drop((a.handle, b.handle));
    timeout(PATIENCE, async { (a.task.await.unwrap(), b.task.await.unwrap()) }).await.expect("both loops end");
}

#[tokio::test]
async fn two_pools_join_talk_and_leave() {
    a_cluster(None).await;
}

#[tokio::test]
async fn two_encrypted_pools_join_talk_and_leave() {
    a_cluster(Key::new(&[7; 16])).await;
}

#[tokio::test]
async fn a_join_by_name_and_joins_that_fail() {
    let (a, b) = (start("a", None).await, start("b", None).await);
    assert_eq!(b.join(format!("localhost:{}", a.address.port())).await, Outcome::Joined(1));
    // Nobody listens there.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert!(matches!(b.join(free.to_string()).await, Outcome::Failed(_)));
    assert!(matches!(b.join("no-such-host.invalid:1".into()).await, Outcome::Failed(_)));
    let refused = b.handle.finish(|pool, now| pool.join(now, "", true)).await;
    assert!(matches!(refused, Err(CommandFailed::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn hostile_streams_and_datagrams_leave_the_loop_alive() {
    let a = start("a", None).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut streams = Vec::new();
    for number in 0..40u8 {
        socket.send_to(&[number; 300], a.address).await.unwrap();
        let mut stream = TcpStream::connect(a.address).await.unwrap();
        // Resets are as good an answer as any.
        let _ = stream.write_all(&vec![number; 70_000]).await;
        streams.push(stream);
    }
    // More streams than the pool has slots: those are refused, the others end as bad; all of them end.
    for mut stream in streams {
        let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("closed in time");
    }
    let b = start("b", None).await;
    assert_eq!(b.join(a.address.to_string()).await, Outcome::Joined(1));
}

#[tokio::test]
async fn a_stream_writes_all_before_it_closes() {
    let (near, mut far) = tokio::io::duplex(1000);
    let (orders, receiver) = mpsc::channel(2);
    let (inputs, mut facts) = mpsc::channel(4);
    // Ids come from machines only; any will do.
    let a = start("a", None).await;
    let (reply, id) = oneshot::channel();
    a.handle
        .with(move |pool, now| {
            let from = SocketAddr::from(([127, 0, 0, 1], 1));
            let _ = reply.send(pool.handle_accept(now, from).expect("a free slot"));
        })
        .await
        .unwrap();
    let id = id.await.unwrap();
    let pump = tokio::spawn(tcp::pump(id, async { Ok(Box::new(near) as BoxWire) }, true, receiver, inputs));
    assert!(matches!(facts.recv().await, Some(Input::Opened(_))));

    far.write_all(&[1; 500]).await.unwrap();
    let Some(Input::Data(_, data)) = facts.recv().await else { panic!("data expected") };
    assert!(!data.is_empty() && data.len() <= PIECE);
    // Nothing more is read until it is asked for.
    far.write_all(&[2; 500]).await.unwrap();
    orders.send(Order::Write(vec![3; 50_000])).await.unwrap();
    drop(orders);
    let mut all = Vec::new();
    timeout(PATIENCE, far.read_to_end(&mut all)).await.expect("closed in time").unwrap();
    assert_eq!(all, [3; 50_000]);
    timeout(PATIENCE, pump).await.expect("ends").unwrap();
    assert!(facts.try_recv().is_err(), "a closed stream says nothing more");
}
