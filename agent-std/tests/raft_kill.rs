//! A server is killed with SIGKILL in the middle of a write load, again and again; all it acknowledged must still be there.
//!
//! The child is this test program itself, told apart by an environment variable.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_std::raft::{
    Config, Directory, Raft, RestoreError, Role, Server, SnapshotSource, StateMachine, Suffrage, tcp_connector,
};

const DIRECTORY: &str = "RAFT_KILL_DIRECTORY";
const ROUNDS: u64 = 8;

/// Every command it has seen.
#[derive(Default, Clone)]
struct Seen(Arc<Mutex<BTreeSet<String>>>);

impl StateMachine for Seen {
    fn apply(&mut self, _index: u64, _unix_millis: u64, command: &[u8]) -> Vec<u8> {
        self.0.lock().expect("no panics").insert(String::from_utf8_lossy(command).into_owned());
        Vec::new()
    }

    fn snapshot(&self) -> Box<dyn SnapshotSource> {
        Box::new(View(self.0.lock().expect("no panics").clone()))
    }

    fn restore(&mut self, reader: &mut dyn Read) -> Result<(), RestoreError> {
        let mut text = String::new();
        reader.read_to_string(&mut text).map_err(|error| RestoreError(error.to_string()))?;
        *self.0.lock().expect("no panics") = text.lines().map(str::to_owned).collect();
        Ok(())
    }
}

struct View(BTreeSet<String>);

impl SnapshotSource for View {
    fn write_to(self: Box<Self>, out: &mut dyn Write) -> std::io::Result<()> {
        self.0.iter().try_for_each(|line| writeln!(out, "{line}"))
    }
}

async fn open(directory: &Path) -> (Raft, Seen) {
    let server = Server {
        id: "00000000-0000-4000-8000-000000000001".into(),
        name: "only".into(),
        address: "127.0.0.1:8300".parse().expect("an address"),
        suffrage: Suffrage::Voter,
    };
    let mut config = Config::new(server.clone(), 1, 1);
    config.snapshot_threshold = 100;
    config.trailing_logs = 20;
    let seen = Seen::default();
    let disk = Arc::new(Directory::open(directory).expect("not in use"));
    let raft =
        Raft::open(config, disk, seen.clone(), tcp_connector(), Arc::new(|_| false)).expect("opens after a kill");
    raft.bootstrap(vec![server]).await.expect("runs");
    let mut status = raft.status_changes();
    let leads = status.wait_for(|status| status.role == Role::Leader);
    tokio::time::timeout(Duration::from_secs(20), leads).await.expect("leads in time").expect("runs");
    raft.read_barrier().await.expect("leads");
    drop(status);
    (raft, seen)
}

/// Writes until it is killed, and says what was acknowledged.
async fn child(directory: &Path) {
    let (raft, _) = open(directory).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..16 {
        let raft = raft.clone();
        let process = std::process::id();
        writers.spawn(async move {
            for number in 0..1_000_000 {
                let command = format!("{process}-{writer}-{number}-{}", "x".repeat(number % 700));
                raft.propose(command.clone().into_bytes()).await.expect("leads alone");
                let mut out = std::io::stdout().lock();
                writeln!(out, "ack {command}").and_then(|()| out.flush()).expect("the parent reads");
            }
        });
    }
    writers.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_and_nothing_acknowledged_is_lost() {
    if let Ok(directory) = std::env::var(DIRECTORY) {
        return child(Path::new(&directory)).await;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut process = Command::new(std::env::current_exe().expect("a path"))
            .args(["killed_under_load_and_nothing_acknowledged_is_lost", "--exact", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let acks = |line: String| line.strip_prefix("ack ").map(str::to_owned);
        let before = acknowledged.len();
        acknowledged.extend(lines.by_ref().filter_map(acks).take(150 + 37 * round as usize));
        process.kill().expect("runs");
        process.wait().expect("ends");
        // What it said before it died counts, too. A line may be cut short; then it ends without its full length.
        let rest: Vec<String> = lines.filter_map(acks).filter(|command| is_whole(command)).collect();
        acknowledged.extend(rest);
        assert!(acknowledged.len() >= before + 100, "round {round}: the child did not write");

        let (raft, seen) = open(directory.path()).await;
        let kept = seen.0.lock().expect("no panics").clone();
        let lost: Vec<_> = acknowledged.difference(&kept).collect();
        assert!(
            lost.is_empty(),
            "round {round}: {} of {} are lost, first {:?}",
            lost.len(),
            acknowledged.len(),
            lost[0]
        );
        raft.stop().await;
    }
}

fn is_whole(command: &str) -> bool {
    let mut parts = command.splitn(4, '-');
    let number = parts.nth(2).and_then(|number| number.parse::<usize>().ok());
    number.is_some_and(|number| parts.next().is_some_and(|filler| filler.len() == number % 700))
}
