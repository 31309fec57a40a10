//! Where the real agents' programs come from.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::Result;

/// The path of `consul` (1.8.7), `serf` (0.9.4) or `serf-0.10` (0.10.1), installed if need be.
///
/// They are looked for in the folder that `LICTOR_PEERS` names, or in `target/peers/bin`.
///
/// # Errors
///
/// When it is missing and cannot be installed: such a test fails, it is never skipped.
pub fn program(name: &str) -> Result<PathBuf> {
    static FOLDER: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let folder = match std::env::var_os("LICTOR_PEERS") {
        Some(folder) => PathBuf::from(folder),
        None => FOLDER.get_or_init(|| install().map_err(|error| error.to_string())).clone()?,
    };
    let program = folder.join(name);
    if program.is_file() { Ok(program) } else { Err(format!("no real peer at {}", program.display()).into()) }
}

/// The workspace's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn install() -> Result<PathBuf> {
    let folder = root().join("target/peers");
    std::fs::create_dir_all(&folder)?;
    // Test programs may run at the same time; the second finds everything done.
    let lock = File::create(folder.join("lock"))?;
    lock.lock()?;
    let output = Command::new("bash").arg(root().join("tests/peers.sh")).arg(&folder).output()?;
    if !output.status.success() {
        return Err(format!("tests/peers.sh: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(folder.join("bin"))
}
