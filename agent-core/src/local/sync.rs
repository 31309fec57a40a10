//! Anti-entropy: what differs from the catalog, and which call comes next (rpc spec §7).
//!
//! ```text
//! rest ──due──► services ──► checks ──► push … push ──► rest        full sync
//!   └──a change──────────────────────► push … push ──► rest        partial sync
//! ```
//!
//! Reads compare each entry with its digest as it passes, so no copy of the catalog is kept. Every call is sent by the
//! agent, which reports back with [`Sync::on_reply`] or [`Sync::on_failure`]; one call is under way at a time.

use super::{Local, flag, is_live, service};
use crate::{
    rand::Rng,
    serf::filter::has,
    time::{Duration, Instant},
    wire::{
        msgpack::Writer,
        rpc::{Item, Method, check_digest, node_digest, record_digest, request},
    },
};

/// 1 min, plus up to as much again times the cluster's scale: the time between full syncs.
const FULL: Duration = Duration::from_secs(60);
/// 15 s, plus up to as much again times the scale: the wait after a failure.
const RETRY: Duration = Duration::from_secs(15);
/// Up to 3 s times the scale: the wait for a full sync after a server joined.
const SERVER_JOINED: Duration = Duration::from_secs(3);

/// One call of anti-entropy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// The catalog's services of this node.
    Services,
    /// The catalog's checks of this node.
    Checks,
    /// The node's own fields alone.
    Node,
    /// A service and its checks that differ.
    Service(u16),
    /// A check.
    Check(u16),
    /// Removal of a service.
    DropService(u16),
    /// Removal of a check.
    DropCheck(u16),
    /// Removal of what found no slot.
    DropSpare,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Rest,
    Services,
    Checks,
    Push,
}

/// Who we are in the catalog.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) node: request::Node<'a>,
    pub(crate) datacenter: &'a str,
    pub(crate) token: &'a str,
}

impl<'a> Identity<'a> {
    /// Our datacenter and `token`, or ours when that is empty.
    pub(crate) fn scope<'t>(self, token: &'t str) -> request::Scope<'t>
    where
        'a: 't,
    {
        request::Scope { datacenter: self.datacenter, token: if token.is_empty() { self.token } else { token } }
    }
}

/// The state of anti-entropy.
#[derive(Debug)]
pub(crate) struct Sync {
    step: Step,
    full_due: Instant,
    /// Nothing is called before this, after a failure.
    not_before: Instant,
    /// The catalog has our node with these fields.
    node_in_sync: bool,
    /// The full sync under way has seen our node.
    node_seen: bool,
    /// A full sync has succeeded since the start: partial ones make sense.
    started: bool,
    /// The servers are too old for Catalog.NodeServiceList.
    old_servers: bool,
    /// The sync under way began with reads.
    full: bool,
    /// The sync under way has removed something, so the next one finds room for what it could not remember.
    dropped: bool,
    /// Something was refused by the server and is tried again then.
    held_until: Option<Instant>,
}

/// 1 up to 128 members, then one more for every doubling: large clusters spread their load.
pub(crate) fn scale(members: usize) -> u64 {
    match members {
        0..=128 => 1,
        _ => u64::from((members - 1).ilog2() + 1 - 7) + 1,
    }
}

