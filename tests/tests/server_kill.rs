//! Servers that are killed while they write.

use agent_tests::{repetitions, scenario::kill, subject::Kind};

/// `LICTOR_SEED` in the environment replays the plan of an earlier run.
#[test]
fn a_killed_server_starts_again_and_has_lost_nothing() {
    let seed = std::env::var("LICTOR_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("seed {seed}");
    kill::server_is_killed(Kind::Lictor, repetitions(8, 200), seed).unwrap();
}
