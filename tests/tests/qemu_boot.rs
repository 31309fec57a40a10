//! A board boots, gets an address, and speaks first on its cable.

use std::time::Duration;

use agent_embedded::provision::Settings;
use agent_tests::{
    ether::Switch,
    ports,
    qemu::{Board, Forward, Network},
};

const START: Duration = Duration::from_secs(20);

#[test]
fn a_board_starts_again_after_reset() {
    let to_board = Forward::new(&ports::Network::free(1).unwrap(), 1);
    let board = Board::start(3, Network::Forward(to_board), &Settings { node_name: "north", ..Settings::default() });
    board.wait_for("agent north up", START);
    assert!(board.stack_high_water() < board.stack_room());
    let seen = board.lines();
    board.reset();
    board.wait_for_new(seen, "agent north up", START);
}

#[test]
fn a_board_on_a_cable_asks_for_an_address() {
    let switch = Switch::new(1);
    let (_, cable) = switch.plug().unwrap();
    let (_, observer) = switch.plug().unwrap();
    let _board = Board::start(3, Network::Cable(cable), &Settings::default());
    observer.set_read_timeout(Some(START)).unwrap();
    let mut frame = [0; 1518];
    let len = observer.recv(&mut frame).unwrap();
    assert_eq!(frame[..12], [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 3], "a broadcast from the board's address");
    assert!(len > 14);
}
