//! Consul's msgpack RPC as far as an agent calls it itself (rpc spec §3 to §6).
//!
//! A call is two values, `{"Seq", "ServiceMethod"}` and the arguments; a reply is two values, `{"Error", "Seq", …}` and
//! the result. Neither has a length in front. [`request`] writes calls into a slice; [`Reply`] takes a reply octet by
//! octet or in any larger pieces and hands out the few facts that matter, so that a reply of any length costs the same
//! small memory.
//!
//! ```text
//! TCP octets ─ pull.rs: heads and raw pieces ─ reply.rs: where in the tree are we? ─ Item: instance, service, check, node
//!                                                       └ digest.rs: what the record says, as one number
//! ```
//!
//! Not here: when to call, whom, and what to do with an answer ([`crate::rpc`], [`crate::local`]).

mod digest;
mod pull;
mod reply;
pub mod request;
mod text;

#[cfg(test)]
mod tests;

pub use digest::{Digest, check_digest, node_digest, record_digest};
pub use reply::{Instance, Item, Reply};
pub use text::Text;

/// A method that the agent calls itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Put node, service or checks into the catalog.
    Register,
    /// Take a service or check out of the catalog.
    Deregister,
    /// The services of a node, as a list; servers before 1.7 do not know it.
    NodeServiceList,
    /// The services of a node, as a map by id; also the look-up of a node's address.
    NodeServices,
    /// The checks of a node.
    NodeChecks,
    /// All instances of a service, whatever their health.
    ServiceNodes,
    /// A few healthy instances of a service, chosen by the server.
    ExecuteRemote,
    /// Is the server there?
    Ping,
    /// Our network coordinate.
    CoordinateUpdate,
}

impl Method {
    /// Every method.
    pub const ALL: [Method; 9] = [
        Method::Register,
        Method::Deregister,
        Method::NodeServiceList,
        Method::NodeServices,
        Method::NodeChecks,
        Method::ServiceNodes,
        Method::ExecuteRemote,
        Method::Ping,
        Method::CoordinateUpdate,
    ];

    /// The name on the wire; case matters.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Register => "Catalog.Register",
            Method::Deregister => "Catalog.Deregister",
            Method::NodeServiceList => "Catalog.NodeServiceList",
            Method::NodeServices => "Catalog.NodeServices",
            Method::NodeChecks => "Health.NodeChecks",
            Method::ServiceNodes => "Health.ServiceNodes",
            Method::ExecuteRemote => "PreparedQuery.ExecuteRemote",
            Method::Ping => "Status.Ping",
            Method::CoordinateUpdate => "Coordinate.Update",
        }
    }
}
