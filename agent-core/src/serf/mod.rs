//! The serf layer above membership: clocks, what was seen before, recent events, coordinates. The rules that use them are the pool's.

pub(crate) mod clock;
pub(crate) mod coordinate;
pub(crate) mod filter;
pub(crate) mod recent;
pub(crate) mod seen;

pub use filter::{MatchTag, match_simple};
pub use recent::EventSlot;
pub use seen::{IntentSlot, SeenSlot};
