//! The store's snapshot.
//!
//! | octets | meaning |
//! |---|---|
//! | 4 | `LCTS` |
//! | 1 | format version |
//! | records | kind 1 octet, length 4 octets big-endian, body in msgpack |
//! | 1 + 4 + 4 | kind 0, length 4, CRC-32 (IEEE) of everything before this record |
//!
//! Kinds are append-only. Records of unknown kinds are refused: what they held would be lost silently.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    RestorePiece,
    tables::{Indexes, Name, NodeEntry, State, Tombstone, fold},
    transitions::Transition,
};
use crate::{
    model::{
        AutopilotConfig, DirEntry, HealthCheck, Node, NodeCoordinate, NodeService, Octets, PreparedQuery, Session,
    },
    rpc::codec,
};

const MAGIC: &[u8; 4] = b"LCTS";
const VERSION: u8 = 1;

// Append only.
const END: u8 = 0;
const INDEXES: u8 = 1;
const NODE: u8 = 2;
const SERVICE_INDEX: u8 = 3;
const KEY: u8 = 4;
const TOMBSTONE: u8 = 5;
const SESSION: u8 = 6;
const LOCK_DELAY: u8 = 7;
const QUERY: u8 = 8;
const AUTOPILOT: u8 = 9;
const STAGED: u8 = 10;

/// A snapshot cannot be taken over. The store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Reading failed, or the snapshot ends early.
    #[error("reading the snapshot: {0}")]
    Io(#[from] io::Error),
    /// Not a snapshot of ours.
    #[error("not a snapshot of this program's store")]
    Magic,
    /// Written by a later version.
    #[error(
        "snapshot of format {version}, record kind {kind}: written by a later version of this program, upgrade this server"
    )]
    Unknown {
        /// Its format version.
        version: u8,
        /// The first kind that is not known.
        kind: u8,
    },
    /// The checksum differs.
    #[error("the snapshot is damaged: its checksum differs")]
    Checksum,
    /// A record cannot be read.
    #[error("the snapshot is damaged: {0}")]
    Record(#[from] codec::Error),
}

/// A node with all that is on it.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct NodeRecord {
    pub node: Node,
    pub services: Vec<NodeService>,
    pub checks: Vec<HealthCheck>,
    pub coordinates: Vec<NodeCoordinate>,
    /// By check id.
    pub transitions: Vec<(String, Vec<Transition>)>,
}

impl State {
    /// Writes everything. May be done while later commands are applied: this state does not change.
    ///
    /// # Errors
    /// When `to` fails.
    pub fn write_snapshot(&self, to: &mut dyn Write) -> io::Result<()> {
        let mut out = Records { to, crc: crc32fast::Hasher::new() };
        out.octets(MAGIC)?;
        out.octets(&[VERSION])?;
        out.record(INDEXES, &self.indexes)?;
        for entry in self.nodes() {
            let record = NodeRecord {
                node: (*entry.node).clone(),
                services: entry.services.values().map(|service| (**service).clone()).collect(),
                checks: entry.checks.values().map(|check| (**check).clone()).collect(),
                coordinates: entry.coordinates().collect(),
                transitions: entry.transitions.iter().map(|(id, all)| (id.to_string(), all.to_vec())).collect(),
            };
            out.record(NODE, &record)?;
        }
        for (name, entry) in &self.services {
            out.record(SERVICE_INDEX, &(&**name, entry.index))?;
        }
        self.kv.values().try_for_each(|entry| out.record(KEY, &**entry))?;
        self.tombstones.iter().try_for_each(|(key, tombstone)| out.record(TOMBSTONE, &(&**key, tombstone)))?;
        self.sessions.values().try_for_each(|session| out.record(SESSION, &**session))?;
        self.lock_delays.iter().try_for_each(|(key, until)| out.record(LOCK_DELAY, &(&**key, until)))?;
        self.queries.values().try_for_each(|query| out.record(QUERY, &**query))?;
        self.autopilot.iter().try_for_each(|config| out.record(AUTOPILOT, &**config))?;
        let staged = self.staged.iter().flat_map(|staged| staged.pieces.iter().map(|octets| (&staged.id, octets)));
        for (number, (id, octets)) in staged.enumerate() {
            let octets = Octets(octets.to_vec());
            let piece = RestorePiece { id: id.clone(), number: number as u64, last: false, octets };
            out.record(STAGED, &piece)?;
        }
        let crc = out.crc.clone().finalize();
        out.head(END, 4)?;
        out.octets(&crc.to_be_bytes())
    }
}

struct Records<'a> {
    to: &'a mut dyn Write,
    crc: crc32fast::Hasher,
}

impl Records<'_> {
    fn octets(&mut self, octets: &[u8]) -> io::Result<()> {
        self.crc.update(octets);
        self.to.write_all(octets)
    }

    fn head(&mut self, kind: u8, len: usize) -> io::Result<()> {
        let len = u32::try_from(len).map_err(|_| io::Error::other("a record of the snapshot exceeds 4 GiB"))?;
        self.octets(&[kind])?;
        self.octets(&len.to_be_bytes())
    }

    fn record<T: Serialize>(&mut self, kind: u8, body: &T) -> io::Result<()> {
        let body = codec::to_vec(body).map_err(io::Error::other)?;
        self.head(kind, body.len())?;
        self.octets(&body)
    }
}