impl Sync {
    /// The first full sync is due at `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Sync {
            step: Step::Rest,
            full_due: now,
            not_before: now,
            node_in_sync: false,
            node_seen: false,
            started: false,
            old_servers: false,
            full: false,
            dropped: false,
            held_until: None,
        }
    }

    /// When [`Sync::next`] has something to say.
    pub(crate) fn due(&self, local: &Local<'_>, now: Instant) -> Instant {
        let at_once = self.step != Step::Rest || (self.started && local.dirty);
        let wanted = if at_once { now } else { self.held_until.unwrap_or(self.full_due).min(self.full_due) };
        wanted.max(self.not_before)
    }

    /// A server joined: it may know what the others do not.
    pub(crate) fn on_server_joined(&mut self, now: Instant, rng: &mut Rng, members: usize) {
        let wait = rng.up_to(SERVER_JOINED.saturating_mul(scale(members)));
        self.full_due = self.full_due.min(now + wait);
        self.not_before = self.not_before.min(now + wait);
    }

    /// The owner wants a full sync now.
    pub(crate) fn on_command(&mut self, now: Instant) {
        self.full_due = now;
        self.not_before = now;
    }

    /// The call to make now.
    pub(crate) fn next(&mut self, now: Instant, rng: &mut Rng, members: usize, local: &mut Local<'_>) -> Option<Call> {
        if now < self.due(local, now) {
            return None;
        }
        if self.step == Step::Rest {
            self.full = !self.started || self.full_due <= now;
            self.step = if self.full { Step::Services } else { Step::Push };
            if self.held_until.is_some_and(|until| until <= now) {
                self.held_until = None;
                local.clear_flags(flag::HELD);
            }
            if self.full {
                self.node_seen = false;
                self.dropped = false;
                local.strays_left = false;
                local.clear_flags(flag::SEEN);
            }
            local.dirty = false;
        }
        match self.step {
            Step::Services => return Some(Call::Services),
            Step::Checks => return Some(Call::Checks),
            Step::Push | Step::Rest => {}
        }
        // Node fields first: what follows then need not carry them.
        if !self.node_in_sync {
            return Some(Call::Node);
        }
        let next = local.next_push();
        if next.is_none() {
            self.finish(now, rng, members, local);
        }
        next
    }

    fn finish(&mut self, now: Instant, rng: &mut Rng, members: usize, local: &Local<'_>) {
        self.step = Step::Rest;
        if self.full {
            self.full_due = now + FULL + rng.up_to(FULL.saturating_mul(scale(members)));
            self.started = true;
        }
        if local.strays_left && self.dropped {
            self.full_due = now;
        }
    }

    /// Nothing works at present: the whole sync again, later.
    fn retry_later(&mut self, now: Instant, rng: &mut Rng, members: usize, local: &mut Local<'_>) {
        self.step = Step::Rest;
        self.not_before = now + RETRY + rng.up_to(RETRY.saturating_mul(scale(members)));
        local.dirty = true;
    }

    /// Method of `call`.
    pub(crate) fn method(&self, call: Call) -> Method {
        match call {
            Call::Services if self.old_servers => Method::NodeServices,
            Call::Services => Method::NodeServiceList,
            Call::Checks => Method::NodeChecks,
            Call::Node | Call::Service(_) | Call::Check(_) => Method::Register,
            Call::DropService(_) | Call::DropCheck(_) | Call::DropSpare => Method::Deregister,
        }
    }

    /// Writes the arguments of `call` and marks what they carry.
    pub(crate) fn emit(&self, w: &mut Writer<'_>, call: Call, us: Identity<'_>, local: &mut Local<'_>) {
        let node = us.node.name;
        match call {
            Call::Services | Call::Checks => request::of_node(w, us.scope(""), node),
            Call::Node => request::register(w, us.scope(""), us.node, false, None, core::iter::empty()),
            Call::Service(index) => {
                local.mark_sent(call);
                let (token, record) = local.service_block(index.into());
                let checks = local.sent_checks();
                request::register(w, us.scope(token), us.node, self.node_in_sync, Some(record), checks);
            }
            Call::Check(index) => {
                local.mark_sent(call);
                let scope = us.scope(local.token_of_check(index.into()));
                request::register(w, scope, us.node, self.node_in_sync, None, local.sent_checks());
            }
            Call::DropService(index) => {
                let (token, record) = local.service_block(index.into());
                let removal = request::Removal::Service(service::text(record, "ID"));
                request::deregister(w, us.scope(token), node, removal);
            }
            Call::DropCheck(index) => {
                let Some(slot) = local.checks.get(usize::from(index)) else { return };
                let scope = us.scope(local.token_of_check(index.into()));
                let id = service::text(local.check_fixed(slot), "CheckID");
                request::deregister(w, scope, node, request::Removal::Check(id));
            }
            Call::DropSpare => {
                let id = local.spare.as_str();
                let removal = match local.spare_is_check {
                    true => request::Removal::Check(id),
                    false => request::Removal::Service(id),
                };
                request::deregister(w, us.scope(""), node, removal);
            }
        }
    }

    /// A record of the catalog, while the reply to a read arrives.
    pub(crate) fn on_item(&mut self, item: &Item<'_>, us: Identity<'_>, local: &mut Local<'_>) {
        match *item {
            Item::Node { digest, .. } => {
                self.node_seen = true;
                self.node_in_sync = digest == node_digest(us.node.id, us.node.tagged_addresses, us.node.meta);
            }
            Item::Service { id: Some(id), digest } if id != "consul" => local.see_service(id, digest),
            Item::Check { id: Some(id), digest } if id != "serfHealth" => local.see_check(id, digest),
            Item::Service { .. } | Item::Check { .. } | Item::Instance(_) => {}
        }
    }

    /// The call was answered; `error` is the server's, empty on success.
    pub(crate) fn on_reply(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        members: usize,
        call: Call,
        error: &str,
        local: &mut Local<'_>,
    ) {
        let denied = has(error, "Permission denied") || has(error, "ACL not found");
        if has(error, "No cluster leader") || has(error, "rate limit") {
            return self.retry_later(now, rng, members, local);
        }
        match call {
            Call::Services if has(error, "can't find method") && !self.old_servers => self.old_servers = true,
            Call::Services | Call::Checks if !error.is_empty() => self.retry_later(now, rng, members, local),
            Call::Services => {
                self.node_in_sync &= self.node_seen;
                self.step = Step::Checks;
            }
            Call::Checks => {
                local.forget_unseen();
                self.step = Step::Push;
            }
            // Denied: to try again at every step would only load the servers; the next full sync tries once.
            Call::Node if error.is_empty() || denied => self.node_in_sync = true,
            Call::Node => self.retry_later(now, rng, members, local),
            Call::Service(_) | Call::Check(_) if error.is_empty() || denied => {
                self.node_in_sync |= error.is_empty();
                local.on_pushed();
            }
            Call::DropService(index) if error.is_empty() || denied || has(error, "Unknown service") => {
                // Registered again meanwhile? Then it stays, and is out of sync.
                if local.services.get(usize::from(index)).is_some_and(|slot| slot.flags & flag::DELETED as u8 != 0) {
                    self.dropped = true;
                    local.free_service(index.into());
                }
            }
            Call::DropCheck(index) if error.is_empty() || denied || has(error, "Unknown check") => {
                if local.checks.get(usize::from(index)).is_some_and(|slot| slot.flags & flag::DELETED != 0) {
                    self.dropped = true;
                    local.free_check(index.into());
                }
            }
            Call::DropSpare => {
                // Refused or not: the next full sync sees whether it is still there.
                self.dropped |= error.is_empty();
                local.spare.clear();
            }
            Call::Service(_) | Call::Check(_) | Call::DropService(_) | Call::DropCheck(_) => {
                self.held_until = Some(now + RETRY + rng.up_to(RETRY.saturating_mul(scale(members))));
                local.hold(call);
            }
        }
    }

    /// The call could not be made, or was not answered.
    pub(crate) fn on_failure(&mut self, now: Instant, rng: &mut Rng, members: usize, local: &mut Local<'_>) {
        self.retry_later(now, rng, members, local);
    }
}

