//! A reply, read as it arrives.
//!
//! The decoder keeps a small stack of the containers it is in (each with its place in the tree, [`Place`]) and the handful
//! of fields of the record at hand. Whatever is not wanted is stepped over with a counter, at any depth.

use super::{
    Method,
    digest::{Digest, Leaf, below, step},
    pull::{Pull, Token},
    text::Text,
};
use crate::{checks::Health, wire::Error};

/// Containers around the deepest wanted value: reply, NodeServices, Services, service, TaggedAddresses, entry (rpc spec
/// §9 "Streaming decoder"); two to spare.
const DEPTH: usize = 8;

/// Longest key that is compared; all wanted ones are shorter.
const KEY: usize = 24;

/// One fact from a reply.
#[derive(Debug)]
pub enum Item<'a> {
    /// One instance of a service.
    Instance(&'a Instance),
    /// One service of a node.
    Service {
        /// Its id; `None` when it is too long for us to say (over 128 octets).
        id: Option<&'a str>,
        /// What the catalog has.
        digest: Digest,
    },
    /// One check of a node.
    Check {
        /// Its id; `None` when it is too long for us to say.
        id: Option<&'a str>,
        /// What the catalog has.
        digest: Digest,
    },
    /// The node itself.
    Node {
        /// Its name.
        name: &'a str,
        /// Its address.
        address: &'a str,
        /// What the catalog has.
        digest: Digest,
    },
}

/// What a name server needs to know of one instance.
#[derive(Clone, Copy, Debug)]
pub struct Instance {
    /// Node name.
    pub node: Text<128>,
    /// The node's address.
    pub node_address: Text<64>,
    /// The service's own address; empty: the node's.
    pub service_address: Text<64>,
    /// Port.
    pub port: u16,
    /// Weight while passing; 0: not given.
    pub weight_passing: u16,
    /// Weight while warning; 0: not given.
    pub weight_warning: u16,
    /// The worst of its checks.
    pub health: Health,
}

impl Instance {
    /// Nothing known; all zero bits.
    pub const EMPTY: Instance = Instance {
        node: Text::EMPTY,
        node_address: Text::EMPTY,
        service_address: Text::EMPTY,
        port: 0,
        weight_passing: 0,
        weight_warning: 0,
        health: Health::Passing,
    };
}

/// A place in the tree of replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Not wanted.
    Skip,
    Header,
    HeaderError,
    HeaderSeq,
    /// `{Nodes: [{Checks, Node, Service}], Index}`
    Instances,
    Index,
    InstanceList,
    Instance,
    InstanceNode,
    InstanceNodeName,
    InstanceNodeAddress,
    InstanceService,
    InstanceServiceAddress,
    InstancePort,
    InstanceWeights,
    WeightPassing,
    WeightWarning,
    InstanceChecks,
    InstanceCheck,
    InstanceStatus,
    /// `{NodeServices: {Node, Services: list or map}, Index}`
    Services,
    NodeServices,
    NodeInfo,
    NodeName,
    NodeAddress,
    ServiceList,
    Service,
    /// Text that names the record and counts for its digest.
    RecordId,
    Tags,
    /// `{HealthChecks: [check], Index}`
    Checks,
    CheckList,
    Check,
    CheckOutput,
    /// A compared field: zero counts as absent.
    Field,
    /// A compared container: everything in it counts.
    Tree,
}

/// Which places the entries of a map have: its own place, an entry's key in the wire's spelling, the entry's place.
const ENTRIES: &[(Place, &str, Place)] = &[
    (Place::Header, "Error", Place::HeaderError),
    (Place::Header, "Seq", Place::HeaderSeq),
    (Place::Instances, "Index", Place::Index),
    (Place::Instances, "Nodes", Place::InstanceList),
    (Place::Instance, "Node", Place::InstanceNode),
    (Place::Instance, "Service", Place::InstanceService),
    (Place::Instance, "Checks", Place::InstanceChecks),
    (Place::InstanceNode, "Node", Place::InstanceNodeName),
    (Place::InstanceNode, "Address", Place::InstanceNodeAddress),
    (Place::InstanceService, "Address", Place::InstanceServiceAddress),
    (Place::InstanceService, "Port", Place::InstancePort),
    (Place::InstanceService, "Weights", Place::InstanceWeights),
    (Place::InstanceWeights, "Passing", Place::WeightPassing),
    (Place::InstanceWeights, "Warning", Place::WeightWarning),
    (Place::InstanceCheck, "Status", Place::InstanceStatus),
    (Place::Services, "Index", Place::Index),
    (Place::Services, "NodeServices", Place::NodeServices),
    (Place::NodeServices, "Node", Place::NodeInfo),
    (Place::NodeServices, "Services", Place::ServiceList),
    (Place::NodeInfo, "Node", Place::NodeName),
    (Place::NodeInfo, "Address", Place::NodeAddress),
    (Place::NodeInfo, "ID", Place::Field),
    (Place::NodeInfo, "TaggedAddresses", Place::Tree),
    (Place::NodeInfo, "Meta", Place::Tree),
    (Place::Service, "ID", Place::RecordId),
    (Place::Service, "Service", Place::Field),
    (Place::Service, "Address", Place::Field),
    (Place::Service, "Port", Place::Field),
    (Place::Service, "EnableTagOverride", Place::Field),
    (Place::Service, "Tags", Place::Tags),
    (Place::Service, "Meta", Place::Tree),
    (Place::Service, "TaggedAddresses", Place::Tree),
    (Place::Service, "Weights", Place::Tree),
    (Place::Checks, "Index", Place::Index),
    (Place::Checks, "HealthChecks", Place::CheckList),
    (Place::Check, "CheckID", Place::RecordId),
    (Place::Check, "Name", Place::Field),
    (Place::Check, "Status", Place::Field),
    (Place::Check, "Notes", Place::Field),
    (Place::Check, "ServiceID", Place::Field),
    (Place::Check, "Output", Place::CheckOutput),
];

