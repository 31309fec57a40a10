//! The HTTP API, Consul's port 8500 (http spec).
//!
//! ```text
//! connection ──> server ──> router ──> v1/<family> ──┬─> Rpc         (catalog, health, kv, session, …)
//!                 limits     405, 301                └─> LocalAgent  (agent, events)
//! ```
//!
//! The router and the replies are our own: Go's rules for paths, methods and headers are what clients were written
//! against. Not here yet: a cache behind `?cached`, ACLs and the mesh; what is asked for and missing is refused by name.

pub mod local;
pub mod url;

mod body;
mod params;
mod read;
mod reply;
mod router;
mod server;
mod v1;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use crate::{config::Config, rpc::Rpc};

pub use server::{Listener, serve};

/// What the API needs to know about the agent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Datacenter of this agent.
    pub datacenter: String,
    /// Its name.
    pub node_name: String,
    /// Its UUID.
    pub node_id: String,
    /// Whether it is a server.
    pub server: bool,
    /// Whether it is a member of a plain Serf pool.
    pub serf_only: bool,
    /// Indent all JSON (`-dev`).
    pub indent: bool,
    /// Whether scripts may come over HTTP.
    pub enable_script_checks: bool,
    /// Accept control characters in paths.
    pub allow_unprintable: bool,
    /// Largest body of a KV write.
    pub kv_max_value_size: usize,
    /// Connections that one address may hold.
    pub max_conns_per_client: usize,
    /// Longest wait of a blocking query that names none.
    pub default_query_time: Duration,
    /// Longest wait of any blocking query.
    pub max_query_time: Duration,
    /// Headers added to every answer.
    pub response_headers: Vec<(String, String)>,
}

impl Settings {
    /// From the agent's configuration; `node_id` is settled at start.
    pub fn new(config: &Config, node_id: &str) -> Self {
        Settings {
            datacenter: config.datacenter.clone(),
            node_name: config.node_name.clone(),
            node_id: node_id.to_owned(),
            server: config.server,
            serf_only: config.serf_only,
            indent: config.dev,
            enable_script_checks: config.enable_script_checks,
            allow_unprintable: config.disable_http_unprintable_char_filter,
            kv_max_value_size: config.kv_max_value_size,
            max_conns_per_client: config.http_max_conns_per_client,
            default_query_time: config.default_query_time,
            max_query_time: config.max_query_time,
            response_headers: config.response_headers.clone().into_iter().collect(),
        }
    }
}

/// The API: everything a handler may use. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// The cluster.
    pub rpc: Rpc,
    /// This agent.
    pub local: Arc<dyn local::LocalAgent>,
    /// Settings.
    pub settings: Arc<Settings>,
}
