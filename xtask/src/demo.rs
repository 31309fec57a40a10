//! `cargo xtask demo`: three servers and an emulated board, from nothing to a name that resolves.

use crate::{
    firmware,
    packages::{self, Package},
    shell::{Result, cargo, step},
};

/// What asks the questions.
const DIG: Package = Package { name: "bind9-dnsutils", provides: "dig" };

/// Runs the task.
///
/// # Errors
/// When a package is missing and we may not install it, something does not build, or the demo does not get through.
pub fn run(args: &mut lexopt::Parser) -> Result<()> {
    let mut once = false;
    while let Some(arg) = args.next()? {
        match arg {
            lexopt::Arg::Long("once") => once = true,
            other => return Err(other.unexpected().into()),
        }
    }
    packages::ensure(&[firmware::QEMU, DIG])?;
    firmware::prepare()?;
    // The harness that the tests use, so that what a person sees is what the tests hold.
    let mut demo = cargo(&["run", "--quiet", "--package", "agent-tests", "--bin", "demo", "--"]);
    if once {
        demo.arg("--once");
    }
    step("demo", &mut demo)
}
