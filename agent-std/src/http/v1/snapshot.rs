//! `/v1/snapshot` (http spec §8): everything at once, as an archive.

use super::{Api, Ask, Reply, Result};
use crate::{
    http::reply::Body,
    model::{QueryMeta, SnapshotRequest},
};

pub(super) async fn call(api: &Api, ask: &Ask) -> Result {
    let saves = ask.method == "GET";
    let request = SnapshotRequest {
        datacenter: api.datacenter(ask),
        token: ask.token.clone(),
        allow_stale: ask.params.has("stale"),
        op: if saves { SnapshotRequest::SAVE } else { SnapshotRequest::RESTORE },
    };
    let (meta, archive): (QueryMeta, Vec<u8>) = api.rpc.snapshot(request, ask.body.to_vec()).await?;
    if !saves {
        return Ok(Reply::empty());
    }
    Ok(Reply { body: Body::Raw("application/x-gzip", archive.into()), meta: Some(meta), ..Reply::default() })
}
