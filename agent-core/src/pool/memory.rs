//! The memory a pool borrows.

/// The memory of one pool. Lengths are the limits.
pub struct PoolRegions<'m> {
    /// Placeholder until the tables land.
    pub text: &'m mut [u8],
}
