//! Health and output of checks as they change, and when the catalog must hear of it.
//!
//! A change of health is synced at once. A change of the output alone waits for half the update interval plus up to one
//! whole (rpc spec §7 "Check output deferral"); no change at all writes nothing.

use super::{CheckSlot, Local, areas, flag, is_live};
use crate::{
    checks::Health,
    rand::Rng,
    time::{Duration, Instant, earliest},
};

impl Local<'_> {
    /// The slot of a check that is there and not deleted.
    pub(crate) fn live_check(&mut self, index: usize) -> Option<&mut CheckSlot> {
        self.checks.get_mut(index).filter(|slot| is_live(slot.flags))
    }

    /// Index and judge of the check `id`.
    pub(crate) fn check_index(&self, id: &str) -> Option<usize> {
        self.find_check(id).filter(|&index| is_live(self.checks[index].flags))
    }

    /// Longest run of the check in slot `index`.
    pub(crate) fn timeout_of(&self, index: usize) -> Duration {
        self.checks.get(index).map_or(Duration::ZERO, CheckSlot::timeout)
    }

    /// Which registration the check in slot `index` is.
    pub(crate) fn generation_of(&self, index: usize) -> u8 {
        self.checks.get(index).map_or(0, |slot| slot.generation)
    }

    /// The service that the check in slot `index` belongs to.
    pub(crate) fn service_of(&self, index: usize) -> Option<usize> {
        usize::from(self.checks.get(index)?.service).checked_sub(1)
    }

    /// True while a run of the check in slot `index` is under way.
    pub(crate) fn is_running(&self, index: usize) -> bool {
        self.checks.get(index).is_some_and(|slot| slot.flags & flag::RUNNING != 0)
    }

    /// The check in slot `index` runs until `deadline` at most.
    pub(crate) fn begin_run(&mut self, index: usize, deadline: Instant) {
        if let Some(slot) = self.live_check(index) {
            slot.flags |= flag::RUNNING | flag::TIMED;
            slot.due = deadline;
            slot.scratch_len = 0;
        }
        self.next_due = None;
    }

    /// The host must be asked to run the check in slot `index`.
    pub(crate) fn ask(&mut self, index: usize) {
        if let Some(slot) = self.live_check(index) {
            slot.flags |= flag::ASK;
            self.asking = true;
        }
    }

    /// A check that the host must be asked to run, once.
    pub(crate) fn next_ask(&mut self) -> Option<usize> {
        if !self.asking {
            return None;
        }
        let next = self.checks.iter().position(|slot| is_live(slot.flags) && slot.flags & flag::ASK != 0);
        match next {
            Some(index) => self.checks[index].flags &= !flag::ASK,
            None => self.asking = false,
        }
        next
    }

    /// The check in slot `index` is due at `due`.
    pub(crate) fn schedule(&mut self, index: usize, due: Instant) {
        if let Some(slot) = self.live_check(index) {
            slot.flags = (slot.flags | flag::TIMED) & !flag::RUNNING;
            slot.due = due;
        }
        self.next_due = None;
    }

    /// The check in slot `index` is not due any more.
    pub(crate) fn unschedule(&mut self, index: usize) {
        if let Some(slot) = self.live_check(index) {
            slot.flags &= !(flag::TIMED | flag::RUNNING);
        }
        self.next_due = None;
    }

    /// Earliest moment at which a check has something to do.
    pub(crate) fn next_due(&mut self) -> Option<Instant> {
        if let Some(known) = self.next_due {
            return known;
        }
        let next = earliest(&mut self.checks.iter().filter_map(due_of));
        self.next_due = Some(next);
        next
    }

    /// A check that has something to do at `now`: it is due, its deregistration is, or its deferred output.
    pub(crate) fn due_check(&mut self, now: Instant) -> Option<usize> {
        if self.next_due().is_none_or(|due| due > now) {
            return None;
        }
        self.next_due = None;
        self.checks.iter().position(|slot| due_of(slot).is_some_and(|due| due <= now))
    }

    /// What the check in slot `index` has to do at `now`.
    pub(crate) fn due_work(&mut self, index: usize, now: Instant) -> Option<Due> {
        self.next_due = None;
        let slot = self.checks.get_mut(index)?;
        if slot.flags & flag::DEFERRED != 0 && slot.defer <= now {
            slot.flags &= !(flag::DEFERRED | flag::IN_SYNC);
            self.dirty = true;
            return Some(Due::Synced);
        }
        if reap_at(slot).is_some_and(|due| due <= now) {
            return Some(Due::Reap);
        }
        if slot.flags & flag::TIMED != 0 && slot.due <= now {
            return Some(if slot.flags & flag::RUNNING == 0 { Due::Run } else { Due::Overrun });
        }
        None
    }

    /// Puts `prefix` before the output of the check in slot `index`, e.g. "TTL expired…".
    pub(crate) fn prefix_output(&mut self, index: usize, prefix: &str) {
        let Some(slot) = self.checks.get(index).copied() else { return };
        let (start, limit) = (current(&slot), usize::from(slot.limit));
        let block = self.arena.get_mut(slot.at, slot.len);
        let Some(area) = block.get_mut(start..start + limit) else { return };
        let prefix = &prefix.as_bytes()[..prefix.len().min(limit)];
        let kept = usize::from(slot.output_len).min(limit - prefix.len());
        area.copy_within(..kept, prefix.len());
        area[..prefix.len()].copy_from_slice(prefix);
        let len = printable(&mut area[..prefix.len() + kept]);
        self.checks[index].output_len = len as u16;
    }

    /// Appends to the new output of the check in slot `index`, put together beside the current one (HTTP only). False when
    /// not all of it fitted.
    pub(crate) fn scratch_push(&mut self, index: usize, octets: &[u8]) -> bool {
        let Some(slot) = self.checks.get(index).copied() else { return false };
        let (first, second) = areas(&slot);
        let start = if slot.flags & flag::FLIPPED == 0 { second } else { first };
        let used = usize::from(slot.scratch_len);
        let taken = octets.len().min(usize::from(slot.limit) - used);
        let block = self.arena.get_mut(slot.at, slot.len);
        if let Some(place) = block.get_mut(start + used..start + used + taken) {
            place.copy_from_slice(&octets[..taken]);
            self.checks[index].scratch_len = (used + taken) as u16;
        }
        taken == octets.len()
    }

    /// The output being put together becomes the output. True when that is a change.
    pub(crate) fn scratch_commit(&mut self, index: usize) -> bool {
        let Some(slot) = self.checks.get(index).copied() else { return false };
        let (first, second) = areas(&slot);
        let (old, new) = if slot.flags & flag::FLIPPED == 0 { (first, second) } else { (second, first) };
        let block = self.arena.get_mut(slot.at, slot.len);
        let Some(area) = block.get_mut(new..new + usize::from(slot.scratch_len)) else { return false };
        let len = printable(area);
        let same = block.get(new..new + len) == block.get(old..old + usize::from(slot.output_len));
        let slot = &mut self.checks[index];
        slot.flags ^= flag::FLIPPED;
        slot.output_len = len as u16;
        slot.scratch_len = 0;
        !same
    }

    /// Sets the output of the check in slot `index`, cut to its capacity. True when that is a change.
    pub(crate) fn write_output(&mut self, index: usize, parts: &[&str]) -> bool {
        let Some(slot) = self.checks.get(index).copied() else { return false };
        let start = current(&slot);
        let block = self.arena.get_mut(slot.at, slot.len);
        let Some(area) = block.get_mut(start..start + usize::from(slot.limit)) else { return false };
        let (mut len, mut changed) = (0, false);
        for part in parts {
            let cut = part.floor_char_boundary((area.len() - len).min(part.len()));
            let place = &mut area[len..len + cut];
            changed |= *place != part.as_bytes()[..cut];
            place.copy_from_slice(&part.as_bytes()[..cut]);
            len += cut;
            if cut < part.len() {
                break;
            }
        }
        changed |= len != usize::from(slot.output_len);
        self.checks[index].output_len = len as u16;
        changed
    }

    /// The check in slot `index` is now `health`; `output_changed` says whether its output is another than before.
    pub(crate) fn set_health(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        index: usize,
        health: Health,
        output_changed: bool,
    ) {
        let interval = self.update_interval;
        let Some(slot) = self.checks.get_mut(index) else { return };
        if slot.health != health {
            if health == Health::Critical {
                slot.critical_since = now;
            }
            slot.health = health;
            slot.flags &= !(flag::IN_SYNC | flag::SENT | flag::DEFERRED | flag::HELD);
            self.touched();
        } else if output_changed {
            slot.flags &= !flag::SENT;
            self.changed = true;
            if interval == Duration::ZERO {
                slot.flags &= !flag::IN_SYNC;
                self.touched();
            } else if slot.flags & (flag::DEFERRED | flag::IN_SYNC) == flag::IN_SYNC {
                slot.flags |= flag::DEFERRED;
                slot.defer = now + Duration::from_micros(interval.as_micros() / 2) + rng.up_to(interval);
                self.next_due = None;
            }
        }
    }
}

