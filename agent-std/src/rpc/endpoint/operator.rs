//! `Operator`: the servers themselves.

use super::*;
use crate::raft::Suffrage;

fn operator_read(call: &Call<'_>, token: &str) -> Result<(), CallError> {
    call.require(token, Access::Read, Resource::Operator)
}

pub(super) async fn raft_get_configuration(call: Call<'_>) -> Answer {
    let args: &DcRequest = &call.decode()?;
    let freshness = Freshness::of(&args.options);
    let local = || async move {
        operator_read(&call, &args.options.token)?;
        call.shared.may_read(freshness).await?;
        let leader = call.shared.view().leader;
        let (servers, _) = call.shared.config.consensus.configuration();
        let row = |server: crate::raft::Server| RaftServer {
            leader: leader == Some(server.address),
            address: server.address.to_string(),
            id: server.id,
            node: server.name,
            protocol_version: "3".into(),
            voter: server.suffrage == Suffrage::Voter,
        };
        // 1.8.7 always says 0 here.
        reply(&RaftConfigurationReply { servers: Some(servers.into_iter().map(row).collect()), index: 0 })
    };
    call.shared.answer(&args.datacenter, freshness, call.method, call.args, local).await
}

pub(super) async fn raft_remove_peer(call: Call<'_>) -> Answer {
    let args: &RaftRemovePeerRequest = &call.decode()?;
    let local = || async move {
        call.require(&args.token, Access::Write, Resource::Operator)?;
        let (servers, _) = call.shared.config.consensus.configuration();
        let by_id = !args.id.is_empty();
        let wanted = |server: &&crate::raft::Server| match by_id {
            true => server.id.eq_ignore_ascii_case(&args.id),
            false => server.address.to_string() == args.address,
        };
        let Some(server) = servers.iter().find(wanted) else {
            let (what, text) = if by_id { ("id", &args.id) } else { ("address", &args.address) };
            let text = format!("{what} {text:?} was not found in the Raft configuration");
            return Err(CallError::refused(text).into());
        };
        log::info!("an operator removes server {} ({})", server.name, server.address);
        call.shared.config.consensus.remove_server(&server.id).await?;
        reply(&Empty {})
    };
    call.shared.answer(&args.datacenter, Freshness::Default, call.method, call.args, local).await
}

pub(super) async fn autopilot_get(call: Call<'_>) -> Answer {
    let args: &DcRequest = &call.decode()?;
    let freshness = Freshness::of(&args.options);
    let local = || async move {
        operator_read(&call, &args.options.token)?;
        call.shared.may_read(freshness).await?;
        reply(&call.shared.config.store.state().autopilot())
    };
    call.shared.answer(&args.datacenter, freshness, call.method, call.args, local).await
}

pub(super) async fn autopilot_set(call: Call<'_>) -> Answer {
    let args: &AutopilotRequest = &call.decode()?;
    let local = || async move {
        call.require(&args.token, Access::Write, Resource::Operator)?;
        let outcome = call.shared.propose(Command::Autopilot(args.clone())).await?;
        reply(&outcome.done)
    };
    call.shared.answer(&args.datacenter, Freshness::Default, call.method, call.args, local).await
}

/// What the leader has found out last; see [`crate::leader`].
pub(super) async fn server_health(call: Call<'_>) -> Answer {
    let args: &DcRequest = &call.decode()?;
    let local = || async move {
        operator_read(&call, &args.options.token)?;
        call.shared.may_read(Freshness::Default).await?;
        reply(&call.shared.server_health())
    };
    call.shared.answer(&args.datacenter, Freshness::Default, call.method, call.args, local).await
}
