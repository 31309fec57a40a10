//! A member of a pool of real Serf agents: membership without a catalog.

use std::time::Duration;

use super::{
    KEY,
    member::{Member, Subject},
};
use crate::{Result, cluster::SETTLE, http::list, ports::Network, serf::Serf, wait, watch_time};

/// Joins an old and a new Serf, stays alive, and is seen to leave, or to fail and to return.
///
/// # Errors
///
/// What was not as it must be.
pub fn joins(subject: Subject, encrypted: bool, leaves: bool) -> Result<()> {
    let network = Network::free(3)?;
    let key = encrypted.then_some(KEY);
    let old = Serf::start(network, 1, "serf", key)?;
    let new = Serf::start(network, 2, "serf-0.10", key)?;
    new.call(&["join", &old.gossip.to_string()])?;
    let mut member = Member::start(subject, network, 3, key)?;
    let both_see = |name: &str, status: &str| -> Result<()> {
        old.sees(name, status)?;
        new.sees(name, status).map(drop)
    };
    wait::until("the subject in the pool", SETTLE, || both_see(&member.name, "alive"))?;
    let span = watch_time(Duration::from_secs(8), Duration::from_secs(180));
    wait::holds("the subject's good standing", span, || both_see(&member.name, "alive"))?;
    for serf in [&old, &new] {
        let log = serf.log();
        let failed = log.lines().find(|line| line.contains("EventMemberFailed"));
        wait::check(failed.is_none(), || format!("{} logged {failed:?}", serf.name))?;
    }
    if leaves {
        member.leave()?;
        return wait::until("the subject's end", SETTLE, || both_see(&member.name, "left"));
    }
    member.kill()?;
    wait::until("the subject's end", SETTLE, || both_see(&member.name, "failed"))?;
    // It has forgotten its incarnation and must overcome what the pool remembers of it.
    drop(member);
    let member = Member::start(subject, network, 3, key)?;
    wait::until("the subject's return", SETTLE, || both_see(&member.name, "alive"))
}

/// Hears an event, and hands it on when its sender is gone: to a newcomer that asks for old events, and to no other.
///
/// # Errors
///
/// What was not as it must be.
pub fn hands_events_on(subject: Subject) -> Result<()> {
    const EVENT: &str = "consul:event:deploy";
    let network = Network::free(5)?;
    let mut sender = Serf::start(network, 1, "serf", None)?;
    let member = Member::start(subject, network, 3, None)?;
    wait::until("the subject in the pool", SETTLE, || sender.sees(&member.name, "alive").map(drop))?;
    sender.call(&["event", EVENT, "v2"])?;
    let heard = |log: String| wait::check(log.contains(EVENT), || log);
    wait::until("the subject to hear of the event", SETTLE, || heard(member.log()))?;
    sender.kill()?;
    // Until then it has gossiped the event as often as it ever will, so that a newcomer can have it by push/pull only.
    wait::until("the sender to count as failed", SETTLE, || member.sees(&sender.name, "failed"))?;
    let address = format!("{}:{}", network.address(3), network.ports.serf_lan);
    let indifferent = Serf::start(network, 4, "serf", None)?;
    indifferent.call(&["join", &address])?;
    let curious = Serf::start(network, 5, "serf-0.10", None)?;
    curious.call(&["join", "-replay", &address])?;
    wait::until("a newcomer to hear of the event", SETTLE, || heard(curious.log()))?;
    wait::check(heard(indifferent.log()).is_err(), || "a newcomer heard of an old event unasked".to_owned())
}

/// Acknowledges the queries whose filters fit it, and no others.
///
/// # Errors
///
/// What was not as it must be.
pub fn heeds_filters() -> Result<()> {
    let network = Network::free(3)?;
    let asker = Serf::start(network, 1, "serf-0.10", None)?;
    let member = Member::start(Subject::Lictor, network, 3, None)?;
    wait::until("the subject in the pool", SETTLE, || asker.sees(&member.name, "alive").map(drop))?;
    let acks = |filter: &[&str]| -> Result<Vec<String>> {
        let query = [&["query", "-format=json", "-timeout=1s"], filter, &["hello"]].concat();
        let answer: serde_json::Value = serde_json::from_str(&asker.call(&query)?)?;
        Ok(list(&answer["Acks"]).iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
    };
    let both = [member.name.clone(), asker.name.clone()];
    for (filter, wanted) in [
        (&[][..], &both[..]),
        (&["-tag", "role=^n[o0]d(e|es)$"], &both[..1]),
        (&["-tag", "role=^n[o0]d(es)$"], &[]),
        (&["-tag", "role=[broken"], &[]),
        (&["-tag", "kind=re.l", "-tag", "role=.*"], &both[1..]),
        (&["-node", &member.name], &both[..1]),
        (&["-node", &member.name, "-tag", "role=x"], &[]),
    ] {
        let mut got = acks(filter)?;
        got.sort();
        wait::check(got == wanted, || format!("{filter:?} was acknowledged by {got:?}, not by {wanted:?}"))?;
    }
    Ok(())
}
