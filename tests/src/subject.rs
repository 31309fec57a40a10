//! Which program an agent of a cluster runs, and where our own comes from.

use std::{path::PathBuf, process::Command, sync::OnceLock};

use crate::{
    Result,
    peers::{program, root},
};

/// The program behind an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The real Consul 1.8.7. As the subject of a scenario it shows that the scenario itself is right.
    Consul,
    /// Ours.
    Lictor,
}

impl Kind {
    /// The path of the program.
    ///
    /// # Errors
    ///
    /// When it can be neither found nor made.
    pub fn program(self) -> Result<PathBuf> {
        match self {
            Kind::Consul => program("consul"),
            Kind::Lictor => lictor(),
        }
    }
}

/// Our binary: the file that `LICTOR_BIN` names, or the one that cargo builds now.
fn lictor() -> Result<PathBuf> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    if let Some(path) = std::env::var_os("LICTOR_BIN") {
        return Ok(path.into());
    }
    Ok(BUILT.get_or_init(|| build().map_err(|error| error.to_string())).clone()?)
}

fn build() -> Result<PathBuf> {
    let built = built(&["--package", "agent-std", "--bin", "lictor"], "lictor")?;
    let executable = built["executable"].as_str().ok_or("cargo built no lictor")?;
    Ok(executable.into())
}

/// What cargo says of target `name` after it was built with these options.
pub(crate) fn built(options: &[&str], name: &str) -> Result<serde_json::Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--locked", "--message-format", "json"])
        .args(options)
        .current_dir(root())
        .output()?;
    if !output.status.success() {
        return Err(format!("building {name}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find(|message| message["target"]["name"] == name && message["reason"] == "compiler-artifact")
        .ok_or_else(|| format!("cargo built no {name}").into())
}
