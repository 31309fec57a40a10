//! Services and checks as their owners describe them, from files and from the HTTP API alike (config spec §4).
//!
//! Two steps: [`RawService`] is what was written, [`Service`] is what it means, checked. Both doors share them; only the
//! spelling of keys differs, and that is settled before (see [`crate::config::schema`]).

mod check;
mod service;

pub use check::{Check, CheckKind, RawCheck};
pub use service::{RawService, Service};
