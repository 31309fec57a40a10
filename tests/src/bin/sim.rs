//! Many simulated clusters: `cargo xtask sim`. Prints one line per failing seed, and fails if there was one.

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use agent_tests::sim::{
    churn::{self, Plan},
    net::Weather,
    trials::{self, Report},
};
use indicatif::{ProgressBar, ProgressStyle};

const USAGE: &str = "\
Usage: cargo xtask sim [--seeds N] [--first SEED] [--nodes N]
       cargo xtask sim --scenario NAME [--first SEED] [--seeds N] [--short]

  --seeds N      run N seeds (default 20)
  --first SEED   start with this seed (default 1); a failing seed is replayed with --first SEED --seeds 1
  --nodes N      members of each cluster (default 50)
  --scenario NAME  run one of these at full length (`all`: every one), by default with one seed; --short: as every commit does
";

/// What to run.
struct Options {
    seeds: u64,
    first: u64,
    nodes: usize,
    scenario: Option<String>,
    short: bool,
}

fn main() -> ExitCode {
    match options() {
        Ok(Some(options)) => match &options.scenario {
            Some(name) => scenario(name, &options),
            None => run(&options),
        },
        Ok(None) => {
            print!("{USAGE}");
            trials::ALL.iter().for_each(|(name, shows, _)| println!("    {name:<11} {shows}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Option<Options>, String> {
    let mut options = Options { seeds: 20, first: 1, nodes: 50, scenario: None, short: false };
    let mut seeds = None;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || -> Result<u64, String> {
            let value = args.next().ok_or_else(|| format!("{arg} needs a number"))?;
            value.parse().map_err(|_| format!("{arg} needs a number, not {value:?}"))
        };
        match arg.as_str() {
            "--seeds" => seeds = Some(number()?),
            "--scenario" => {
                let name = args.next().ok_or("--scenario needs a name")?;
                if name != "all" && !trials::ALL.iter().any(|known| known.0 == name) {
                    return Err(format!("no scenario {name:?}"));
                }
                options.scenario = Some(name);
            }
            "--short" => options.short = true,
            "--first" => options.first = number()?,
            "--nodes" => options.nodes = usize::try_from(number()?).map_err(|error| error.to_string())?,
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("no option {arg:?}")),
        }
    }
    options.seeds = seeds.unwrap_or(if options.scenario.is_some() { 1 } else { options.seeds });
    if !(4..=1_000).contains(&options.nodes) {
        return Err("--nodes must be 4 to 1000".into());
    }
    Ok(Some(options))
}

/// Runs scenarios one after the other, and prints what they measure.
fn scenario(name: &str, options: &Options) -> ExitCode {
    let mut failed = false;
    for (name, shows, run) in trials::ALL.iter().filter(|known| name == "all" || known.0 == name) {
        println!("{name}: {shows}");
        for seed in options.first..options.first.saturating_add(options.seeds) {
            let clock = std::time::Instant::now();
            match std::panic::catch_unwind(|| run(seed, !options.short)) {
                Ok(Ok(Report { trace, steps, figures })) => {
                    let took = clock.elapsed().as_secs_f64();
                    println!("  seed {seed}: {steps} events in {took:.1} s, trace {trace:016x}");
                    figures.iter().for_each(|(what, figure)| println!("    {what}: {figure:.2}"));
                }
                Ok(Err(error)) => {
                    failed = true;
                    println!("  seed {seed}: {error}");
                }
                Err(_) => {
                    failed = true;
                    println!("  seed {seed}: panicked, see above");
                }
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
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
