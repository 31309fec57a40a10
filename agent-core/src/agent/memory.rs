//! The memory of an agent.

use super::{
    names::{LookUpSlot, QuerySlot},
    streams::ConnectionSlot,
};
use crate::{config::ConfigError, local::LocalRegions, pool::PoolRegions};

/// Smallest `request`: a call that carries a service of about 300 octets.
pub const REQUEST_MIN: usize = 768;

/// The only memory there is. Lengths are the limits; a static of all the `EMPTY` slots and zeros lies in .bss.
pub struct Regions<'m> {
    /// Gossip.
    pub pool: PoolRegions<'m>,
    /// Services and checks.
    pub local: LocalRegions<'m>,
    /// TCP exchanges of our own calls, of checks and of DNS, at least one. All taken: checks wait.
    pub connections: &'m mut [ConnectionSlot],
    /// One call to a server, at least [`REQUEST_MIN`] octets. A service or check that does not fit is refused.
    pub request: &'m mut [u8],
    /// DNS queries under way. All taken: queries are dropped, and the asker tries again. None: DNS is off.
    pub queries: &'m mut [QuerySlot],
    /// Look-ups for them, remembered for seconds; at least one, four for names that are aliases. All in use: the oldest is
    /// forgotten.
    pub look_ups: &'m mut [LookUpSlot],
}

impl Regions<'_> {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let fits = [
            ("connections", !self.connections.is_empty()),
            ("request", self.request.len() >= REQUEST_MIN),
            ("look_ups", self.queries.is_empty() || !self.look_ups.is_empty()),
        ];
        match fits.iter().find(|(_, fits)| !fits) {
            Some(&(region, _)) => Err(ConfigError::Region(region)),
            None => Ok(()),
        }
    }
}
