//! A registered service: its slot, its record and how others may look at it.
//!
//! The record is the very msgpack map that Catalog.Register carries under `Service` (rpc spec §6). Synchronising, comparing
//! and the HTTP API all read these octets; nothing is kept twice.

use super::ServiceDef;
use crate::wire::msgpack::{Reader, Writer};

/// Longest id of a service or check, in octets.
pub const MAX_ID: usize = 128;

/// Where a service's record lies and what the catalog knows of it. When all slots are taken, registering is refused.
#[derive(Clone, Copy, Debug)]
pub struct ServiceSlot {
    /// Offset and length of the block: token, record.
    pub(super) at: u32,
    pub(super) len: u32,
    /// Offset of the record inside the block.
    pub(super) record: u32,
    /// Hash of the id, to compare few records.
    pub(super) hash: u32,
    pub(super) flags: u8,
}

const _: () = assert!(size_of::<ServiceSlot>() <= 20);

impl ServiceSlot {
    /// A free slot; all zero bits.
    pub const EMPTY: Self = ServiceSlot { at: 0, len: 0, record: 0, hash: 0, flags: 0 };
}

/// A service as the agent has it.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    pub(super) record: &'a [u8],
    pub(super) token: &'a str,
    pub(super) in_sync: bool,
}

impl<'a> Service<'a> {
    /// The record: the msgpack map of Catalog.Register's `Service`.
    pub fn record(&self) -> &'a [u8] {
        self.record
    }

    /// Id, unique on this agent.
    pub fn id(&self) -> &'a str {
        text(self.record, "ID")
    }

    /// Name.
    pub fn name(&self) -> &'a str {
        text(self.record, "Service")
    }

    /// Own address; empty: the node's.
    pub fn address(&self) -> &'a str {
        text(self.record, "Address")
    }

    /// Port.
    pub fn port(&self) -> u16 {
        field(self.record, "Port").and_then(|mut value| value.u16().ok()).unwrap_or(0)
    }

    /// Tags in their order.
    pub fn tags(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut value = field(self.record, "Tags").unwrap_or(Reader::new(&[]));
        let count = value.array().unwrap_or(0);
        (0..count).map_while(move |_| value.text().ok())
    }

    /// Metadata.
    pub fn meta(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut value = field(self.record, "Meta").unwrap_or(Reader::new(&[]));
        let count = value.map().unwrap_or(0);
        (0..count).map_while(move |_| Some((value.text().ok()?, value.text().ok()?)))
    }

    /// Named addresses: name, address, port.
    pub fn tagged_addresses(&self) -> impl Iterator<Item = (&'a str, &'a str, u16)> + use<'a> {
        let mut value = field(self.record, "TaggedAddresses").unwrap_or(Reader::new(&[]));
        let count = value.map().unwrap_or(0);
        (0..count).map_while(move |_| {
            let name = value.text().ok()?;
            let entry = value.skip().ok()?;
            let port = field(entry, "Port").and_then(|mut port| port.u16().ok()).unwrap_or(0);
            Some((name, text(entry, "Address"), port))
        })
    }

    /// DNS weights while passing and while warning.
    pub fn weights(&self) -> (u16, u16) {
        let weights = field(self.record, "Weights").and_then(|mut value| value.skip().ok()).unwrap_or(&[]);
        let weight = |key| field(weights, key).and_then(|mut value| value.u16().ok()).unwrap_or(1);
        (weight("Passing"), weight("Warning"))
    }

    /// Whether the catalog's tags win over ours.
    pub fn enable_tag_override(&self) -> bool {
        field(self.record, "EnableTagOverride").and_then(|mut value| value.bool().ok()).unwrap_or(false)
    }

    /// Its own token; empty: the agent's. Never to be shown.
    pub fn token(&self) -> &'a str {
        self.token
    }

    /// Whether the catalog has it like this, as far as we know.
    pub fn in_sync(&self) -> bool {
        self.in_sync
    }
}

/// The value of `key` in the map `record`.
pub(super) fn field<'a>(record: &'a [u8], key: &str) -> Option<Reader<'a>> {
    let mut reader = Reader::new(record);
    for _ in 0..reader.map().ok()? {
        if reader.raw().ok()? == key.as_bytes() {
            return Some(reader);
        }
        reader.skip().ok()?;
    }
    None
}

/// The text under `key`; empty when there is none.
pub(super) fn text<'a>(record: &'a [u8], key: &str) -> &'a str {
    field(record, key).and_then(|mut value| value.text().ok()).unwrap_or("")
}

/// Writes the record of `def` with the id `id`. Containers are always written, empty ones as a real agent does, and the
/// weights explicitly: the server would fill them in and every comparison would differ.
pub(super) fn emit(w: &mut Writer<'_>, def: &ServiceDef<'_>, id: &str) {
    w.map(9);
    w.text("Address");
    w.text(def.address);
    w.text("EnableTagOverride");
    w.bool(def.enable_tag_override);
    w.text("ID");
    w.text(id);
    w.text("Meta");
    w.map(def.meta.len());
    for (key, value) in def.meta {
        w.text(key);
        w.text(value);
    }
    w.text("Port");
    w.uint(def.port.into());
    w.text("Service");
    w.text(def.name);
    w.text("TaggedAddresses");
    w.map(def.tagged_addresses.len());
    for (name, address, port) in def.tagged_addresses {
        w.text(name);
        w.map(2);
        w.text("Address");
        w.text(address);
        w.text("Port");
        w.uint((*port).into());
    }
    w.text("Tags");
    w.array(def.tags.len());
    for tag in def.tags {
        w.text(tag);
    }
    let (passing, warning) = if def.weights == (0, 0) { (1, 1) } else { def.weights };
    w.text("Weights");
    w.map(2);
    w.text("Passing");
    w.uint(passing.into());
    w.text("Warning");
    w.uint(warning.into());
}

/// The least record there is: what is known of a service that is to be removed from the catalog.
pub(super) fn emit_stray(w: &mut Writer<'_>, key: &str, id: &str) {
    w.map(1);
    w.text(key);
    w.text(id);
}
