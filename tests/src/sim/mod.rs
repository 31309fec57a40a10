//! Whole clusters in one process: virtual time, a seeded network, and the core's machines unchanged.
//!
//! ```text
//! clock       events in order of virtual time
//! net         what gets through: loss, doubling, delay, cuts, sides
//! tcp         connections as reliable pipes that stall and break
//! model       the world: takes an event, feeds one machine, plans what it asks for
//! pool        the core's gossip pool as a machine
//! invariants  what must hold after every step
//! churn       the scenario: a cluster grows, is shaken, and comes to rest
//! ```
//!
//! A seed is a run: it can be replayed exactly, and two runs of it have the same [`model::World::trace`].

pub mod churn;
pub mod clock;
pub mod cluster;
pub mod invariants;
pub mod model;
pub mod net;
pub mod pool;
pub mod scale;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod trials;
