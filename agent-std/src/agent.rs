//! The agent of an operating system: where the core, the servers and the signals meet.

use crate::{cli::product::Product, config::Config};

/// Runs the agent until it is told to stop; the exit code (config spec §7).
pub fn run(config: Config, product: Product) -> u8 {
    drop(config);
    eprintln!("==> the agent is not implemented yet by {}", product.command());
    1
}
