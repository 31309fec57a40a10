//! Our agent beside the real Consul in one run. Run it as `cargo xtask bench`, which builds what is measured.

use std::process::ExitCode;

use agent_tests::{
    Result,
    bench::{Plan, catalog, failover, idle, kv, start, table::Table, watch},
};

/// A part by name, and what it measures.
type Part = (&'static str, fn(&mut Table, Plan) -> Result<()>);

const PARTS: [Part; 6] = [
    ("start", |table, plan| start::run(table, plan.rounds)),
    ("idle", |table, plan| idle::run(table, plan.idle)),
    ("kv", |table, plan| kv::run(table, plan.load)),
    ("watch", |table, plan| watch::run(table, plan.watchers)),
    ("catalog", |table, plan| catalog::run(table, plan.nodes)),
    ("failover", |table, plan| failover::run(table, plan.rounds)),
];

fn main() -> ExitCode {
    agent_tests::process::keep_quiet();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut plan = Plan::FULL;
    let mut wanted = Vec::new();
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "--quick" => plan = Plan::QUICK,
            name if PARTS.iter().any(|part| part.0 == name) => wanted.push(arg),
            other => {
                return Err(
                    format!("{other}: neither --quick nor one of {}", PARTS.map(|part| part.0).join(", ")).into()
                );
            }
        }
    }
    let mut table = Table::default();
    for (name, part) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            eprintln!("measuring: {name}");
            part(&mut table, plan)?;
        }
    }
    println!("{table}");
    Ok(())
}
