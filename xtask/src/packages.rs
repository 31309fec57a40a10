//! Debian packages that a task needs: installed when we are root, asked for otherwise.

use std::{path::Path, process::Command};

use crate::shell::{Result, find, output, step};

/// A package and what shows that it is there.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// The package's name in Debian 12.
    pub name: &'static str,
    /// A program on the PATH, or an absolute path.
    pub provides: &'static str,
}

/// The boards' linker where the toolchain brings none.
pub const LLD: Package = Package { name: "lld", provides: "ld.lld" };
/// The distribution's newest compiler.
pub const RUSTC: Package = Package { name: "rustc-web", provides: "/usr/bin/rustc" };
/// The cargo that fits it.
pub const CARGO: Package = Package { name: "cargo-web", provides: "/usr/bin/cargo" };
/// The standard library's source, from which `core` is built for a board.
pub const RUST_SRC: Package = Package { name: "rust-web-src", provides: "/usr/lib/rustlib/src/rust/library/core" };

impl Package {
    fn is_there(&self) -> bool {
        if self.provides.starts_with('/') { Path::new(self.provides).exists() } else { find(self.provides).is_some() }
    }
}

/// Makes sure that all of `packages` are there.
///
/// # Errors
///
/// When some are missing and we are not root, or installing fails; the text is the line to run.
pub fn ensure(packages: &[Package]) -> Result<()> {
    let missing: Vec<&str> =
        packages.iter().filter(|package| !package.is_there()).map(|package| package.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    if !is_root() || find("apt-get").is_none() {
        return Err(format!("packages are missing; run (Debian 12's names):\n    sudo {line}").into());
    }
    step("package lists", Command::new("apt-get").args(["update", "-qq"]))?;
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(&missing);
    step("packages", install.env("DEBIAN_FRONTEND", "noninteractive"))?;
    match packages.iter().find(|package| !package.is_there()) {
        None => Ok(()),
        Some(package) => {
            Err(format!("package {} is installed but {} is not there", package.name, package.provides).into())
        }
    }
}

/// True when we may install packages.
pub fn is_root() -> bool {
    output(Command::new("id").arg("-u")).as_deref() == Some("0")
}
