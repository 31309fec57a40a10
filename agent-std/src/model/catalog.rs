//! Nodes, services, checks, and the calls of `Catalog` and `Health`.

use serde::{Deserialize, Serialize};

use super::{Map, Nanos, QueryMeta, QueryOptions, QuerySource, is_zero};

/// A node of the catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Node {
    /// UUID; may be empty.
    #[serde(rename = "ID")]
    pub id: String,
    /// Name.
    pub node: String,
    /// Address; empty when a service was registered before its node.
    pub address: String,
    /// Datacenter.
    pub datacenter: String,
    /// Addresses for others: `lan`, `wan`, …
    pub tagged_addresses: Option<Map<String>>,
    /// Metadata.
    pub meta: Option<Map<String>>,
    /// Raft index of its creation.
    pub create_index: u64,
    /// Raft index of its last change.
    pub modify_index: u64,
}

/// A service on a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeService {
    /// Empty for a plain service; `connect-proxy`, `mesh-gateway`, …
    #[serde(skip_serializing_if = "is_zero")]
    pub kind: String,
    /// Unique on the node.
    #[serde(rename = "ID")]
    pub id: String,
    /// Name.
    pub service: String,
    /// Tags.
    pub tags: Option<Vec<String>>,
    /// Own address; empty: the node's.
    pub address: String,
    /// Named addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tagged_addresses: Option<Map<ServiceAddress>>,
    /// Metadata.
    pub meta: Option<Map<String>>,
    /// Port.
    pub port: i64,
    /// DNS weights; none: 1 and 1.
    pub weights: Option<Weights>,
    /// Let the catalog's tags win over the agent's.
    pub enable_tag_override: bool,
    /// Proxy configuration, kept for others; we run no proxy.
    pub proxy: Proxy,
    /// Mesh part, kept for others.
    pub connect: Connect,
    /// Kept for the agent that registered it; not in Consul's JSON.
    #[serde(skip_serializing_if = "is_zero")]
    pub locally_registered_as_sidecar: bool,
    /// Raft index of its creation.
    pub create_index: u64,
    /// Raft index of its last change.
    pub modify_index: u64,
}

impl NodeService {
    /// As Consul's HTTP answers show it: tags are never null, empty tagged addresses are left out.
    pub fn for_json(&mut self) {
        self.tags.get_or_insert_default();
        self.tagged_addresses.take_if(|map| map.is_empty());
        self.locally_registered_as_sidecar = false;
    }
}

/// An address with a port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceAddress {
    /// Address.
    pub address: String,
    /// Port.
    pub port: i64,
}

/// Weights of a DNS SRV answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Weights {
    /// While every check passes.
    pub passing: i64,
    /// While the worst check is a warning.
    pub warning: i64,
}

impl Weights {
    /// What the server fills in where none are given.
    pub const ONE: Weights = Weights { passing: 1, warning: 1 };
}

/// Proxy configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Proxy {
    /// Service it stands for.
    #[serde(skip_serializing_if = "is_zero")]
    pub destination_service_name: String,
    /// Instance it stands for.
    #[serde(skip_serializing_if = "is_zero", rename = "DestinationServiceID")]
    pub destination_service_id: String,
    /// Where the instance listens.
    #[serde(skip_serializing_if = "is_zero")]
    pub local_service_address: String,
    /// Port there.
    #[serde(skip_serializing_if = "is_zero")]
    pub local_service_port: i64,
    /// The proxy's own settings: any shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Map<serde_json::Value>>,
    /// Upstreams: any shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstreams: Option<Vec<serde_json::Value>>,
    /// Mesh gateway mode.
    pub mesh_gateway: MeshGateway,
    /// Paths exposed without the mesh.
    pub expose: Expose,
}

/// Mesh gateway mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MeshGateway {
    /// Mode.
    #[serde(skip_serializing_if = "is_zero")]
    pub mode: String,
}

