//! Two datacenters in one federation. With real servers on both sides the scenario itself is tested.

use agent_tests::{
    repetitions,
    scenario::federation::{federates, gives_up},
    subject::Kind::{Consul, Lictor},
};

#[test]
fn consul_federates_with_consul() {
    federates((Consul, 1), (Consul, 1)).unwrap();
}

#[test]
fn lictor_joins_a_real_datacenter() {
    federates((Consul, 1), (Lictor, 3)).unwrap();
}

#[test]
fn a_real_server_joins_ours() {
    federates((Lictor, 1), (Consul, 1)).unwrap();
}

/// Takes its time: everything once more with three servers on both sides.
#[test]
fn larger_datacenters() {
    for _ in 0..repetitions(0, 1) {
        federates((Lictor, 3), (Consul, 3)).unwrap();
        federates((Lictor, 3), (Lictor, 3)).unwrap();
    }
}

#[test]
fn consul_gives_up() {
    gives_up(Consul).unwrap();
}

#[test]
fn lictor_gives_up() {
    gives_up(Lictor).unwrap();
}
