//! Snapshot archives between real Consul servers and ours.

use agent_tests::{scenario::snapshot, subject::Kind};

#[test]
fn lictor_restores_consuls_archive() {
    snapshot::restores(Kind::Consul, Kind::Lictor).unwrap();
}

#[test]
fn consul_restores_lictors_archive() {
    snapshot::restores(Kind::Lictor, Kind::Consul).unwrap();
}

#[test]
fn consul_refuses_bad_archives() {
    snapshot::refuses(Kind::Consul).unwrap();
}

#[test]
fn lictor_refuses_bad_archives() {
    snapshot::refuses(Kind::Lictor).unwrap();
}