/// Paths exposed without the mesh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Expose {
    /// Expose the checks' paths.
    #[serde(skip_serializing_if = "is_zero")]
    pub checks: bool,
    /// Paths: any shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<serde_json::Value>>,
}

/// Mesh part of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Connect {
    /// Speaks the mesh's TLS itself.
    #[serde(skip_serializing_if = "is_zero")]
    pub native: bool,
    /// Definition of a sidecar: any shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecar_service: Option<serde_json::Value>,
}

/// A service with its node's fields beside it. No health inside.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceNode {
    /// The node's UUID.
    #[serde(rename = "ID")]
    pub id: String,
    /// The node's name.
    pub node: String,
    /// The node's address.
    pub address: String,
    /// Datacenter.
    pub datacenter: String,
    /// The node's addresses for others.
    pub tagged_addresses: Option<Map<String>>,
    /// The node's metadata.
    pub node_meta: Option<Map<String>>,
    /// [`NodeService::kind`]. Shown even when empty.
    pub service_kind: String,
    /// [`NodeService::id`]
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// [`NodeService::service`]
    pub service_name: String,
    /// [`NodeService::tags`]
    pub service_tags: Option<Vec<String>>,
    /// [`NodeService::address`]
    pub service_address: String,
    /// [`NodeService::tagged_addresses`]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tagged_addresses: Option<Map<ServiceAddress>>,
    /// [`NodeService::weights`]
    pub service_weights: Weights,
    /// [`NodeService::meta`]
    pub service_meta: Option<Map<String>>,
    /// [`NodeService::port`]
    pub service_port: i64,
    /// [`NodeService::enable_tag_override`]
    pub service_enable_tag_override: bool,
    /// [`NodeService::proxy`]
    pub service_proxy: Proxy,
    /// [`NodeService::connect`]
    pub service_connect: Connect,
    /// The service's.
    pub create_index: u64,
    /// The service's.
    pub modify_index: u64,
}

impl ServiceNode {
    /// The two halves side by side.
    pub fn new(node: &Node, service: &NodeService) -> Self {
        ServiceNode {
            id: node.id.clone(),
            node: node.node.clone(),
            address: node.address.clone(),
            datacenter: node.datacenter.clone(),
            tagged_addresses: node.tagged_addresses.clone(),
            node_meta: node.meta.clone(),
            service_kind: service.kind.clone(),
            service_id: service.id.clone(),
            service_name: service.service.clone(),
            service_tags: service.tags.clone(),
            service_address: service.address.clone(),
            service_tagged_addresses: service.tagged_addresses.clone(),
            service_weights: service.weights.unwrap_or(Weights::ONE),
            service_meta: service.meta.clone(),
            service_port: service.port,
            service_enable_tag_override: service.enable_tag_override,
            service_proxy: service.proxy.clone(),
            service_connect: service.connect.clone(),
            create_index: service.create_index,
            modify_index: service.modify_index,
        }
    }

    /// As Consul's HTTP answers show it; see [`NodeService::for_json`].
    pub fn for_json(&mut self) {
        self.service_tags.get_or_insert_default();
        self.service_meta.get_or_insert_default();
        self.service_tagged_addresses.take_if(|map| map.is_empty());
    }
}

/// Name of the leader's own check of a node.
pub const SERF_HEALTH: &str = "serfHealth";
/// Status of a check.
pub const PASSING: &str = "passing";
/// Status of a check.
pub const WARNING: &str = "warning";
/// Status of a check; also of an unknown one.
pub const CRITICAL: &str = "critical";

