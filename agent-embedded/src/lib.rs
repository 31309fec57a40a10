#![no_std]
//! Drives `agent-core` over embassy-net.
