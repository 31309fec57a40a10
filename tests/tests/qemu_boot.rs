//! A board boots, gets an address and answers.

use std::{net::UdpSocket, time::Duration};

use agent_embedded::provision::{Network as Address, Settings};
use agent_tests::{
    ether::Switch,
    ports,
    qemu::{Board, Forward, Network},
};

#[test]
fn forward() {
    let to_board = Forward::new(&ports::Network::free(1).unwrap(), 1);
    let mut board = Board::start(3, Network::Forward(to_board), &Settings::default());
    board.wait_for("address", Duration::from_secs(5));
    let s = UdpSocket::bind("127.0.0.1:0").unwrap();
    s.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    s.send_to(b"hello", (to_board.address, to_board.gossip)).unwrap();
    let mut buf = [0; 100];
    let (n, _) = s.recv_from(&mut buf).unwrap();
    assert_eq!(&buf[..n], b"hello");
    board.set_sensor(-41);
    eprintln!("stack {}", board.stack_high_water());
    let seen = board.lines();
    board.reset();
    board.wait_for_new(seen, "address", Duration::from_secs(5));
    board.pause();
    board.resume();
}

#[test]
fn cable() {
    let switch = Switch::new(1);
    let (_, a) = switch.plug().unwrap();
    let (_, b) = switch.plug().unwrap();
    let board = Board::start(3, Network::Cable(a), &Settings { network: Address::Dhcp, ..Settings::default() });
    b.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut buf = [0; 2000];
    let n = b.recv(&mut buf).unwrap();
    eprintln!("{n} {:x?}", &buf[..n.min(60)]);
    drop(board);
}
