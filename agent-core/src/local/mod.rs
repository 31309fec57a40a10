//! What this agent itself registered: services and checks, and whether the catalog knows.
//!
//! ```text
//! def.rs       as the owner describes it ──register.rs──┐
//! service.rs   slot + record + view                     ├─ tables and one text region (text.rs), all lent
//! check.rs     slot + record + view                     ┘
//! state.rs     health and output of checks as they change
//! sync.rs      anti-entropy: what differs from the catalog, and which call comes next (rpc spec §7)
//! ```
//!
//! Local state is the truth for our node. An entry that is deregistered stays as *deleted* until the catalog has forgotten
//! it; an entry that the catalog has and we do not becomes deleted the same way. Not here: running checks
//! ([`crate::checks`]) and talking to servers ([`crate::rpc`]).

mod check;
mod def;
mod register;
mod service;
pub(crate) mod state;
pub(crate) mod sync;
mod text;

#[cfg(test)]
mod tests;

pub use check::{Check, CheckSlot, Judge};
pub(crate) use check::{HttpJob, Job};
pub use def::{CheckDef, CheckKind, ServiceDef};
pub use service::{MAX_ID, Service, ServiceSlot};

use crate::{
    time::{Duration, Instant},
    wire::{msgpack::Reader, rpc::Text},
};
use text::Arena;

/// Slot flags, the same for services and checks where both have them.
mod flag {
    /// The slot is taken.
    pub(super) const USED: u16 = 1;
    /// To be removed from the catalog, then freed. Nobody sees it any more.
    pub(super) const DELETED: u16 = 2;
    /// The catalog has it like this.
    pub(super) const IN_SYNC: u16 = 4;
    /// The catalog has it, as the full sync under way has read.
    pub(super) const SEEN: u16 = 8;
    /// Part of the call under way, and unchanged since.
    pub(super) const SENT: u16 = 16;
    /// The server refused it: not again before the next retry.
    pub(super) const HELD: u16 = 32;
    /// `due` means something.
    pub(super) const TIMED: u16 = 64;
    /// A run is under way.
    pub(super) const RUNNING: u16 = 128;
    /// `defer` means something.
    pub(super) const DEFERRED: u16 = 256;
    /// The host is to be asked to run it.
    pub(super) const ASK: u16 = 1024;
    /// The second output area is the current one.
    pub(super) const FLIPPED: u16 = 512;
}

/// Owners of text blocks: services by index, checks by index with this bit.
const CHECK_OWNER: u16 = 0x8000;

/// Least and greatest capacity of a check's output: a line on a device; what Consul captures (4096 octets and its note
/// about the rest) on a server.
const OUTPUT: (usize, usize) = (48, 4160);

/// The memory of the local state. Lengths are the limits.
pub struct LocalRegions<'m> {
    /// Services; deregistered ones stay until the catalog knows. At most 32,767 count.
    pub services: &'m mut [ServiceSlot],
    /// Checks, likewise.
    pub checks: &'m mut [CheckSlot],
    /// Records and outputs. A service takes about 150 octets, a check about 150 and its output: a quarter of this region
    /// divided by the number of check slots, but 48 to 4160 octets (twice for an HTTP check).
    pub text: &'m mut [u8],
}

/// Services and checks of this agent.
pub struct Local<'m> {
    services: &'m mut [ServiceSlot],
    checks: &'m mut [CheckSlot],
    arena: Arena<'m>,
    /// Capacity of one output area.
    output_limit: u16,
    /// Longest record that fits a call.
    record_limit: usize,
    /// How long an output-only change may wait.
    update_interval: Duration,
    /// Something may be out of sync: anti-entropy should look.
    pub(crate) dirty: bool,
    /// Something that the owner can see has changed.
    pub(crate) changed: bool,
    /// The catalog has entries of ours that found no slot: read again after removing others.
    strays_left: bool,
    /// An entry to be removed from the catalog that found no slot, and whether it is a check.
    spare: Text<MAX_ID>,
    spare_is_check: bool,
    /// Some check has the flag `ASK`.
    asking: bool,
    /// Earliest of all `due`, when known.
    next_due: Option<Option<Instant>>,
}

impl<'m> Local<'m> {
    /// Empty tables. `record_limit`: the longest record, in octets, that a call can carry.
    pub fn new(regions: LocalRegions<'m>, record_limit: usize, update_interval: Duration) -> Self {
        let LocalRegions { services, checks, text } = regions;
        let per_check = text.len() / 4 / checks.len().max(1);
        let limit = usize::from(CHECK_OWNER) - 1;
        let (services_len, checks_len) = (services.len().min(limit), checks.len().min(limit));
        Local {
            services: &mut services[..services_len],
            checks: &mut checks[..checks_len],
            arena: Arena::new(text),
            output_limit: per_check.clamp(OUTPUT.0, OUTPUT.1) as u16,
            record_limit,
            update_interval,
            dirty: false,
            changed: false,
            strays_left: false,
            spare: Text::EMPTY,
            spare_is_check: false,
            asking: false,
            next_due: None,
        }
    }