impl Place {
    /// The place of `key` below this place.
    fn child(self, key: &[u8]) -> Place {
        match self {
            Place::InstanceList => Place::Instance,
            Place::InstanceChecks => Place::InstanceCheck,
            Place::ServiceList => Place::Service,
            Place::CheckList => Place::Check,
            Place::Tree | Place::Tags => self,
            _ => {
                let entry = ENTRIES.iter().find(|(map, name, _)| *map == self && name.as_bytes() == key);
                entry.map_or(Place::Skip, |&(_, _, place)| place)
            }
        }
    }

    /// True when the value counts for its record's digest.
    fn is_compared(self) -> bool {
        matches!(self, Place::Field | Place::RecordId | Place::Tree | Place::Tags | Place::CheckOutput)
    }
}

/// What the octets of the raw value at hand are for.
#[derive(Clone, Copy, Debug)]
enum Target {
    Key,
    Value(Place),
    Nobody,
}

/// A container that is being read.
#[derive(Clone, Copy, Debug)]
struct Level {
    node: Place,
    /// Entries or elements still to come, the one at hand included.
    left: u32,
    map: bool,
    at_key: bool,
    /// Digest path of the container.
    path: u32,
}

/// Reads one reply, two values, from pieces of any size.
#[derive(Clone, Debug)]
pub struct Reply {
    pull: Pull,
    stack: [Level; DEPTH],
    depth: u8,
    /// Place of the value that begins at depth 0.
    root: Place,
    body: Place,
    done: bool,
    /// Values still to be stepped over.
    skip: u64,
    target: Target,
    key: [u8; KEY],
    /// Octets of the key; `KEY + 1` when it is longer than any we know.
    key_len: u8,
    /// Digest path of the value at hand.
    path: u32,
    leaf: Leaf,
    leaf_len: u32,
    digest: Digest,
    /// The instance at hand; `node` also holds the id or name of other records, to save room.
    record: Instance,
    status: Text<8>,
    error: Text<64>,
    seq: u64,
    index: u64,
}

impl Reply {
    /// A decoder for the reply to a call of `method`.
    pub fn new(method: Method) -> Self {
        Self::at(
            Place::Header,
            match method {
                Method::ServiceNodes | Method::ExecuteRemote => Place::Instances,
                Method::NodeServiceList | Method::NodeServices => Place::Services,
                Method::NodeChecks => Place::Checks,
                Method::Register | Method::Deregister | Method::Ping | Method::CoordinateUpdate => Place::Skip,
            },
        )
    }

    fn at(root: Place, body: Place) -> Self {
        const LEVEL: Level = Level { node: Place::Skip, left: 0, map: false, at_key: false, path: 0 };
        Reply {
            pull: Pull::new(),
            stack: [LEVEL; DEPTH],
            depth: 0,
            root,
            body,
            done: false,
            skip: 0,
            target: Target::Nobody,
            key: [0; KEY],
            key_len: 0,
            path: 0,
            leaf: Leaf::new(0),
            leaf_len: 0,
            digest: Digest { fields: 0, apart: 0 },
            record: Instance::EMPTY,
            status: Text::EMPTY,
            error: Text::EMPTY,
            seq: 0,
            index: 0,
        }
    }

