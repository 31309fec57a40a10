//! The member table: slots, an index by name, and packed names and tags.
//!
//! Slot 0 is ourselves. A full table forgets the longest dead first, servers last; after that a server displaces a random
//! member that is no server, and everybody else is refused. So that a partial table is a random sample of the cluster and
//! not of its oldest members, a push/pull may replace one of them ([`Room::Displace`]). *Not knowing* a member is always
//! legal (gossip spec §11).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::suspicion::Suspicion;
use crate::{
    memory::{Pack, Place},
    pool::{Member, MemberStatus},
    rand::Rng,
    time::Instant,
    wire::{
        push_pull::{Node, NodeState},
        tags,
    },
};

/// A member's place in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct MemberId(pub u16);

impl MemberId {
    /// Ourselves.
    pub const SELF: MemberId = MemberId(0);
    /// Of no member: a table has at most 65,534.
    pub const NOBODY: MemberId = MemberId(u16::MAX);
}

/// memberlist's state of a member. Not serf's status, see [`MemberStatus`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// No member here.
    #[default]
    Free,
    /// Answers.
    Alive,
    /// Accused; its timer runs.
    Suspect,
    /// Gone.
    Dead,
    /// Gone by its own wish.
    Left,
}

impl State {
    /// Dead or left.
    pub fn is_gone(self) -> bool {
        matches!(self, State::Dead | State::Left)
    }
}

/// One member. When the table is full, see the module.
#[derive(Clone, Copy, Debug)]
pub struct MemberSlot {
    pub(crate) text: Place,
    ip: [u8; 16],
    port: u16,
    pub(crate) vsn: [u8; 6],
    pub(crate) incarnation: u32,
    /// The next member in probe order; see [`Members::next_in_ring`].
    ring: u16,
    /// Hash of the node id in its tags, 0 without one.
    id_hash: u32,
    name_len: u8,
    flags: u8,
    pub(crate) state: State,
    /// Serf's status; the number of [`MemberStatus`], 0 in a free slot.
    status: u8,
    pub(crate) suspicion: Suspicion,
    /// The last three round trips to it in microseconds, for the median filter of coordinates; 0: none.
    pub(crate) rtt: [u32; 3],
    /// When `state` changed last.
    pub(crate) changed: Instant,
    /// Lamport time of the last change of status.
    pub(crate) status_ltime: u64,
}

/// The address has 16 octets.
const V6: u8 = 1;
/// A Consul server.
const SERVER: u8 = 2;
/// The last probe was answered to others only.
const DETOUR: u8 = 4;
/// So was the one before, and our owner knows.
const DETOUR_TOLD: u8 = 8;

/// Whether a member answers probes to others and not to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detour {
    /// It answers us.
    No,
    /// It happened once, which loss explains.
    Once,
    /// It goes on, and our owner knows.
    Told,
}

// The budget of a device's table, see `agent-embedded/README.md`.
const _: () = assert!(size_of::<MemberSlot>() <= 104);

impl MemberSlot {
    /// A free slot; all zero bits.
    pub const EMPTY: MemberSlot = MemberSlot {
        text: Place::EMPTY,
        ip: [0; 16],
        port: 0,
        vsn: [0; 6],
        incarnation: 0,
        ring: 0,
        id_hash: 0,
        name_len: 0,
        flags: 0,
        state: State::Free,
        status: 0,
        suspicion: Suspicion::EMPTY,
        rtt: [0; 3],
        changed: Instant::ZERO,
        status_ltime: 0,
    };

    pub(crate) fn address(&self) -> SocketAddr {
        let ip = if self.flags & V6 != 0 {
            IpAddr::V6(Ipv6Addr::from(self.ip))
        } else {
            IpAddr::V4(Ipv4Addr::new(self.ip[0], self.ip[1], self.ip[2], self.ip[3]))
        };
        SocketAddr::new(ip, self.port)
    }

    pub(crate) fn detour(&self) -> Detour {
        match self.flags & (DETOUR | DETOUR_TOLD) {
            0 => Detour::No,
            DETOUR => Detour::Once,
            _ => Detour::Told,
        }
    }

    pub(crate) fn set_detour(&mut self, detour: Detour) {
        self.flags &= !(DETOUR | DETOUR_TOLD);
        self.flags |= match detour {
            Detour::No => 0,
            Detour::Once => DETOUR,
            Detour::Told => DETOUR | DETOUR_TOLD,
        };
    }