    /// All services, in no particular order.
    pub fn services(&self) -> impl Iterator<Item = Service<'_>> {
        (0..self.services.len()).filter_map(|index| self.service_at(index))
    }

    /// The service with this id.
    pub fn service(&self, id: &str) -> Option<Service<'_>> {
        self.service_at(self.find_service(id)?)
    }

    /// All checks, in no particular order.
    pub fn checks(&self) -> impl Iterator<Item = Check<'_>> {
        (0..self.checks.len()).filter_map(|index| self.check_at(index))
    }

    /// The check with this id.
    pub fn check(&self, id: &str) -> Option<Check<'_>> {
        self.check_at(self.find_check(id)?)
    }

    /// The worst state of a service's own checks and of the node's checks: what a name server goes by.
    pub fn health_of(&self, service_id: &str) -> crate::checks::Health {
        let own = self.checks().filter(|check| matches!(check.service_id(), id if id.is_empty() || id == service_id));
        own.map(|check| check.health()).max().unwrap_or(crate::checks::Health::Passing)
    }

    /// The service in slot `index`, unless it is free or deleted.
    pub(crate) fn service_at(&self, index: usize) -> Option<Service<'_>> {
        let slot = self.services.get(index)?;
        is_live(slot.flags.into()).then(|| Service {
            record: self.service_record(slot),
            token: token(self.arena.get(slot.at, slot.len)),
            in_sync: slot.flags & flag::IN_SYNC as u8 != 0,
        })
    }

    /// The check in slot `index`, unless it is free or deleted.
    pub(crate) fn check_at(&self, index: usize) -> Option<Check<'_>> {
        let slot = self.checks.get(index)?;
        if !is_live(slot.flags) {
            return None;
        }
        let block = self.arena.get(slot.at, slot.len);
        let service = usize::from(slot.service).checked_sub(1).and_then(|index| self.service_at(index));
        let (output, scratch) = areas(slot);
        let current = if slot.flags & flag::FLIPPED == 0 { output } else { scratch };
        let octets = block.get(current..current + usize::from(slot.output_len)).unwrap_or(&[]);
        Some(Check {
            fixed: self.check_fixed(slot),
            job: block.get(slot.job as usize..slot.output as usize).unwrap_or(&[]),
            token: token(block),
            output: core::str::from_utf8(octets).unwrap_or(""),
            service_name: service.map_or("", |service| service.name()),
            health: slot.health,
            judge: slot.judge,
            interval: slot.interval(),
            in_sync: slot.flags & flag::IN_SYNC != 0,
        })
    }

    fn service_record(&self, slot: &ServiceSlot) -> &[u8] {
        self.arena.get(slot.at, slot.len).get(slot.record as usize..).unwrap_or(&[])
    }

    fn check_fixed(&self, slot: &CheckSlot) -> &[u8] {
        self.arena.get(slot.at, slot.len).get(slot.fixed as usize..slot.job as usize).unwrap_or(&[])
    }

    /// The slot of the service `id`, deleted or not.
    fn find_service(&self, id: &str) -> Option<usize> {
        let hash = hash(id);
        self.services.iter().position(|slot| {
            slot.flags & flag::USED as u8 != 0
                && slot.hash == hash
                && service::text(self.service_record(slot), "ID") == id
        })
    }

    /// The slot of the check `id`, deleted or not.
    fn find_check(&self, id: &str) -> Option<usize> {
        let hash = hash(id);
        self.checks.iter().position(|slot| {
            slot.flags & flag::USED != 0 && slot.hash == hash && service::text(self.check_fixed(slot), "CheckID") == id
        })
    }
}

/// True for a slot that others may see.
fn is_live(flags: u16) -> bool {
    flags & (flag::USED | flag::DELETED) == flag::USED
}

/// Offsets of a check's two output areas inside its block. The second lies behind the block's end without HTTP.
fn areas(slot: &CheckSlot) -> (usize, usize) {
    (slot.output as usize, slot.output as usize + usize::from(slot.limit))
}

/// The token that begins a block.
fn token(block: &[u8]) -> &str {
    Reader::new(block).text().unwrap_or("")
}

/// FNV-1a of an id.
fn hash(id: &str) -> u32 {
    id.bytes().fold(0x811c_9dc5, |hash, octet| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193))
}
