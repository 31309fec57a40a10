//! `cargo xtask bench`: the core alone, then our agent beside the real Consul.

use crate::{
    peers,
    shell::{self, Result, cargo, step},
};

/// Runs the task; the bench's own program reads the options.
pub fn run(args: &mut lexopt::Parser) -> Result<()> {
    let options = args.raw_args()?.collect::<Vec<_>>();
    let peers = peers::install()?;
    step("the binary as it is shipped", &mut cargo(&["build", "--release", "--locked", "--package", "agent-std"]))?;
    if options.is_empty() {
        step("the core alone", &mut cargo(&["bench", "--locked", "--package", "agent-core"]))?;
    }
    let run = ["run", "--quiet", "--profile", "sim", "--locked", "--package", "agent-tests", "--bin", "bench", "--"];
    let mut bench = cargo(&run);
    bench.args(options).env("LICTOR_BIN", shell::root().join("target/release/lictor")).env("LICTOR_PEERS", &peers);
    step("beside Consul", &mut bench)
}
