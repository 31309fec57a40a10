//! `cargo xtask sim`: many simulated clusters, optimised, one line per failing seed.

use crate::shell::{Result, cargo, step};

/// Seeds of `--raft` where none are asked for.
const RAFT_SEEDS: u64 = 1000;

/// Runs the task. The simulator of gossip is a program that reads the options itself; that of raft is a test of agent-std,
/// which reads them from its environment.
pub fn run(args: &mut lexopt::Parser) -> Result<()> {
    let options: Vec<_> = args.raw_args()?.collect();
    if options.iter().any(|option| option == "--raft") {
        return raft(&mut lexopt::Parser::from_args(options));
    }
    let mut command = cargo(&["run", "--profile", "sim", "--locked", "--package", "agent-tests", "--bin", "sim", "--"]);
    step("simulation", command.args(options))
}

fn raft(args: &mut lexopt::Parser) -> Result<()> {
    use lexopt::prelude::*;

    let (mut first, mut seeds) = (None, None);
    while let Some(arg) = args.next()? {
        match arg {
            Long("raft") => {}
            Long("seeds") => seeds = Some(args.value()?.parse::<u64>()?),
            Long("seed" | "first") => first = Some(args.value()?.parse::<u64>()?),
            other => return Err(other.unexpected().into()),
        }
    }
    // One seed alone is a replay.
    let seeds = seeds.unwrap_or(if first.is_some() { 1 } else { RAFT_SEEDS });
    let test = "raft::sim::every_seed_keeps_its_promises";
    let mut command = cargo(&["test", "--profile", "sim", "--locked", "--package", "agent-std", "--lib", "--"]);
    command.args([test, "--exact", "--nocapture"]);
    command.env("LICTOR_SIM_SEED", first.unwrap_or(1).to_string()).env("LICTOR_SIM_SEEDS", seeds.to_string());
    step("simulation of raft", &mut command)
}