    fn set_address(&mut self, address: SocketAddr) {
        self.port = address.port();
        self.ip = [0; 16];
        match address.ip() {
            IpAddr::V4(v4) => {
                self.flags &= !V6;
                self.ip[..4].copy_from_slice(&v4.octets());
            }
            IpAddr::V6(v6) => {
                self.flags |= V6;
                self.ip = v6.octets();
            }
        }
    }

    pub(crate) fn is_server(&self) -> bool {
        self.flags & SERVER != 0
    }

    /// A server that is not gone.
    fn serves(&self) -> bool {
        self.is_server() && matches!(self.state, State::Alive | State::Suspect)
    }

    /// Dead for so long that memberlist would have no record of it: any alive is believed, and it is told to nobody.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.state == State::Dead && self.incarnation == 0
    }

    pub(crate) fn status(&self) -> MemberStatus {
        match self.status {
            2 => MemberStatus::Leaving,
            3 => MemberStatus::Left,
            4 => MemberStatus::Failed,
            _ => MemberStatus::Alive,
        }
    }

    pub(crate) fn set_status(&mut self, status: MemberStatus) {
        self.status = status as u8;
    }
}

/// What is known of a member from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub name: &'a str,
    pub address: SocketAddr,
    pub meta: &'a [u8],
    pub vsn: [u8; 6],
}

/// Whose place a new member may take when the table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// That of one who is gone; a server's also that of a random living member that is none.
    Gone,
    /// That of a random living member that is no server.
    Displace,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Members<'m> {
    slots: &'m mut [MemberSlot],
    /// Open addressing with linear probing: 0 is free, else slot + 1.
    index: &'m mut [u16],
    text: Pack<'m>,
    hash_seed: u32,
    /// No used slot is at or behind this one.
    high: usize,
    used: usize,
    gone: usize,
    /// Servers that are not gone, ourselves included.
    servers: usize,
    /// Moves on with every change that others should hear of.
    revision: u32,
    /// Members forgotten to make room.
    pub evicted: u32,
    /// Members that found no room.
    pub refused: u32,
}

impl<'m> Members<'m> {
    /// An empty table; the caller inserts itself first. `index` must have a power of two of places, twice the slots.
    pub fn new(slots: &'m mut [MemberSlot], index: &'m mut [u16], text: &'m mut [u8], rng: &mut Rng) -> Self {
        slots.fill(MemberSlot::EMPTY);
        index.fill(0);
        let text = Pack::new(text);
        let hash_seed = rng.next_u32();
        Members {
            slots,
            index,
            text,
            hash_seed,
            high: 0,
            used: 0,
            gone: 0,
            servers: 0,
            revision: 1,
            evicted: 0,
            refused: 0,
        }
    }

    /// Which state the table is in: the same number, the same contents as far as others are concerned.
    pub fn revision(&self) -> u32 {
        self.revision
    }

    /// Something changed that others should hear of.
    pub fn touch(&mut self) {
        self.revision = self.revision.wrapping_add(1);
    }

    /// Hash of a name under this table's seed, so that nobody outside can build clashes.
    pub fn hash(&self, name: &str) -> u32 {
        hash(self.hash_seed, name.as_bytes())
    }

    /// Records in any state.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Records that are dead or left.
    pub fn gone(&self) -> usize {
        self.gone
    }

    /// Other servers that are not gone.
    pub fn servers(&self) -> usize {
        self.servers - usize::from(self.get(MemberId::SELF).serves())
    }

    /// A server that is not gone has this address.
    pub fn serves_at(&self, address: SocketAddr) -> bool {
        self.slots[..self.high].iter().any(|slot| slot.serves() && slot.address() == address)
    }

    /// No slot is free.
    pub fn is_full(&self) -> bool {
        self.used == self.slots.len()
    }

    /// One past the last slot in use.
    pub fn high(&self) -> u16 {
        self.high as u16
    }

    pub fn get(&self, id: MemberId) -> &MemberSlot {
        &self.slots[usize::from(id.0)]
    }

    pub fn get_mut(&mut self, id: MemberId) -> &mut MemberSlot {
        &mut self.slots[usize::from(id.0)]
    }

    pub fn name(&self, id: MemberId) -> &str {
        let slot = self.get(id);
        let octets = self.text.get(slot.text).get(..usize::from(slot.name_len)).unwrap_or(&[]);
        core::str::from_utf8(octets).unwrap_or("")
    }

    pub fn meta(&self, id: MemberId) -> &[u8] {
        let slot = self.get(id);
        self.text.get(slot.text).get(usize::from(slot.name_len)..).unwrap_or(&[])
    }