impl Local<'_> {
    fn clear_flags(&mut self, flags: u16) {
        self.services.iter_mut().for_each(|slot| slot.flags &= !flags as u8);
        self.checks.iter_mut().for_each(|slot| slot.flags &= !flags);
    }

    fn see_service(&mut self, id: &str, digest: crate::wire::rpc::Digest) {
        let Some(index) = self.find_service(id) else {
            self.add_stray(false, id);
            return;
        };
        let slot = self.services[index];
        let record = self.service_record(&slot);
        let ours = record_digest(record);
        let same = ours.fields == digest.fields && (ours.apart == digest.apart || self.overrides_tags(index));
        let slot = &mut self.services[index];
        slot.flags |= flag::SEEN as u8;
        if same && is_live(slot.flags.into()) {
            slot.flags |= flag::IN_SYNC as u8;
        } else {
            slot.flags &= !flag::IN_SYNC as u8;
        }
    }

    fn overrides_tags(&self, index: usize) -> bool {
        self.service_at(index).is_some_and(|service| service.enable_tag_override())
    }

    fn see_check(&mut self, id: &str, digest: crate::wire::rpc::Digest) {
        let Some(index) = self.find_check(id) else {
            self.add_stray(true, id);
            return;
        };
        let same = self.check_at(index).is_some_and(|check| {
            let ours = check_digest(check.fixed, check.health, check.output);
            let deferred = self.checks[index].flags & flag::DEFERRED != 0;
            ours.fields == digest.fields && (deferred || ours.apart == digest.apart)
        });
        let slot = &mut self.checks[index];
        slot.flags |= flag::SEEN;
        if same {
            slot.flags |= flag::IN_SYNC;
        } else {
            slot.flags &= !flag::IN_SYNC;
        }
    }

    /// Both reads are done: what was not in them is not in the catalog.
    fn forget_unseen(&mut self) {
        for index in 0..self.services.len() {
            let flags = u16::from(self.services[index].flags);
            if flags & (flag::USED | flag::SEEN) == flag::USED {
                match is_live(flags) {
                    true => self.services[index].flags &= !flag::IN_SYNC as u8,
                    false => self.free_service(index),
                }
            }
        }
        for index in 0..self.checks.len() {
            let flags = self.checks[index].flags;
            if flags & (flag::USED | flag::SEEN) == flag::USED {
                match is_live(flags) {
                    true => self.checks[index].flags &= !flag::IN_SYNC,
                    false => self.free_check(index),
                }
            }
        }
    }

    fn next_push(&self) -> Option<Call> {
        const PASSED: u16 = flag::IN_SYNC | flag::HELD;
        let service = |flags: u8| u16::from(flags) & flag::USED != 0 && u16::from(flags) & PASSED == 0;
        if let Some(index) = self.services.iter().position(|slot| service(slot.flags)) {
            let index_u16 = index as u16;
            let deleted = u16::from(self.services[index].flags) & flag::DELETED != 0;
            return Some(if deleted { Call::DropService(index_u16) } else { Call::Service(index_u16) });
        }
        // A check of a service that the server refused would only be refused as well.
        let orphaned = |service: u16| {
            usize::from(service)
                .checked_sub(1)
                .and_then(|index| self.services.get(index))
                .is_some_and(|slot| u16::from(slot.flags) & flag::HELD != 0)
        };
        let wanted = |slot: &super::CheckSlot| slot.flags & flag::USED != 0 && slot.flags & PASSED == 0;
        let Some(index) = self.checks.iter().position(|slot| wanted(slot) && !orphaned(slot.service)) else {
            return (!self.spare.is_empty()).then_some(Call::DropSpare);
        };
        let deleted = self.checks[index].flags & flag::DELETED != 0;
        Some(if deleted { Call::DropCheck(index as u16) } else { Call::Check(index as u16) })
    }

    /// Marks what `call` carries, so that its success counts only for what has not changed meanwhile.
    fn mark_sent(&mut self, call: Call) {
        self.clear_flags(flag::SENT);
        match call {
            Call::Service(index) => {
                let index = usize::from(index);
                self.services[index].flags |= flag::SENT as u8;
                let mut room = self.record_limit.saturating_sub(self.service_record(&self.services[index]).len());
                for check in 0..self.checks.len() {
                    let slot = self.checks[check];
                    let theirs = usize::from(slot.service) == index + 1 && is_live(slot.flags);
                    let cost = self.check_fixed(&slot).len() + usize::from(slot.output_len) + 48;
                    let wanted =
                        theirs && slot.flags & (flag::IN_SYNC | flag::HELD) == 0 && self.same_token(index, check);
                    if wanted && cost <= room {
                        room -= cost;
                        self.checks[check].flags = (slot.flags | flag::SENT) & !flag::DEFERRED;
                    }
                }
            }
            Call::Check(index) => {
                let slot = &mut self.checks[usize::from(index)];
                slot.flags = (slot.flags | flag::SENT) & !flag::DEFERRED;
            }
            _ => {}
        }
        self.next_due = None;
    }

    /// Token and record of the service in slot `index`, deleted or not.
    fn service_block(&self, index: usize) -> (&str, &[u8]) {
        self.services
            .get(index)
            .map_or(("", &[]), |slot| (super::token(self.arena.get(slot.at, slot.len)), self.service_record(slot)))
    }

    fn same_token(&self, service: usize, check: usize) -> bool {
        let own = self.service_at(service).map_or("", |service| service.token);
        self.token_of_check(check) == own
    }

    /// The check's token, or else its service's.
    fn token_of_check(&self, index: usize) -> &str {
        let Some(slot) = self.checks.get(index) else { return "" };
        let own = super::token(self.arena.get(slot.at, slot.len));
        let service = usize::from(slot.service).checked_sub(1).and_then(|index| self.service_at(index));
        if own.is_empty() { service.map_or("", |service| service.token) } else { own }
    }

    fn sent_checks(&self) -> impl Iterator<Item = request::CheckRecord<'_>> + Clone {
        (0..self.checks.len()).filter(|&index| self.checks[index].flags & flag::SENT != 0).filter_map(|index| {
            let check = self.check_at(index)?;
            Some(request::CheckRecord {
                fixed: check.fixed,
                status: check.health.as_str(),
                output: check.output.as_bytes(),
            })
        })
    }

    fn on_pushed(&mut self) {
        self.changed = true;
        for slot in self.services.iter_mut().filter(|slot| slot.flags & flag::SENT as u8 != 0) {
            slot.flags |= flag::IN_SYNC as u8;
        }
        for slot in self.checks.iter_mut().filter(|slot| slot.flags & flag::SENT != 0) {
            slot.flags |= flag::IN_SYNC;
        }
        self.clear_flags(flag::SENT);
    }

    fn hold(&mut self, call: Call) {
        match call {
            Call::Service(index) | Call::DropService(index) => {
                self.services[usize::from(index)].flags |= flag::HELD as u8;
            }
            Call::Check(index) | Call::DropCheck(index) => self.checks[usize::from(index)].flags |= flag::HELD,
            Call::Services | Call::Checks | Call::Node | Call::DropSpare => {}
        }
    }
}
