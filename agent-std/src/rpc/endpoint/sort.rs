//! Sorting by distance from who asks.

use crate::{model::QuerySource, state::State};

/// Sorts `items` by the distance of their nodes from `source`; unknown distances come last, and the order is otherwise
/// kept. Without a source nothing happens.
pub(super) fn by_distance<T>(state: &State, source: &QuerySource, items: &mut [T], node: impl Fn(&T) -> &str) {
    let of = |node: &str| Some(&**state.node(node)?.coordinates.get(source.segment.as_str())?);
    let Some(from) = (!source.node.is_empty()).then(|| of(&source.node)).flatten() else { return };
    items.sort_by_cached_key(|item| {
        let seconds = of(node(item)).map_or(f64::INFINITY, |to| from.distance(to));
        // Nanoseconds: floats have no total order.
        (seconds * 1e9) as u64
    });
}
