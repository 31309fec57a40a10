//! Writes to nodes, services and checks (rpc spec §6 Catalog, §8 node identity).

use std::sync::Arc;

use super::{
    Refusal,
    tables::{Change, Name, NodeEntry, ServiceEntry, fold},
    watch::Topic,
};
use crate::model::{
    CRITICAL, DeregisterRequest, HealthCheck, Node, NodeService, RegisterRequest, SERF_HEALTH, Weights,
};

impl Change {
    /// A node, one service and any number of checks: all or none.
    pub fn register(&mut self, request: &RegisterRequest) -> Result<(), Refusal> {
        let key = fold(&request.node);
        let known = self.state.nodes.get(&key).map(|entry| Arc::clone(&entry.node));
        let node = Node {
            id: request.id.clone(),
            node: request.node.clone(),
            address: request.address.clone(),
            datacenter: request.datacenter.clone(),
            tagged_addresses: request.tagged_addresses.clone(),
            meta: request.node_meta.clone(),
            ..Node::default()
        };
        if known.is_none() || !request.skip_node_update {
            self.put_node(node).map_err(|Refusal(why)| Refusal(format!("failed inserting node: {why}")))?;
        }
        if let Some(service) = &request.service {
            self.put_service(&key, service.clone())
                .map_err(|Refusal(why)| Refusal(format!("failed inserting service: {why}")))?;
        }
        for check in request.check.iter().chain(request.checks.iter().flatten()) {
            if !check.node.eq_ignore_ascii_case(&request.node) && !check.node.is_empty() {
                return Err(Refusal(format!("check node {:?} does not match node {:?}", check.node, request.node)));
            }
            self.put_check(&key, check.clone())
                .map_err(|Refusal(why)| Refusal(format!("failed inserting check: {why} on node {:?}", request.node)))?;
        }
        Ok(())
    }

    /// A service and its checks, else a check, else a whole node. What is not there is no error.
    pub fn deregister(&mut self, request: &DeregisterRequest) {
        let key = fold(&request.node);
        if !request.service_id.is_empty() {
            self.remove_service(&key, &request.service_id);
        } else if !request.check_id.is_empty() {
            self.remove_check(&key, &request.check_id);
        } else {
            self.remove_node(&key);
        }
    }

    /// Inserts or replaces a node; identity rules of rpc spec §8.
    pub fn put_node(&mut self, mut node: Node) -> Result<(), Refusal> {
        let key = fold(&node.node);
        let id = fold(&node.id);
        let mut renamed = None;
        if !id.is_empty() {
            let old = self.state.node_ids.get(&id).cloned();
            if old.as_ref() != Some(&key) {
                self.name_is_free(&node, &key, old.is_none()).map_err(|Refusal(why)| {
                    Refusal(format!("Error while renaming Node ID: {:?} ({}): {why}", node.id, node.address))
                })?;
            }
            if let Some(old) = old.filter(|old| *old != key) {
                renamed = self.state.nodes.get(&old).map(|entry| entry.node.create_index);
                self.remove_node(&old);
            }
        }
        let known = self.state.nodes.get(&key).map(|entry| Arc::clone(&entry.node));
        if let Some(known) = &known {
            node.create_index = known.create_index;
            node.modify_index = known.modify_index;
            if node == **known && renamed.is_none() {
                return Ok(());
            }
            if !known.id.is_empty() {
                self.state.node_ids.remove(&fold(&known.id));
            }
        }
        node.create_index = renamed.or(known.map(|known| known.create_index)).unwrap_or(self.index);
        node.modify_index = self.index;
        let mut entry = self.state.nodes.get(&key).map(|entry| (**entry).clone()).unwrap_or_default();
        entry.node = Arc::new(node);
        self.state.nodes.insert(Arc::clone(&key), Arc::new(entry));
        if !id.is_empty() {
            self.state.node_ids.insert(id, Arc::clone(&key));
        }
        self.state.indexes.nodes = self.index;
        self.touch(Topic::Nodes);
        self.touch_node(&key);
        Ok(())
    }

