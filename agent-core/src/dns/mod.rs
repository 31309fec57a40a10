//! DNS answers for the cluster's zone, as a pure function over a directory.

/// Settings of the answers (Consul `dns_config`).
#[derive(Clone, Copy, Debug)]
pub struct Rules<'m> {
    /// Zone without dots at its ends, e.g. `consul`.
    pub domain: &'m str,
    /// This agent's datacenter.
    pub datacenter: &'m str,
}
