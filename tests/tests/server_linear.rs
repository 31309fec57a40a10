//! What clients of servers in trouble are told can be true.

use agent_tests::{
    repetitions,
    scenario::linear::{self, KEYS},
    subject::Kind,
};

/// `LICTOR_SEED` in the environment replays the plan of an earlier run. The long run checks 1,000 histories and more.
#[test]
fn histories_of_keys_are_linearizable() {
    let seed = std::env::var("LICTOR_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("seed {seed}");
    let rounds = repetitions(14, 1000 / KEYS as u32 + 1);
    let summary = linear::histories(Kind::Lictor, rounds, seed).unwrap();
    println!("{summary:?}");
    assert_eq!(summary.histories, rounds as usize * KEYS);
    assert!(summary.answered > summary.histories * 20, "the clients did next to nothing: {summary:?}");
}

#[test]
fn a_leader_that_was_paused_reads_nothing_old() {
    linear::paused_leader(Kind::Lictor).unwrap();
}
