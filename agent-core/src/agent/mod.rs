//! The one door of an agent: bytes, time and commands in, work out.

mod input;
mod output;

pub(crate) use input::Owner;
pub use input::{CheckId, Command, CommandError, Port, StreamId, StreamInput, Ticket};
pub use output::{Event, HostCheck, Outcome, Output, Purpose, Reason, Target};
