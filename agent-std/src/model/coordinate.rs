//! Network coordinates (gossip spec §12).

use serde::{Deserialize, Serialize};

use super::{catalog::replies, common::QueryMeta};

/// A place in the network: round-trip times are distances. Seconds throughout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Coordinate {
    /// Eight dimensions.
    pub vec: Option<Vec<f64>>,
    /// How sure the node is; 1.5 at the start.
    pub error: f64,
    /// Added to every distance.
    pub adjustment: f64,
    /// Distance to the others that no dimension explains.
    pub height: f64,
}

impl Coordinate {
    /// Seconds of a round trip by Vivaldi: the way through the space, both heights, and both adjustments unless they make
    /// it negative (gossip spec §12). Infinite between places of different dimension.
    pub fn distance(&self, other: &Coordinate) -> f64 {
        let (ours, theirs) = (self.vec.as_deref().unwrap_or_default(), other.vec.as_deref().unwrap_or_default());
        if ours.len() != theirs.len() {
            return f64::INFINITY;
        }
        let squares: f64 = ours.iter().zip(theirs).map(|(a, b)| (a - b) * (a - b)).sum();
        let plain = squares.sqrt() + self.height + other.height;
        let adjusted = plain + self.adjustment + other.adjustment;
        if adjusted > 0.0 { adjusted } else { plain }
    }

    /// Whether this differs from what is known by more than a place wavers while nothing moves: by five milliseconds and by
    /// a tenth of its distances, or by being much surer of itself.
    pub fn is_news(&self, known: &Coordinate) -> bool {
        let (ours, theirs) = (self.vec.as_deref().unwrap_or_default(), known.vec.as_deref().unwrap_or_default());
        if ours.len() != theirs.len() {
            return true;
        }
        let length = |squares: f64| squares.sqrt();
        let moved = length(ours.iter().zip(theirs).map(|(a, b)| (a - b) * (a - b)).sum())
            + (self.height - known.height).abs()
            + (self.adjustment - known.adjustment).abs();
        let size = length(theirs.iter().map(|a| a * a).sum()) + known.height;
        moved > WAVER.max(size / 10.0) || known.error - self.error > SURER
    }
}

/// Seconds by which a place may differ and still be the same: a busy machine's answers take that much longer.
const WAVER: f64 = 0.005;
/// By how much less the error must be; it begins at 1.5 and ends about 0.3.
const SURER: f64 = 0.5;

/// A place of the core.
impl From<&agent_core::wire::coordinate::Coordinate> for Coordinate {
    fn from(place: &agent_core::wire::coordinate::Coordinate) -> Self {
        let agent_core::wire::coordinate::Coordinate { vec, error, adjustment, height } = *place;
        Coordinate { vec: Some(vec.to_vec()), error, adjustment, height }
    }
}

/// A node's coordinate in a segment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeCoordinate {
    /// Node name.
    pub node: String,
    /// Network segment.
    pub segment: String,
    /// Coordinate.
    pub coord: Option<Coordinate>,
}

/// `Coordinate.Update`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CoordinateRequest {
    /// Datacenter.
    pub datacenter: String,
    /// Node name.
    pub node: String,
    /// Network segment.
    pub segment: String,
    /// Coordinate.
    pub coord: Option<Coordinate>,
    /// Secret of the ACL token.
    pub token: String,
}

/// `Coordinate.ListDatacenters`: coordinates of one datacenter's servers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DatacenterCoordinates {
    /// Datacenter.
    pub datacenter: String,
    /// `wan`.
    #[serde(rename = "AreaID")]
    pub area_id: String,
    /// Coordinates.
    pub coordinates: Option<Vec<NodeCoordinate>>,
}

replies! {
    /// `Coordinate.ListNodes`, `Coordinate.Node`
    CoordinatesReply { coordinates: Option<Vec<NodeCoordinate>> }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_vivaldis() {
        let at = |x: f64, height: f64, adjustment: f64| Coordinate {
            vec: Some(vec![x, 0.0]),
            height,
            adjustment,
            ..<_>::default()
        };
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(at(0.0, 0.1, 0.0).distance(&at(3.0, 0.2, 0.0)), 3.3));
        assert!(near(at(0.0, 0.1, -0.5).distance(&at(3.0, 0.2, -0.5)), 2.3));
        assert!(near(at(0.0, 0.1, -5.0).distance(&at(3.0, 0.2, -5.0)), 3.3));
        assert!(near(at(0.0, 1e-5, 0.0).distance(&at(0.0, 1e-5, 0.0)), 2e-5));
        assert_eq!(Coordinate::default().distance(&at(0.0, 0.0, 0.0)), f64::INFINITY);
    }

    #[test]
    fn what_wavers_is_no_news() {
        let at =
            |x: f64, height: f64, error: f64| Coordinate { vec: Some(vec![x, 0.0]), height, error, ..<_>::default() };
        let known = at(0.001, 0.0001, 0.9);
        assert!(!at(0.0058, 0.0001, 0.5).is_news(&known));
        assert!(at(0.0061, 0.0002, 0.9).is_news(&known), "more than five milliseconds");
        assert!(at(0.001, 0.0001, 0.3).is_news(&known), "much surer");
        assert!(!at(0.104, 0.0, 0.5).is_news(&at(0.1, 0.0, 0.5)), "less than a tenth of a long way");
        assert!(at(0.111, 0.0, 0.5).is_news(&at(0.1, 0.0, 0.5)));
        assert!(Coordinate::default().is_news(&known));
    }
}
