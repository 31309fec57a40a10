//! The agent's own calls to servers.
