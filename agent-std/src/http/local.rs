//! This agent as the HTTP API sees it. The driver implements it; tests have their own.

use std::collections::BTreeMap;

use agent_core::checks::Health;
use serde::Serialize;
use tokio::sync::watch;

use crate::{
    definition::{Check, Service},
    model::{Coordinate, HealthCheck, KeyringRequest, KeyringResponse, Map, NodeService, Octets},
    rpc::BoxFuture,
};

/// A pool member in `/v1/agent/members`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Member {
    /// Name.
    pub name: String,
    /// IP address.
    pub addr: String,
    /// Gossip port.
    pub port: u16,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// 1 alive, 2 leaving, 3 left, 4 failed.
    pub status: u8,
    /// Oldest memberlist protocol.
    pub protocol_min: u8,
    /// Newest memberlist protocol.
    pub protocol_max: u8,
    /// Spoken memberlist protocol.
    pub protocol_cur: u8,
    /// Oldest serf protocol.
    pub delegate_min: u8,
    /// Newest serf protocol.
    pub delegate_max: u8,
    /// Spoken serf protocol.
    pub delegate_cur: u8,
    /// What is wrong with it, and what to do; ours alone, and absent where all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trouble: String,
}

/// What the agent knows about itself.
#[derive(Clone, Debug, Default)]
pub struct Itself {
    /// Its entry in the pool.
    pub member: Member,
    /// Its coordinate.
    pub coordinate: Option<Coordinate>,
    /// `consul info`: values by name, by section.
    pub stats: BTreeMap<String, BTreeMap<String, String>>,
    /// Its metadata, with `consul-network-segment`.
    pub meta: BTreeMap<String, String>,
}

/// A user event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct UserEvent {
    /// UUID.
    #[serde(rename = "ID")]
    pub id: String,
    /// Name.
    pub name: String,
    /// Payload; none when empty.
    pub payload: Option<Octets>,
    /// Only nodes whose name matches.
    pub node_filter: String,
    /// Only nodes with a service that matches.
    pub service_filter: String,
    /// Only services with a tag that matches.
    pub tag_filter: String,
    /// 1.
    pub version: u8,
    /// Lamport time; 0 in the answer to whoever fired it.
    #[serde(rename = "LTime")]
    pub ltime: u64,
}

/// A command was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocalError {
    /// There is no such service, check or member. The text is what the client sees, with status 500 as in Consul.
    #[error("{0}")]
    Unknown(String),
    /// It did not work. The text is what the client sees, with status 500.
    #[error("{0}")]
    Failed(String),
}

/// The agent's own state and commands. Every command is finished when its future is.
pub trait LocalAgent: Send + Sync + 'static {
    /// Facts about the agent.
    fn itself(&self) -> BoxFuture<'_, Itself>;
    /// Members of the LAN pool, or of the WAN pool (none on a client).
    fn members(&self, wan: bool) -> BoxFuture<'_, Vec<Member>>;
    /// Registered services by id. Indexes, proxy and connect parts are not shown.
    fn services(&self) -> BoxFuture<'_, Map<NodeService>>;
    /// Registered checks by id, with their latest state.
    fn checks(&self) -> BoxFuture<'_, Map<HealthCheck>>;
    /// The last 256 events that concern this agent, the oldest first.
    fn events(&self) -> BoxFuture<'_, Vec<UserEvent>>;
    /// A number that changes with every change of services, checks or events; for blocking reads.
    fn changes(&self) -> watch::Receiver<u64>;
    /// Registers or replaces a service and its checks; `replace` removes its other checks.
    fn register_service(&self, service: Service, replace: bool) -> BoxFuture<'_, Result<(), LocalError>>;
    /// Removes a service and its checks. An unknown one is no error.
    fn deregister_service(&self, id: String) -> BoxFuture<'_, Result<(), LocalError>>;
    /// Registers or replaces a check.
    fn register_check(&self, check: Check) -> BoxFuture<'_, Result<(), LocalError>>;
    /// Removes a check. An unknown one is no error.
    fn deregister_check(&self, id: String) -> BoxFuture<'_, Result<(), LocalError>>;
    /// Sets a TTL check. Unknown or of another kind: `CheckID "x" does not have associated TTL`.
    fn update_ttl(&self, id: String, health: Health, output: String) -> BoxFuture<'_, Result<(), LocalError>>;
    /// Joins; the error is the whole answer's text.
    fn join(&self, address: String, wan: bool) -> BoxFuture<'_, Result<(), LocalError>>;
    /// Leaves; the process stops afterwards.
    fn leave(&self) -> BoxFuture<'_, Result<(), LocalError>>;
    /// Counts a member as left. Unknown: `agent: No node found with name 'x'`.
    fn force_leave(&self, node: String, prune: bool) -> BoxFuture<'_, Result<(), LocalError>>;
    /// Reads the configuration again.
    fn reload(&self) -> BoxFuture<'_, Result<(), LocalError>>;
    /// Lists or changes the gossip keys of the LAN pool's members. What went wrong is in the response.
    fn keyring(&self, request: KeyringRequest) -> BoxFuture<'_, KeyringResponse>;
    /// Sends a user event to the whole datacenter `dc`.
    fn fire(&self, event: UserEvent, dc: String, token: String) -> BoxFuture<'_, Result<(), LocalError>>;
}
