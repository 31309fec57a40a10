//! Consul's types as they travel: msgpack on the RPC port (rpc spec §6) and JSON on the HTTP port (http spec).
//!
//! One struct per type; the field names of both formats are Go's. On the RPC port a zero field may be left out, and a
//! missing one is read as zero; so the fields that Consul's JSON omits when they are zero are left out of both. What
//! may never be lost is the difference between nil and empty in what an agent registered (rpc spec §10.7): such lists
//! and maps are `Option`s, and what was registered is returned as it came. Where Consul's *HTTP* answers want it
//! otherwise (`[]` for nil tags), the HTTP layer says so with [`NodeService::for_json`] and its like.

mod catalog;
mod common;
mod coordinate;
mod internal;
mod kv;
mod operator;
mod query;
mod session;
mod status;
mod txn;

use std::collections::BTreeMap;

pub use catalog::*;
pub use common::*;
pub use coordinate::*;
pub use internal::*;
pub use kv::*;
pub use operator::*;
pub use query::*;
pub use session::*;
pub use status::*;
pub use txn::*;

/// A map with text keys, ordered so that what we write is the same every time.
pub type Map<T> = BTreeMap<String, T>;

/// Does a field hold its zero value, which Consul's JSON leaves out?
pub(crate) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
