//! Three servers and a real client. With real servers the scenarios themselves are tested.

use agent_tests::{scenario::rpc, subject::Kind};

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
