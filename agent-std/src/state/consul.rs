//! The content of Consul's snapshot archives, `state.bin`, both ways.
//!
//! A msgpack map `{LastIndex}`, then records: one octet for the kind, one msgpack value. Kinds, values and order were
//! derived from archives of Consul 1.8.7, of which `vectors/snapshot` keeps some.
//!
//! | kind | value | here |
//! |---|---|---|
//! | 0 | registration: a node, with nothing, one service or one check | nodes, services, checks |
//! | 2 | key | keys |
//! | 3 | session | sessions |
//! | 5 | key of a tombstone, with its index | tombstones |
//! | 6 | list of coordinates | coordinates |
//! | 7 | prepared query | prepared queries |
//! | 9 | autopilot's configuration | the same |
//! | 16 | a table's or service's index | indexes |
//! | 1, 4, 8, 10–15, 17–30 | ACLs, mesh, configuration entries, federation | not held: counted by name |
//!
//! Locks' delays are not part of the format: who restores an archive may lock at once.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    persist::NodeRecord,
    tables::{Name, State, Tombstone, fold},
};
use crate::{
    model::{
        AutopilotConfig, DirEntry, HealthCheck, Map, Node, NodeCoordinate, NodeService, PreparedQuery, Session, is_zero,
    },
    rpc::codec::{self, Boundary},
};

const REGISTRATION: u8 = 0;
const KEY: u8 = 2;
const SESSION: u8 = 3;
const TOMBSTONE: u8 = 5;
const COORDINATES: u8 = 6;
const QUERY: u8 = 7;
const AUTOPILOT: u8 = 9;
const INDEX: u8 = 16;

/// Kinds of records that Consul has and we do not, in words for whoever restores.
const NOT_HELD: [(u8, &str); 22] = [
    (1, "deregistration"),
    (4, "legacy ACL"),
    (8, "transaction"),
    (10, "network area"),
    (11, "ACL bootstrap mark"),
    (12, "intention"),
    (13, "Connect CA root"),
    (14, "Connect CA provider state"),
    (15, "Connect CA configuration"),
    (17, "ACL token"),
    (18, "ACL token deletion"),
    (19, "ACL policy"),
    (20, "ACL policy deletion"),
    (21, "Connect CA leaf index"),
    (22, "configuration entry"),
    (23, "ACL role"),
    (24, "ACL role deletion"),
    (25, "ACL binding rule"),
    (26, "ACL binding rule deletion"),
    (27, "ACL auth method"),
    (28, "ACL auth method deletion"),
    (30, "federation state"),
];
/// Pieces of an entry that was longer than one of Consul's raft entries; between two entries there are none.
const CHUNKING: u8 = 29;

/// Octets of one record: a key's value, or the coordinates of a batch. Consul's largest value is 512 KiB by default and
/// may be set higher.
const MAX_RECORD: usize = 64 << 20;
/// Octets read at once.
const READ: usize = 64 << 10;

/// What an archive has and we do not, by name, with how many records.
pub type NotHeld = BTreeMap<&'static str, u64>;

