//! A process's wall clock, set by a test while the process runs.
//!
//! A library stands between the process and its system (`LD_PRELOAD`; package `agent-clock`), so that the program under
//! test is the shipped one, and no test needs a privilege. Only `CLOCK_REALTIME` is changed: a machine whose time service
//! or whose operator sets the clock changes nothing else either.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use tempfile::NamedTempFile;

use crate::{Result, subject};

/// The clock of one process, or of several.
#[derive(Debug)]
pub struct Clock {
    ahead: NamedTempFile,
    library: PathBuf,
}

impl Clock {
    /// A clock that is right.
    ///
    /// # Errors
    ///
    /// When its library cannot be built.
    pub fn new() -> Result<Self> {
        let clock = Clock { ahead: NamedTempFile::new()?, library: library()? };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets it so many milliseconds ahead of the system's.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn set(&self, millis: i64) -> Result<()> {
        use std::os::unix::fs::FileExt as _;
        // In one write: a reader sees all of the old octets or all of the new.
        Ok(self.ahead.as_file().write_all_at(&millis.to_le_bytes(), 0)?)
    }

    /// What a process needs in its environment to live by it.
    pub fn apply(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("LICTOR_TEST_CLOCK", self.ahead.path());
    }
}

fn library() -> Result<PathBuf> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let build = || -> Result<PathBuf> {
        let built = subject::built(&["--package", "agent-clock"], "agent_clock")?;
        let files = built["filenames"].as_array().into_iter().flatten().filter_map(|file| file.as_str());
        let library = files.map(Path::new).find(|file| file.extension().is_some_and(|end| end == "so"));
        Ok(fs::canonicalize(library.ok_or("cargo built no library")?)?)
    };
    Ok(BUILT.get_or_init(|| build().map_err(|error| error.to_string())).clone()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_sees_the_clock_that_it_was_given() {
        let clock = Clock::new().unwrap();
        let seconds = |ahead| -> i64 {
            clock.set(ahead).unwrap();
            let mut date = Command::new("date");
            clock.apply(&mut date);
            String::from_utf8(date.arg("+%s").output().unwrap().stdout).unwrap().trim().parse().unwrap()
        };
        let now = seconds(0);
        assert!((now + 86_399..now + 86_500).contains(&seconds(86_400_000)));
        assert!((now - 3_601..now - 3_500).contains(&seconds(-3_600_000)));
    }
}
