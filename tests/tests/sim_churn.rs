//! Simulated clusters through loss, partitions, pauses and restarts. `cargo xtask sim` runs many more seeds.

use agent_tests::sim::{
    churn::{self, Plan},
    net::Weather,
};

#[test]
fn two_hundred_survive_loss_partitions_and_restarts() {
    let report = churn::run(1, Plan { nodes: 200, weather: Weather::ROUGH, shaken: true }).unwrap();
    println!("{report:?}");
}

#[test]
fn small_clusters_survive_every_seed() {
    for seed in 1..=10 {
        churn::run(seed, Plan { nodes: 12, weather: Weather::ROUGH, shaken: true }).unwrap();
    }
}

#[test]
fn loss_alone_makes_nobody_fail() {
    churn::run(2, Plan { nodes: 50, weather: Weather::ROUGH, shaken: false }).unwrap();
}

#[test]
fn two_runs_of_a_seed_are_one() {
    let run = |seed| churn::run(seed, Plan { nodes: 20, weather: Weather::ROUGH, shaken: true }).unwrap();
    assert_eq!(run(3), run(3));
    assert_ne!(run(3).trace, run(4).trace);
}