    pub fn view(&self, id: MemberId) -> Member<'_> {
        let slot = self.get(id);
        Member {
            name: self.name(id),
            address: slot.address(),
            meta: self.meta(id),
            status: slot.status(),
            incarnation: slot.incarnation,
            vsn: slot.vsn,
        }
    }

    /// Changes a member's state and keeps the counts.
    pub fn set_state(&mut self, id: MemberId, state: State, now: Instant) {
        self.touch();
        let slot = &mut self.slots[usize::from(id.0)];
        self.gone -= usize::from(slot.state.is_gone());
        self.gone += usize::from(state.is_gone());
        self.servers -= usize::from(slot.serves());
        slot.state = state;
        self.servers += usize::from(slot.serves());
        slot.changed = now;
    }

    /// All members in any state, ourselves first.
    pub fn ids(&self) -> impl Iterator<Item = MemberId> + use<'_, 'm> {
        let used = |&id: &MemberId| self.get(id).state != State::Free;
        (0..self.high as u16).map(MemberId).filter(used)
    }

    /// The member with that name.
    pub fn find(&self, name: &str) -> Option<MemberId> {
        let mask = self.index.len() - 1;
        let mut at = self.hash(name) as usize & mask;
        loop {
            let id = MemberId(self.index[at].checked_sub(1)?);
            if self.name(id) == name {
                return Some(id);
            }
            at = (at + 1) & mask;
        }
    }

    /// A record from somebody's table may change what we know of a member.
    pub fn is_news(&self, id: MemberId, node: &Node<'_>) -> bool {
        let slot = self.get(id);
        if id == MemberId::SELF {
            return true;
        }
        match node.state {
            NodeState::Alive => node.incarnation > slot.incarnation || node.address != slot.address(),
            NodeState::Suspect | NodeState::Dead | NodeState::Left => {
                node.incarnation >= slot.incarnation && !slot.state.is_gone()
            }
        }
    }

    /// Another living member with the node id of `id`. Of the gone it may be the next life under a new name.
    pub fn same_node_id(&self, id: MemberId) -> Option<MemberId> {
        let hash = self.get(id).id_hash;
        let tag = |id| node_id(self.meta(id));
        let same = |&other: &MemberId| {
            let slot = self.get(other);
            let lives = matches!(slot.state, State::Alive | State::Suspect);
            other != id && lives && slot.id_hash == hash && tag(other) == tag(id)
        };
        if hash == 0 { None } else { self.ids().find(same) }
    }

    /// Inserts a member that is not there: dead, incarnation 0, to be brought to life by the caller. `None`: no room.
    pub fn insert(&mut self, record: &Record<'_>, room: Room, now: Instant, rng: &mut Rng) -> Option<MemberId> {
        debug_assert!(self.find(record.name).is_none());
        let id = match self.free_slot() {
            Some(id) => id,
            None => match self.victim(room == Room::Displace || is_server(record.meta), rng) {
                Some(victim) => {
                    self.remove(victim);
                    self.evicted = self.evicted.saturating_add(1);
                    victim
                }
                None => {
                    self.refused = self.refused.saturating_add(1);
                    return None;
                }
            },
        };
        if !self.write_text(id, record) {
            self.refused = self.refused.saturating_add(1);
            return None;
        }
        let slot = &mut self.slots[usize::from(id.0)];
        slot.state = State::Dead;
        slot.changed = now;
        slot.vsn = record.vsn;
        slot.set_address(record.address);
        slot.set_status(MemberStatus::Failed);
        self.used += 1;
        self.gone += 1;
        self.link(id);
        // A slot used before is part of the probe order; a new one joins it at a random position (spec §7.3 rule 3).
        if usize::from(id.0) == self.high {
            self.high += 1;
            self.slots[usize::from(id.0)].ring = id.0;
            let other = rng.below(self.high);
            let ring = self.slots[other].ring;
            self.slots[other].ring = core::mem::replace(&mut self.slots[usize::from(id.0)].ring, ring);
        }
        Some(id)
    }

    /// Replaces what is known of a member. False: no room for its text, and the old is kept.
    pub fn update(&mut self, id: MemberId, record: &Record<'_>) -> bool {
        if self.meta(id) != record.meta && !self.write_text(id, record) {
            return false;
        }
        self.touch();
        let slot = &mut self.slots[usize::from(id.0)];
        slot.vsn = record.vsn;
        slot.set_address(record.address);
        true
    }

    /// Forgets a member.
    pub fn remove(&mut self, id: MemberId) {
        debug_assert!(id != MemberId::SELF);
        if self.get(id).state == State::Free {
            return;
        }
        self.unlink(id);
        self.text.free(self.get(id).text);
        self.gone -= usize::from(self.get(id).state.is_gone());
        self.servers -= usize::from(self.get(id).serves());
        self.used -= 1;
        // The slot keeps its link in the probe order, which is a permutation of all slots up to `high`.
        let ring = self.get(id).ring;
        self.slots[usize::from(id.0)] = MemberSlot { ring, ..MemberSlot::EMPTY };
    }

    /// The member at position `at` of the probe order, which holds free slots too; `None` behind its end.
    pub fn in_ring(&self, at: usize) -> Option<MemberId> {
        (at < self.high).then(|| MemberId(self.slots[at].ring))
    }

    /// A new probe order.
    pub fn shuffle(&mut self, rng: &mut Rng) {
        for at in (1..self.high).rev() {
            let other = rng.below(at + 1);
            let ring = self.slots[other].ring;
            self.slots[other].ring = core::mem::replace(&mut self.slots[at].ring, ring);
        }
    }

    /// A random member, not ourselves, that `wanted` accepts: random tries first, then a look at everybody.
    pub fn random(&self, rng: &mut Rng, wanted: &mut dyn FnMut(MemberId, &MemberSlot) -> bool) -> Option<MemberId> {
        if self.high < 2 {
            return None;
        }
        let mut good = |at: usize| {
            let slot = &self.slots[at];
            at != 0 && slot.state != State::Free && wanted(MemberId(at as u16), slot)
        };
        // Three tries per member find one of many quickly; the scan finds one of few surely.
        for _ in 0..8 {
            let at = rng.below(self.high);
            if good(at) {
                return Some(MemberId(at as u16));
            }
        }
        let start = rng.below(self.high);
        (0..self.high).map(|step| (start + step) % self.high).find(|&at| good(at)).map(|at| MemberId(at as u16))
    }

    fn free_slot(&self) -> Option<MemberId> {
        // `high` is one past the last slot ever used, so slots below it are free only after a removal.
        if self.used < self.high {
            let at = self.slots[..self.high].iter().position(|slot| slot.state == State::Free)?;
            return Some(MemberId(at as u16));
        }
        (self.high < self.slots.len()).then_some(MemberId(self.high as u16))
    }

    /// Whom to forget: the longest gone, servers last, because they may be all we know of the cluster; else, if the living
    /// may be displaced, a random one that is no server and not accused, as an accusation must find its end.
    fn victim(&self, living: bool, rng: &mut Rng) -> Option<MemberId> {
        let gone = self.ids().filter(|&id| id != MemberId::SELF && self.get(id).state.is_gone());
        gone.min_by_key(|&id| (self.get(id).is_server(), self.get(id).changed)).or_else(|| {
            let replaceable = |slot: &MemberSlot| !slot.is_server() && slot.state == State::Alive;
            living.then(|| self.random(rng, &mut |_, slot| replaceable(slot))).flatten()
        })
    }

    fn write_text(&mut self, id: MemberId, record: &Record<'_>) -> bool {
        let Ok(name_len) = u8::try_from(record.name.len()) else { return false };
        let slots = &mut *self.slots;
        let pushed = self.text.push(id.0, record.name.len() + record.meta.len(), &mut |owner, old, new| {
            // While a record is replaced its owner has two: only the one that the slot knows has a place to keep.
            if let Some(slot) = slots.get_mut(usize::from(owner)).filter(|slot| slot.text == old) {
                slot.text = new;
            }
        });
        let Some(place) = pushed else { return false };
        let (name, meta) = self.text.get_mut(place).split_at_mut(record.name.len());
        name.copy_from_slice(record.name.as_bytes());
        meta.copy_from_slice(record.meta);
        let id_hash = node_id(record.meta).map_or(0, |node_id| self.hash(node_id).max(1));
        let slot = &mut self.slots[usize::from(id.0)];
        let old = core::mem::replace(&mut slot.text, place);
        slot.id_hash = id_hash;
        slot.name_len = name_len;
        self.servers -= usize::from(slot.serves());
        slot.flags = if is_server(record.meta) { slot.flags | SERVER } else { slot.flags & !SERVER };
        self.servers += usize::from(slot.serves());
        self.text.free(old);
        true
    }

    fn link(&mut self, id: MemberId) {
        let mask = self.index.len() - 1;
        let mut at = self.hash(self.name(id)) as usize & mask;
        while self.index[at] != 0 {
            at = (at + 1) & mask;
        }
        self.index[at] = id.0 + 1;
    }

    /// Takes a name out and moves later ones of its run back, so that no search stops too early.
    fn unlink(&mut self, id: MemberId) {
        let mask = self.index.len() - 1;
        let mut hole = self.hash(self.name(id)) as usize & mask;
        while self.index[hole] != id.0 + 1 {
            if self.index[hole] == 0 {
                return;
            }
            hole = (hole + 1) & mask;
        }
        self.index[hole] = 0;
        let mut at = (hole + 1) & mask;
        while let Some(other) = self.index[at].checked_sub(1) {
            let home = self.hash(self.name(MemberId(other))) as usize & mask;
            // Move it when its home is not behind the hole, counted around the table.
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.index[hole] = core::mem::take(&mut self.index[at]);
                hole = at;
            }
            at = (at + 1) & mask;
        }
    }
}