/// What a check has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Run, or expire.
    Run,
    /// End a run that took too long.
    Overrun,
    /// Its service was critical for too long.
    Reap,
    /// Nothing more: its deferred output will be synced.
    Synced,
}

/// Offset of the current output area.
fn current(slot: &CheckSlot) -> usize {
    let (first, second) = areas(slot);
    if slot.flags & flag::FLIPPED == 0 { first } else { second }
}

fn reap_at(slot: &CheckSlot) -> Option<Instant> {
    let wanted = is_live(slot.flags) && slot.deregister_s > 0 && slot.service > 0 && slot.health == Health::Critical;
    wanted.then(|| slot.critical_since + Duration::from_secs(slot.deregister_s.into()))
}

fn due_of(slot: &CheckSlot) -> Option<Instant> {
    if !is_live(slot.flags) {
        return None;
    }
    let run = (slot.flags & flag::TIMED != 0).then_some(slot.due);
    let defer = (slot.flags & flag::DEFERRED != 0).then_some(slot.defer);
    earliest(&mut [run, defer, reap_at(slot)].into_iter().flatten())
}

/// Replaces what is not UTF-8 by question marks, so that an output cut or sent anyhow is text. Returns the length without
/// a cut character at the end.
fn printable(octets: &mut [u8]) -> usize {
    let mut from = 0;
    while let Err(error) = core::str::from_utf8(&octets[from..]) {
        let bad = from + error.valid_up_to();
        match error.error_len() {
            None => return bad,
            Some(len) => octets[bad..bad + len].fill(b'?'),
        }
        from = bad;
    }
    octets.len()
}
