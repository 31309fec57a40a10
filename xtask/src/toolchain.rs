//! Which compiler builds for a board: rustup's with its target, or the distribution's with `core` from source.
//!
//! The boards' own configuration names neither `build-std` nor a linker, so that both ways build the same files; what
//! the second way needs is passed by environment.

use std::{path::Path, process::Command};

use crate::{
    packages::{self, CARGO, LLD, RUST_SRC, RUSTC},
    shell::{self, Result},
};

/// A way to build for one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The toolchain that runs this task has the target's `core`.
    Installed,
    /// Debian's compiler, which builds `core` from its source package.
    Distribution,
}

impl Toolchain {
    /// The toolchain for `target`, installed if need be.
    ///
    /// # Errors
    ///
    /// When there is none and none can be installed; the text says how to get one.
    pub fn find(target: &str) -> Result<Self> {
        if has_target(target) {
            return Ok(Toolchain::Installed);
        }
        let distribution = [RUSTC, CARGO, RUST_SRC, LLD];
        if Path::new(RUST_SRC.provides).exists() {
            packages::ensure(&distribution)?;
            return Ok(Toolchain::Distribution);
        }
        let added = shell::output(Command::new("rustup").args(["target", "add", target])).is_some();
        if added && has_target(target) {
            return Ok(Toolchain::Installed);
        }
        packages::ensure(&distribution).map_err(|error| {
            format!("no compiler for {target}: `rustup target add {target}` did not work here, and of Debian's {error}")
        })?;
        Ok(Toolchain::Distribution)
    }

    /// A `cargo` command that builds for `target` with this toolchain.
    pub fn cargo(self, target: &str, args: &[&str]) -> Command {
        let mut command = match self {
            Toolchain::Installed => shell::cargo(args),
            Toolchain::Distribution => {
                let linker = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
                let mut command = Command::new(CARGO.provides);
                command.args(args).current_dir(shell::root());
                // `build-std` is unstable, and the variable that opens it is read by cargo and rustc alike.
                command
                    .env("RUSTC", RUSTC.provides)
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_UNSTABLE_BUILD_STD", "core");
                // Set by the cargo that runs us; they would lead this one back to rustup's compiler.
                command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env(linker, LLD.provides);
                command
            }
        };
        command.args(["--target", target]);
        command
    }
}

fn has_target(target: &str) -> bool {
    let sysroot = shell::output(Command::new("rustc").args(["--print", "sysroot"])).unwrap_or_default();
    Path::new(&sysroot).join("lib/rustlib").join(target).join("lib").is_dir()
}
