//! Real agents of all versions, ours and emulated boards in one pool.

use agent_tests::scenario::{
    heal,
    mixed::{Crowd, Pool},
    mixed_consul::Cluster,
};

/// What the others are held to is what real agents do among themselves.
#[test]
fn real_serf_agents_alone() {
    let mut pool = Pool::start(Crowd { old: 5, new: 5, ours: 0, boards: 0 }).unwrap();
    pool.churns().unwrap();
}

/// One after the other in one test, so that they share the pool.
#[test]
fn all_kinds_in_a_serf_pool() {
    let mut pool = Pool::start(Crowd { old: 10, new: 5, ours: 15, boards: 3 }).unwrap();
    pool.all_hear_all().unwrap();
    pool.rotates_keys().unwrap();
    pool.churns().unwrap();
    pool.note_stacks().unwrap();
}

/// One after the other in one test, so that they share the cluster.
#[test]
fn all_kinds_in_a_consul_cluster() {
    let mut cluster = Cluster::start().unwrap();
    cluster.lists_are_one().unwrap();
    cluster.all_hear_all().unwrap();
    cluster.rotates_keys().unwrap();
    cluster.churns().unwrap();
    cluster.note_stacks().unwrap();
}

#[test]
fn an_agent_that_joins_only_itself_says_so() {
    heal::warns_of_itself().unwrap();
}

#[test]
fn a_failed_real_member_is_found_again() {
    heal::reconnects().unwrap();
}
