//! Bytes that mean harm, at an emulated board: settings pages, gossip, streams and DNS questions.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use agent_core::{rand::Rng, wire::crc};
use agent_embedded::provision::{HEADER, MAX_IMAGE, Settings};
use agent_tests::{
    Result,
    cluster::SETTLE,
    dns::{self, Kind, Record},
    hostile::{spoil, vectors},
    ports,
    qemu::{Board, Forward, Network},
    wait,
};

/// A board starts within 50 ms; the bound is for a machine that also compiles.
const START: Duration = Duration::from_secs(20);
const BOARD: &str = "board-alone";
/// Datagrams between two honest questions. The board's queue of questions holds four, that one included.
const BURST: usize = 3;

/// A board that nobody else knows, so that it answers for itself alone.
struct Alone {
    board: Board,
    forward: Forward,
}

impl Alone {
    fn start(page: &[u8]) -> Result<Self> {
        let forward = Forward::new(&ports::Network::free(1)?, 1);
        Ok(Alone { board: Board::start_with_page(6, Network::Forward(forward), page), forward })
    }

    /// It answers an honest question about itself, of which any copy may get lost in a full queue.
    fn is_well(&self, name: &str) -> Result<()> {
        let door = (self.forward.address, self.forward.dns).into();
        wait::until("the board's answer", SETTLE, || {
            let stopped = ["panic at", "fault at"].into_iter().find(|text| self.board.has_logged(text));
            assert!(stopped.is_none(), "the board stopped: {stopped:?}");
            let answer = dns::ask_within(door, &format!("{name}.node.consul"), Kind::A, Duration::from_millis(100))?;
            wait::check(matches!(answer.records[..], [Record::A(_)]), || format!("{answer:?}"))
        })
    }

    fn gossip(&self) -> SocketAddr {
        (self.forward.address, self.forward.gossip).into()
    }

    fn dns(&self) -> SocketAddr {
        (self.forward.address, self.forward.dns).into()
    }
}

fn page(settings: &Settings<'_>) -> Vec<u8> {
    let mut page = [0; MAX_IMAGE];
    let len = settings.encode(&mut page).unwrap();
    page[..len].to_vec()
}

fn throw(board: &Alone, door: SocketAddr, from: &[Vec<u8>], count: usize) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut rng = Rng::from_seed(&[9; 32]);
    for _ in 0..count.div_ceil(BURST) {
        for _ in 0..BURST {
            socket.send_to(&spoil(from, &mut rng), door)?;
        }
        board.is_well(BOARD)?;
    }
    Ok(())
}

/// Questions as a resolver asks them, for a node, services, tags, an address, and with EDNS.
fn questions() -> Vec<Vec<u8>> {
    let names = ["board-alone.node.consul", "thermo.service.consul", "celsius.thermo.service.dc1.consul", "consul"];
    let mut all = Vec::new();
    for (number, name) in names.into_iter().enumerate() {
        for kind in [1, 2, 5, 6, 12, 16, 28, 33, 255] {
            let mut question = vec![number as u8, kind as u8, 1, 0, 0, 1, 0, 0, 0, 0, 0, kind as u8 % 2];
            for label in name.split('.') {
                question.push(label.len() as u8);
                question.extend(label.bytes());
            }
            question.extend([0, 0, kind as u8, 0, 1]);
            if kind % 2 == 1 {
                question.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
            }
            all.push(question);
        }
    }
    all
}

#[test]
fn hostile_datagrams_and_questions_are_survived() {
    let long = std::env::var_os("LICTOR_LONG").is_some();
    let settings = Settings { node_name: BOARD, ..Settings::default() };
    let board = Alone::start(&page(&settings)).unwrap();
    board.board.wait_for("agent board-alone up", START);
    board.is_well(BOARD).unwrap();
    throw(&board, board.gossip(), &vectors("udp").unwrap(), if long { 100_000 } else { 10_000 }).unwrap();
    throw(&board, board.dns(), &questions(), if long { 100_000 } else { 10_000 }).unwrap();
    board.board.note_stack().unwrap();
}

