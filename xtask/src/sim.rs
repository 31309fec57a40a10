//! `cargo xtask sim`: many simulated clusters, optimised, one line per failing seed.

use crate::shell::{Result, cargo, step};

/// Runs the task; the simulator's own program reads the options.
pub fn run(args: &mut lexopt::Parser) -> Result<()> {
    let mut command = cargo(&["run", "--profile", "sim", "--locked", "--package", "agent-tests", "--bin", "sim", "--"]);
    step("simulation", command.args(args.raw_args()?))
}
