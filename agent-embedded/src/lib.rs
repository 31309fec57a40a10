#![no_std]
#![forbid(unsafe_code)]
//! Drives `agent-core` on a microcontroller: embassy-net's sockets in, the same sockets out, no heap.

pub mod provision;
