//! The HTTP API, Consul's port 8500 (http spec).

pub mod url;
