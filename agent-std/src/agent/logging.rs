//! Log lines in Consul's form: `    2026-11-22T08:00:00.000Z [INFO]  agent.server: message`, or one JSON object a line.

use std::{
    io::{self, Write as _},
    time::SystemTime,
};

use log::{Level, LevelFilter, Log, Metadata, Record};

/// Writes log lines to standard output.
struct Lines {
    json: bool,
}

/// Starts logging. A second call changes only the level, so that tests may start several agents.
pub fn start(level: LevelFilter, json: bool) {
    log::set_max_level(level);
    // Fails only when a logger is there already.
    let _ = log::set_boxed_logger(Box::new(Lines { json }));
}

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = line(SystemTime::now(), record.level(), record.target(), &record.args().to_string(), self.json);
        // A closed standard output must not end the agent.
        let _ = io::stdout().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

fn line(now: SystemTime, level: Level, target: &str, message: &str, json: bool) -> String {
    let time = humantime::format_rfc3339_millis(now);
    let name = name(target);
    if json {
        let level = level.as_str().to_ascii_lowercase();
        let object = serde_json::json!({
            "@level": level, "@message": message, "@module": name, "@timestamp": time.to_string()
        });
        return format!("{object}\n");
    }
    let (tag, pad) = match level {
        Level::Error => ("ERROR", ""),
        Level::Warn => ("WARN", " "),
        Level::Info => ("INFO", " "),
        Level::Debug => ("DEBUG", ""),
        Level::Trace => ("TRACE", ""),
    };
    // A message is one line, whatever a peer put into it.
    let message = message.replace(['\n', '\r'], " ");
    format!("    {time} [{tag}]{pad} {name}: {message}\n")
}

/// Consul's logger names for our modules, where it has one.
fn name(target: &str) -> String {
    let Some(path) = target.strip_prefix("agent_std::").or_else(|| target.strip_prefix("agent_core::")) else {
        return target.to_owned();
    };
    match path.split("::").next().unwrap_or(path) {
        "agent" => "agent".to_owned(),
        "raft" => "agent.server.raft".to_owned(),
        // Of either pool: a pool does not know which it is.
        "pool" | "membership" | "serf" => "agent.serf".to_owned(),
        other => format!("agent.{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_consuls() {
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_763_798_400_123);
        assert_eq!(
            line(at, Level::Info, "agent_std::raft::node", "a\nb", false),
            "    2025-11-22T08:00:00.123Z [INFO]  agent.server.raft: a b\n"
        );
        assert_eq!(line(at, Level::Warn, "hyper", "x", false), "    2025-11-22T08:00:00.123Z [WARN]  hyper: x\n");
        let json: serde_json::Value =
            serde_json::from_str(&line(at, Level::Error, "agent_std::dns", "x", true)).unwrap();
        assert_eq!((&json["@level"], &json["@module"]), (&"error".into(), &"agent.dns".into()));
    }
}
