//! Is there one order of these operations that explains every answer?
//!
//! A history is what clients did to *one* key: when each call began, when its answer came, and what it said. It is
//! linearizable when every call can be given one moment between its beginning and its answer so that, one after the
//! other, they behave like a key in a single process. Keys are independent of each other, so that a whole run is
//! linearizable when each of its keys is (Herlihy and Wing, "Linearizability", 1990, theorem 1).
//!
//! `key` is that single process, `search` finds the order (Wing and Gong's search with Lowe's memory of what has been
//! tried). The simulation of the servers and the tests of real processes share both.

mod key;
mod search;

pub use key::{Answer, Op, Row};
pub use search::{Call, Violation, check};