/// A check of a node or of one of its services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthCheck {
    /// Node name.
    pub node: String,
    /// Unique on the node.
    #[serde(rename = "CheckID")]
    pub check_id: String,
    /// Name.
    pub name: String,
    /// [`PASSING`], [`WARNING`], [`CRITICAL`], or whatever was registered.
    pub status: String,
    /// Free text.
    pub notes: String,
    /// What the last run said.
    pub output: String,
    /// The service it belongs to; empty: the node.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// That service's name; filled in by the server.
    pub service_name: String,
    /// That service's tags; filled in by the server.
    pub service_tags: Option<Vec<String>>,
    /// `ttl`, `http`, …
    #[serde(rename = "Type")]
    pub kind: String,
    /// How it is judged; agents leave it empty.
    pub definition: CheckDefinition,
    /// Raft index of its creation.
    pub create_index: u64,
    /// Raft index of its last change.
    pub modify_index: u64,
}

impl HealthCheck {
    /// As Consul's HTTP answers show it: tags are never null.
    pub fn for_json(&mut self) {
        self.service_tags.get_or_insert_default();
    }
}

/// How a check is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[allow(missing_docs, reason = "the names are Consul's, documented there")]
pub struct CheckDefinition {
    #[serde(skip_serializing_if = "is_zero", with = "duration_text")]
    pub interval: Nanos,
    #[serde(skip_serializing_if = "is_zero")]
    pub output_max_size: u64,
    #[serde(skip_serializing_if = "is_zero", with = "duration_text")]
    pub timeout: Nanos,
    #[serde(skip_serializing_if = "is_zero", with = "duration_text")]
    pub deregister_critical_service_after: Nanos,
    #[serde(skip_serializing_if = "is_zero", rename = "HTTP")]
    pub http: String,
    #[serde(skip_serializing_if = "is_zero", rename = "TLSSkipVerify")]
    pub tls_skip_verify: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<Map<Option<Vec<String>>>>,
    #[serde(skip_serializing_if = "is_zero")]
    pub method: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub body: String,
    #[serde(skip_serializing_if = "is_zero", rename = "TCP")]
    pub tcp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script_args: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_zero", rename = "DockerContainerID")]
    pub docker_container_id: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub shell: String,
    #[serde(skip_serializing_if = "is_zero", rename = "GRPC")]
    pub grpc: String,
    #[serde(skip_serializing_if = "is_zero", rename = "GRPCUseTLS")]
    pub grpc_use_tls: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub alias_node: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub alias_service: String,
    #[serde(skip_serializing_if = "is_zero", rename = "TTL")]
    pub ttl: Nanos,
}

/// A duration that JSON shows as Go prints it (`1m30s`) and reads as such text or as nanoseconds.
mod duration_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::{model::Nanos, text};

    pub fn serialize<S: Serializer>(value: &Nanos, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&text::format_duration(*value))
        } else {
            value.serialize(serializer)
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Nanos, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Number(i64),
        }
        if !deserializer.is_human_readable() {
            return Nanos::deserialize(deserializer);
        }
        match Form::deserialize(deserializer)? {
            Form::Number(nanos) => Ok(Nanos(nanos)),
            Form::Text(text) => text::parse_duration(&text).map_err(D::Error::custom),
        }
    }
}

/// An instance of a service: its node, itself, and the checks of both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CheckServiceNode {
    /// Node.
    pub node: Node,
    /// Service.
    pub service: NodeService,
    /// Checks of the node, then of the service.
    pub checks: Option<Vec<HealthCheck>>,
}

/// `Catalog.Register`: a node, one service and any number of checks, at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RegisterRequest {
    /// Datacenter.
    pub datacenter: String,
    /// [`Node::id`]
    #[serde(rename = "ID")]
    pub id: String,
    /// [`Node::node`]
    pub node: String,
    /// [`Node::address`]
    pub address: String,
    /// [`Node::tagged_addresses`]
    pub tagged_addresses: Option<Map<String>>,
    /// [`Node::meta`]
    pub node_meta: Option<Map<String>>,
    /// Service to register.
    pub service: Option<NodeService>,
    /// Check to register.
    pub check: Option<HealthCheck>,
    /// Checks to register.
    pub checks: Option<Vec<HealthCheck>>,
    /// Leave a known node as it is.
    pub skip_node_update: bool,
    /// Secret of the ACL token.
    pub token: String,
}

