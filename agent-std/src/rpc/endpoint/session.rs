//! `Session`

use std::sync::PoisonError;

use super::*;
use crate::text::{format_duration, parse_duration, uuid};

/// `session_ttl_min`
const MIN_TTL: Duration = Duration::from_secs(10);
/// Consul's longest TTL.
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);
/// A session expires this many TTLs after its last renewal: what a client may lose to delays. Consul's factor.
const TTL_FACTOR: u32 = 2;

pub(super) async fn apply(call: Call<'_>) -> Answer {
    let args: &SessionRequest = &call.decode()?;
    let local = || async move {
        let mut request = args.clone();
        match request.op.as_str() {
            "create" => prepare(&call, &mut request)?,
            "destroy" if request.session.id.is_empty() => return Err(CallError::refused("Must provide ID").into()),
            "destroy" => {
                if let Some(session) = call.shared.config.store.state().session(&request.session.id) {
                    call.require(&args.token, Access::Write, Resource::Session(&session.node))?;
                }
            }
            op => return Err(CallError::refused(format!("Invalid session operation {op:?}")).into()),
        }
        let Session { id, ttl, .. } = request.session.clone();
        let created = request.op == "create";
        let outcome = call.shared.propose(Command::Session(request)).await?;
        if created {
            call.shared.renew_session(&id, &ttl);
        } else {
            call.shared.forget_session(&id);
        }
        reply(&outcome.text)
    };
    call.shared.answer(&args.datacenter, Freshness::Default, call.method, call.args, local).await
}

/// Checks a new session and gives it its id, before the log: every server must see the same.
fn prepare(call: &Call<'_>, request: &mut SessionRequest) -> Result<(), CallError> {
    let session = &mut request.session;
    if session.node.is_empty() {
        return Err(CallError::refused("Must provide Node"));
    }
    call.require(&request.token, Access::Write, Resource::Session(&session.node))?;
    if !["", "release", "delete"].contains(&session.behavior.as_str()) {
        return Err(CallError::refused(format!("Invalid Behavior setting '{}'", session.behavior)));
    }
    if !session.ttl.is_empty() {
        let ttl = parse_duration(&session.ttl)
            .map_err(|error| CallError::refused(format!("Session TTL '{}' invalid: {error}", session.ttl)))?;
        if ttl.0 != 0 && !(MIN_TTL..=MAX_TTL).contains(&ttl.duration()) {
            let (min, max) = (format_duration(MIN_TTL.into()), format_duration(MAX_TTL.into()));
            let text = format!("Invalid Session TTL '{}', must be between [{min}={max}]", ttl.0);
            return Err(CallError::refused(text));
        }
    }
    session.id = uuid();
    Ok(())
}

impl Shared {
    /// Starts a session's time anew, if it has one.
    pub(crate) fn renew_session(&self, id: &str, ttl: &str) {
        let Some(ttl) = parse_duration(ttl).ok().map(Nanos::duration).filter(|ttl| !ttl.is_zero()) else { return };
        let mut expiries = self.expiries.lock().unwrap_or_else(PoisonError::into_inner);
        expiries.insert(id.into(), Instant::now() + ttl * TTL_FACTOR);
    }

    pub(crate) fn forget_session(&self, id: &str) {
        self.expiries.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

fn replied(index: u64, sessions: Option<Vec<Session>>) -> Result<(u64, SessionsReply), CallError> {
    Ok((index, SessionsReply { sessions, ..<_>::default() }))
}

fn session_interests<A>(_: &A) -> Vec<Interest> {
    vec![topic(Topic::Sessions)]
}

pub(super) async fn get(call: Call<'_>) -> Answer {
    call.read(session_interests, |look, args: &SessionSpecificRequest| {
        let found = look.state.session(args.id()).filter(|s| look.may_read(Resource::Session(&s.node)));
        replied(look.state.sessions_index(), found.map(|session| vec![(**session).clone()]))
    })
    .await
}

pub(super) async fn list(call: Call<'_>) -> Answer {
    call.read(session_interests, |look, _: &DcRequest| {
        let readable = look.state.sessions().filter(|s| look.may_read(Resource::Session(&s.node)));
        replied(look.state.sessions_index(), Some(readable.map(|session| (**session).clone()).collect()))
    })
    .await
}

pub(super) async fn node_sessions(call: Call<'_>) -> Answer {
    call.read(session_interests, |look, args: &NodeRequest| {
        let of_node = look.state.sessions().filter(|s| s.node.eq_ignore_ascii_case(&args.node));
        let readable = of_node.filter(|s| look.may_read(Resource::Session(&s.node)));
        replied(look.state.sessions_index(), Some(readable.map(|session| (**session).clone()).collect()))
    })
    .await
}

/// The leader counts; nothing goes to the log.
pub(super) async fn renew(call: Call<'_>) -> Answer {
    let args: &SessionSpecificRequest = &call.decode()?;
    let local = || async move {
        call.shared.may_read(Freshness::Default).await?;
        let state = call.shared.config.store.state();
        let session = state.session(args.id());
        if let Some(session) = session {
            call.require(&args.options.token, Access::Write, Resource::Session(&session.node))?;
            call.shared.renew_session(&session.id, &session.ttl);
        }
        reply(&SessionsReply {
            sessions: session.map(|session| vec![(**session).clone()]),
            meta: call.meta(state.sessions_index().max(1)),
        })
    };
    call.shared.answer(&args.datacenter, Freshness::Default, call.method, call.args, local).await
}
