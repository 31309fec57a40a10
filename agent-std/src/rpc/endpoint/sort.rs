//! Sorting by distance from who asks.

use super::Look;
use crate::model::QuerySource;

/// Sorts `items` by the distance of their nodes from `source`; unknown distances come last, and the order is otherwise
/// kept. Without a source, or from one in another datacenter, nothing happens.
pub(super) fn by_distance<T>(look: &Look<'_>, source: &QuerySource, items: &mut [T], node: impl Fn(&T) -> &str) {
    let own = &look.shared.config.datacenter;
    if source.node.is_empty() || !(source.datacenter.is_empty() || source.datacenter.eq_ignore_ascii_case(own)) {
        return;
    }
    let of = |node: &str| Some(&**look.state.node(node)?.coordinates.get(source.segment.as_str())?);
    let Some(from) = of(&source.node) else { return };
    items.sort_by_cached_key(|item| {
        let seconds = of(node(item)).map_or(f64::INFINITY, |to| from.distance(to));
        // Nanoseconds: floats have no total order.
        (seconds * 1e9) as u64
    });
}
