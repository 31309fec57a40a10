//! Registering and deregistering: validate, make sure of the room, then write. A refused command changes nothing.

use super::{
    CHECK_OWNER, CheckDef, CheckKind, CheckSlot, Judge, Local, MAX_ID, ServiceDef, ServiceSlot, check, flag, hash,
    is_live, service, text::Arena,
};
use crate::{
    agent::CommandError,
    checks::http::{HTTP, Url},
    rand::Rng,
    time::{Duration, Instant},
    wire::{msgpack::Writer, rpc::Text},
};

/// Ids that belong to servers: their service, and the leader's verdict on a node (rpc spec §8). Registering them would make
/// us and the leader overwrite each other for ever.
const RESERVED: [&str; 2] = ["consul", "serfHealth"];

/// Names of a check that were left to us.
struct Names {
    id: Text<MAX_ID>,
    name: Text<160>,
}

impl Local<'_> {
    /// Registers or replaces a service and adds or replaces its checks.
    ///
    /// # Errors
    /// `Invalid` says what is wrong with the definition, `Full` which region has no room. Nothing was changed.
    pub fn register(&mut self, now: Instant, rng: &mut Rng, def: &ServiceDef<'_>) -> Result<(), CommandError> {
        let id = if def.id.is_empty() { def.name } else { def.id };
        if def.name.is_empty() {
            return Err(CommandError::Invalid("Missing service name"));
        }
        check_id(id)?;
        if matches!(def.address, "0.0.0.0" | "::" | "[::]") {
            return Err(CommandError::Invalid("Invalid service address"));
        }
        if def.tags.len() > 0xffff || def.meta.len() > 64 {
            return Err(CommandError::Invalid("too many tags or metadata entries"));
        }
        let record_len = Writer::measure(|w| service::emit(w, def, id));
        if record_len > self.record_limit {
            return Err(CommandError::Full("a call's buffer"));
        }
        let mut octets = Arena::cost(record_len + Writer::measure(|w| w.text(def.token)));
        let mut new_checks = 0;
        for nth in 0..def.checks.len() {
            let (check, names) = service_check(def, id, nth)?;
            octets += Arena::cost(self.layout(&check, &names)?.2);
            new_checks += usize::from(self.find_check(names.id.as_str()).is_none());
        }
        if octets > self.arena.room() {
            return Err(CommandError::Full("text"));
        }
        if new_checks > self.checks.iter().filter(|slot| !is_live(slot.flags)).count() {
            return Err(CommandError::Full("checks"));
        }
        let index = self.service_slot(id).ok_or(CommandError::Full("services"))?;
        self.write_service(index, def, id).ok_or(CommandError::Full("text"))?;
        for nth in 0..def.checks.len() {
            let (check, names) = service_check(def, id, nth)?;
            self.write_check(now, rng, &check, &names, index + 1)?;
        }
        self.touched();
        Ok(())
    }

    /// Registers or replaces a check. A replaced check keeps its state and output.
    ///
    /// # Errors
    /// `Unknown`: no such service. `Invalid`, `Full` as for a service. Nothing was changed.
    pub fn register_check(&mut self, now: Instant, rng: &mut Rng, def: &CheckDef<'_>) -> Result<(), CommandError> {
        let mut service = 0;
        if !def.service_id.is_empty() {
            let found = self.find_service(def.service_id).filter(|&index| self.service_at(index).is_some());
            service = found.ok_or(CommandError::Unknown)? + 1;
        }
        if def.name.is_empty() && def.id.is_empty() {
            return Err(CommandError::Invalid("Missing check name"));
        }
        let either = |first: &'_ str, second| if first.is_empty() { second } else { first }.len();
        if either(def.id, def.name) > MAX_ID {
            return Err(CommandError::Invalid("id longer than 128 octets"));
        }
        let names = Names {
            id: Text::new(if def.id.is_empty() { def.name } else { def.id }),
            name: Text::new(if def.name.is_empty() { def.id } else { def.name }),
        };
        if Arena::cost(self.layout(def, &names)?.2) > self.arena.room() {
            return Err(CommandError::Full("text"));
        }
        self.write_check(now, rng, def, &names, service)?;
        self.touched();
        Ok(())
    }

    /// Removes a service and its checks.
    ///
    /// # Errors
    /// `Unknown`: no such service.
    pub fn deregister(&mut self, id: &str) -> Result<(), CommandError> {
        let index =
            self.find_service(id).filter(|&index| self.service_at(index).is_some()).ok_or(CommandError::Unknown)?;
        self.remove_service(index);
        Ok(())
    }

    /// Removes a check.
    ///
    /// # Errors
    /// `Unknown`: no such check.
    pub fn deregister_check(&mut self, id: &str) -> Result<(), CommandError> {
        let index = self.find_check(id).filter(|&index| self.check_at(index).is_some()).ok_or(CommandError::Unknown)?;
        self.checks[index].flags = flag::USED | flag::DELETED | (self.checks[index].flags & flag::SEEN);
        self.checks[index].generation = self.checks[index].generation.wrapping_add(1);
        self.touched();
        Ok(())
    }

    /// Removes the service in slot `index`. The catalog drops its checks with it, so they are free at once.
    pub(crate) fn remove_service(&mut self, index: usize) {
        for check in 0..self.checks.len() {
            if self.checks[check].flags & flag::USED != 0 && usize::from(self.checks[check].service) == index + 1 {
                self.free_check(check);
            }
        }
        let seen = self.services[index].flags & flag::SEEN as u8;
        self.services[index].flags = (flag::USED | flag::DELETED) as u8 | seen;
        self.touched();
    }

    /// Remembers to remove `id` from the catalog, which has it although we do not. Without a slot for it, one is remembered
    /// beside the tables; the rest is found again by the next full sync.
    pub(super) fn add_stray(&mut self, is_check: bool, id: &str) {
        if self.stray_slot(is_check, id).is_some() {
        } else if self.spare.is_empty() {
            (self.spare, self.spare_is_check) = (Text::new(id), is_check);
        } else {
            self.strays_left = true;
        }
    }

    fn stray_slot(&mut self, is_check: bool, id: &str) -> Option<()> {
        let key = if is_check { "CheckID" } else { "ID" };
        let len = 1 + Writer::measure(|w| service::emit_stray(w, key, id));
        let taken = |flags: u16| flags & flag::USED != 0;
        let index = match is_check {
            true => self.checks.iter().position(|slot| !taken(slot.flags))?,
            false => self.services.iter().position(|slot| !taken(slot.flags.into()))?,
        };
        let at = self.place(index as u16 | if is_check { CHECK_OWNER } else { 0 }, len)?;
        let mut w = Writer::new(self.arena.get_mut(at, len as u32));
        w.text("");
        service::emit_stray(&mut w, key, id);
        let flags = flag::USED | flag::DELETED | flag::SEEN;
        if is_check {
            let generation = self.checks[index].generation.wrapping_add(1);
            let (fixed, job, len) = (1, len as u32, len as u32);
            self.checks[index] =
                CheckSlot { at, len, fixed, job, output: job, hash: hash(id), flags, generation, ..CheckSlot::EMPTY };
        } else {
            self.services[index] = ServiceSlot { at, len: len as u32, record: 1, hash: hash(id), flags: flags as u8 };
        }
        Some(())
    }

    pub(super) fn free_service(&mut self, index: usize) {
        self.arena.free(self.services[index].at);
        self.services[index] = ServiceSlot::EMPTY;
    }

    pub(super) fn free_check(&mut self, index: usize) {
        self.arena.free(self.checks[index].at);
        let generation = self.checks[index].generation.wrapping_add(1);
        self.checks[index] = CheckSlot { generation, ..CheckSlot::EMPTY };
        self.next_due = None;
    }

    /// Somebody should look: the owner at the change, anti-entropy at the difference.
    pub(super) fn touched(&mut self) {
        self.dirty = true;
        self.changed = true;
        self.next_due = None;
    }

    /// The slot of service `id`, or one for it: free, or else of an entry that only waits to be removed from the catalog
    /// (the next full sync finds it again).
    fn service_slot(&mut self, id: &str) -> Option<usize> {
        if let Some(index) = self.find_service(id) {
            return Some(index);
        }
        if let Some(index) = self.services.iter().position(|slot| slot.flags & flag::USED as u8 == 0) {
            return Some(index);
        }
        let index = self.services.iter().position(|slot| slot.flags & flag::DELETED as u8 != 0)?;
        self.free_service(index);
        self.strays_left = true;
        Some(index)
    }

    fn check_slot(&mut self, id: &str) -> Option<usize> {
        if let Some(index) = self.find_check(id) {
            return Some(index);
        }
        if let Some(index) = self.checks.iter().position(|slot| slot.flags & flag::USED == 0) {
            return Some(index);
        }
        let index = self.checks.iter().position(|slot| slot.flags & flag::DELETED != 0)?;
        self.free_check(index);
        self.strays_left = true;
        Some(index)
    }

    /// A block for `owner`; others may move, and their slots are told.
    fn place(&mut self, owner: u16, len: usize) -> Option<u32> {
        let (services, checks) = (&mut *self.services, &mut *self.checks);
        self.arena.allocate(owner, len, &mut |owner, at| {
            let index = usize::from(owner & !CHECK_OWNER);
            match owner & CHECK_OWNER {
                0 => services[index].at = at,
                _ => checks[index].at = at,
            }
        })
    }

    fn write_service(&mut self, index: usize, def: &ServiceDef<'_>, id: &str) -> Option<()> {
        let token_len = Writer::measure(|w| w.text(def.token));
        let len = token_len + Writer::measure(|w| service::emit(w, def, id));
        let at = self.place(index as u16, len)?;
        let mut w = Writer::new(self.arena.get_mut(at, len as u32));
        w.text(def.token);
        service::emit(&mut w, def, id);
        let old = self.services[index];
        let mut flags = flag::USED as u8;
        if old.flags & flag::USED as u8 != 0 {
            // Registering the same again is no reason to write to the catalog.
            if is_live(old.flags.into()) && self.arena.get(old.at, old.len) == self.arena.get(at, len as u32) {
                flags = old.flags;
            }
            flags |= old.flags & flag::SEEN as u8;
            self.arena.free(old.at);
        }
        self.services[index] = ServiceSlot { at, len: len as u32, record: token_len as u32, hash: hash(id), flags };
        Some(())
    }

    /// Offsets of constant fields, job and output in the block of a check; the length of the block; and the capacity of
    /// an output.
    fn layout(&self, def: &CheckDef<'_>, names: &Names) -> Result<(usize, (usize, usize), usize, usize), CommandError> {
        let (judge, interval, _) = check::timing(&def.kind);
        if judge != Judge::Static && interval == Duration::ZERO {
            return Err(CommandError::Invalid(match judge {
                Judge::Ttl => "TTL must be > 0 for TTL checks",
                _ => "Interval must be > 0 for Script, HTTP, or TCP checks",
            }));
        }
        if let CheckKind::Http { url, .. } = def.kind {
            if !HTTP {
                return Err(CommandError::Invalid("checks by HTTP are not built in"));
            }
            Url::parse(url).ok_or(CommandError::Invalid("the URL of a check must be http:// or https://"))?;
        }
        check_id(names.id.as_str())?;
        let token = Writer::measure(|w| w.text(def.token));
        let (id, name) = (names.id.as_str(), names.name.as_str());
        let fixed = Writer::measure(|w| check::emit_fixed(w, def, id, name, def.service_id));
        let job = Writer::measure(|w| check::emit_job(w, &def.kind));
        let limit = usize::from(self.output_limit).min(self.record_limit.saturating_sub(fixed));
        if limit == 0 {
            return Err(CommandError::Full("a call's buffer"));
        }
        let outputs = if judge == Judge::Http { 2 } else { 1 };
        Ok((token, (token + fixed, token + fixed + job), token + fixed + job + outputs * limit, limit))
    }

    fn write_check(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        def: &CheckDef<'_>,
        names: &Names,
        service: usize,
    ) -> Result<(), CommandError> {
        let (id, name) = (names.id.as_str(), names.name.as_str());
        let (fixed, (job, output), len, limit) = self.layout(def, names)?;
        let index = self.check_slot(id).ok_or(CommandError::Full("checks"))?;
        let at = self.place(index as u16 | CHECK_OWNER, len).ok_or(CommandError::Full("text"))?;
        let mut w = Writer::new(self.arena.get_mut(at, len as u32));
        w.text(def.token);
        check::emit_fixed(&mut w, def, id, name, def.service_id);
        check::emit_job(&mut w, &def.kind);
        let old = self.checks[index];
        let (judge, interval, timeout) = check::timing(&def.kind);
        let millis = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        let mut slot = CheckSlot {
            at,
            len: len as u32,
            fixed: fixed as u32,
            job: job as u32,
            output: output as u32,
            hash: hash(id),
            interval_ms: millis(interval).max(1),
            timeout_ms: millis(timeout),
            deregister_s: u32::try_from(def.deregister_critical_after.as_secs()).unwrap_or(u32::MAX),
            limit: limit as u16,
            service: service as u16,
            critical_since: now,
            flags: flag::USED,
            health: def.status,
            judge,
            success_before_passing: def.success_before_passing,
            failures_before_critical: def.failures_before_critical,
            generation: old.generation.wrapping_add(1),
            ..CheckSlot::EMPTY
        };
        if judge != Judge::Static {
            slot.flags |= flag::TIMED;
            // Many checks registered together should not run together.
            let wait = if judge == Judge::Ttl { slot.interval() } else { rng.up_to(slot.interval()) };
            slot.due = now + wait;
        }
        if old.flags & flag::USED != 0 {
            if is_live(old.flags) {
                slot.health = old.health;
                slot.critical_since = old.critical_since;
                slot.output_len = self.copy_output(index, at + slot.output, slot.limit);
            }
            slot.flags |= old.flags & flag::SEEN;
            self.arena.free(old.at);
        }
        self.checks[index] = slot;
        Ok(())
    }

    /// Copies the output of the check in slot `index` to offset `to` of the text; returns the octets that fitted.
    fn copy_output(&mut self, index: usize, to: u32, limit: u16) -> u16 {
        let Some(check) = self.check_at(index) else { return 0 };
        let len = check.output.floor_char_boundary(usize::from(limit));
        let mut piece = [0u8; 64];
        let mut copied = 0;
        while copied < len {
            let Some(check) = self.check_at(index) else { break };
            let part = &check.output.as_bytes()[copied..len.min(copied + piece.len())];
            let count = part.len();
            piece[..count].copy_from_slice(part);
            self.arena.get_mut(to + copied as u32, count as u32).copy_from_slice(&piece[..count]);
            copied += count;
        }
        copied as u16
    }
}