    /// A name belongs to the node that has it while that node's own health check is not critical.
    fn name_is_free(&self, node: &Node, key: &str, old_may_lack_id: bool) -> Result<(), Refusal> {
        let Some(holder) = self.state.nodes.get(key) else { return Ok(()) };
        let held = holder.checks.get(SERF_HEALTH).is_some_and(|check| check.status != CRITICAL);
        if !held || (holder.node.id.is_empty() && old_may_lack_id) || holder.node.id.eq_ignore_ascii_case(&node.id) {
            return Ok(());
        }
        let Node { id, node: name, address, .. } = &*holder.node;
        Err(Refusal(format!("Node name {} is reserved by node {id} with name {name} ({address})", node.node)))
    }

    /// Inserts or replaces a service of node `key`.
    pub fn put_service(&mut self, key: &Name, mut service: NodeService) -> Result<(), Refusal> {
        let Some(entry) = self.state.nodes.get(key) else { return Err(Refusal::new("Missing node registration")) };
        let id: Name = service.id.as_str().into();
        if service.weights.is_none_or(|w| w.passing < 1 && w.warning < 1) {
            service.weights = Some(Weights::ONE);
        }
        let known = entry.services.get(&id).cloned();
        if let Some(known) = &known {
            service.create_index = known.create_index;
            service.modify_index = known.modify_index;
            if service == **known {
                return Ok(());
            }
            if fold(&known.service) != fold(&service.service) {
                self.leave_service(key, &id, &known.service);
            }
        } else {
            service.create_index = self.index;
        }
        service.modify_index = self.index;
        let name = fold(&service.service);
        let mut instances = self.state.services.get(&name).map(|entry| (**entry).clone()).unwrap_or_default();
        instances.instances.insert((Arc::clone(key), Arc::clone(&id)));
        self.state.services.insert(Arc::clone(&name), Arc::new(instances));
        self.with_node(key, |entry| entry.services.insert(id, Arc::new(service)));
        self.state.indexes.services = self.index;
        self.touch(Topic::Services);
        self.touch(Topic::Node(Arc::clone(key)));
        self.touch_service(&name);
        Ok(())
    }

    /// Inserts or replaces a check of node `key`.
    pub fn put_check(&mut self, key: &Name, mut check: HealthCheck) -> Result<(), Refusal> {
        let Some(entry) = self.state.nodes.get(key) else { return Err(Refusal::new("Missing node registration")) };
        check.node.clone_from(&entry.node.node);
        if check.status.is_empty() {
            check.status = CRITICAL.into();
        }
        if !check.service_id.is_empty() {
            let Some(service) = entry.services.get(check.service_id.as_str()) else {
                return Err(Refusal::new("Missing service registration"));
            };
            check.service_name.clone_from(&service.service);
            check.service_tags.clone_from(&service.tags);
        }
        let id: Name = check.check_id.as_str().into();
        let known = entry.checks.get(&id).cloned();
        check.create_index = self.index;
        if let Some(known) = &known {
            check.create_index = known.create_index;
            check.modify_index = known.modify_index;
            if check == **known {
                return Ok(());
            }
        }
        check.modify_index = self.index;
        let critical = check.status == CRITICAL;
        let was = known.as_ref().filter(|known| known.status != check.status).map(|known| known.status.clone());
        let moved = known.filter(|known| known.service_id != check.service_id);
        let check = Arc::new(check);
        let unix_millis = self.unix_millis;
        self.with_node(key, |entry| {
            if let Some(was) = was {
                entry.note_transition(&id, &was, &check, unix_millis);
            }
            entry.checks.insert(Arc::clone(&id), Arc::clone(&check));
        });
        self.state.indexes.checks = self.index;
        for check in moved.iter().chain([&check]) {
            self.touch_check(key, check);
        }
        if critical {
            self.end_sessions_of_check(key, &id);
        }
        Ok(())
    }

