//! Harness shared by the cross-crate tests.

pub mod ether;
pub mod qemu;
