//! The API over real connections, with a cluster and an agent made for the test.

mod agent;
mod bench;
mod cli;
mod cluster;
mod transport;