fn check_id(id: &str) -> Result<(), CommandError> {
    if id.is_empty() {
        return Err(CommandError::Invalid("id missing"));
    }
    if id.len() > MAX_ID {
        return Err(CommandError::Invalid("id longer than 128 octets"));
    }
    if RESERVED.contains(&id) {
        return Err(CommandError::Invalid("this id belongs to the servers"));
    }
    Ok(())
}

/// The `nth` check of a service definition with its defaults filled in: id `service:<id>` or, with several,
/// `service:<id>:<n>`; name `Service '<name>' check` (http spec §5 "Defaults").
fn service_check<'d>(def: &ServiceDef<'d>, id: &'d str, nth: usize) -> Result<(CheckDef<'d>, Names), CommandError> {
    let mut check = *def.checks.get(nth).ok_or(CommandError::Unknown)?;
    let mut names = Names { id: Text::new(check.id), name: Text::new(check.name) };
    if check.id.is_empty() {
        // Cutting shows in `is_whole`.
        names.id.push(b"service:");
        names.id.push(id.as_bytes());
        if def.checks.len() > 1 {
            names.id.push(b":");
            names.id.push_number(nth as u64 + 1);
        }
    }
    if check.name.is_empty() {
        ["Service '", def.name, "' check"].iter().for_each(|part| names.name.push(part.as_bytes()));
    }
    if !names.id.is_whole() {
        return Err(CommandError::Invalid("id of a check longer than 128 octets"));
    }
    check.service_id = id;
    Ok((check, names))
}
