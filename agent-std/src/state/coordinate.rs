//! Writes of coordinates.

use std::sync::Arc;

use super::{
    tables::{Change, fold},
    watch::Topic,
};
use crate::model::CoordinateRequest;

impl Change {
    /// Stores the coordinates of nodes that are in the catalog.
    pub fn coordinates(&mut self, updates: Vec<CoordinateRequest>) {
        for CoordinateRequest { node, segment, coord, .. } in updates {
            let Some(coord) = coord else { continue };
            let stored =
                self.with_node(&fold(&node), |entry| entry.coordinates.insert(segment.into(), Arc::new(coord)));
            if stored.is_some() {
                self.state.indexes.coordinates = self.index;
                self.touch(Topic::Coordinates);
            }
        }
    }
}
