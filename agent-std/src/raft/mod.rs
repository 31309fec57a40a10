//! Consensus: commands are agreed on by a majority of servers, made durable and applied everywhere in the same order.
//!
//! The rest of the program sees [`Raft`] (a cheap handle), [`StateMachine`] (what it implements) and [`Config`]. Inside:
//!
//! ```text
//! driver (thread, handle) ── node (library + apply, no I/O of its own) ── store (entries in memory)
//!    │                          │
//! transport (TCP, port 8300)    log, snapshot ── frame (checksums) ── storage (files)
//!       └──────── codec ───────────┘
//! ```
//!
//! The `raft` crate decides; it knows no clock, thread, socket or file, so that `sim` can replay whole clusters from a
//! seed. Its protobuf parser, in which an advisory is open (RUSTSEC-2024-0437), never sees a byte from a peer or a disk:
//! see `codec`. The crate's `protobuf-codec` feature builds with the `protoc` it ships (Linux on x86-64 and aarch64);
//! its `prost-codec` feature needs one installed.
//!
//! # Why our own log
//! One durable entry of 300 octets at a time, 500 times, on the same busy disk (release build, ext4, one run each):
//!
//! | | syncs per write | octets handed to the system | median | 99 % |
//! |---|---|---|---|---|
//! | this log, through a whole single-server cluster | 1 | about 330 | 1.7–3.4 ms | 9.0 ms |
//! | fjall 3.1 (journal) | 1 | 362 | 0.3–2.7 ms | 8.5–10.7 ms |
//! | redb 4.6 (B-tree) | 1 | 24,809 | 0.5–3.3 ms | 12.4–13.9 ms |
//!
//! Times vary with the neighbours more than with the library; octets and syncs do not. 64 writers at once share syncs (about 27
//! entries each): 20,000–24,000 commands a second. A log of ours costs no more than the best of them and can say which octet is damaged.
mod codec;
mod config;
mod driver;
mod frame;
mod log;
mod node;
pub mod peers;
mod servers;
mod snapshot;
mod storage;
mod store;
mod survivor;
mod transport;

pub use config::Config;
pub use driver::{Leadership, OpenError, Raft};
pub use node::{ProposeError, RestoreError, Role, StateMachine, Status};
pub use servers::{Server, Servers, Suffrage, raft_id};
pub use snapshot::SnapshotSource;
pub use storage::{Directory, Disk, DiskFile, StorageError};
pub use survivor::{Found, ReadOnly, Survivor, SurvivorError};
pub use transport::{Connecting, Connector, Stream, tcp_connector};

#[cfg(test)]
mod damage;
#[cfg(test)]
mod faulty;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
