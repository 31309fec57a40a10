//! A client among real agents. With the real Consul or Serf as subject the scenarios themselves are tested.

use agent_tests::{
    scenario::{join, keys, member::Subject, pool},
    subject::Kind,
};

#[test]
fn consul_stays_alive() {
    join::stays_alive(Kind::Consul, true).unwrap();
}

#[test]
fn consul_services_follow() {
    join::services_follow(Kind::Consul).unwrap();
}

#[test]
fn consul_leaves() {
    join::leaves(Kind::Consul).unwrap();
}

#[test]
fn consul_fails_and_returns() {
    join::fails_and_returns(Kind::Consul).unwrap();
}

#[test]
fn consul_refutes() {
    join::refutes(Kind::Consul).unwrap();
}

#[test]
fn serf_joins_and_leaves() {
    pool::joins(Subject::Serf, true, true).unwrap();
}

#[test]
fn serf_hands_events_on() {
    pool::hands_events_on(Subject::Serf).unwrap();
}

#[test]
fn lictor_hands_events_on() {
    pool::hands_events_on(Subject::Lictor).unwrap();
}

#[test]
fn lictor_heeds_the_filters_of_queries() {
    pool::heeds_filters().unwrap();
}

#[test]
fn lictor_stays_alive_plain() {
    join::stays_alive(Kind::Lictor, false).unwrap();
}

#[test]
fn lictor_stays_alive_encrypted() {
    join::stays_alive(Kind::Lictor, true).unwrap();
}

#[test]
fn lictor_services_follow() {
    join::services_follow(Kind::Lictor).unwrap();
}

#[test]
fn lictor_leaves() {
    join::leaves(Kind::Lictor).unwrap();
}

#[test]
fn lictor_fails_and_returns() {
    join::fails_and_returns(Kind::Lictor).unwrap();
}

#[test]
fn lictor_refutes() {
    join::refutes(Kind::Lictor).unwrap();
}

#[test]
fn lictor_joins_a_serf_pool_and_leaves() {
    pool::joins(Subject::Lictor, true, true).unwrap();
}

#[test]
fn lictor_joins_a_plain_serf_pool_fails_and_returns() {
    pool::joins(Subject::Lictor, false, false).unwrap();
}

#[test]
fn a_real_server_rotates_keys() {
    keys::rotates(Kind::Consul, Kind::Lictor).unwrap();
}

#[test]
fn our_server_rotates_keys() {
    keys::rotates(Kind::Lictor, Kind::Consul).unwrap();
}

#[test]
fn consul_finds_back() {
    join::finds_back(Kind::Consul, false).unwrap();
}

#[test]
fn lictor_finds_back_after_a_crash_only() {
    join::finds_back(Kind::Lictor, false).unwrap();
}

#[test]
fn lictor_finds_back_after_a_leave_too() {
    join::finds_back(Kind::Lictor, true).unwrap();
}
