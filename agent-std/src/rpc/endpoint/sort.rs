//! Sorting by distance from who asks.

use crate::{
    model::{Coordinate, QuerySource},
    state::State,
};

/// Sorts `items` by the distance of their nodes from `source`; unknown distances come last, and the order is otherwise
/// kept. Without a source nothing happens.
pub(super) fn by_distance<T>(state: &State, source: &QuerySource, items: &mut [T], node: impl Fn(&T) -> &str) {
    let of = |node: &str| Some(&**state.node(node)?.coordinates.get(source.segment.as_str())?);
    let Some(from) = (!source.node.is_empty()).then(|| of(&source.node)).flatten() else { return };
    items.sort_by_cached_key(|item| {
        let seconds = of(node(item)).map_or(f64::INFINITY, |to| distance(from, to));
        // Nanoseconds: floats have no total order.
        (seconds * 1e9) as u64
    });
}

/// Seconds of a round trip.
fn distance(a: &Coordinate, b: &Coordinate) -> f64 {
    let empty = Vec::new();
    let (va, vb) = (a.vec.as_ref().unwrap_or(&empty), b.vec.as_ref().unwrap_or(&empty));
    if va.len() != vb.len() {
        return f64::INFINITY;
    }
    let squares: f64 = va.iter().zip(vb).map(|(a, b)| (a - b) * (a - b)).sum();
    let raw = squares.sqrt() + a.height + b.height;
    let adjusted = raw + a.adjustment + b.adjustment;
    if adjusted > 0.0 { adjusted } else { raw }
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
        assert!((distance(&at(0.0, 0.1, 0.0), &at(3.0, 0.2, 0.0)) - 3.3).abs() < 1e-9);
        assert!((distance(&at(0.0, 0.1, -0.5), &at(3.0, 0.2, -0.5)) - 2.3).abs() < 1e-9);
        assert!((distance(&at(0.0, 0.1, -5.0), &at(3.0, 0.2, -5.0)) - 3.3).abs() < 1e-9);
        assert_eq!(distance(&Coordinate::default(), &at(0.0, 0.0, 0.0)), f64::INFINITY);
    }
}
