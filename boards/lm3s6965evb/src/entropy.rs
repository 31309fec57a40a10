//! Where the agent's seed comes from.
//!
//! Gossip nonces are made from the seed: the same seed twice with one key gives the key away. This chip has no random
//! number generator, so the seed is asked of the debugger's host, and a build without one has none. A product takes it
//! from its own generator here.

/// Fresh entropy; `None` when there is no source of it.
pub fn seed() -> Option<[u8; 32]> {
    #[cfg(feature = "log")]
    {
        let mut seed = [0; 32];
        semihosting::experimental::random::fill_bytes(&mut seed).ok()?;
        Some(seed)
    }
    #[cfg(not(feature = "log"))]
    None
}