/// The content of an archive cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveStateError {
    /// Reading failed.
    #[error("reading state.bin: {0}")]
    Io(#[from] io::Error),
    /// It ends in the middle.
    #[error("state.bin ends early, at octet {at}")]
    Short {
        /// Octets read.
        at: u64,
    },
    /// A record is no such record.
    #[error("state.bin: record at octet {at}, of kind {kind}: {error}")]
    Record {
        /// Where it begins.
        at: u64,
        /// Its kind.
        kind: u8,
        /// What is wrong.
        error: codec::Error,
    },
    /// A record that cannot be, or cannot be with those before it.
    #[error("state.bin: record at octet {at}, of kind {kind}: {what}")]
    Content {
        /// Where it begins.
        at: u64,
        /// Its kind.
        kind: u8,
        /// What is wrong.
        what: String,
    },
    /// Of a later version, or no state of Consul's.
    #[error("state.bin: record at octet {at} has kind {kind}, which Consul 1.8.7 does not have; nothing is restored")]
    Kind {
        /// Where it begins.
        at: u64,
        /// Its kind.
        kind: u8,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Header {
    last_index: u64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Registration {
    datacenter: String,
    #[serde(rename = "ID")]
    id: String,
    node: String,
    address: String,
    tagged_addresses: Option<Map<String>>,
    node_meta: Option<Map<String>>,
    service: Option<NodeService>,
    check: Option<HealthCheck>,
    create_index: u64,
    modify_index: u64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct IndexRecord {
    key: String,
    value: u64,
}

impl Registration {
    fn of(node: &Node) -> Self {
        Registration {
            datacenter: node.datacenter.clone(),
            id: node.id.clone(),
            node: node.node.clone(),
            address: node.address.clone(),
            tagged_addresses: node.tagged_addresses.clone(),
            node_meta: node.meta.clone(),
            create_index: node.create_index,
            modify_index: node.modify_index,
            ..Registration::default()
        }
    }

    fn into_node(self) -> Node {
        Node {
            id: self.id,
            node: self.node,
            address: self.address,
            datacenter: self.datacenter,
            tagged_addresses: self.tagged_addresses,
            meta: self.node_meta,
            create_index: self.create_index,
            modify_index: self.modify_index,
        }
    }
}

struct Records<'a>(&'a mut dyn Write);

impl Records<'_> {
    fn put<T: Serialize + ?Sized>(&mut self, kind: u8, value: &T) -> io::Result<()> {
        let mut octets = vec![kind];
        codec::append(&mut octets, value).map_err(io::Error::other)?;
        self.0.write_all(&octets)
    }

    fn index(&mut self, key: impl Into<String>, value: u64) -> io::Result<()> {
        let record = IndexRecord { key: key.into(), value };
        if value > 0 { self.put(INDEX, &record) } else { Ok(()) }
    }
}

impl State {
    /// Writes everything as Consul does. The same state gives the same octets.
    ///
    /// # Errors
    /// When `to` fails.
    pub fn write_consul(&self, last_index: u64, to: &mut dyn Write) -> io::Result<()> {
        to.write_all(&codec::to_vec(&Header { last_index }).map_err(io::Error::other)?)?;
        let mut out = Records(to);
        for entry in self.nodes() {
            out.put(REGISTRATION, &Registration::of(&entry.node))?;
            for service in entry.services.values() {
                let service = Some((**service).clone());
                out.put(REGISTRATION, &Registration { service, ..Registration::of(&entry.node) })?;
            }
            for check in entry.checks.values() {
                let check = Some((**check).clone());
                out.put(REGISTRATION, &Registration { check, ..Registration::of(&entry.node) })?;
            }
        }
        let coordinates: Vec<NodeCoordinate> = self.coordinates().1.collect();
        if !coordinates.is_empty() {
            out.put(COORDINATES, &coordinates)?;
        }
        self.sessions.values().try_for_each(|session| out.put(SESSION, &**session))?;
        self.kv.values().try_for_each(|entry| out.put(KEY, &**entry))?;
        for (key, tombstone) in &self.tombstones {
            let entry = DirEntry { key: key.to_string(), modify_index: tombstone.index, ..DirEntry::default() };
            out.put(TOMBSTONE, &entry)?;
        }
        self.queries.values().try_for_each(|query| out.put(QUERY, &**query))?;
        self.autopilot.iter().try_for_each(|config| out.put(AUTOPILOT, &**config))?;
        let tables = &self.indexes;
        out.index("checks", tables.checks)?;
        out.index("coordinates", tables.coordinates)?;
        out.index("kvs", tables.kv)?;
        out.index("nodes", tables.nodes)?;
        out.index("prepared-queries", tables.queries)?;
        for (name, entry) in &self.services {
            out.index(format!("service.{name}"), entry.index)?;
        }
        out.index("service_kind.typical", tables.services)?;
        out.index("service_last_extinction", tables.extinction)?;
        out.index("services", tables.services)?;
        out.index("sessions", tables.sessions)?;
        let buried = self.tombstones.values().map(|tombstone| tombstone.index).max();
        out.index("tombstones", buried.unwrap_or(0))
    }

    /// Reads what Consul or [`State::write_consul`] wrote. `unix_millis` is the time from which tombstones count.
    ///
    /// # Errors
    /// When it is not the state of a Consul 1.8.7, or contradicts itself.
    pub fn read_consul(from: &mut dyn Read, unix_millis: u64) -> Result<(Self, NotHeld), ArchiveStateError> {
        let mut values = Values { from, buffer: Vec::new(), used: 0, at: 0 };
        let header = values.value(0)?;
        codec::from_slice::<Header>(header).map_err(|error| ArchiveStateError::Record { at: 0, kind: 0, error })?;
        let mut loading = Loading { unix_millis, ..Loading::default() };
        loop {
            let at = values.at;
            let Some(kind) = values.kind()? else { break };
            let value = values.value(kind)?;
            loading.take(at, kind, value)?;
        }
        Ok(loading.finish())
    }
}

/// One msgpack value after the other, each with its kind in front.
struct Values<'a> {
    from: &'a mut dyn Read,
    buffer: Vec<u8>,
    /// Octets of the buffer that are done with.
    used: usize,
    /// Octets done with since the beginning.
    at: u64,
}

impl Values<'_> {
    /// `false`: the end.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..std::mem::take(&mut self.used));
        Ok(self.from.take(READ as u64).read_to_end(&mut self.buffer)? > 0)
    }

    fn kind(&mut self) -> io::Result<Option<u8>> {
        if self.used == self.buffer.len() && !self.fill()? {
            return Ok(None);
        }
        let kind = self.buffer.get(self.used).copied();
        self.used += 1;
        self.at += 1;
        Ok(kind)
    }

    fn value(&mut self, kind: u8) -> Result<&[u8], ArchiveStateError> {
        let mut boundary = Boundary::default();
        loop {
            let rest = self.buffer.get(self.used..).unwrap_or_default();
            let record = |error: codec::Error| ArchiveStateError::Record { at: self.at, kind, error };
            if let Some(len) = boundary.find(rest).map_err(|error| record(error.into()))? {
                let begin = self.used;
                self.used += len;
                self.at += len as u64;
                return Ok(&self.buffer[begin..begin + len]);
            }
            if rest.len() > MAX_RECORD {
                return Err(ArchiveStateError::Content { at: self.at, kind, what: "longer than 64 MiB".into() });
            }
            if !self.fill()? {
                return Err(ArchiveStateError::Short { at: self.at });
            }
        }
    }
}

