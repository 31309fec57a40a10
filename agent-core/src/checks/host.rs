//! Checks that only the host can run: scripts on a server, closures on a device.

use super::{
    Health,
    schedule::{Output, finish},
};
use crate::{
    local::{Judge, Local},
    rand::Rng,
    time::{Duration, Instant},
    wire::rpc::Text,
};

/// 2 s: the host ends an overlong run itself and says so; only its silence after that is our business.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// The host reports on the check in slot `index`.
pub(crate) fn report(now: Instant, rng: &mut Rng, local: &mut Local<'_>, index: usize, health: Health, output: &str) {
    match local.live_check(index).map(|slot| slot.judge) {
        Some(Judge::Host) => {
            finish(now, rng, local, index, health, Output::Parts(&[output]));
        }
        // Maintenance and the like: the owner's word is final, nothing is counted or scheduled.
        Some(Judge::Static) => {
            let changed = local.write_output(index, &[output]);
            local.set_health(now, rng, index, health, changed);
        }
        Some(Judge::Ttl | Judge::Tcp | Judge::Http) | None => {}
    }
}

/// The run in slot `index` took too long.
pub(super) fn overrun(now: Instant, rng: &mut Rng, local: &mut Local<'_>, index: usize) {
    let Some(timeout) = local.live_check(index).map(|slot| slot.timeout()) else { return };
    let text = span(timeout);
    let parts = ["Timed out (", text.as_str(), ") running check"];
    finish(now, rng, local, index, Health::Critical, Output::Parts(&parts));
}

/// `span` as Go prints durations: `500ms`, `1s`, `1m30s`.
pub(super) fn span(span: Duration) -> Text<24> {
    let mut text = Text::EMPTY;
    let (millis, secs) = (span.as_millis() % 1000, span.as_secs());
    let mut put = |numbers: &[u64], unit: &[u8]| {
        numbers.iter().for_each(|&number| text.push_number(number));
        text.push(unit);
    };
    match (secs, millis) {
        (0, _) => put(&[millis], b"ms"),
        (0..60, 0) => put(&[secs], b"s"),
        (_, 0) => {
            put(&[secs / 60], b"m");
            put(&[secs % 60], b"s");
        }
        _ => {
            put(&[secs], b".");
            put(&[millis / 100, millis / 10 % 10, millis % 10], b"s");
        }
    }
    text
}
