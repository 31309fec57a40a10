//! `cargo xtask fuzz MINUTES`: looks for inputs that agent-core does not survive, an equal time for each target.
//!
//! What is found goes into the corpus; the smallest inputs that reach as much are kept. An ordinary test runs them all
//! again, so whoever has no nightly compiler misses only the search.

use std::process::Command;

use crate::shell::{Result, output, root, step};

/// The targets, as in `agent-core/fuzz/src/lib.rs`.
const TARGETS: [&str; 5] = ["datagram", "stream", "rpc_reply", "dns", "operations"];
/// Longest input tried, in octets; more finds nothing that shorter ones do not, only later.
const LONGEST: usize = 4096;

/// Runs the task.
pub fn run(args: &mut lexopt::Parser) -> Result<()> {
    let minutes: f64 = match args.next()? {
        Some(lexopt::Arg::Value(value)) => lexopt::ValueExt::parse(&value)?,
        Some(other) => return Err(other.unexpected().into()),
        None => return Err("for how many minutes? `cargo xtask fuzz 10`".into()),
    };
    if output(Command::new("rustup").args(["run", "nightly", "rustc", "--version"])).is_none() {
        return Err("fuzzing needs a nightly compiler: rustup toolchain install nightly".into());
    }
    if output(&mut fuzz(&["--version"])).is_none() {
        return Err("fuzzing needs cargo-fuzz: cargo install --locked cargo-fuzz".into());
    }
    let seconds = (minutes * 60.0 / TARGETS.len() as f64).ceil().max(1.0);
    for target in TARGETS {
        let limits = [format!("-max_total_time={seconds}"), format!("-max_len={LONGEST}"), "-timeout=20".to_owned()];
        step(&format!("{target}, {seconds} s"), fuzz(&["run", target, "--"]).args(limits))?;
        shrink(target)?;
    }
    Ok(())
}

/// Keeps of a target's corpus what together reaches all that the whole does.
fn shrink(target: &str) -> Result<()> {
    let corpus = root().join("agent-core/fuzz/corpus").join(target);
    let kept = corpus.with_extension("kept");
    let failed = |error| format!("{}: {error}", kept.display());
    // What an earlier run left when it was cut short.
    let _ = std::fs::remove_dir_all(&kept);
    std::fs::create_dir(&kept).map_err(failed)?;
    let mut merge = fuzz(&["run", target]);
    merge.args([&kept, &corpus]).args(["--", "-set_cover_merge=1", "-use_counters=0"]);
    step(&format!("smallest corpus of {target}"), &mut merge)?;
    std::fs::remove_dir_all(&corpus).and_then(|()| std::fs::rename(&kept, &corpus)).map_err(failed)?;
    Ok(())
}

/// A `cargo fuzz` command. The core has no unsafe code, so there is nothing for a sanitizer to watch.
fn fuzz(args: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo", "fuzz"]).current_dir(root());
    match args {
        ["run", rest @ ..] => command.args(["run", "--fuzz-dir", "agent-core/fuzz", "--sanitizer", "none"]).args(rest),
        _ => command.args(args),
    };
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_listed() {
        let mut files: Vec<String> = std::fs::read_dir(root().join("agent-core/fuzz/fuzz_targets"))
            .expect("the targets are there")
            .map(|file| file.expect("a readable folder").path().file_stem().expect("a name").to_string_lossy().into())
            .collect();
        files.sort();
        let mut listed = TARGETS.map(str::to_owned);
        listed.sort();
        assert_eq!(files, listed);
    }
}
