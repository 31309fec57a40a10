//! The agent's own deadlines, one line each; the pool has its own.

use super::{Agent, Reason};
use crate::{
    serf::coordinate::COORDINATES,
    time::{Instant, earliest},
};

impl Agent<'_> {
    /// The earliest deadline of our own, and which it is.
    pub(super) fn own_deadline(&mut self) -> Option<(Instant, Reason)> {
        // Passed: a check runs, expires, is overdue; a deferred output must be synced; a service is critical for too long.
        let check = self.local.next_due().map(|at| (at, Reason::Check));
        // Passed: the server does not answer, or the connection is not used any more.
        let session = self.session.due().map(|at| (at, Reason::Rpc));
        // Passed: anti-entropy has a call to make. While a call is under way it waits for that.
        let sync = (self.session.is_free() && self.may_call()).then(|| self.sync.due(&self.local, self.now));
        // Passed: it is time to send our coordinate.
        let coordinate = (COORDINATES && self.session.is_free() && self.may_call()).then_some(self.coordinate_due);
        // Passed: the asker is told that it failed.
        let names = self.names.due().map(|at| (at, Reason::Dns));
        let calls = earliest(&mut [sync, coordinate].into_iter().flatten());
        let calls = calls.map(|at| (at.max(self.call_after), Reason::Rpc));
        Reason::earliest(&[check, session, calls, names])
    }
}
