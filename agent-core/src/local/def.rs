//! Services and checks as their owner describes them.

use crate::{checks::Health, time::Duration};

/// A service as its owner describes it. Fields as in Consul's service definition.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServiceDef<'a> {
    /// Unique on this agent; empty: the name.
    pub id: &'a str,
    /// Service name.
    pub name: &'a str,
    /// Tags.
    pub tags: &'a [&'a str],
    /// Own address; empty: the node's.
    pub address: &'a str,
    /// Port.
    pub port: u16,
    /// Metadata.
    pub meta: &'a [(&'a str, &'a str)],
    /// Named addresses: name, address, port.
    pub tagged_addresses: &'a [(&'a str, &'a str, u16)],
    /// DNS weights while passing and while warning; (0, 0) means the default of 1 and 1.
    pub weights: (u16, u16),
    /// Let the catalog's tags win over ours.
    pub enable_tag_override: bool,
    /// Token for this registration; empty: the agent's.
    pub token: &'a str,
    /// Its checks; each gets this service's id.
    pub checks: &'a [CheckDef<'a>],
}

/// A check as its owner describes it.
#[derive(Clone, Copy, Debug)]
pub struct CheckDef<'a> {
    /// Unique on this agent; empty: `service:<id>[:n]`, or the name for a node check.
    pub id: &'a str,
    /// Name; empty: `Service '<name>' check`.
    pub name: &'a str,
    /// Free text.
    pub notes: &'a str,
    /// The service it belongs to; empty: the node.
    pub service_id: &'a str,
    /// Token for this registration; empty: the service's or the agent's.
    pub token: &'a str,
    /// State before the first run.
    pub status: Health,
    /// How it is judged.
    pub kind: CheckKind<'a>,
    /// Deregister the service when critical for this long; zero: never.
    pub deregister_critical_after: Duration,
    /// Consecutive good runs before it counts as passing; 0 and 1: at once.
    pub success_before_passing: u8,
    /// Consecutive bad runs before it counts as critical; 0 and 1: at once.
    pub failures_before_critical: u8,
}

/// How a check is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckKind<'a> {
    /// Critical unless reported within `ttl`.
    Ttl {
        /// Longest silence.
        ttl: Duration,
    },
    /// Passing when a TCP connection opens.
    Tcp {
        /// `host:port`.
        target: &'a str,
        /// Time between runs.
        interval: Duration,
        /// Longest run; zero: 10 s.
        timeout: Duration,
    },
    /// Passing on 2xx, warning on 429, critical otherwise.
    Http {
        /// `http://host[:port]/path`, or `https://` where the driver has TLS.
        url: &'a str,
        /// Method; empty: GET.
        method: &'a str,
        /// Headers.
        headers: &'a [(&'a str, &'a str)],
        /// Request body.
        body: &'a str,
        /// Do not verify the server's certificate (`https` only; the driver obeys it).
        tls_skip_verify: bool,
        /// Time between runs.
        interval: Duration,
        /// Longest run; zero: 10 s.
        timeout: Duration,
    },
    /// The host runs it: a script on a server, a closure on a device.
    Host {
        /// Chooses the script or closure.
        key: u32,
        /// The catalog's check type: `script`, `grpc`, `docker`, …; empty: `script`.
        label: &'a str,
        /// Time between runs.
        interval: Duration,
        /// Longest run; zero: 30 s.
        timeout: Duration,
    },
    /// Never runs; its owner sets it, e.g. maintenance mode.
    Static {
        /// The catalog's check type, e.g. `maintenance`.
        label: &'a str,
    },
}
