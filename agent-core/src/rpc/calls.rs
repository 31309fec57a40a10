//! What can be asked, and whom the answer is for.

use crate::local::sync;

/// A call and its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Anti-entropy.
    Sync(sync::Call),
    /// A look-up; its slot in the cache.
    LookUp(u16),
    /// Our coordinate.
    Coordinate,
}
