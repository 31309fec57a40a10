//! Consensus: commands are agreed on by a majority of servers, made durable and applied everywhere in the same order.
mod codec;
mod config;
mod driver;
mod frame;
mod log;
mod node;
mod servers;
mod snapshot;
mod storage;
mod store;
mod transport;

pub use config::Config;
pub use driver::{Leadership, OpenError, Raft};
pub use node::{ProposeError, RestoreError, Role, StateMachine, Status};
pub use servers::{Server, Servers, Suffrage, raft_id};
pub use snapshot::SnapshotSource;
pub use storage::{Directory, Disk, DiskFile, StorageError};
pub use transport::{Connecting, Connector, Stream, tcp_connector};

#[cfg(test)]
mod faulty;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