#[test]
fn hostile_streams_are_survived() {
    let settings = Settings { node_name: BOARD, ..Settings::default() };
    let board = Alone::start(&page(&settings)).unwrap();
    board.board.wait_for("agent board-alone up", START);
    let (vectors, mut rng) = (vectors("tcp").unwrap(), Rng::from_seed(&[4; 32]));
    for _ in 0..200 {
        // Refusing or resetting the connection is an answer too.
        if let Ok(mut stream) = TcpStream::connect_timeout(&board.gossip(), START) {
            stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let _ = stream.write_all(&spoil(&vectors, &mut rng)).and_then(|()| stream.shutdown(Shutdown::Write));
            let _ = stream.read_to_end(&mut Vec::new());
        }
        board.is_well(BOARD).unwrap();
    }
    board.board.note_stack().unwrap();
}

#[test]
fn a_page_without_settings_is_named_and_the_board_works_without() {
    let whole = page(&Settings { node_name: BOARD, ..Settings::default() });
    let with = |at: usize, octet: u8| {
        let mut page = whole.clone();
        page[at] = octet;
        page
    };
    let pages = [
        (vec![0xff; 64], "page is blank"),
        (vec![0x5a; 64], "holds something else"),
        (with(8, 99), "settings of format 99"),
        (with(9, 99), "content of kind 99"),
        (with(11, 0xff), "do not fit their page"),
        (with(HEADER + 3, 0), "settings are damaged"),
        (whole[..whole.len() - 12].to_vec(), "settings are damaged"),
    ];
    for (page, complaint) in pages {
        let board = Alone::start(&page).unwrap();
        board.board.wait_for(complaint, START);
        board.board.wait_for("agent board-000006 up", START);
        board.is_well("board-000006").unwrap();
        let starts = board.board.count_logged("settings:");
        assert_eq!(starts, 1, "started {starts} times with {complaint:?}");
    }
}

#[test]
fn settings_that_cannot_work_are_named_and_the_board_stays_up() {
    let long = "x".repeat(65);
    let default = Settings { node_name: BOARD, ..Settings::default() };
    let mut short_key = default.clone();
    short_key.keys.push(&[1; 15]).unwrap();
    let impossible = [
        (Settings { node_name: &long, ..default.clone() }, "no agent: the node name"),
        (Settings { node_id: "7", ..default.clone() }, "no agent: the node id"),
        (short_key, "no agent: a gossip key"),
        (Settings { advertise: Some(([0; 4], 0)), ..default.clone() }, "no agent: the advertised address"),
    ];
    for (settings, complaint) in impossible {
        let board = Alone::start(&page(&settings)).unwrap();
        board.board.wait_for(complaint, START);
        // It neither stops nor starts anew: the line comes once, also after a while.
        wait::holds("calm", Duration::from_secs(1), || {
            let (starts, panics) = (board.board.count_logged("no agent"), board.board.count_logged("panic at"));
            wait::check((starts, panics) == (1, 0), || format!("{starts} starts, {panics} panics"))
        })
        .unwrap();
    }
}

/// The body's checksum can be right and the rest still nonsense; then the format's words say so.
#[test]
fn a_sealed_page_of_nonsense_is_named() {
    let mut nonsense = page(&Settings { node_name: BOARD, ..Settings::default() });
    nonsense[HEADER] = 0x7f; // a name longer than the page
    let sum = crc::checksum(&nonsense[8..]);
    nonsense[4..8].copy_from_slice(&sum.to_le_bytes());
    let board = Alone::start(&nonsense).unwrap();
    board.board.wait_for("written by a faulty program", START);
    board.board.wait_for("agent board-000006 up", START);
    board.is_well("board-000006").unwrap();
}
