//! A registered check: its slot, its record and how others may look at it.
//!
//! Its block holds, one behind the other: token (raw), constant fields (the map that Catalog.Register carries under
//! `Check`, without what changes), the job (what to run), the output, and for an HTTP check a second output area in which
//! the running check's output is put together.

use super::{CheckDef, CheckKind, service::text};
use crate::{
    checks::Health,
    time::{Duration, Instant},
    wire::msgpack::{Reader, Writer},
};

/// How a check is judged, without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Judge {
    /// Never runs.
    Static = 0,
    /// Critical unless reported in time.
    Ttl = 1,
    /// Passing when a TCP connection opens.
    Tcp = 2,
    /// By the status of an HTTP response.
    Http = 3,
    /// The host runs it.
    Host = 4,
}

/// Where a check's record lies, when it runs next, and what the catalog knows of it. When all slots are taken, registering
/// is refused.
#[derive(Clone, Copy, Debug)]
pub struct CheckSlot {
    /// Offset and length of the block.
    pub(super) at: u32,
    pub(super) len: u32,
    /// Offsets inside the block.
    pub(super) fixed: u32,
    pub(super) job: u32,
    pub(super) output: u32,
    /// Hash of the id, to compare few records.
    pub(super) hash: u32,
    /// Time between runs, or the TTL.
    pub(crate) interval_ms: u32,
    /// Longest run.
    pub(crate) timeout_ms: u32,
    /// Deregister the service when critical for so long; 0: never.
    pub(crate) deregister_s: u32,
    /// Octets of the output, and of the one being put together.
    pub(super) output_len: u16,
    pub(super) scratch_len: u16,
    /// Capacity of each output area.
    pub(super) limit: u16,
    /// Index of its service plus one; 0: the node's.
    pub(super) service: u16,
    /// With the flag `TIMED`: when it runs or expires; while it runs: when that takes too long.
    pub(crate) due: Instant,
    /// With the flag `DEFERRED`: when a change of the output alone must reach the catalog.
    pub(super) defer: Instant,
    /// With health critical: since when.
    pub(crate) critical_since: Instant,
    pub(super) flags: u16,
    pub(super) health: Health,
    pub(crate) judge: Judge,
    /// Consecutive good and bad runs, and how many of each change the state.
    pub(crate) good: u8,
    pub(crate) bad: u8,
    pub(crate) success_before_passing: u8,
    pub(crate) failures_before_critical: u8,
    /// Changes with every registration in this slot: a late result of an older one is dropped.
    pub(crate) generation: u8,
}

const _: () = assert!(size_of::<CheckSlot>() <= 80);

impl CheckSlot {
    /// A free slot; all zero bits.
    pub const EMPTY: Self = CheckSlot {
        at: 0,
        len: 0,
        fixed: 0,
        job: 0,
        output: 0,
        hash: 0,
        interval_ms: 0,
        timeout_ms: 0,
        deregister_s: 0,
        output_len: 0,
        scratch_len: 0,
        limit: 0,
        service: 0,
        due: Instant::ZERO,
        defer: Instant::ZERO,
        critical_since: Instant::ZERO,
        flags: 0,
        health: Health::Passing,
        judge: Judge::Static,
        good: 0,
        bad: 0,
        success_before_passing: 0,
        failures_before_critical: 0,
        generation: 0,
    };

    /// Time between runs, or the TTL.
    pub(crate) fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms.into())
    }

    /// Longest run.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.into())
    }
}

/// A check as the agent has it.
#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    pub(super) fixed: &'a [u8],
    pub(super) job: &'a [u8],
    pub(super) token: &'a str,
    pub(super) output: &'a str,
    pub(super) service_name: &'a str,
    pub(super) health: Health,
    pub(super) judge: Judge,
    pub(super) interval: Duration,
    pub(super) in_sync: bool,
}

impl<'a> Check<'a> {
    /// Id, unique on this agent.
    pub fn id(&self) -> &'a str {
        text(self.fixed, "CheckID")
    }

    /// Name.
    pub fn name(&self) -> &'a str {
        text(self.fixed, "Name")
    }

    /// Free text.
    pub fn notes(&self) -> &'a str {
        text(self.fixed, "Notes")
    }

    /// Id of its service; empty: a check of the node.
    pub fn service_id(&self) -> &'a str {
        text(self.fixed, "ServiceID")
    }

    /// Name of its service.
    pub fn service_name(&self) -> &'a str {
        self.service_name
    }

    /// The catalog's check type: `ttl`, `tcp`, `http`, `script`, …
    pub fn kind(&self) -> &'a str {
        text(self.fixed, "Type")
    }

    /// How it is judged.
    pub fn judge(&self) -> Judge {
        self.judge
    }

    /// State.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Output of the last run.
    pub fn output(&self) -> &'a str {
        self.output
    }

    /// Time between runs, or the TTL.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Its own token; empty: the agent's. Never to be shown.
    pub fn token(&self) -> &'a str {
        self.token
    }

    /// Whether the catalog has it like this, as far as we know.
    pub fn in_sync(&self) -> bool {
        self.in_sync
    }

    /// What to run.
    pub(crate) fn job(&self) -> Job<'a> {
        Job::parse(self.judge, self.job)
    }
}

