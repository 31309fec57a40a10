//! `Internal.KeyringOperation`: the gossip keys of all members of all datacenters (gossip spec §9.5).
//!
//! The server that is asked first sees to the WAN pool, which is one, and to its own LAN pool, and passes the call on to
//! every other datacenter, marked so that the servers there see to their LAN pools only.

use tokio::task::JoinSet;

use super::*;

pub(super) async fn operation(call: Call<'_>) -> Answer {
    let mut args: KeyringRequest = call.decode()?;
    let is_list = args.operation == "list";
    if args.local_only && !is_list {
        return Err(CallError::refused("argument error: LocalOnly can only be used for List operations"));
    }
    call.require(&args.options.token, if is_list { Access::Read } else { Access::Write }, Resource::Keyring)?;
    let keyring = &call.shared.config.keyring;
    if args.local_only || args.forwarded {
        return done(&call, vec![keyring(args, false).await]);
    }
    args.forwarded = true;
    let mut elsewhere = JoinSet::new();
    for datacenter in call.shared.config.router.others() {
        let (shared, method, args) = (Arc::clone(call.shared), call.method.to_owned(), args.clone());
        elsewhere.spawn(async move { passed_on(&shared, datacenter, &method, &args).await });
    }
    let (wan, lan) = tokio::join!(keyring(args.clone(), true), keyring(args, false));
    // Tasks end by themselves: the calls have their time limits.
    let mut others = elsewhere.join_all().await.concat();
    others.sort_by(|a, b| a.datacenter.cmp(&b.datacenter));
    done(&call, [vec![wan, lan], others].concat())
}

fn done(call: &Call<'_>, responses: Vec<KeyringResponse>) -> Answer {
    call.done(&KeyringReply { responses: Some(responses), ..KeyringReply::default() })
}

/// What another datacenter says; that it cannot be asked is an answer of its own, which names it.
async fn passed_on(shared: &Shared, datacenter: String, method: &str, args: &KeyringRequest) -> Vec<KeyringResponse> {
    let reply = async {
        let reply = shared.forward(&datacenter, method, &codec::to_vec(args)?).await?;
        Ok::<KeyringReply, RpcError>(codec::from_slice(&reply)?)
    };
    match reply.await {
        Ok(reply) => reply.responses.unwrap_or_default(),
        Err(error) => vec![KeyringResponse { datacenter, error: error.to_string(), ..KeyringResponse::default() }],
    }
}
