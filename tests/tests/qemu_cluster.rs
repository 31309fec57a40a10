//! An emulated board among three of our servers: hostile bytes for both, and the leader's death.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream, UdpSocket},
    path::Path,
    time::Duration,
};

use agent_embedded::provision::Settings;
use agent_tests::{
    Result,
    cluster::{Agent, Role, SETTLE, Status},
    ports,
    qemu::{Board, Forward, Network},
    subject::Kind,
    wait,
};
use serde_json::{Value, json};

const BOARD: &str = "board-cluster";

/// Three servers with a leader, and a board that they know. One after the other in one test, so that they share the
/// cluster.
#[test]
fn hostile_bytes_and_a_dead_leader_leave_the_board_alone() {
    run().unwrap();
}

fn run() -> Result<()> {
    let network = ports::Network::free(4)?;
    let mut servers = Vec::new();
    for host in 1..=3 {
        servers.push(Agent::start(network, host, Kind::Lictor, Role::Server(3), &json!({}))?);
    }
    servers.iter_mut().try_for_each(Agent::ready)?;
    let forward = Forward::new(&network, 4);
    let seed = servers[0].gossip().to_string();
    let mut settings = Settings { node_name: BOARD, advertise: forward.advertise(), ..Settings::default() };
    settings.seeds.push(&seed).map_err(|_| "more than four seeds")?;
    let board = Board::start(9, Network::Forward(forward), &settings);
    wait::until("the board in the cluster", SETTLE, || servers[0].sees(BOARD, Status::Alive))?;
    wait::until("its service", SETTLE, || servers[0].shows_service(BOARD, "thermo"))?;

    let board_gossip = SocketAddr::new(network.address(4), forward.gossip);
    for target in [servers[1].gossip(), board_gossip] {
        throw_everything(target)?;
    }
    well(&servers, "both after hostile bytes")?;

    let leader = leader(&servers)?;
    let mut dead = servers.remove(leader);
    dead.kill()?;
    wait::until("another leader", SETTLE, || self::leader(&servers).map(drop))?;
    wait::until("the dead leader's failure", SETTLE, || servers[0].sees(&dead.name, Status::Failed))?;
    well(&servers, "the board without the leader")?;
    // Its checks still reach the catalog, through another server.
    wait::until("the loop's reports", SETTLE, || servers[0].shows_check(BOARD, "loop", "passing"))?;
    wait::check(board.stack_high_water() < board.stack_room(), || "the stack used all of its room".into())
}

/// All servers see the board alive and passing, for as long as a failure would take to show.
fn well(servers: &[Agent], what: &str) -> Result<()> {
    wait::holds(what, Duration::from_secs(12), || {
        servers.iter().try_for_each(|server| {
            server.sees(BOARD, Status::Alive)?;
            server.shows_check(BOARD, "serfHealth", "passing")
        })
    })
}

/// The place of the leader in `servers`, once all of them name one of them.
fn leader(servers: &[Agent]) -> Result<usize> {
    let mut named = Vec::new();
    for server in servers {
        named.push(server.http.get("/v1/status/leader")?.as_str().unwrap_or_default().to_owned());
    }
    let is = |server: &Agent| named.iter().all(|name| name.starts_with(&format!("{}:", server.gossip().ip())));
    servers.iter().position(is).ok_or_else(|| format!("the leader is {named:?}").into())
}

/// Every malformed vector, at a gossip port.
fn throw_everything(target: SocketAddr) -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent-core/vectors/gossip/malformed.json");
    let vectors: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let mut thrown = 0;
    for vector in vectors.as_array().ok_or("a list of vectors")? {
        let hex = vector["hex"].as_str().ok_or("octets")?;
        let octets = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16));
        let octets: Vec<u8> = octets.collect::<std::result::Result<_, _>>()?;
        if vector["transport"] == "udp" {
            socket.send_to(&octets, target)?;
        } else {
            // Refusing or resetting the connection is an answer too.
            let Ok(mut stream) = TcpStream::connect_timeout(&target, Duration::from_secs(5)) else { continue };
            stream.set_read_timeout(Some(Duration::from_millis(500)))?;
            let _ = stream.write_all(&octets).and_then(|()| stream.shutdown(Shutdown::Write));
            let _ = stream.read_to_end(&mut Vec::new());
        }
        thrown += 1;
    }
    wait::check(thrown > 40, || format!("only {thrown} of the vectors were thrown"))
}
