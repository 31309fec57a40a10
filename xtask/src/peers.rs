//! `cargo xtask peers`: the real agents that the tests run against.

use std::{path::PathBuf, process::Command};

use crate::shell::{Result, root, step};

/// Runs the task.
pub fn run(args: &mut lexopt::Parser) -> Result<()> {
    if let Some(arg) = args.next()? {
        return Err(arg.unexpected().into());
    }
    println!("{}", install()?.display());
    Ok(())
}

/// Installs what is missing and returns the folder with the programs `consul`, `serf` and `serf-0.10`.
///
/// # Errors
///
/// When something is missing and cannot be installed.
pub fn install() -> Result<PathBuf> {
    let folder = root().join("target/peers");
    step("real peers", Command::new("bash").arg(root().join("tests/peers.sh")).arg(&folder))?;
    Ok(folder.join("bin"))
}
