//! Lent memory: the only memory there is.
//!
//! The caller lends slices; their lengths are the limits. Fixed-size slots hold what has a fixed size, and a [`Pack`]
//! holds the octets that belong to them. Every slot's `EMPTY` is all zero bits, so that a static of them lies in .bss.

mod mail;
mod pack;

pub(crate) use mail::{Mail, MailId};
pub use pack::{Pack, Place};
