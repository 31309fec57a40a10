//! `cargo xtask test`: everything that CI does, cheapest first, the tests last.

use crate::{
    firmware, packages, peers,
    shell::{self, Result, cargo, step},
    toolchain::Toolchain,
};

/// The smallest architectures that the core is for: Cortex-M0, Cortex-M3 and 32-bit RISC-V.
const BARE_TARGETS: [&str; 3] = ["thumbv6m-none-eabi", "thumbv7m-none-eabi", "riscv32imac-unknown-none-elf"];

/// Runs the task.
pub fn run(args: &mut lexopt::Parser) -> Result<()> {
    let mut long = false;
    while let Some(arg) = args.next()? {
        match arg {
            lexopt::Arg::Long("long") => long = true,
            other => return Err(other.unexpected().into()),
        }
    }
    step("formatting", &mut cargo(&["fmt", "--all", "--check"]))?;
    step("lints", &mut cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    let mut docs = cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
    step("docs", docs.env("RUSTDOCFLAGS", "-D warnings"))?;
    licences()?;
    features()?;
    no_alloc()?;
    packages::ensure(&[firmware::QEMU])?;
    let peers = peers::install()?;
    // Not all at once: the log decoder of the cross-crate tests turns on serde_json's `arbitrary_precision`, and what is
    // tested must be built as it is shipped.
    let ours = ["test", "--workspace", "--exclude", "agent-tests", "--locked", "--no-fail-fast"];
    let across = ["test", "--package", "agent-tests", "--locked", "--no-fail-fast"];
    for (name, args) in [("tests", &ours[..]), ("tests across the crates", &across[..])] {
        let mut tests = cargo(args);
        if long {
            tests.env("LICTOR_LONG", "1");
        }
        step(name, tests.env("LICTOR_PEERS", &peers))?;
    }
    // Behind the tests, which have measured the stack.
    firmware::weigh_all()
}

/// Licences and sources of all dependencies against deny.toml.
fn licences() -> Result<()> {
    let version = || shell::output(&mut cargo(&["deny", "--version"]));
    if version().is_none() {
        // Its own target folder would be temporary; ours keeps the build when the step is cut short.
        let mut install = cargo(&["install", "--locked", "cargo-deny"]);
        step("cargo-deny, once", install.env("CARGO_TARGET_DIR", shell::root().join("target/tools")))?;
    }
    step("licences", &mut cargo(&["deny", "--workspace", "--locked", "check", "bans", "licenses", "sources"]))
}

/// Every feature of agent-core alone, none, and all together.
fn features() -> Result<()> {
    let names = feature_names(
        &std::fs::read_to_string(shell::root().join("agent-core/Cargo.toml"))
            .map_err(|error| format!("agent-core/Cargo.toml: {error}"))?,
    );
    let sets = std::iter::once(String::new()).chain(names.iter().cloned()).chain([names.join(",")]);
    for set in sets {
        let mut check = cargo(&["clippy", "--package", "agent-core", "--locked", "--no-default-features"]);
        step(&format!("features [{set}]"), check.args(["--features", &set, "--", "-D", "warnings"]))?;
    }
    Ok(())
}

/// The names in the `[features]` table of a manifest.
fn feature_names(manifest: &str) -> Vec<String> {
    let table = manifest.lines().skip_while(|line| line.trim() != "[features]").skip(1);
    table
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim())
        .filter(|name| !name.starts_with('#') && *name != "default")
        .map(str::to_owned)
        .collect()
}

/// The core builds where there is no `alloc` at all.
///
/// With `core` built from source there is no other crate to link. With an installed target `alloc` exists; there the
/// boards' images show it, because linking `alloc` without a global allocator fails.
fn no_alloc() -> Result<()> {
    for target in BARE_TARGETS {
        let toolchain = Toolchain::find(target)?;
        let mut build =
            toolchain.cargo(target, &["build", "--locked", "--package", "agent-core", "--features", "compress"]);
        build.env("CARGO_TARGET_DIR", shell::root().join("target/bare"));
        step(&format!("core without alloc on {target}"), &mut build)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_from_the_manifest() {
        let manifest = "[package]\nname = \"x\"\n[features]\ndefault = []\n# words = no feature\na = []\nb-c = [\"dep:d\"]\n[dependencies]\ne = \"1\"\n";
        assert_eq!(feature_names(manifest), ["a", "b-c"]);
    }
}