    /// The digest of one record that lies in memory.
    pub(super) fn digest_of(root: Place, record: &[u8]) -> Digest {
        let mut found = Digest::default();
        let mut reply = Reply::at(Place::Skip, root);
        reply.root = root;
        // Our own records are well formed; of anything else the digest is that of its readable beginning.
        let _ = reply.feed(record, &mut |item| match item {
            Item::Service { digest, .. } | Item::Check { digest, .. } => found = digest,
            Item::Instance(_) | Item::Node { .. } => {}
        });
        found
    }

    /// Takes octets; calls `on` for every record that is complete. Returns how many were taken: fewer than given only
    /// when the reply has ended.
    ///
    /// # Errors
    /// The octets are no reply; the connection is of no more use.
    pub fn feed(&mut self, data: &[u8], on: &mut dyn FnMut(Item<'_>)) -> Result<usize, Error> {
        let mut rest = data;
        while !self.done {
            if self.pull.in_raw() {
                let piece = self.pull.piece(&mut rest);
                self.on_piece(piece);
                if self.pull.in_raw() {
                    break;
                }
                self.on_raw_end(on);
            } else {
                match self.pull.token(&mut rest)? {
                    Some(token) => self.on_token(token, on)?,
                    None => break,
                }
            }
        }
        Ok(data.len() - rest.len())
    }

    /// True when both values have been read.
    pub const fn is_done(&self) -> bool {
        self.done
    }

    /// The server's error, its first 64 octets; empty: success.
    pub fn error(&self) -> &str {
        self.error.as_str()
    }

    /// The call's number, echoed.
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// `Index` of a read; 0 when the reply has none.
    pub const fn index(&self) -> u64 {
        self.index
    }

    fn top(&mut self) -> Option<&mut Level> {
        let top = usize::from(self.depth).checked_sub(1)?;
        self.stack.get_mut(top)
    }

    fn on_token(&mut self, token: Token, on: &mut dyn FnMut(Item<'_>)) -> Result<(), Error> {
        let raw_is_empty = !self.pull.in_raw();
        if self.skip > 0 {
            self.target = Target::Nobody;
            self.skip = self.skip - 1 + inner_values(token);
            if self.skip == 0 && raw_is_empty {
                self.on_value_end(on);
            }
            return Ok(());
        }
        let root = self.root;
        let at = self.pull.at();
        let node = match self.top() {
            None => root,
            Some(level) if level.at_key => {
                if !matches!(token, Token::Raw(_)) {
                    return Err(Error { what: "key is not text", at });
                }
                self.path = below(level.path, b"");
                self.key_len = 0;
                self.target = Target::Key;
                if raw_is_empty {
                    self.on_raw_end(on);
                }
                return Ok(());
            }
            Some(level) if level.map => {
                let parent = level.node;
                // A key longer than any we know matches nothing, but has its own path.
                parent.child(self.key.get(..usize::from(self.key_len)).unwrap_or(&[0]))
            }
            Some(level) => {
                let (path, left, parent) = (level.path, level.left, level.node);
                self.path = below(path, &left.to_be_bytes());
                parent.child(&[])
            }
        };
        match token {
            Token::Map(left) => self.on_container(node, left, true, on),
            Token::Array(left) => self.on_container(node, left, false, on),
            Token::Raw(_) => {
                self.target = Target::Value(node);
                self.on_text_start(node);
                if raw_is_empty {
                    self.on_raw_end(on);
                }
            }
            Token::Extension => self.target = Target::Nobody,
            Token::Nil | Token::Bool(_) | Token::Int { .. } | Token::Float(_) => {
                self.on_number(node, token);
                self.on_value_end(on);
            }
        }
        Ok(())
    }

    fn on_container(&mut self, node: Place, left: u32, map: bool, on: &mut dyn FnMut(Item<'_>)) {
        let is_container = !matches!(node, Place::Skip | Place::Field | Place::RecordId | Place::CheckOutput);
        if !is_container || usize::from(self.depth) == DEPTH {
            self.skip = u64::from(left) * if map { 2 } else { 1 };
            if self.skip == 0 {
                self.on_value_end(on);
            }
            return;
        }
        let mut path = self.path;
        if matches!(node, Place::Instance | Place::Service | Place::Check | Place::NodeInfo) {
            self.record = Instance::EMPTY;
            self.digest = Digest::default();
            path = 0;
        }
        self.stack[usize::from(self.depth)] = Level { node, left, map, at_key: map, path };
        self.depth += 1;
        if left == 0 {
            self.depth -= 1;
            self.on_container_end(node, on);
            self.on_value_end(on);
        }
    }

    fn on_container_end(&mut self, node: Place, on: &mut dyn FnMut(Item<'_>)) {
        let name = &self.record.node;
        let id = (name.is_whole() && !name.is_empty()).then(|| name.as_str());
        match node {
            Place::Instance => on(Item::Instance(&self.record)),
            Place::Service => on(Item::Service { id, digest: self.digest }),
            Place::Check => on(Item::Check { id, digest: self.digest }),
            Place::NodeInfo => {
                on(Item::Node { name: name.as_str(), address: self.record.node_address.as_str(), digest: self.digest })
            }
            _ => {}
        }
    }

    /// A value is complete: on to the next one, up through every container that it completes.
    fn on_value_end(&mut self, on: &mut dyn FnMut(Item<'_>)) {
        while let Some(level) = self.top() {
            level.left = level.left.saturating_sub(1);
            level.at_key = level.map;
            if level.left > 0 {
                return;
            }
            let node = level.node;
            self.depth -= 1;
            self.on_container_end(node, on);
        }
        // Depth 0: the header or the result is complete.
        self.done = self.root == self.body && self.root != Place::Header;
        self.root = self.body;
    }

    fn on_text_start(&mut self, node: Place) {
        self.leaf = Leaf::new(self.path);
        self.leaf_len = 0;
        match node {
            Place::HeaderError => self.error.clear(),
            Place::InstanceStatus => self.status.clear(),
            Place::InstanceNodeName | Place::NodeName | Place::RecordId => self.record.node.clear(),
            Place::InstanceNodeAddress | Place::NodeAddress => self.record.node_address.clear(),
            Place::InstanceServiceAddress => self.record.service_address.clear(),
            _ => {}
        }
    }

    fn on_piece(&mut self, piece: &[u8]) {
        match self.target {
            Target::Nobody => {}
            Target::Key => {
                for &octet in piece {
                    self.path = step(self.path, octet);
                    let at = usize::from(self.key_len);
                    match self.key.get_mut(at) {
                        Some(place) => {
                            *place = octet;
                            self.key_len += 1;
                        }
                        None => self.key_len = KEY as u8 + 1,
                    }
                }
            }
            Target::Value(node) => {
                match node {
                    Place::HeaderError => self.error.push(piece),
                    Place::InstanceStatus => self.status.push(piece),
                    Place::InstanceNodeName | Place::NodeName | Place::RecordId => self.record.node.push(piece),
                    Place::InstanceNodeAddress | Place::NodeAddress => self.record.node_address.push(piece),
                    Place::InstanceServiceAddress => self.record.service_address.push(piece),
                    _ => {}
                }
                if node.is_compared() {
                    self.leaf.octets(piece);
                }
                self.leaf_len = self.leaf_len.saturating_add(piece.len() as u32);
            }
        }
    }

    fn on_raw_end(&mut self, on: &mut dyn FnMut(Item<'_>)) {
        match self.target {
            Target::Key => {
                if let Some(level) = self.top() {
                    level.at_key = false;
                }
                return;
            }
            Target::Value(node) => {
                if node == Place::InstanceStatus {
                    let health = Health::from_catalog(self.status.as_str());
                    self.record.health = self.record.health.max(health);
                }
                if self.leaf_len > 0 || matches!(node, Place::Tree | Place::Tags) {
                    self.count(node, self.leaf.finish());
                }
            }
            Target::Nobody => {}
        }
        // While a container is being stepped over, its raw values end nothing.
        if self.skip == 0 {
            self.on_value_end(on);
        }
    }

    /// Adds a leaf to the digest of the record it belongs to.
    fn count(&mut self, node: Place, leaf: u64) {
        match node {
            Place::Field | Place::RecordId | Place::Tree => self.digest.fields = self.digest.fields.wrapping_add(leaf),
            Place::Tags | Place::CheckOutput => self.digest.apart = self.digest.apart.wrapping_add(leaf),
            _ => {}
        }
    }

    fn on_number(&mut self, node: Place, token: Token) {
        let (value, negative) = match token {
            Token::Int { value, negative } => (value, negative),
            Token::Bool(value) => (value.into(), false),
            Token::Float(bits) => (bits, false),
            _ => return,
        };
        let small = if negative { 0 } else { u16::try_from(value).unwrap_or(0) };
        match node {
            Place::HeaderSeq => self.seq = value,
            Place::Index => self.index = value,
            Place::InstancePort => self.record.port = small,
            Place::WeightPassing => self.record.weight_passing = small,
            Place::WeightWarning => self.record.weight_warning = small,
            _ if value != 0 || node == Place::Tree => {
                let mut leaf = Leaf::new(self.path);
                leaf.octets(&value.to_be_bytes());
                self.count(node, leaf.finish());
            }
            _ => {}
        }
    }
}

/// Values inside the one that begins with `token`.
fn inner_values(token: Token) -> u64 {
    match token {
        Token::Array(left) => left.into(),
        Token::Map(left) => 2 * u64::from(left),
        _ => 0,
    }
}
