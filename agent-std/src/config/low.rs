//! The configuration as written, after merging. Every field is optional: defaults depend on other fields and are chosen
//! in `high`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::secret::Secret;
use crate::definition::{RawCheck, RawService};

/// All keys that we have. [`super::schema`] has checked names and types before.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "each field is the key of that name in config spec §2 and §3")]
pub struct Low {
    pub addresses: Addresses,
    pub advertise_addr: Option<String>,
    pub advertise_addr_wan: Option<String>,
    pub alt_domain: Option<String>,
    pub bind_addr: Option<String>,
    pub bootstrap: Option<bool>,
    pub bootstrap_expect: Option<i64>,
    pub check: Option<RawCheck>,
    pub check_output_max_size: Option<i64>,
    pub check_update_interval: Option<String>,
    pub checks: Vec<RawCheck>,
    pub client_addr: Option<String>,
    pub data_dir: Option<String>,
    pub datacenter: Option<String>,
    pub default_query_time: Option<String>,
    pub disable_http_unprintable_char_filter: Option<bool>,
    pub disable_keyring_file: Option<bool>,
    pub disable_remote_exec: Option<bool>,
    pub dns_config: Dns,
    pub domain: Option<String>,
    pub enable_local_script_checks: Option<bool>,
    pub enable_script_checks: Option<bool>,
    pub encrypt: Secret,
    pub encrypt_verify_incoming: Option<bool>,
    pub encrypt_verify_outgoing: Option<bool>,
    pub gossip_lan: Gossip,
    pub gossip_wan: Gossip,
    pub http_config: Http,
    pub leave_on_terminate: Option<bool>,
    pub lictor: Lictor,
    pub limits: Limits,
    pub log_json: Option<bool>,
    pub log_level: Option<String>,
    pub max_query_time: Option<String>,
    pub node_id: Option<String>,
    pub node_meta: BTreeMap<String, String>,
    pub node_name: Option<String>,
    pub performance: Performance,
    pub pid_file: Option<String>,
    pub ports: Ports,
    pub protocol: Option<i64>,
    pub raft_protocol: Option<i64>,
    pub raft_snapshot_threshold: Option<i64>,
    pub raft_trailing_logs: Option<i64>,
    pub rejoin_after_leave: Option<bool>,
    pub reconnect_timeout: Option<String>,
    pub reconnect_timeout_wan: Option<String>,
    pub retry_interval: Option<String>,
    pub retry_interval_wan: Option<String>,
    pub retry_join: Vec<String>,
    pub retry_join_wan: Vec<String>,
    pub retry_max: Option<i64>,
    pub retry_max_wan: Option<i64>,
    pub serf_lan: Option<String>,
    pub serf_wan: Option<String>,
    pub server: Option<bool>,
    pub service: Option<RawService>,
    pub services: Vec<RawService>,
    pub skip_leave_on_interrupt: Option<bool>,
    pub start_join: Vec<String>,
    pub start_join_wan: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "keys of the same name")]
pub struct Addresses {
    pub dns: Option<String>,
    pub http: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "keys of the same name")]
pub struct Ports {
    pub dns: Option<i64>,
    pub http: Option<i64>,
    pub https: Option<i64>,
    pub grpc: Option<i64>,
    pub serf_lan: Option<i64>,
    pub serf_wan: Option<i64>,
    pub server: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "keys of the same name")]
pub struct Dns {
    pub allow_stale: Option<bool>,
    pub a_record_limit: Option<i64>,
    pub disable_compression: Option<bool>,
    pub enable_truncate: Option<bool>,
    pub max_stale: Option<String>,
    pub node_ttl: Option<String>,
    pub only_passing: Option<bool>,
    pub service_ttl: BTreeMap<String, String>,
    pub udp_answer_limit: Option<i64>,
    pub enable_additional_node_meta_txt: Option<bool>,
    pub soa: Soa,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "keys of the same name")]
pub struct Soa {
    pub refresh: Option<i64>,
    pub retry: Option<i64>,
    pub expire: Option<i64>,
    pub min_ttl: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "keys of the same name")]
pub struct Gossip {
    pub gossip_interval: Option<String>,
    pub gossip_nodes: Option<i64>,
    pub probe_interval: Option<String>,
    pub probe_timeout: Option<String>,
    pub suspicion_mult: Option<i64>,
    pub retransmit_mult: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "keys of the same name")]
pub struct Http {
    pub response_headers: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "keys of the same name")]
pub struct Limits {
    pub http_max_conns_per_client: Option<i64>,
    pub kv_max_value_size: Option<i64>,
    pub rpc_handshake_timeout: Option<String>,
    pub rpc_max_burst: Option<i64>,
    pub rpc_max_conns_per_client: Option<i64>,
    pub rpc_rate: Option<f64>,
}

/// Our own settings, which Consul does not have.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Lictor {
    /// Be a member of a plain serf pool: no admission rules, no catalog.
    pub serf_only: Option<bool>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "keys of the same name")]
pub struct Performance {
    pub raft_multiplier: Option<i64>,
}