/// The state while its records come in.
#[derive(Default)]
struct Loading {
    state: State,
    /// Nodes are put together first: their parts come one by one.
    nodes: BTreeMap<Name, NodeRecord>,
    sessions: Vec<Session>,
    services: Vec<(String, u64)>,
    not_held: NotHeld,
    unix_millis: u64,
}

impl Loading {
    fn take(&mut self, at: u64, kind: u8, value: &[u8]) -> Result<(), ArchiveStateError> {
        fn body<T: DeserializeOwned>(at: u64, kind: u8, value: &[u8]) -> Result<T, ArchiveStateError> {
            codec::from_slice(value).map_err(|error| ArchiveStateError::Record { at, kind, error })
        }
        let wrong = |what: String| ArchiveStateError::Content { at, kind, what };
        match kind {
            REGISTRATION => self.register(body(at, kind, value)?).map_err(wrong)?,
            KEY => {
                let entry: DirEntry = body(at, kind, value)?;
                if entry.key.is_empty() {
                    return Err(wrong("a key without a name".into()));
                }
                self.state.load_key(entry);
            }
            SESSION => self.sessions.push(body(at, kind, value)?),
            TOMBSTONE => {
                let entry: DirEntry = body(at, kind, value)?;
                let tombstone = Tombstone { index: entry.modify_index, unix_millis: self.unix_millis };
                self.state.tombstones.insert(entry.key.into(), tombstone);
            }
            COORDINATES => {
                for coordinate in body::<Vec<NodeCoordinate>>(at, kind, value)? {
                    // Of a node that is not there it is of no use, and Consul may keep such.
                    if let Some(node) = self.nodes.get_mut(&fold(&coordinate.node)) {
                        node.coordinates.push(coordinate);
                    }
                }
            }
            QUERY => {
                let query: PreparedQuery = body(at, kind, value)?;
                self.state.queries.insert(query.id.as_str().into(), query.into());
            }
            AUTOPILOT => self.state.autopilot = Some(body::<AutopilotConfig>(at, kind, value)?.into()),
            INDEX => self.index(body(at, kind, value)?),
            CHUNKING if value != CHUNKS_OF_NOTHING => {
                return Err(wrong("an entry of many pieces was under way; save the archive once more".into()));
            }
            CHUNKING => {}
            _ => {
                let known = NOT_HELD.iter().find(|(known, _)| *known == kind);
                let (_, name) = known.ok_or(ArchiveStateError::Kind { at, kind })?;
                *self.not_held.entry(name).or_default() += 1;
            }
        }
        Ok(())
    }

    fn register(&mut self, mut registration: Registration) -> Result<(), String> {
        if registration.node.is_empty() {
            return Err("a node without a name".into());
        }
        let (service, check) = (registration.service.take(), registration.check.take());
        let record = self.nodes.entry(fold(&registration.node)).or_default();
        if is_zero(&record.node) {
            record.node = registration.into_node();
        }
        record.services.extend(service);
        if let Some(check) = check {
            let known = |service: &NodeService| service.id == check.service_id;
            if !check.service_id.is_empty() && !record.services.iter().any(known) {
                return Err(format!("check {:?} of an unknown service {:?}", check.check_id, check.service_id));
            }
            record.checks.push(check);
        }
        Ok(())
    }

    fn index(&mut self, IndexRecord { key, value }: IndexRecord) {
        let tables = &mut self.state.indexes;
        match key.as_str() {
            "checks" => tables.checks = value,
            "coordinates" => tables.coordinates = value,
            // One index for both, as reads of keys see them.
            "kvs" | "tombstones" => tables.kv = tables.kv.max(value),
            "nodes" => tables.nodes = value,
            "prepared-queries" => tables.queries = value,
            "service_last_extinction" => tables.extinction = value,
            "services" => tables.services = value,
            "sessions" => tables.sessions = value,
            _ => {
                if let Some(name) = key.strip_prefix("service.") {
                    self.services.push((name.to_lowercase(), value));
                }
            }
        }
    }

    fn finish(mut self) -> (State, NotHeld) {
        for record in std::mem::take(&mut self.nodes).into_values() {
            self.state.load_node(record);
        }
        for session in self.sessions {
            self.state.load_session(session);
        }
        for (name, index) in self.services {
            self.state.load_service_index(&name, index);
        }
        (self.state, self.not_held)
    }
}

/// `{ChunkMap: {}}`
const CHUNKS_OF_NOTHING: &[u8] = b"\x81\xa8ChunkMap\x80";

#[cfg(test)]
mod tests;