/// Reads what [`State::write_snapshot`] wrote.
pub(super) fn read(from: &mut dyn Read) -> Result<State, RestoreError> {
    let mut crc = crc32fast::Hasher::new();
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    crc.update(&head);
    let [magic @ .., version] = &head;
    if magic != MAGIC {
        return Err(RestoreError::Magic);
    }
    let version = *version;
    if version != VERSION {
        return Err(RestoreError::Unknown { version, kind: 0 });
    }
    let mut state = State::default();
    let mut body = Vec::new();
    loop {
        from.read_exact(&mut head)?;
        let [kind, len @ ..] = head;
        let len = u64::from(u32::from_be_bytes(len));
        body.clear();
        // By octets that are there: a lie about the length costs no memory.
        if from.take(len).read_to_end(&mut body)? as u64 != len {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if kind == END {
            let sum = crc.finalize().to_be_bytes();
            return if body == sum { Ok(state) } else { Err(RestoreError::Checksum) };
        }
        crc.update(&head);
        crc.update(&body);
        take(&mut state, kind, &body)?;
    }
}

fn take(state: &mut State, kind: u8, body: &[u8]) -> Result<(), RestoreError> {
    fn body_of<T: DeserializeOwned>(body: &[u8]) -> Result<T, RestoreError> {
        Ok(codec::from_slice(body)?)
    }
    match kind {
        INDEXES => state.indexes = body_of::<Indexes>(body)?,
        NODE => state.load_node(body_of(body)?),
        SERVICE_INDEX => {
            let (name, index): (String, u64) = body_of(body)?;
            state.load_service_index(&name, index);
        }
        KEY => state.load_key(body_of(body)?),
        TOMBSTONE => {
            let (key, tombstone): (String, Tombstone) = body_of(body)?;
            state.tombstones.insert(key.into(), tombstone);
        }
        SESSION => state.load_session(body_of(body)?),
        LOCK_DELAY => {
            let (key, until): (String, u64) = body_of(body)?;
            state.lock_delays.insert(key.into(), until);
        }
        QUERY => {
            let query: PreparedQuery = body_of(body)?;
            state.queries.insert(query.id.as_str().into(), Arc::new(query));
        }
        AUTOPILOT => state.autopilot = Some(Arc::new(body_of::<AutopilotConfig>(body)?)),
        STAGED => {
            let piece: RestorePiece = body_of(body)?;
            let staged = Arc::make_mut(state.staged.get_or_insert_default());
            staged.id = piece.id;
            staged.pieces.push(piece.octets.0.into());
        }
        kind => return Err(RestoreError::Unknown { version: VERSION, kind }),
    }
    Ok(())
}

/// One record after the other into empty tables: what refers to another comes after it.
impl State {
    /// A node with all that is on it.
    pub(super) fn load_node(&mut self, record: NodeRecord) {
        let key = fold(&record.node.node);
        for service in &record.services {
            let mut entry =
                self.services.get(&fold(&service.service)).map(|entry| (**entry).clone()).unwrap_or_default();
            entry.instances.insert((Arc::clone(&key), service.id.as_str().into()));
            self.services.insert(fold(&service.service), Arc::new(entry));
        }
        if !record.node.id.is_empty() {
            self.node_ids.insert(fold(&record.node.id), Arc::clone(&key));
        }
        let entry = NodeEntry {
            node: Arc::new(record.node),
            services: record.services.into_iter().map(|s| (Name::from(s.id.as_str()), Arc::new(s))).collect(),
            checks: record.checks.into_iter().map(|c| (Name::from(c.check_id.as_str()), Arc::new(c))).collect(),
            coordinates: record
                .coordinates
                .into_iter()
                .filter_map(|c| Some((Name::from(c.segment), Arc::new(c.coord?))))
                .collect(),
            transitions: record.transitions.into_iter().map(|(id, all)| (Name::from(id), Arc::from(all))).collect(),
            ..NodeEntry::default()
        };
        self.nodes.insert(key, Arc::new(entry));
    }

    /// A service's own index.
    pub(super) fn load_service_index(&mut self, name: &str, index: u64) {
        if let Some(entry) = self.services.get_mut(name) {
            Arc::make_mut(entry).index = index;
        }
    }

    /// A key.
    pub(super) fn load_key(&mut self, entry: DirEntry) {
        let key: Name = entry.key.as_str().into();
        if !entry.session.is_empty() {
            let mut keys = self.held.get(entry.session.as_str()).cloned().unwrap_or_default();
            keys.insert(Arc::clone(&key));
            self.held.insert(entry.session.as_str().into(), keys);
        }
        self.kv.insert(key, Arc::new(entry));
    }

    /// A session.
    pub(super) fn load_session(&mut self, session: Session) {
        let id: Name = session.id.as_str().into();
        if let Some(entry) = self.nodes.get_mut(&fold(&session.node)) {
            Arc::make_mut(entry).sessions.insert(Arc::clone(&id));
        }
        self.sessions.insert(id, Arc::new(session));
    }
}
