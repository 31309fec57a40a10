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