    /// Removes a service of node `key`, with its checks.
    pub fn remove_service(&mut self, key: &Name, id: &str) -> bool {
        let Some(entry) = self.state.nodes.get(key) else { return false };
        let Some(service) = entry.services.get(id).cloned() else { return false };
        let checks: Vec<Name> =
            entry.checks.iter().filter(|(_, check)| check.service_id == id).map(|(id, _)| Arc::clone(id)).collect();
        checks.iter().for_each(|check| {
            self.remove_check(key, check);
        });
        self.with_node(key, |entry| entry.services.remove(id));
        self.state.indexes.services = self.index;
        self.touch(Topic::Services);
        self.touch(Topic::Node(Arc::clone(key)));
        self.leave_service(key, &id.into(), &service.service);
        true
    }

    /// Removes a check of node `key`.
    pub fn remove_check(&mut self, key: &Name, id: &str) -> bool {
        let removed = self.with_node(key, |entry| {
            entry.transitions.remove(id);
            entry.checks.remove(id)
        });
        let Some(check) = removed.flatten() else { return false };
        self.state.indexes.checks = self.index;
        self.touch_check(key, &check);
        self.end_sessions_of_check(key, id);
        true
    }

    /// Removes node `key` with everything on it.
    pub fn remove_node(&mut self, key: &Name) -> bool {
        let Some(NodeEntry { node, services, checks, coordinates, sessions, transitions: _ }) =
            self.state.nodes.get(key).map(|entry| (**entry).clone())
        else {
            return false;
        };
        services.keys().for_each(|id| {
            self.remove_service(key, id);
        });
        checks.keys().for_each(|id| {
            self.remove_check(key, id);
        });
        sessions.iter().for_each(|id| self.end_session(id));
        if !coordinates.is_empty() {
            self.state.indexes.coordinates = self.index;
            self.touch(Topic::Coordinates);
        }
        self.state.nodes.remove(key);
        if self.state.node_ids.get(&fold(&node.id)) == Some(key) {
            self.state.node_ids.remove(&fold(&node.id));
        }
        self.state.indexes.nodes = self.index;
        self.touch(Topic::Nodes);
        self.touch(Topic::Node(Arc::clone(key)));
        true
    }

    /// Takes an instance off the list of its service's; the last one makes the service extinct.
    fn leave_service(&mut self, key: &Name, id: &Name, service: &str) {
        let name = fold(service);
        let Some(entry) = self.state.services.get_mut(&name) else { return };
        let ServiceEntry { instances, .. } = Arc::make_mut(entry);
        instances.remove(&(Arc::clone(key), Arc::clone(id)));
        if instances.is_empty() {
            self.state.services.remove(&name);
            self.state.indexes.extinction = self.index;
        }
        self.touch_service(&name);
    }

    fn touch_service(&mut self, name: &Name) {
        if let Some(entry) = self.state.services.get_mut(name) {
            Arc::make_mut(entry).index = self.index;
        }
        self.touch(Topic::Service(Arc::clone(name)));
    }

    /// A change of the node, or of a check of the node, concerns every service on it.
    fn touch_node(&mut self, key: &Name) {
        self.touch(Topic::Node(Arc::clone(key)));
        let names: Vec<Name> = self
            .state
            .nodes
            .get(key)
            .map(|entry| entry.services.values().map(|service| fold(&service.service)).collect())
            .unwrap_or_default();
        names.iter().for_each(|name| self.touch_service(name));
    }

    fn touch_check(&mut self, key: &Name, check: &HealthCheck) {
        self.touch(Topic::Checks);
        if check.service_id.is_empty() {
            self.touch_node(key);
        } else {
            self.touch(Topic::Node(Arc::clone(key)));
            self.touch_service(&fold(&check.service_name));
        }
    }
}
