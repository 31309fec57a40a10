//! A running program: its log, signals to it, and its certain end.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Result, wait};

/// How many lines of its log a process shows when the test fails.
const SHOWN_LINES: usize = 60;

/// A program that ends with this value. The last lines of its log are then printed, which the test runner shows only
/// for a failed test.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, which `name` stands for in messages, with both its outputs appended to the file `log`.
    ///
    /// # Errors
    ///
    /// When the program or the log cannot be opened.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out);
        let child = command.spawn().map_err(|error| format!("cannot start {:?}: {error}", command.get_program()))?;
        Ok(Process { child, name: name.into(), log: log.into() })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends a signal; a process that has ended is left alone.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        // Until `try_wait` has seen its end, the id cannot be another process's.
        if self.child.try_wait()?.is_none() {
            let id = i32::try_from(self.child.id())?;
            kill_process(Pid::from_raw(id).ok_or("process id 0")?, signal)?;
        }
        Ok(())
    }

    /// Waits for its own end.
    ///
    /// # Errors
    ///
    /// When it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let name = self.name.clone();
        wait::until(&format!("the end of {name}"), limit, || self.child.try_wait()?.ok_or_else(|| "it runs".into()))
    }

    /// Fails when it has ended, with its last words: what a look at a starting agent begins with.
    ///
    /// # Errors
    ///
    /// As said.
    pub fn check_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("{} ended with {status}:\n{}", self.name, self.last_words()).into()),
        }
    }

    /// Ends it at once, as a power cut would.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }
}

/// Whether a process's end shows its log: a test's output is seen only when it fails, a program's always.
static SHOWN: AtomicBool = AtomicBool::new(true);

/// Shows no logs when processes end: for programs that are no tests.
pub fn keep_quiet() {
    SHOWN.store(false, Ordering::Relaxed);
}

impl Drop for Process {
    fn drop(&mut self) {
        let words = if SHOWN.load(Ordering::Relaxed) { self.last_words() } else { String::new() };
        if !words.is_empty() {
            eprintln!("--- {}, process {}, its last lines:\n{words}", self.name, self.id());
        }
        // Nothing is left to do when it has already ended.
        let _ = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, folder: &Path) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start("shell", command, &folder.join("log")).unwrap()
    }

    #[test]
    fn output_signals_and_end_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell("echo hello; exec sleep 600", folder.path());
        let second = Duration::from_secs(10);
        wait::until("hello", second, || wait::check(process.log() == "hello\n", || process.log())).unwrap();
        process.check_running().unwrap();
        process.signal(Signal::TERM).unwrap();
        assert!(!process.wait(second).unwrap().success());
        let error = process.check_running().unwrap_err().to_string();
        assert!(error.contains("hello"), "{error}");
        process.signal(Signal::TERM).unwrap();
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let process = shell("exec sleep 600", folder.path());
        let entry = PathBuf::from(format!("/proc/{}", process.id()));
        assert!(entry.exists());
        drop(process);
        assert!(!entry.exists());
    }
}
