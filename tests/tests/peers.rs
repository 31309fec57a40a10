//! The real peers among themselves: what the harness and the scenarios rest on.

use agent_tests::{
    cluster::{Agent, Role, SETTLE, Status},
    ports::Network,
    serf::Serf,
    subject::Kind,
    wait,
};
use serde_json::json;

const KEY: &str = "ICEiIyQlJicoKSorLC0uLw==";

#[test]
fn consul_server_and_client_find_each_other_and_a_killed_client_fails() {
    let network = Network::free(2).unwrap();
    let settings = json!({ "encrypt": KEY });
    let mut server = Agent::start(network, 1, Kind::Consul, Role::Server(1), &settings).unwrap();
    let mut client = Agent::start(network, 2, Kind::Consul, Role::Client(1), &settings).unwrap();
    server.ready().unwrap();
    client.ready().unwrap();
    let see = |status| wait::until("the client's status", SETTLE, || server.sees("consul-2", status));
    let health =
        |status| wait::until("the client's health", SETTLE, || server.shows_check("consul-2", "serfHealth", status));
    see(Status::Alive).unwrap();
    health("passing").unwrap();
    client.kill().unwrap();
    see(Status::Failed).unwrap();
    health("critical").unwrap();
    client.restart().unwrap();
    client.ready().unwrap();
    see(Status::Alive).unwrap();
    health("passing").unwrap();
    assert!(client.leave().unwrap().success());
    see(Status::Left).unwrap();
}

#[test]
fn both_serfs_share_a_pool() {
    let network = Network::free(2).unwrap();
    let old = Serf::start(network, 1, "serf", Some(KEY)).unwrap();
    let mut new = Serf::start(network, 2, "serf-0.10", Some(KEY)).unwrap();
    new.call(&["join", &old.gossip.to_string()]).unwrap();
    wait::until("the newer serf", SETTLE, || old.sees(&new.name, "alive")).unwrap();
    new.leave().unwrap();
    wait::until("its leave", SETTLE, || old.sees(&new.name, "left")).unwrap();
}
