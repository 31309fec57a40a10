//! Servers that are stopped on purpose, and started by mistake.

use agent_tests::{scenario::servers, subject::Kind};

#[test]
fn a_leader_that_stops_hands_over() {
    servers::leader_stops(Kind::Lictor).unwrap();
}

#[test]
fn two_servers_in_bootstrap_mode_are_named() {
    servers::two_begin_alone(Kind::Lictor).unwrap();
}
