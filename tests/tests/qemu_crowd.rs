//! A board in a pool far larger than its memory: the push/pull of a real agent with 200 members.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use agent_core::wire::{
    crypt::{self, Key, Nonces},
    gossip::Alive,
    msgpack::Writer,
    tags,
};
use agent_embedded::provision::Settings;
use agent_tests::{
    Result,
    cluster::SETTLE,
    ports,
    qemu::{Board, Forward, Network},
    scenario::{KEY, KEY_OCTETS},
    serf::Serf,
    wait,
};

/// Members that exist only by hearsay. Their one push/pull has some 30,000 octets before compression.
const CROWD: u32 = 200;
const BOARD: &str = "board-crowd";

fn run(encrypted: bool) -> Result<()> {
    let network = ports::Network::free(3)?;
    let serf = Serf::start(network, 1, "serf", encrypted.then_some(KEY))?;
    invite(serf.gossip, network.address(2), encrypted)?;
    wait::until("the crowd in the real agent's list", SETTLE, || serf.sees("crowd-199", "alive"))?;

    let forward = Forward::new(&network, 3);
    let seed = serf.gossip.to_string();
    let mut settings =
        Settings { node_name: BOARD, advertise: forward.advertise(), serf_only: true, ..Settings::default() };
    settings.seeds.push(&seed).map_err(|_| "more than four seeds")?;
    if encrypted {
        settings.keys.push(&KEY_OCTETS).map_err(|_| "more than four keys")?;
    }
    let board = Board::start(5, Network::Forward(forward), &settings);
    // A name of the crowd in its log shows that the push/pull was read to its end and taken. Whom of them the board keeps
    // is chance; it may be without the real agent, which it answers all the same.
    board.wait_for("member crowd-", SETTLE);
    wait::until("the board in the real agent's list", SETTLE, || serf.sees(BOARD, "alive"))?;
    let span = agent_tests::watch_time(Duration::from_secs(15), Duration::from_secs(90));
    wait::holds("the board's good standing in the crowd", span, || serf.sees(BOARD, "alive").map(drop))?;
    board.note_stack()
}

/// Tells `agent` of the crowd, as gossip would.
fn invite(agent: SocketAddr, ip: std::net::IpAddr, encrypted: bool) -> Result<()> {
    let socket = UdpSocket::bind((ip, 0))?;
    let key = Key::new(&KEY_OCTETS).ok_or("16 octets")?;
    let mut nonces = Nonces::new(&[5; 32]);
    for number in 0..CROWD {
        let name = format!("crowd-{number}");
        let mut meta = [0; 512];
        let meta_len = {
            let mut writer = Writer::new(&mut meta);
            tags::emit(&mut writer, &[("kind", "hearsay"), ("room", &format!("hall {}", number % 7))]);
            writer.len()
        };
        let alive = Alive {
            incarnation: 1,
            node: &name,
            address: SocketAddr::new(ip, 1000 + number as u16),
            meta: &meta[..meta_len],
            vsn: Some([1, 5, 2, 2, 5, 4]),
        };
        // The sealed message has its nonce in front.
        let front = if encrypted { 1 + crypt::NONCE } else { 0 };
        let mut datagram = [0; 1400];
        let mut len = {
            let mut writer = Writer::new(&mut datagram[front..]);
            alive.emit(&mut writer);
            writer.len()
        };
        if encrypted {
            len = crypt::seal(&key, nonces.fresh(), &[], &mut datagram, len).ok_or("room for the tag")?;
        }
        socket.send_to(&datagram[..len], agent)?;
    }
    Ok(())
}

#[test]
fn reads_a_large_push_pull() {
    run(false).unwrap();
}

#[test]
fn reads_a_large_encrypted_push_pull() {
    run(true).unwrap();
}
