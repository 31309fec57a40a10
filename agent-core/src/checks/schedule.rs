//! What is due, and what a result means.

use super::{Health, host, http, tcp, ttl};
use crate::{
    local::{Judge, Local, state::Due},
    rand::Rng,
    time::{Duration, Instant},
};

/// What the agent must do for a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Nothing.
    None,
    /// Open a connection, then [`started`].
    Connect,
    /// Close its connection: the run is over.
    Stop,
    /// Deregister its service: critical for too long.
    Deregister,
}

/// 1 s: when no connection is free, the run is tried again after this.
const BUSY: Duration = Duration::from_secs(1);

/// The check in slot `index` may have something to do.
pub(crate) fn on_due(now: Instant, rng: &mut Rng, local: &mut Local<'_>, index: usize) -> Work {
    let judge = match local.live_check(index) {
        Some(slot) => slot.judge,
        None => return Work::None,
    };
    match local.due_work(index, now) {
        None | Some(Due::Synced) => Work::None,
        Some(Due::Reap) => Work::Deregister,
        Some(Due::Run) => match judge {
            Judge::Tcp | Judge::Http => Work::Connect,
            Judge::Host => {
                begin(now, local, index, host::GRACE);
                local.ask(index);
                Work::None
            }
            Judge::Ttl => {
                ttl::expire(now, rng, local, index);
                Work::None
            }
            Judge::Static => {
                local.unschedule(index);
                Work::None
            }
        },
        Some(Due::Overrun) => {
            match judge {
                Judge::Http if http::HTTP => http::overrun(now, rng, local, index),
                Judge::Tcp => tcp::overrun(now, rng, local, index),
                Judge::Host => host::overrun(now, rng, local, index),
                Judge::Static | Judge::Ttl | Judge::Http => local.unschedule(index),
            }
            Work::Stop
        }
    }
}

/// A connection for the check in slot `index` is being opened.
pub(crate) fn started(now: Instant, local: &mut Local<'_>, index: usize) {
    begin(now, local, index, Duration::ZERO);
}

/// No connection is free for the check in slot `index`.
pub(crate) fn postponed(now: Instant, local: &mut Local<'_>, index: usize) {
    local.schedule(index, now + BUSY);
}

fn begin(now: Instant, local: &mut Local<'_>, index: usize, grace: Duration) {
    if let Some(timeout) = local.live_check(index).map(|slot| slot.timeout()) {
        local.begin_run(index, now + timeout + grace);
    }
}

/// The output of a run.
#[derive(Clone, Copy)]
pub(crate) enum Output<'a> {
    /// These texts, one behind the other.
    Parts(&'a [&'a str]),
    /// What was put together beside the current one.
    Scratch,
}

/// A run is over. Counts it; the output is written only when the count makes it matter.
pub(crate) fn finish(
    now: Instant,
    rng: &mut Rng,
    local: &mut Local<'_>,
    index: usize,
    health: Health,
    output: Output<'_>,
) {
    let Some(slot) = local.live_check(index) else { return };
    let interval = slot.interval();
    let counts = match health {
        Health::Passing | Health::Warning => {
            (slot.good, slot.bad) = (slot.good.saturating_add(1), 0);
            slot.good >= slot.success_before_passing
        }
        Health::Critical => {
            (slot.good, slot.bad) = (0, slot.bad.saturating_add(1));
            slot.bad >= slot.failures_before_critical
        }
    };
    local.schedule(index, now + interval);
    if counts {
        let changed = match output {
            Output::Parts(parts) => local.write_output(index, parts),
            Output::Scratch => local.scratch_commit(index),
        };
        local.set_health(now, rng, index, health, changed);
    }
}
