//! TTL checks: their owner reports; silence is critical.

use super::Health;
use crate::{
    agent::CommandError,
    local::{Judge, Local},
    rand::Rng,
    time::Instant,
};

/// The owner reports on the check `id` (`/v1/agent/check/pass`, …).
///
/// # Errors
/// `Unknown`: no such check; `Invalid`: it has no TTL.
pub(crate) fn update(
    now: Instant,
    rng: &mut Rng,
    local: &mut Local<'_>,
    id: &str,
    health: Health,
    output: &str,
) -> Result<(), CommandError> {
    let index = local.check_index(id).ok_or(CommandError::Unknown)?;
    let slot = local.live_check(index).ok_or(CommandError::Unknown)?;
    if slot.judge != Judge::Ttl {
        return Err(CommandError::Invalid("the check does not have associated TTL"));
    }
    let due = now + slot.interval();
    local.schedule(index, due);
    let changed = local.write_output(index, &[output]);
    local.set_health(now, rng, index, health, changed);
    Ok(())
}

/// The owner has been silent for too long.
pub(super) fn expire(now: Instant, rng: &mut Rng, local: &mut Local<'_>, index: usize) {
    local.unschedule(index);
    let silent = local.check_at(index).is_none_or(|check| check.output().is_empty());
    local.prefix_output(
        index,
        if silent { "TTL expired" } else { "TTL expired (last output before timeout follows): " },
    );
    local.set_health(now, rng, index, Health::Critical, true);
}
