//! Gossip's settings: timing and keys.

use std::time::Duration;

use agent_core::{config::Timing, wire::crypt::Key};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{low, secret::Secret};

/// A gossip key; its `Debug` shows only its length.
#[derive(Clone, PartialEq, Eq)]
pub struct GossipKey(Vec<u8>);

impl GossipKey {
    /// 16, 24 or 32 octets once [`GossipKey::key`] has accepted it.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// The key for the core.
    ///
    /// # Errors
    /// A length other than 16, 24 or 32. Consul finds this only when the agent starts, so `validate` does not ask.
    pub fn key(&self) -> Result<Key, String> {
        Key::new(&self.0).ok_or_else(|| "Invalid encryption key: key size must be 16, 24 or 32 bytes".to_owned())
    }
}

impl std::fmt::Debug for GossipKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} octets, hidden", self.0.len())
    }
}

/// The core's kind of time span.
pub(super) fn core(span: Duration) -> agent_core::time::Duration {
    agent_core::time::Duration::from_micros(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
}

/// One of Consul's profiles, with `-dev`'s or the file's changes under `block`.
pub(super) fn timing(
    block: &str,
    mut timing: Timing,
    low: &low::Gossip,
    dev: bool,
    span: &mut impl FnMut(&str, &Option<String>, Duration) -> Duration,
) -> Timing {
    let mut chosen = |name: &str, given: &Option<String>, dev_millis: u64, default: agent_core::time::Duration| {
        let default = if dev { Duration::from_millis(dev_millis) } else { Duration::from_micros(default.as_micros()) };
        core(span(&format!("{block}.{name}"), given, default))
    };
    // Consul's -dev: everything every 100 ms.
    timing.gossip_interval = chosen("gossip_interval", &low.gossip_interval, 100, timing.gossip_interval);
    timing.probe_interval = chosen("probe_interval", &low.probe_interval, 100, timing.probe_interval);
    timing.probe_timeout = chosen("probe_timeout", &low.probe_timeout, 100, timing.probe_timeout);
    let count =
        |given: Option<i64>, default: u8| given.map_or(default, |given| u8::try_from(given.max(1)).unwrap_or(u8::MAX));
    timing.gossip_nodes = count(low.gossip_nodes, timing.gossip_nodes);
    timing.suspicion_mult = count(low.suspicion_mult, if dev { 3 } else { timing.suspicion_mult });
    timing.retransmit_mult = count(low.retransmit_mult, timing.retransmit_mult);
    timing
}

/// Only base64 is checked here, as in Consul.
pub(super) fn key(secret: &Secret) -> Result<Option<GossipKey>, String> {
    if secret.is_empty() {
        return Ok(None);
    }
    match STANDARD.decode(secret.expose()) {
        Ok(octets) => Ok(Some(GossipKey(octets))),
        Err(base64::DecodeError::InvalidByte(at, _)) => {
            Err(format!("encrypt has invalid key: illegal base64 data at input byte {at}"))
        }
        // Go points at the last, incomplete group of four.
        Err(_) => {
            let at = secret.expose().len() / 4 * 4;
            Err(format!("encrypt has invalid key: illegal base64 data at input byte {at}"))
        }
    }
}
