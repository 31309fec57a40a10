//! The tables and their indexes.

use std::{collections::BTreeSet, sync::Arc};

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};

use super::{transitions::Transition, watch::Topic};
use crate::model::{AutopilotConfig, Coordinate, DirEntry, HealthCheck, Node, NodeService, PreparedQuery, Session};

/// Shared text: cloning a path of the maps must not copy names.
pub(super) type Name = Arc<str>;

/// Nodes and services are found by name in any case.
pub(super) fn fold(name: &str) -> Name {
    name.to_lowercase().into()
}

/// The raft index of the last change of each table; they never go back, except by restoring a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Indexes {
    pub nodes: u64,
    pub services: u64,
    pub checks: u64,
    /// When a service last lost its last instance: the index of a service that does not exist.
    pub extinction: u64,
    pub kv: u64,
    pub sessions: u64,
    pub coordinates: u64,
    pub queries: u64,
    /// What is added to raft's index, so that after restoring an archive with greater indexes they still grow.
    pub offset: u64,
    /// The index at which an archive was restored last; 0: never.
    pub restored: u64,
}

/// A node and all that is on it.
#[derive(Clone, Debug, Default)]
pub struct NodeEntry {
    /// The node itself.
    pub node: Arc<Node>,
    /// Services by id.
    pub services: OrdMap<Name, Arc<NodeService>>,
    /// Checks by id.
    pub checks: OrdMap<Name, Arc<HealthCheck>>,
    /// Coordinates by segment.
    pub coordinates: OrdMap<Name, Arc<Coordinate>>,
    /// What the checks' status has been, by their id.
    pub(super) transitions: OrdMap<Name, Arc<[Transition]>>,
    /// Sessions that die with it.
    pub(super) sessions: OrdSet<Name>,
}

/// The instances of a service.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceEntry {
    /// Index of the last change of an instance, its node or its checks.
    pub index: u64,
    /// Node and id of each.
    pub instances: OrdSet<(Name, Name)>,
}

/// A key that is no more: when it went, by raft index and by the leader's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tombstone {
    pub index: u64,
    pub unix_millis: u64,
}

/// Everything, as it was after one log entry. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(super) indexes: Indexes,
    pub(super) nodes: OrdMap<Name, Arc<NodeEntry>>,
    /// Node by UUID in lower case.
    pub(super) node_ids: OrdMap<Name, Name>,
    pub(super) services: OrdMap<Name, Arc<ServiceEntry>>,
    pub(super) kv: OrdMap<Name, Arc<DirEntry>>,
    pub(super) tombstones: OrdMap<Name, Tombstone>,
    pub(super) sessions: OrdMap<Name, Arc<Session>>,
    /// Keys that a session holds.
    pub(super) held: OrdMap<Name, OrdSet<Name>>,
    /// Until when, by the leader's clock in Unix milliseconds, a key cannot be locked after its session's end.
    pub(super) lock_delays: OrdMap<Name, u64>,
    /// Prepared queries by id.
    pub(super) queries: OrdMap<Name, Arc<PreparedQuery>>,
    /// None: the defaults.
    pub(super) autopilot: Option<Arc<AutopilotConfig>>,
    /// Pieces of an archive that is being restored.
    pub(super) staged: Option<Arc<Staged>>,
}

/// Pieces of an archive under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Staged {
    /// Which restore they belong to.
    pub id: String,
    pub pieces: Vec<Arc<[u8]>>,
}

/// The next state while a command makes it, and what it touched.
pub(super) struct Change {
    pub state: State,
    pub index: u64,
    pub unix_millis: u64,
    pub touched: BTreeSet<Topic>,
}

impl Change {
    pub fn new(state: &State, index: u64, unix_millis: u64) -> Self {
        Change { state: state.clone(), index, unix_millis, touched: BTreeSet::new() }
    }

    pub fn touch(&mut self, topic: Topic) {
        self.touched.insert(topic);
    }

    /// Changes a node's entry, if there is one.
    pub fn with_node<T>(&mut self, node: &str, change: impl FnOnce(&mut NodeEntry) -> T) -> Option<T> {
        self.state.nodes.get_mut(node).map(|entry| change(Arc::make_mut(entry)))
    }
}
