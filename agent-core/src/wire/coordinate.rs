//! A Vivaldi coordinate (gossip spec §9).

/// Where a node sits in the network, so that the distance of two coordinates estimates their round trip in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Coordinate {
    /// Euclidean part, seconds.
    pub vec: [f64; 8],
    /// Confidence; 1.5 knows nothing.
    pub error: f64,
    /// Correction of the estimate, seconds.
    pub adjustment: f64,
    /// Access link, seconds.
    pub height: f64,
}
