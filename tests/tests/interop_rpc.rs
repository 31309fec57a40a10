//! Three servers and a real client. With real servers the scenarios themselves are tested.

use std::time::Duration;

use agent_tests::{
    scenario::{cli, rpc},
    subject::Kind,
};

#[test]
fn consul_servers_serve_a_consul_client() {
    rpc::client_is_served(Kind::Consul).unwrap();
}

#[test]
fn consul_servers_lose_nothing_with_their_leader() {
    rpc::leader_dies(Kind::Consul).unwrap();
}

#[test]
fn lictor_servers_serve_a_consul_client() {
    rpc::client_is_served(Kind::Lictor).unwrap();
}

#[test]
fn lictor_servers_lose_nothing_with_their_leader() {
    rpc::leader_dies(Kind::Lictor).unwrap();
}

#[test]
fn the_real_command_line_works_through_a_lictor_leaders_death() {
    cli::works_through_a_leaders_death(Kind::Lictor).unwrap();
}

#[test]
fn idle_servers_write_nothing() {
    cli::idle_servers_write_nothing(Kind::Lictor, Duration::from_secs(20)).unwrap();
}
