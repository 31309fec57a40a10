//! SWIM with Lifeguard, as memberlist does it: what a member is, and the pieces that keep it true. One noun a file.
//!
//! Nothing here sends or receives; [`crate::pool::Pool`] owns the pieces and drives them.

pub(crate) mod awareness;
pub(crate) mod broadcast;
pub(crate) mod keyring;
pub(crate) mod members;
pub(crate) mod suspicion;

pub use broadcast::BroadcastSlot;
pub use members::MemberSlot;
