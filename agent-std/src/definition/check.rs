//! Check definitions.

use std::{collections::BTreeMap, time::Duration};

use agent_core::checks::Health;
use serde::Deserialize;

use crate::config::{duration::RawDuration, secret::Secret};

/// The longest output kept, unless a check says otherwise: Consul's 4 KiB.
const OUTPUT_MAX_SIZE: usize = 4096;

/// A check, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Unique on this agent.
    pub id: String,
    /// Name.
    pub name: String,
    /// Free text.
    pub notes: String,
    /// The service it belongs to; empty: the node.
    pub service_id: String,
    /// Token for this registration; empty: the service's or the agent's.
    pub token: Secret,
    /// State before the first run.
    pub status: Health,
    /// How it is judged.
    pub kind: CheckKind,
    /// Deregister the service when critical for this long; zero: never.
    pub deregister_critical_after: Duration,
    /// Consecutive good runs before it counts as passing.
    pub success_before_passing: u8,
    /// Consecutive bad runs before it counts as critical.
    pub failures_before_critical: u8,
    /// Octets of output kept.
    pub output_max_size: usize,
}

/// How a check is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// Nobody runs it; it keeps its state.
    Never,
    /// Critical unless reported in time.
    Ttl(Duration),
    /// Passing when a connection opens.
    Tcp {
        /// `host:port`.
        target: String,
        /// Time between runs.
        interval: Duration,
        /// Longest run.
        timeout: Duration,
    },
    /// Judged by the status of an HTTP answer.
    Http {
        /// Address.
        url: String,
        /// Method; empty: GET.
        method: String,
        /// Request headers.
        headers: Vec<(String, String)>,
        /// Request body.
        body: String,
        /// Accept any certificate.
        tls_skip_verify: bool,
        /// Time between runs.
        interval: Duration,
        /// Longest run.
        timeout: Duration,
    },
    /// Judged by the exit code of a program.
    Script {
        /// Program and arguments.
        args: Vec<String>,
        /// Time between runs.
        interval: Duration,
        /// Longest run.
        timeout: Duration,
    },
}

impl CheckKind {
    /// The word in the `Type` field of the API.
    pub const fn as_str(&self) -> &'static str {
        match self {
            CheckKind::Never => "",
            CheckKind::Ttl(_) => "ttl",
            CheckKind::Tcp { .. } => "tcp",
            CheckKind::Http { .. } => "http",
            CheckKind::Script { .. } => "script",
        }
    }
}

/// A check as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawCheck {
    id: Option<String>,
    name: Option<String>,
    notes: Option<String>,
    service_id: Option<String>,
    token: Secret,
    status: Option<String>,
    interval: RawDuration,
    timeout: RawDuration,
    ttl: RawDuration,
    http: Option<String>,
    method: Option<String>,
    header: Option<BTreeMap<String, Vec<String>>>,
    body: Option<String>,
    tls_skip_verify: Option<bool>,
    tcp: Option<String>,
    args: Option<Vec<String>>,
    shell: Option<String>,
    docker_container_id: Option<String>,
    grpc: Option<String>,
    alias_node: Option<String>,
    alias_service: Option<String>,
    success_before_passing: Option<i64>,
    failures_before_critical: Option<i64>,
    deregister_critical_service_after: RawDuration,
    output_max_size: Option<i64>,
}

