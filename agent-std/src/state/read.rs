//! Reads. Each gives the result's index too, by Consul's rules (http spec §1.3): a service's own index for reads of a
//! service, the newest of key and tombstones for reads of keys, the table's for all others.

use std::sync::Arc;

use super::{
    kv::with_prefix,
    tables::{NodeEntry, State, fold},
};
use crate::model::{
    CheckServiceNode, DirEntry, HealthCheck, Map, NodeCoordinate, NodeInfo, NodeService, ServiceNode, Session,
};

/// Shortest piece of a node's id that finds it.
const MIN_ID_PREFIX: usize = 2;

impl State {
    /// Index of the tables of nodes, services and checks together.
    pub fn catalog_index(&self) -> u64 {
        self.indexes.nodes.max(self.indexes.services).max(self.indexes.checks)
    }

    /// Index of nodes and services.
    pub fn node_services_index(&self) -> u64 {
        self.indexes.nodes.max(self.indexes.services)
    }

    /// Index of nodes and checks.
    pub fn node_checks_index(&self) -> u64 {
        self.indexes.nodes.max(self.indexes.checks)
    }

    /// Index of the table of nodes.
    pub fn nodes_index(&self) -> u64 {
        self.indexes.nodes
    }

    /// Index of the table of services.
    pub fn services_index(&self) -> u64 {
        self.indexes.services
    }

    /// Index of the table of checks.
    pub fn checks_index(&self) -> u64 {
        self.indexes.checks
    }

    /// Index of the table of sessions.
    pub fn sessions_index(&self) -> u64 {
        self.indexes.sessions
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeEntry> {
        self.nodes.values().map(|entry| &**entry)
    }

    /// A node by name, in any case.
    pub fn node(&self, name: &str) -> Option<&NodeEntry> {
        self.nodes.get(&fold(name)).map(|entry| &**entry)
    }

    /// A node by name, or by the beginning of an id that only one node has.
    pub fn node_by_name_or_id(&self, name: &str) -> Option<&NodeEntry> {
        self.node(name).or_else(|| {
            let prefix = fold(name);
            let mut matching = with_prefix(&self.node_ids, &prefix).filter(|_| prefix.len() >= MIN_ID_PREFIX);
            let (_, key) = matching.next()?;
            if matching.next().is_some() { None } else { self.nodes.get(key).map(|entry| &**entry) }
        })
    }

    /// Tags of every service by name, each tag once.
    pub fn services(&self, mut filter: impl FnMut(&NodeEntry) -> bool) -> Map<Option<Vec<String>>> {
        let mut services: Map<std::collections::BTreeSet<&str>> = Map::new();
        for entry in self.nodes().filter(|entry| filter(entry)) {
            for service in entry.services.values() {
                if !services.contains_key(&service.service) {
                    services.insert(service.service.clone(), Default::default());
                }
                if let Some(tags) = services.get_mut(&service.service) {
                    tags.extend(service.tags.iter().flatten().map(String::as_str));
                }
            }
        }
        services.into_iter().map(|(name, tags)| (name, Some(tags.into_iter().map(Into::into).collect()))).collect()
    }

    /// The instances of a service, and the service's own index. A service that does not exist has the index at which
    /// the last service went.
    pub fn instances(&self, service: &str) -> (u64, impl Iterator<Item = (&NodeEntry, &Arc<NodeService>)>) {
        let entry = self.services.get(&fold(service));
        let index = match entry {
            Some(entry) => entry.index,
            None if self.indexes.extinction > 0 => self.indexes.extinction,
            None => self.indexes.services,
        };
        let instances = entry.into_iter().flat_map(|entry| entry.instances.iter()).filter_map(|(node, id)| {
            let entry = self.nodes.get(node)?;
            Some((&**entry, entry.services.get(id)?))
        });
        (index, instances)
    }

    /// Every check.
    pub fn checks(&self) -> impl Iterator<Item = (&NodeEntry, &Arc<HealthCheck>)> {
        self.nodes().flat_map(|entry| entry.checks.values().map(move |check| (entry, check)))
    }

    /// A key. One that is not there has the index of the table.
    pub fn kv(&self, key: &str) -> (u64, Option<&DirEntry>) {
        match self.kv.get(key) {
            Some(entry) => (entry.modify_index, Some(entry)),
            None => (self.indexes.kv, None),
        }
    }

    /// The keys that begin with `prefix`, and the newest index of them and of what went from there.
    pub fn kv_tree(&self, prefix: &str) -> (u64, Vec<&DirEntry>) {
        let entries: Vec<&DirEntry> = with_prefix(&self.kv, prefix).map(|(_, entry)| &**entry).collect();
        let entry_index = entries.iter().map(|entry| entry.modify_index).max();
        let tomb_index = with_prefix(&self.tombstones, prefix).map(|(_, tombstone)| tombstone.index).max();
        (entry_index.max(tomb_index).unwrap_or(self.indexes.kv), entries)
    }

    /// A session.
    pub fn session(&self, id: &str) -> Option<&Arc<Session>> {
        self.sessions.get(id)
    }

    /// All sessions, by id.
    pub fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.sessions.values()
    }

    /// Coordinates of all nodes, and their index.
    pub fn coordinates(&self) -> (u64, impl Iterator<Item = NodeCoordinate>) {
        (self.indexes.coordinates, self.nodes().flat_map(NodeEntry::coordinates))
    }
}

impl NodeEntry {
    /// Its coordinates.
    pub fn coordinates(&self) -> impl Iterator<Item = NodeCoordinate> {
        self.coordinates.iter().map(|(segment, coord)| NodeCoordinate {
            node: self.node.node.clone(),
            segment: segment.to_string(),
            coord: Some((**coord).clone()),
        })
    }

    /// Its checks and those of its service `id`.
    pub fn checks_of(&self, id: &str) -> impl Iterator<Item = &Arc<HealthCheck>> {
        self.checks.values().filter(move |check| check.service_id.is_empty() || check.service_id == id)
    }

    /// An instance with its health.
    pub fn instance(&self, service: &NodeService) -> CheckServiceNode {
        CheckServiceNode {
            node: (*self.node).clone(),
            service: service.clone(),
            checks: Some(self.checks_of(&service.id).map(|check| (**check).clone()).collect()),
        }
    }

    /// An instance without its health.
    pub fn service_node(&self, service: &NodeService) -> ServiceNode {
        ServiceNode::new(&self.node, service)
    }

    /// Everything on it.
    pub fn info(&self) -> NodeInfo {
        let node = &*self.node;
        NodeInfo {
            id: node.id.clone(),
            node: node.node.clone(),
            address: node.address.clone(),
            tagged_addresses: node.tagged_addresses.clone(),
            meta: node.meta.clone(),
            services: Some(self.services.values().map(|service| (**service).clone()).collect()),
            checks: Some(self.checks.values().map(|check| (**check).clone()).collect()),
        }
    }
}
