//! Project chores, run as `cargo xtask <task>`. `cargo xtask test` is everything that CI does.
//!
//! One task per file. Every task says what it runs before it runs it, installs the packages that it needs when it
//! may, and otherwise prints the line that installs them and fails.

use std::process::ExitCode;

mod bench;
mod check;
mod demo;
mod firmware;
mod fuzz;
mod packages;
mod peers;
mod shell;
mod sim;
mod toolchain;

use shell::Result;

const USAGE: &str = "\
Usage: cargo xtask <task>

  test [--long]    everything that CI does: formatting, lints, docs, licences, feature sets, tests, real peers
                   --long: the tests against real peers also run for as long as their issue asks
  demo [--once]    three servers and an emulated board that joins them; stays up until Ctrl-C, or ends by itself
  firmware         build and run boards' firmware; `cargo xtask firmware` lists the actions
  size [--write]   flash and RAM of every board, one line each; fails over the limit, or over what the table in
                   agent-embedded/README.md says; --write: writes that table
  sim [--seeds N] [--first SEED] [--nodes N]
                   simulate clusters with N seeds (default 20), starting with SEED (default 1)
  sim --raft [--seeds N] [--seed SEED]
                   simulate servers: raft, log, store and clients, with faults of disks, networks and clocks; N seeds
                   (default 1000) from SEED (default 1); --seed alone replays one
  bench [--quick] [start] [idle] [kv] [watch] [catalog] [failover]
                   measure the core alone, and the agent beside the real Consul in one run
  fuzz MINUTES     look for inputs that agent-core does not survive; needs a nightly compiler and cargo-fuzz
  peers            install the real Consul and Serf agents that the tests use; prints their folder
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    use lexopt::prelude::*;

    let mut args = lexopt::Parser::from_env();
    let task = match args.next()? {
        Some(Value(task)) => task.string()?,
        None | Some(Long("help") | Short('h')) => {
            print!("{USAGE}");
            return Ok(());
        }
        Some(other) => return Err(other.unexpected().into()),
    };
    match task.as_str() {
        "test" => check::run(&mut args),
        "demo" => demo::run(&mut args),
        "firmware" => firmware::run(&mut args),
        "size" => firmware::size(&mut args),
        "fuzz" => fuzz::run(&mut args),
        "sim" => sim::run(&mut args),
        "bench" => bench::run(&mut args),
        "peers" => peers::run(&mut args),
        "help" => {
            print!("{USAGE}");
            Ok(())
        }
        _ => Err(format!("no task {task:?}\n\n{USAGE}").into()),
    }
}