/// Seeded FNV-1a with a final mix. The seed is secret, so clashes cannot be built on purpose.
pub(crate) fn hash(seed: u32, octets: &[u8]) -> u32 {
    let mut hash = seed ^ 0x811c_9dc5;
    for &octet in octets {
        hash = (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193);
        hash = hash.rotate_left(5) ^ seed;
    }
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x7feb_352d);
    hash ^ (hash >> 15)
}

/// The node id in the tags.
fn node_id(meta: &[u8]) -> Option<&str> {
    tags::parse(meta).find(|tag| tag.0 == "id" && !tag.1.is_empty()).map(|tag| tag.1)
}

fn is_server(meta: &[u8]) -> bool {
    tags::parse(meta).any(|tag| tag == ("role", "consul"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>(name: &'a str, meta: &'a [u8]) -> Record<'a> {
        Record { name, address: "10.0.0.1:8301".parse().unwrap(), meta, vsn: [1, 5, 2, 2, 5, 4] }
    }

    #[test]
    fn names_stay_found_while_others_come_and_go() {
        let (mut slots, mut index, mut text) = ([MemberSlot::EMPTY; 40], [0; 128], [0; 4000]);
        let mut rng = Rng::from_seed(&[1; 32]);
        let mut members = Members::new(&mut slots, &mut index, &mut text, &mut rng);
        members.insert(&record("self", b""), Room::Gone, Instant::ZERO, &mut rng).unwrap();
        let mut known = std::collections::BTreeSet::new();
        for step in 0..20_000 {
            let name = format!("node-{}", rng.below(80));
            match members.find(&name) {
                Some(id) if rng.below(2) == 0 => {
                    members.remove(id);
                    known.remove(&name);
                }
                Some(id) => {
                    let meta = vec![step as u8; rng.below(60)];
                    assert!(members.update(id, &record(&name, &meta)));
                    assert_eq!(members.meta(id), meta);
                }
                None if known.len() < 39 => {
                    let id = members.insert(&record(&name, b"m"), Room::Gone, Instant::ZERO, &mut rng).unwrap();
                    members.set_state(id, State::Alive, Instant::ZERO);
                    known.insert(name);
                }
                None => {}
            }
            assert!(known.iter().all(|name| members.find(name).is_some_and(|id| members.name(id) == name)));
            assert_eq!((members.len(), members.gone()), (known.len() + 1, 1));
        }
        members.shuffle(&mut rng);
        let mut ring: Vec<u16> = (0..).map_while(|at| members.in_ring(at)).map(|id| id.0).collect();
        ring.sort();
        assert!(ring.iter().copied().eq(0..ring.len() as u16), "the probe order is a permutation");
    }

    #[test]
    fn a_full_table_forgets_the_longest_dead_then_makes_way_for_servers_only() {
        let (mut slots, mut index, mut text) = ([MemberSlot::EMPTY; 3], [0; 8], [0; 400]);
        let mut rng = Rng::from_seed(&[2; 32]);
        let mut members = Members::new(&mut slots, &mut index, &mut text, &mut rng);
        for (name, at) in [("self", 0), ("a", 5), ("b", 3)] {
            members.insert(&record(name, b""), Room::Gone, Instant::from_micros(at), &mut rng).unwrap();
        }
        let mut insert = |members: &mut Members<'_>, name, meta| {
            let id = members.insert(&record(name, meta), Room::Gone, Instant::from_micros(9), &mut rng)?;
            members.set_state(id, State::Alive, Instant::from_micros(9));
            Some(id)
        };
        insert(&mut members, "c", b"").unwrap();
        assert!(members.find("b").is_none() && members.find("a").is_some());
        insert(&mut members, "d", b"").unwrap();
        assert!(insert(&mut members, "e", b"").is_none());
        let server = b"\xff\x81\xa4role\xa6consul";
        insert(&mut members, "s", server).unwrap();
        assert_eq!((members.len(), members.evicted, members.refused), (3, 3, 1));
        assert!(members.find("self").is_some());
    }
}
