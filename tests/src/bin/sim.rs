//! Many simulated clusters: `cargo xtask sim`. Prints one line per failing seed, and fails if there was one.

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use agent_tests::sim::{
    churn::{self, Plan},
    net::Weather,
};
use indicatif::{ProgressBar, ProgressStyle};

const USAGE: &str = "\
Usage: cargo xtask sim [--seeds N] [--first SEED] [--nodes N]

  --seeds N      run N seeds (default 20)
  --first SEED   start with this seed (default 1); a failing seed is replayed with --first SEED --seeds 1
  --nodes N      members of each cluster (default 50)
";

/// What to run.
struct Options {
    seeds: u64,
    first: u64,
    nodes: usize,
}

fn main() -> ExitCode {
    match options() {
        Ok(Some(options)) => run(&options),
        Ok(None) => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Option<Options>, String> {
    let mut options = Options { seeds: 20, first: 1, nodes: 50 };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || -> Result<u64, String> {
            let value = args.next().ok_or_else(|| format!("{arg} needs a number"))?;
            value.parse().map_err(|_| format!("{arg} needs a number, not {value:?}"))
        };
        match arg.as_str() {
            "--seeds" => options.seeds = number()?,
            "--first" => options.first = number()?,
            "--nodes" => options.nodes = usize::try_from(number()?).map_err(|error| error.to_string())?,
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("no option {arg:?}")),
        }
    }
    if !(4..=1_000).contains(&options.nodes) {
        return Err("--nodes must be 4 to 1000".into());
    }
    Ok(Some(options))
}

fn run(options: &Options) -> ExitCode {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {eta} left").expect("a valid template");
    let progress = ProgressBar::new(options.seeds).with_style(style);
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let plan = Plan { nodes: options.nodes, weather: Weather::ROUGH, shaken: true };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= options.seeds {
                        return;
                    }
                    let seed = options.first.wrapping_add(n);
                    // A panic of the core is a finding like any other, and the other seeds go on.
                    let result = std::panic::catch_unwind(|| churn::run(seed, plan));
                    let line = match result {
                        Ok(Ok(_)) => None,
                        Ok(Err(error)) => Some(error),
                        Err(_) => Some(format!("seed {seed}, {} nodes: panicked, see above", plan.nodes)),
                    };
                    if let Some(line) = line {
                        failed.fetch_add(1, Ordering::Relaxed);
                        progress.suspend(|| println!("{line}"));
                    }
                    progress.inc(1);
                }
            });
        }
    });
    progress.finish_and_clear();
    let failed = failed.into_inner();
    println!("{} passed, {failed} failed", options.seeds - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
