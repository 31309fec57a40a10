//! The whole part as the rest of the program uses it: real threads, sockets and files.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;

/// Long enough for any election or transfer of these tests on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A map of names to values: `name=value` sets, anything else is answered with the value.
#[derive(Default)]
pub(super) struct Map {
    pub(super) values: BTreeMap<String, String>,
    shared: Arc<Mutex<BTreeMap<String, String>>>,
}

impl StateMachine for Map {
    fn apply(&mut self, index: u64, _unix_millis: u64, command: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(command);
        if let Some((name, value)) = text.split_once('=') {
            self.values.insert(name.into(), value.into());
            self.shared.lock().expect("no panics").insert(name.into(), value.into());
        }
        index.to_string().into_bytes()
    }

    fn snapshot(&self) -> Box<dyn SnapshotSource> {
        Box::new(View(self.values.clone()))
    }

    fn restore(&mut self, reader: &mut dyn Read) -> Result<(), RestoreError> {
        let mut text = String::new();
        reader.read_to_string(&mut text).map_err(|error| RestoreError(error.to_string()))?;
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        self.values = pairs.map(|(name, value)| (name.into(), value.into())).collect();
        *self.shared.lock().expect("no panics") = self.values.clone();
        Ok(())
    }
}

struct View(BTreeMap<String, String>);

impl SnapshotSource for View {
    fn write_to(self: Box<Self>, out: &mut dyn Write) -> std::io::Result<()> {
        self.0.iter().try_for_each(|(name, value)| writeln!(out, "{name}={value}"))
    }
}

/// A server with its listener.
struct Running {
    raft: Raft,
    server: Server,
    values: Arc<Mutex<BTreeMap<String, String>>>,
    listener: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn start(number: u64, directory: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::start_on(number, directory, listener, |_| {}).await
    }

    async fn start_on(number: u64, directory: &Path, listener: TcpListener, adjust: impl FnOnce(&mut Config)) -> Self {
        let address = listener.local_addr().expect("bound");
        let server = server(number, address);
        let mut config = Config::new(server.clone(), 1, number);
        config.answer_timeout = PATIENCE;
        adjust(&mut config);
        let disk = Arc::new(Directory::open(directory.join(number.to_string())).expect("a directory"));
        let machine = Map::default();
        let values = machine.shared.clone();
        let allowed = Arc::new(|ip: IpAddr| ip.is_loopback());
        let raft = Raft::open(config, disk, machine, tcp_connector(std::net::Ipv4Addr::UNSPECIFIED.into()), allowed)
            .expect("opens");
        let accepting = raft.clone();
        let listener = tokio::spawn(async move {
            while let Ok((mut stream, peer)) = listener.accept().await {
                assert_eq!(stream.read_u8().await.ok(), Some(1));
                accepting.accept(stream, peer);
            }
        });
        Self { raft, server, values, listener }
    }

    async fn stop(self) {
        self.raft.stop().await;
        self.listener.abort();
        let _ = self.listener.await;
    }

    async fn wait_for(&self, what: &str, mut holds: impl FnMut(&Status) -> bool) {
        let mut changes = self.raft.status_changes();
        let waited = timeout(PATIENCE, changes.wait_for(|status| holds(status))).await;
        assert!(waited.is_ok_and(|result| result.is_ok()), "{what}: {:?}", self.raft.status());
    }

    fn value(&self, name: &str) -> Option<String> {
        self.values.lock().expect("no panics").get(name).cloned()
    }
}

fn server(number: u64, address: SocketAddr) -> Server {
    let id = format!("00000000-0000-4000-8000-{number:012}");
    Server { id, name: format!("s{number}"), address, suffrage: Suffrage::Voter }
}

async fn leader(servers: &[Running]) -> usize {
    timeout(PATIENCE, async {
        loop {
            let leads = |running: &Running| running.raft.status().role == Role::Leader;
            if let Some(position) = servers.iter().position(leads) {
                return position;
            }
            let mut changes: Vec<_> = servers.iter().map(|running| running.raft.leader_changes()).collect();
            let any = changes.iter_mut().map(|changes| Box::pin(changes.changed()));
            let _ = timeout(Duration::from_millis(200), futures_any(any)).await;
        }
    })
    .await
    .expect("a leader within the time")
}

