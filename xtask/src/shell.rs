//! Running programs: shown before they run, checked after.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

/// What a task returns.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why a task stopped, in words for the person who started it.
#[derive(Debug)]
pub struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Failure(text)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        Failure(text.into())
    }
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Failure(format!("{error}; `cargo xtask help` lists the tasks and their options"))
    }
}

/// The workspace's root folder.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("xtask lies in the workspace's root").to_path_buf()
}

/// A `cargo` command in the root folder, with the cargo that runs this task.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// Runs `command` to its end under a heading, and says how long it took.
///
/// # Errors
///
/// When it cannot be started or does not succeed; the text holds the command line.
pub fn step(title: &str, command: &mut Command) -> Result<()> {
    eprintln!("\n==> {title}\n    {}", line(command));
    let start = Instant::now();
    let status = command.status().map_err(|error| format!("cannot start `{}`: {error}", line(command)))?;
    if !status.success() {
        return Err(format!("{title}: {status}\n    {}", line(command)).into());
    }
    eprintln!("    {title}: {:.0} s", start.elapsed().as_secs_f32());
    Ok(())
}

/// The standard output of `command`, trimmed; `None` when it is missing or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// The place of `program` on the PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// What a person would type to run `command`.
fn line(command: &Command) -> String {
    let settings = command
        .get_envs()
        .filter_map(|(key, value)| Some(format!("{}={}", key.to_string_lossy(), quoted(&value?.to_string_lossy()))));
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    settings.chain(words.map(|word| quoted(&word.to_string_lossy()))).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./,:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("cargo");
        command.args(["test", "two words", "it's"]).env("FLAGS", "-D warnings");
        assert_eq!(line(&command), r"FLAGS='-D warnings' cargo test 'two words' 'it'\''s'");
    }

    #[test]
    fn a_failing_step_names_its_command() {
        let error = step("nothing", Command::new("false").arg("x")).expect_err("false fails").to_string();
        assert!(error.contains("nothing") && error.contains("false x"), "{error}");
        assert!(output(&mut Command::new("false")).is_none());
    }
}
