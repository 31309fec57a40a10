//! `Coordinate`

use std::sync::PoisonError;

use super::*;

/// Dimensions of serf's coordinates.
const DIMENSIONS: usize = 8;

/// Kept until the leader writes the next batch: coordinates change often and matter little.
pub(super) async fn update(call: Call<'_>) -> Answer {
    let args: &CoordinateRequest = &call.decode()?;
    let local = || async move {
        let coord = args.coord.as_ref().ok_or_else(|| CallError::refused("incompatible coordinate"))?;
        let vec = coord.vec.as_deref().unwrap_or(&[]);
        if vec.len() != DIMENSIONS {
            return Err(CallError::refused("incompatible coordinate").into());
        }
        let numbers = vec.iter().chain([&coord.error, &coord.adjustment, &coord.height]);
        if !numbers.into_iter().all(|number| number.is_finite()) {
            return Err(CallError::refused("invalid coordinate").into());
        }
        call.require(&args.token, Access::Write, Resource::Node(&args.node))?;
        let mut pending = call.shared.coordinates.lock().unwrap_or_else(PoisonError::into_inner);
        // Only of nodes there are: nobody can fill the memory with others.
        if call.shared.config.store.state().node(&args.node).is_some() {
            pending.insert((args.node.to_lowercase(), args.segment.clone()), args.clone());
        }
        reply(&Empty {})
    };
    call.shared.answer(&args.datacenter, Freshness::Default, call.method, call.args, local).await
}

fn interests<A>(_: &A) -> Vec<Interest> {
    vec![topic(Topic::Coordinates)]
}

pub(super) async fn list_nodes(call: Call<'_>) -> Answer {
    call.read(interests, |look, _: &DcRequest| {
        let (index, all) = look.state.coordinates();
        let coordinates = all.filter(|c| look.may_read(Resource::Node(&c.node))).collect();
        Ok((index, CoordinatesReply { coordinates: Some(coordinates), ..<_>::default() }))
    })
    .await
}

pub(super) async fn node(call: Call<'_>) -> Answer {
    call.read(interests, |look, args: &NodeRequest| {
        call.require(&args.options.token, Access::Read, Resource::Node(&args.node))?;
        let (index, _) = look.state.coordinates();
        let coordinates = look.state.node(&args.node).into_iter().flat_map(NodeEntry::coordinates).collect();
        Ok((index, CoordinatesReply { coordinates: Some(coordinates), ..<_>::default() }))
    })
    .await
}

/// The servers of the WAN pool whose place is known.
pub(super) fn list_datacenters(call: Call<'_>) -> Answer {
    call.done(&call.shared.config.router.places())
}