/// The first of several futures to end.
async fn futures_any<F: Future + Unpin>(futures: impl Iterator<Item = F>) {
    let mut futures: Vec<F> = futures.collect();
    std::future::poll_fn(|context| {
        let ready = futures.iter_mut().any(|future| std::pin::Pin::new(future).poll(context).is_ready());
        if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

async fn cluster(directory: &Path, count: u64) -> Vec<Running> {
    let mut servers = Vec::new();
    for number in 1..=count {
        servers.push(Running::start(number, directory).await);
    }
    let members: Vec<Server> = servers.iter().map(|running| running.server.clone()).collect();
    for running in &servers {
        running.raft.bootstrap(members.clone()).await.expect("bootstraps");
    }
    servers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_server_elects_itself_at_once_and_keeps_its_log() {
    let directory = tempfile::tempdir().expect("a directory");
    let servers = cluster(directory.path(), 1).await;
    let [only] = &servers[..] else { panic!("one server") };
    only.wait_for("leads", |status| status.role == Role::Leader).await;
    let index = only.raft.propose(b"a=1".to_vec()).await.expect("commits");
    assert_eq!(index, b"3", "1 is the configuration, 2 the leader's first entry");
    assert_eq!(only.raft.read_barrier().await, Ok(3));
    assert_eq!(only.raft.lease_read().await, Ok(3));
    assert_eq!(only.raft.last_contact(), Some(Duration::ZERO));
    for running in servers {
        running.stop().await;
    }

    let again = Running::start(1, directory.path()).await;
    again.wait_for("leads", |status| status.role == Role::Leader).await;
    again.raft.read_barrier().await.expect("leads");
    assert_eq!(again.value("a").as_deref(), Some("1"));
    // Bootstrapping twice changes nothing.
    again.raft.bootstrap(vec![server(9, "127.0.0.1:9".parse().expect("an address"))]).await.expect("no effect");
    assert_eq!(again.raft.servers().len(), 1);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_elect_replicate_and_survive_the_leader() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut servers = cluster(directory.path(), 3).await;
    let first = leader(&servers).await;
    for number in 0..20 {
        servers[first].raft.propose(format!("k{number}=v{number}").into_bytes()).await.expect("commits");
    }
    let reached = servers[first].raft.status().applied_index;
    for running in &servers {
        running.wait_for("applies all", |status| status.applied_index >= reached).await;
        assert_eq!(running.value("k19").as_deref(), Some("v19"));
    }
    let follower = &servers[(first + 1) % 3];
    let refused = follower.raft.propose(b"x=1".to_vec()).await;
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: Box::new(servers[first].server.clone()) }));
    assert!(follower.raft.last_contact().is_some());

    servers.remove(first).stop().await;
    let second = leader(&servers).await;
    let leader = &servers[second];
    leader.raft.propose(b"after=1".to_vec()).await.expect("two of three are a majority");
    assert_eq!(leader.value("k7").as_deref(), Some("v7"));
    assert!(leader.raft.lease_read().await.is_ok());
    for running in servers {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_server_is_added_gets_a_snapshot_becomes_a_voter_and_is_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let small = |config: &mut Config| {
        config.snapshot_threshold = 50;
        config.trailing_logs = 0;
    };
    let first = Running::start_on(1, directory.path(), listener, small).await;
    first.raft.bootstrap(vec![first.server.clone()]).await.expect("bootstraps");
    first.wait_for("leads", |status| status.role == Role::Leader).await;
    for number in 0..200 {
        // Together more than one piece of a snapshot.
        let value = "v".repeat(4000);
        first.raft.propose(format!("k{number}={value}").into_bytes()).await.expect("commits");
    }
    first.wait_for("has a snapshot", |status| status.last_snapshot_index > 100).await;

    let second = Running::start(2, directory.path()).await;
    assert!(second.raft.servers().is_empty());
    let staging = Server { suffrage: Suffrage::Staging, ..second.server.clone() };
    first.raft.add_server(staging).await.expect("the leader alone is a majority");
    let mut changes = first.raft.server_changes();
    let both_vote = changes.wait_for(|servers| servers.voters() == 2);
    timeout(PATIENCE, both_vote).await.expect("in time").expect("runs");
    second.wait_for("has caught up", |status| status.applied_index >= 200 && status.last_snapshot_index > 0).await;
    assert_eq!(second.value("k199").map(|value| value.len()), Some(4000));

    assert!(matches!(second.raft.remove_server(&first.server.id).await, Err(ProposeError::NotLeader { .. })));
    assert!(matches!(first.raft.remove_server(&first.server.id).await, Err(ProposeError::Refused(_))));
    // On a busy machine a leader of two may lose its part again at once: then it is handed over anew.
    let handed_over = timeout(PATIENCE, async {
        loop {
            let _ = first.raft.transfer_leadership(Some(&second.server.id)).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            if second.raft.remove_server(&first.server.id).await.is_ok() {
                return;
            }
        }
    });
    handed_over.await.expect("the other leads and removes us");
    assert_eq!(second.raft.servers().len(), 1);
    second.raft.propose(b"alone=1".to_vec()).await.expect("alone again");
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn proposals_made_together_share_a_sync() {
    let directory = tempfile::tempdir().expect("a directory");
    let servers = cluster(directory.path(), 1).await;
    servers[0].wait_for("leads", |status| status.role == Role::Leader).await;
    let mut proposals = tokio::task::JoinSet::new();
    for number in 0..500 {
        let raft = servers[0].raft.clone();
        proposals.spawn(async move { raft.propose(format!("k{number}=v").into_bytes()).await });
    }
    let answers = proposals.join_all().await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(servers[0].values.lock().expect("no panics").len(), 500);
    let large = vec![b'x'; 3 << 20];
    assert!(matches!(servers[0].raft.propose(large).await, Err(ProposeError::TooLarge { .. })));
    servers.into_iter().next().expect("one").stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_not_listened_to() {
    use super::codec::{Hello, Wire};
    use tokio::io::AsyncWriteExt;

    let directory = tempfile::tempdir().expect("a directory");
    let running = cluster(directory.path(), 1).await.remove(0);
    let address = running.server.address;
    let hello = |from: Server, to: u64| Wire::Hello(Hello { from, to }).emit();
    let stranger = server(9, "192.0.2.1:8300".parse().expect("an address"));
    let own = running.server.raft_id();
    let frames = [
        vec![0xff; 64],
        vec![0xff, 0xff, 0xff, 0xff],
        // Right form, wrong addressee; own id; an address outside the pool.
        framed(&hello(stranger.clone(), own ^ 1)),
        framed(&hello(running.server.clone(), own)),
        framed(&hello(stranger, own)),
    ];
    for bytes in frames {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("listens");
        stream.write_all(&[1]).await.expect("connected");
        stream.write_all(&bytes).await.expect("connected");
        let mut rest = Vec::new();
        // Closed without a word (a reset, when octets were left unread).
        let closed = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("closed in time");
        assert!(closed.is_err() || rest.is_empty());
    }
    running.stop().await;
}

fn framed(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_le_bytes()[..], payload].concat()
}