/// What a check runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job<'a> {
    /// Nothing.
    None,
    /// Connect to `host:port`.
    Tcp(&'a str),
    /// Send a request.
    Http(HttpJob<'a>),
    /// Ask the host.
    Host(u32),
}

/// The request of an HTTP check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HttpJob<'a> {
    pub(crate) method: &'a str,
    pub(crate) url: &'a str,
    pub(crate) body: &'a str,
    pub(crate) verify: bool,
    headers: &'a [u8],
}

impl<'a> HttpJob<'a> {
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut reader = Reader::new(self.headers);
        let count = reader.map().unwrap_or(0);
        (0..count).map_while(move |_| Some((reader.text().ok()?, reader.text().ok()?)))
    }
}

impl<'a> Job<'a> {
    fn parse(judge: Judge, octets: &'a [u8]) -> Self {
        let mut reader = Reader::new(octets);
        let job = match judge {
            Judge::Static | Judge::Ttl => return Job::None,
            Judge::Tcp => reader.text().map(Job::Tcp),
            Judge::Host => reader.u32().map(Job::Host),
            Judge::Http => (|| {
                Ok(Job::Http(HttpJob {
                    method: reader.text()?,
                    url: reader.text()?,
                    body: reader.text()?,
                    verify: reader.bool()?,
                    headers: reader.rest(),
                }))
            })(),
        };
        job.unwrap_or(Job::None)
    }
}

/// Writes what [`Job::parse`] reads.
pub(super) fn emit_job(w: &mut Writer<'_>, kind: &CheckKind<'_>) {
    match *kind {
        CheckKind::Static { .. } | CheckKind::Ttl { .. } => {}
        CheckKind::Tcp { target, .. } => w.text(target),
        CheckKind::Host { key, .. } => w.uint(key.into()),
        CheckKind::Http { url, method, headers, body, tls_skip_verify, .. } => {
            w.text(if method.is_empty() { "GET" } else { method });
            w.text(url);
            w.text(body);
            w.bool(!tls_skip_verify);
            w.map(headers.len());
            for (key, value) in headers {
                w.text(key);
                w.text(value);
            }
        }
    }
}

/// Writes the constant fields.
pub(super) fn emit_fixed(w: &mut Writer<'_>, def: &CheckDef<'_>, id: &str, name: &str, service: &str) {
    w.map(5);
    w.text("CheckID");
    w.text(id);
    w.text("Name");
    w.text(name);
    w.text("Notes");
    w.text(def.notes);
    w.text("ServiceID");
    w.text(service);
    w.text("Type");
    w.text(match def.kind {
        CheckKind::Ttl { .. } => "ttl",
        CheckKind::Tcp { .. } => "tcp",
        CheckKind::Http { .. } => "http",
        CheckKind::Host { label: "", .. } => "script",
        CheckKind::Host { label, .. } | CheckKind::Static { label } => label,
    });
}

/// Judge, time between runs (or TTL) and longest run of `kind`.
pub(super) fn timing(kind: &CheckKind<'_>) -> (Judge, Duration, Duration) {
    /// 10 s for connections, 30 s for scripts: Consul's defaults (http spec §5).
    const CONNECTION: Duration = Duration::from_secs(10);
    const SCRIPT: Duration = Duration::from_secs(30);
    let or = |given: Duration, default| if given == Duration::ZERO { default } else { given };
    match *kind {
        CheckKind::Static { .. } => (Judge::Static, Duration::ZERO, Duration::ZERO),
        CheckKind::Ttl { ttl } => (Judge::Ttl, ttl, Duration::ZERO),
        CheckKind::Tcp { interval, timeout, .. } => (Judge::Tcp, interval, or(timeout, CONNECTION)),
        CheckKind::Http { interval, timeout, .. } => (Judge::Http, interval, or(timeout, CONNECTION)),
        CheckKind::Host { interval, timeout, .. } => (Judge::Host, interval, or(timeout, SCRIPT)),
    }
}
