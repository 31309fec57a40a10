//! `Status`: answered by whoever is asked.

use super::{Answer, Call};
use crate::{
    model::{DcRequest, Empty, Nanos, RaftStats},
    rpc::server::{Freshness, reply},
    text,
};

pub(super) fn ping(call: Call<'_>) -> Answer {
    call.done(&Empty {})
}

/// `ip:port`, empty without a leader.
pub(super) async fn leader(call: Call<'_>) -> Answer {
    let args: DcRequest = call.decode()?;
    let local =
        || async move { reply(&call.shared.view().leader.map(|leader| leader.to_string()).unwrap_or_default()) };
    call.shared.answer(&args.datacenter, Freshness::Stale, call.method, call.args, local).await
}

pub(super) async fn peers(call: Call<'_>) -> Answer {
    let args: DcRequest = call.decode()?;
    let local = || async move {
        let (servers, _) = call.shared.config.consensus.configuration();
        let peers: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
        reply(&peers)
    };
    call.shared.answer(&args.datacenter, Freshness::Stale, call.method, call.args, local).await
}

pub(super) fn raft_stats(call: Call<'_>) -> Answer {
    let view = call.shared.view();
    let last_contact = match view.last_contact {
        _ if view.is_leader => "0".into(),
        Some(time) => text::format_duration(Nanos::from(time)),
        None => "never".into(),
    };
    call.done(&RaftStats { last_contact, last_index: view.last_index, last_term: view.last_term })
}
