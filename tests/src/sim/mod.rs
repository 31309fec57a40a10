//! Whole clusters in one process: virtual time, a seeded network, and the core's machines unchanged.
//!
//! ```text
//! clock       events in order of virtual time
//! net         what gets through: loss, doubling, delay, cuts, sides
//! tcp         connections as reliable pipes that stall and break
//! model       the world: takes an event, feeds one machine, plans what it asks for
//! ```
//!
//! A seed is a run: it can be replayed exactly, and two runs of it have the same [`model::World::trace`].

pub mod clock;
pub mod model;
pub mod net;
pub mod tcp;
#[cfg(test)]
mod tests;