impl RawCheck {
    /// What was written, checked. The defaults are those of a service's check; a node check has none and its id
    /// defaults to its name.
    ///
    /// # Errors
    /// Consul's sentence about the first problem.
    pub fn resolve(self, default_id: Option<&str>, default_name: Option<&str>) -> Result<Check, String> {
        let text = |value: Option<String>| value.unwrap_or_default();
        for (given, name) in [
            (text(self.grpc), "gRPC"),
            (text(self.docker_container_id), "Docker"),
            (text(self.shell), "Docker"),
            (text(self.alias_node), "alias"),
            (text(self.alias_service), "alias"),
        ] {
            if !given.is_empty() {
                return Err(format!("{name} checks are not implemented yet by lictor"));
            }
        }
        let interval = self.interval.resolve("interval")?;
        let timeout = self.timeout.resolve("timeout")?;
        let ttl = self.ttl.resolve("ttl")?;
        let (http, tcp, args) = (text(self.http), text(self.tcp), self.args.unwrap_or_default());
        if [!http.is_empty(), !tcp.is_empty(), !args.is_empty()].into_iter().filter(|&set| set).count() > 1 {
            return Err("Invalid check: only one of http, tcp and args may be given".to_owned());
        }
        let runs = !http.is_empty() || !tcp.is_empty() || !args.is_empty();
        if runs && interval.is_zero() {
            return Err("Invalid check: Interval must be > 0 for Script, HTTP, or TCP checks".to_owned());
        }
        if runs && !ttl.is_zero() {
            return Err("Invalid check: Interval and TTL cannot both be specified".to_owned());
        }
        let or = |timeout: Duration, default: u64| match timeout.is_zero() {
            true => Duration::from_secs(default),
            false => timeout,
        };
        // Consul's limits for a run that has none of its own: 30 s for programs, 10 s for the network.
        let kind = if !http.is_empty() {
            let headers = self.header.unwrap_or_default().into_iter();
            CheckKind::Http {
                url: http,
                method: text(self.method),
                headers: headers
                    .flat_map(|(name, values)| values.into_iter().map(move |v| (name.clone(), v)))
                    .collect(),
                body: text(self.body),
                tls_skip_verify: self.tls_skip_verify.unwrap_or(false),
                interval,
                timeout: or(timeout, 10),
            }
        } else if !tcp.is_empty() {
            CheckKind::Tcp { target: tcp, interval, timeout: or(timeout, 10) }
        } else if !args.is_empty() {
            CheckKind::Script { args, interval, timeout: or(timeout, 30) }
        } else if !ttl.is_zero() {
            CheckKind::Ttl(ttl)
        } else {
            CheckKind::Never
        };
        let name = text(self.name);
        let name = if name.is_empty() { default_name.unwrap_or_default().to_owned() } else { name };
        if name.is_empty() {
            return Err("Missing check name".to_owned());
        }
        let id = text(self.id);
        let id = if id.is_empty() { default_id.unwrap_or(&name).to_owned() } else { id };
        let status = match self.status.as_deref() {
            None | Some("" | "critical") => Health::Critical,
            Some("warning") => Health::Warning,
            Some("passing") => Health::Passing,
            Some(_) => return Err("Status for checks must 'passing', 'warning', 'critical'".to_owned()),
        };
        let count = |given: Option<i64>| u8::try_from(given.unwrap_or(0).max(0)).unwrap_or(u8::MAX);
        let output_max_size = match self.output_max_size.unwrap_or(0) {
            0 => OUTPUT_MAX_SIZE,
            size => usize::try_from(size).map_err(|_| "Invalid check: MaxOutputSize must be positive".to_owned())?,
        };
        Ok(Check {
            id,
            name,
            notes: text(self.notes),
            service_id: text(self.service_id),
            token: self.token,
            status,
            kind,
            deregister_critical_after: self
                .deregister_critical_service_after
                .resolve("deregister_critical_service_after")?,
            success_before_passing: count(self.success_before_passing),
            failures_before_critical: count(self.failures_before_critical),
            output_max_size,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<Check, String> {
        serde_json::from_str::<RawCheck>(text).unwrap().resolve(None, None)
    }

    #[test]
    fn kinds_and_their_limits() {
        let check = resolve(r#"{"name":"a","tcp":"x:1","interval":"1s"}"#).unwrap();
        let second = Duration::from_secs(1);
        assert_eq!(check.kind, CheckKind::Tcp { target: "x:1".into(), interval: second, timeout: second * 10 });
        assert_eq!((check.id.as_str(), check.status, check.output_max_size), ("a", Health::Critical, 4096));
        let check = resolve(r#"{"name":"a","args":["true"],"interval":1000000000}"#).unwrap();
        assert_eq!(check.kind, CheckKind::Script { args: vec!["true".into()], interval: second, timeout: second * 30 });
        assert_eq!(resolve(r#"{"name":"a","ttl":"5s","status":"passing"}"#).unwrap().kind, CheckKind::Ttl(second * 5));
        assert_eq!(resolve(r#"{"name":"a"}"#).unwrap().kind, CheckKind::Never);
    }

    #[test]
    fn refusals() {
        for (text, why) in [
            ("{}", "Missing check name"),
            (r#"{"name":"a","tcp":"x:1"}"#, "Invalid check: Interval must be > 0 for Script, HTTP, or TCP checks"),
            (r#"{"name":"a","tcp":"x:1","interval":"1s","ttl":"1s"}"#, {
                "Invalid check: Interval and TTL cannot both be specified"
            }),
            (r#"{"name":"a","status":"bad"}"#, "Status for checks must 'passing', 'warning', 'critical'"),
            (r#"{"name":"a","ttl":"5"}"#, r#"ttl: invalid duration: "5": time: missing unit in duration "5""#),
            (r#"{"name":"a","grpc":"x:1"}"#, "gRPC checks are not implemented yet by lictor"),
        ] {
            assert_eq!(resolve(text), Err(why.to_owned()));
        }
    }
}
