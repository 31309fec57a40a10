//! Scripts as checks: exit code 0 is passing, 1 a warning, everything else critical.

use std::{
    collections::HashMap,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agent_core::checks::Health;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
    time::timeout,
};

/// Octets of output kept, the last ones: Consul's default `check_output_max_size`.
const OUTPUT: usize = 4096;

/// A script, started without a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Program and arguments; at least the program.
    pub args: Vec<String>,
    /// Most octets of output, see [`Script::new`].
    pub output_max: usize,
}

/// The scripts of all checks, by the key that their registration carries ([`agent_core::local::CheckKind::Host`]).
/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Scripts {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    last: u32,
    scripts: HashMap<u32, Script>,
}

impl Scripts {
    /// Keeps a script and gives its key.
    pub fn insert(&self, script: Script) -> u32 {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.last = table.last.wrapping_add(1);
        let key = table.last;
        table.scripts.insert(key, script);
        key
    }

    /// Forgets a script whose check is gone.
    pub fn remove(&self, key: u32) {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).scripts.remove(&key);
    }

    pub(super) fn get(&self, key: u32) -> Option<Script> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).scripts.get(&key).cloned()
    }
}

impl Script {
    /// A script with Consul's limit of output, 4096 octets.
    pub fn new(args: Vec<String>) -> Self {
        Script { args, output_max: OUTPUT }
    }

    /// Runs it once. What runs longer than `limit` is ended together with everything it started.
    pub async fn run(&self, limit: Duration) -> (Health, String) {
        let Some((program, args)) = self.args.split_first() else {
            return (Health::Critical, "the script names no program".into());
        };
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        #[cfg(unix)]
        command.process_group(0);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return (Health::Critical, format!("starting {program}: {error}")),
        };
        let group = child.id();
        let tail = Mutex::new(Tail::new(self.output_max));
        let finished = {
            let (out, err) = (child.stdout.take(), child.stderr.take());
            timeout(limit, async { tokio::join!(copy(out, &tail), copy(err, &tail), child.wait()).2 }).await
        };
        let output = tail.into_inner().unwrap_or_else(PoisonError::into_inner).text();
        match finished {
            Ok(Ok(status)) => match status.code() {
                Some(0) => (Health::Passing, output),
                Some(1) => (Health::Warning, output),
                _ => (Health::Critical, output),
            },
            Ok(Err(error)) => (Health::Critical, format!("waiting for {program}: {error}")),
            Err(_) => {
                end_group(group);
                let _ = child.kill().await;
                (Health::Critical, format!("Timed out ({}) running check", go_duration(limit)))
            }
        }
    }
}

/// Ends a script and all it started.
fn end_group(group: Option<u32>) {
    #[cfg(unix)]
    if let Some(group) = group.and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw) {
        // It may have ended meanwhile.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    #[cfg(not(unix))]
    let _ = group;
}

/// Copies a pipe to its end.
async fn copy(pipe: Option<impl AsyncRead + Unpin>, tail: &Mutex<Tail>) {
    let Some(mut pipe) = pipe else { return };
    let mut buf = [0; 4096];
    while let Ok(len @ 1..) = pipe.read(&mut buf).await {
        tail.lock().unwrap_or_else(PoisonError::into_inner).push(&buf[..len]);
    }
}

/// The last octets of an output.
struct Tail {
    kept: Vec<u8>,
    max: usize,
    total: usize,
}

impl Tail {
    fn new(max: usize) -> Self {
        Tail { kept: Vec::new(), max, total: 0 }
    }

    fn push(&mut self, octets: &[u8]) {
        self.total += octets.len();
        self.kept.extend_from_slice(octets);
        // Cut now and then, not at every octet.
        if self.kept.len() > 2 * self.max + 4096 {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let surplus = self.kept.len().saturating_sub(self.max);
        self.kept.drain(..surplus);
    }

    /// As Consul shows it.
    fn text(mut self) -> String {
        self.cut();
        let text = String::from_utf8_lossy(&self.kept);
        if self.total > self.max {
            return format!("Captured {} of {} bytes\n...\n{text}", self.max, self.total);
        }
        text.into_owned()
    }
}

/// `1s`, `1m30s`, `1.5s`: as Go prints it.
fn go_duration(span: Duration) -> String {
    crate::text::format_duration(span.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Script {
        Script::new(["/bin/sh", "-c", script].map(String::from).into())
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn exit_codes_and_output() {
        for (script, health, output) in [
            ("echo fine", Health::Passing, "fine\n"),
            ("echo hm >&2; exit 1", Health::Warning, "hm\n"),
            ("exit 2", Health::Critical, ""),
            ("kill -9 $$", Health::Critical, ""),
        ] {
            assert_eq!(shell(script).run(PATIENCE).await, (health, output.to_string()), "{script}");
        }
        let (health, output) = Script::new(vec!["/no/such/program".into()]).run(PATIENCE).await;
        assert!(health == Health::Critical && output.contains("/no/such/program"), "{output}");
        assert_eq!(Script::new(Vec::new()).run(PATIENCE).await.0, Health::Critical);
    }

    #[tokio::test]
    async fn long_output_is_cut_to_its_end() {
        let (health, output) =
            shell("i=0; while [ $i -lt 3000 ]; do echo line$i; i=$((i+1)); done").run(PATIENCE).await;
        assert_eq!(health, Health::Passing);
        assert!(output.starts_with("Captured 4096 of ") && output.ends_with("line2999\n"), "{output}");
        assert!(output.len() < 4096 + 64);
    }

    #[tokio::test]
    async fn overlong_scripts_end_with_their_children() {
        let begun = std::time::Instant::now();
        let (health, output) = shell("sleep 600 & sleep 600").run(Duration::from_millis(200)).await;
        assert_eq!((health, output.as_str()), (Health::Critical, "Timed out (200ms) running check"));
        assert!(begun.elapsed() < PATIENCE);
    }

    #[test]
    fn scripts_by_key() {
        let scripts = Scripts::default();
        let (a, b) = (scripts.insert(shell("a")), scripts.insert(shell("b")));
        assert_ne!(a, b);
        assert_eq!(scripts.get(a), Some(shell("a")));
        scripts.remove(a);
        assert_eq!(scripts.get(a), None);
    }
}
