//! Flap damping: a member that fails and returns again and again would turn its services on and off for everybody who
//! asks, with every turn a write of the catalog. From a limit on it stays critical until it has been calm for a while,
//! and its health says why.
//!
//! Consul has no such rule; the numbers are ours. Each server counts by itself, whether it leads or not, so that a new
//! leader goes on where the old one was.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

/// Failures count for so long.
const WINDOW: Duration = Duration::from_secs(600);
/// So many failures within the window are too many. Restarts for an upgrade and its repetition are fewer.
const LIMIT: usize = 5;
/// A held member is believed again when its last failure is so long ago: twice the longest suspicion of 1,000 members.
const CALM: Duration = Duration::from_secs(150);

/// When members failed.
#[derive(Debug, Default)]
pub(super) struct Flaps {
    failures: HashMap<String, VecDeque<Instant>>,
}

impl Flaps {
    /// A member has failed.
    pub fn failed(&mut self, node: &str, now: Instant) {
        self.failures.retain(|_, times| {
            times.retain(|&at| now.duration_since(at) < WINDOW);
            !times.is_empty()
        });
        let times = self.failures.entry(node.to_ascii_lowercase()).or_default();
        // More than the limit tells nothing more.
        if times.len() > LIMIT {
            times.pop_front();
        }
        times.push_back(now);
        if self.held(node, now).is_some() {
            log::warn!("{node} fails and returns again and again: it stays critical until it is calm for {CALM:?}");
        }
    }

    /// Why a living member is not shown as passing.
    pub fn held(&self, node: &str, now: Instant) -> Option<String> {
        self.release(node, now)?;
        Some(format!(
            "Agent alive, but it failed {LIMIT} times or more within {} minutes: held critical until it has not failed for \
             {} s",
            WINDOW.as_secs() / 60,
            CALM.as_secs()
        ))
    }

    /// When the next held member is believed again.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        self.failures.keys().filter_map(|node| self.release(node, now)).min()
    }

    fn release(&self, node: &str, now: Instant) -> Option<Instant> {
        let times = self.failures.get(&node.to_ascii_lowercase())?;
        let recent = times.iter().filter(|&&at| now.duration_since(at) < WINDOW).count();
        let release = *times.back()? + CALM;
        (recent >= LIMIT && now < release).then_some(release)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_failures_hold_and_calm_releases() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut flaps = Flaps::default();
        for n in 0..4 {
            flaps.failed("a", at(n * 60));
            assert_eq!(flaps.held("a", at(n * 60 + 30)), None);
        }
        flaps.failed("A", at(240));
        assert!(flaps.held("a", at(270)).unwrap().contains("within 10 minutes"));
        assert_eq!(flaps.held("b", at(270)), None);
        assert_eq!(flaps.next(at(270)), Some(at(390)));
        assert_eq!((flaps.held("a", at(390)), flaps.next(at(390))), (None, None));
        // Failures of long ago do not count any more.
        flaps.failed("a", at(1_000));
        assert_eq!(flaps.held("a", at(1_010)), None);
    }
}