/// `Catalog.Deregister`: a service and its checks, else a check, else a node and everything on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeregisterRequest {
    /// Datacenter.
    pub datacenter: String,
    /// Node name.
    pub node: String,
    /// Service to remove.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// Check to remove.
    #[serde(rename = "CheckID")]
    pub check_id: String,
    /// Secret of the ACL token.
    pub token: String,
}

/// A read about one service: `Catalog.ServiceNodes`, `Health.ServiceNodes`, `Health.ServiceChecks`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceRequest {
    /// Datacenter.
    pub datacenter: String,
    /// Only nodes with all of this metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_meta_filters: Option<Map<String>>,
    /// Service name, in any case.
    pub service_name: String,
    /// One tag, from old agents.
    #[serde(skip_serializing_if = "is_zero")]
    pub service_tag: String,
    /// Tags that must all be there, in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tags: Option<Vec<String>>,
    /// Only instances with this address.
    #[serde(skip_serializing_if = "is_zero")]
    pub service_address: String,
    /// Whether the tags count.
    pub tag_filter: bool,
    /// Only what speaks the mesh's TLS.
    #[serde(skip_serializing_if = "is_zero")]
    pub connect: bool,
    /// Only what an ingress gateway serves.
    #[serde(skip_serializing_if = "is_zero")]
    pub ingress: bool,
    /// Who asks.
    #[serde(skip_serializing_if = "is_zero")]
    pub source: QuerySource,
    /// Options of the read.
    #[serde(flatten)]
    pub options: QueryOptions,
}

/// `Health.ChecksInState`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ChecksInStateRequest {
    /// Datacenter.
    pub datacenter: String,
    /// Only nodes with all of this metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_meta_filters: Option<Map<String>>,
    /// `any`, [`PASSING`], [`WARNING`] or [`CRITICAL`].
    pub state: String,
    /// Who asks.
    #[serde(skip_serializing_if = "is_zero")]
    pub source: QuerySource,
    /// Options of the read.
    #[serde(flatten)]
    pub options: QueryOptions,
}

/// Declares replies: one result beside the flattened [`QueryMeta`].
macro_rules! replies {
    ($($(#[$doc:meta])* $name:ident { $field:ident: $type:ty })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default, rename_all = "PascalCase")]
        pub struct $name {
            /// The result; none where Consul says nil.
            pub $field: $type,
            /// Index and freshness.
            #[serde(flatten)]
            pub meta: QueryMeta,
        }
    )*};
}
pub(super) use replies;

replies! {
    /// `Catalog.ListNodes`
    NodesReply { nodes: Option<Vec<Node>> }
    /// `Catalog.ListServices`: tags by service name.
    ServicesReply { services: Option<Map<Option<Vec<String>>>> }
    /// `Catalog.ServiceList`
    ServiceListReply { services: Option<Vec<ServiceName>> }
    /// `Catalog.ServiceNodes`
    ServiceNodesReply { service_nodes: Option<Vec<ServiceNode>> }
    /// `Catalog.NodeServices`; none: unknown node.
    NodeServicesReply { node_services: Option<NodeServices> }
    /// `Catalog.NodeServiceList`
    NodeServiceListReply { node_services: NodeServiceList }
    /// `Health.NodeChecks`, `Health.ServiceChecks`, `Health.ChecksInState`
    HealthChecksReply { health_checks: Option<Vec<HealthCheck>> }
    /// `Health.ServiceNodes`, `Internal.ServiceDump`
    CheckServiceNodesReply { nodes: Option<Vec<CheckServiceNode>> }
}

/// A service's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceName {
    /// Name.
    pub name: String,
}

/// A node and its services by id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeServices {
    /// Node.
    pub node: Option<Node>,
    /// Services by id.
    pub services: Option<Map<NodeService>>,
}

/// A node and its services.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeServiceList {
    /// None: unknown node.
    pub node: Option<Node>,
    /// Services.
    pub services: Option<Vec<NodeService>>,
}
