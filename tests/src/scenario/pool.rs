//! A member of a pool of real Serf agents: membership without a catalog.

use std::time::Duration;

use agent_embedded::provision::Settings;
use serde_json::json;

use super::{KEY, KEY_OCTETS};
use crate::{
    Result,
    cluster::{Agent, Role, SETTLE, Status},
    http::list,
    ports::Network,
    qemu::{self, Forward},
    serf::Serf,
    subject::Kind,
    wait, watch_time,
};

/// The program that the scenario is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A third real Serf: shows that the scenario is right.
    Serf,
    /// Our agent in plain Serf pools.
    Lictor,
    /// The emulated board in plain Serf pools.
    Board,
}

/// The board's node name.
const BOARD: &str = "board-serf";

/// A running subject.
enum Member {
    Serf(Serf),
    Lictor(Agent),
    Board(qemu::Board),
}

impl Member {
    fn start(subject: Subject, network: Network, key: Option<&str>) -> Result<Self> {
        Ok(match subject {
            Subject::Serf => {
                let serf = Serf::start(network, 3, "serf", key)?;
                serf.call(&["join", &format!("{}:{}", network.address(1), network.ports.serf_lan)])?;
                Member::Serf(serf)
            }
            Subject::Lictor => {
                let mut settings = json!({ "lictor": { "serf_only": true } });
                if let Some(key) = key {
                    settings["encrypt"] = key.into();
                }
                // One "server" makes the first host the seed.
                Member::Lictor(Agent::start(network, 3, Kind::Lictor, Role::Client(1), &settings)?)
            }
            Subject::Board => {
                let forward = Forward::new(&network, 3);
                let seed = format!("{}:{}", network.address(1), network.ports.serf_lan);
                let mut settings = Settings {
                    node_name: BOARD,
                    advertise: forward.advertise(),
                    serf_only: true,
                    ..Settings::default()
                };
                settings.seeds.push(&seed).map_err(|_| "more than four seeds")?;
                if key.is_some() {
                    settings.keys.push(&KEY_OCTETS).map_err(|_| "more than four keys")?;
                }
                Member::Board(qemu::Board::start(3, qemu::Network::Forward(forward), &settings))
            }
        })
    }

    fn name(&self) -> &str {
        match self {
            Member::Serf(serf) => &serf.name,
            Member::Lictor(agent) => &agent.name,
            Member::Board(_) => BOARD,
        }
    }

    fn log(&self) -> String {
        match self {
            Member::Serf(serf) => serf.log(),
            Member::Lictor(agent) => agent.log(),
            Member::Board(board) => board.log(),
        }
    }

    /// A look: it counts `name` as failed.
    fn sees_failed(&self, name: &str) -> Result<()> {
        match self {
            Member::Serf(serf) => serf.sees(name, "failed").map(drop),
            Member::Lictor(agent) => agent.sees(name, Status::Failed),
            Member::Board(board) => {
                let line = format!("member {name} failed");
                wait::check(board.has_logged(&line), || format!("the board has not logged: {line}"))
            }
        }
    }

    fn leave(&mut self) -> Result<()> {
        match self {
            Member::Serf(serf) => serf.leave(),
            Member::Lictor(agent) => agent.terminate().map(drop),
            Member::Board(board) => {
                board.press_button();
                Ok(())
            }
        }
    }

    fn kill(&mut self) -> Result<()> {
        match self {
            Member::Serf(serf) => serf.kill(),
            Member::Lictor(agent) => agent.kill(),
            Member::Board(board) => {
                board.power_off();
                Ok(())
            }
        }
    }
}

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
    let mut member = Member::start(subject, network, key)?;
    let both_see = |name: &str, status: &str| -> Result<()> {
        old.sees(name, status)?;
        new.sees(name, status).map(drop)
    };
    wait::until("the subject in the pool", SETTLE, || both_see(member.name(), "alive"))?;
    let span = watch_time(Duration::from_secs(8), Duration::from_secs(180));
    wait::holds("the subject's good standing", span, || both_see(member.name(), "alive"))?;
    for serf in [&old, &new] {
        let log = serf.log();
        let failed = log.lines().find(|line| line.contains("EventMemberFailed"));
        wait::check(failed.is_none(), || format!("{} logged {failed:?}", serf.name))?;
    }
    if leaves {
        member.leave()?;
        return wait::until("the subject's end", SETTLE, || both_see(member.name(), "left"));
    }
    member.kill()?;
    wait::until("the subject's end", SETTLE, || both_see(member.name(), "failed"))?;
    // It has forgotten its incarnation and must overcome what the pool remembers of it.
    drop(member);
    let member = Member::start(subject, network, key)?;
    wait::until("the subject's return", SETTLE, || both_see(member.name(), "alive"))
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
    let member = Member::start(subject, network, None)?;
    wait::until("the subject in the pool", SETTLE, || sender.sees(member.name(), "alive").map(drop))?;
    sender.call(&["event", EVENT, "v2"])?;
    // Lictor complains that the payload is not one of Consul's.
    let heard = |log: String| wait::check(log.contains("event deploy") || log.contains(EVENT), || log);
    wait::until("the subject to hear of the event", SETTLE, || heard(member.log()))?;
    sender.kill()?;
    // Until then it has gossiped the event as often as it ever will, so that a newcomer can have it by push/pull only.
    wait::until("the sender to count as failed", SETTLE, || member.sees_failed(&sender.name))?;
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
    let member = Member::start(Subject::Lictor, network, None)?;
    wait::until("the subject in the pool", SETTLE, || asker.sees(member.name(), "alive").map(drop))?;
    let acks = |filter: &[&str]| -> Result<Vec<String>> {
        let query = [&["query", "-format=json", "-timeout=1s"], filter, &["hello"]].concat();
        let answer: serde_json::Value = serde_json::from_str(&asker.call(&query)?)?;
        Ok(list(&answer["Acks"]).iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
    };
    let both = [member.name().to_owned(), asker.name.clone()];
    for (filter, wanted) in [
        (&[][..], &both[..]),
        (&["-tag", "role=^n[o0]d(e|es)$"], &both[..1]),
        (&["-tag", "role=^n[o0]d(es)$"], &[]),
        (&["-tag", "role=[broken"], &[]),
        (&["-tag", "kind=re.l", "-tag", "role=.*"], &both[1..]),
        (&["-node", member.name()], &both[..1]),
        (&["-node", member.name(), "-tag", "role=x"], &[]),
    ] {
        let mut got = acks(filter)?;
        got.sort();
        wait::check(got == wanted, || format!("{filter:?} was acknowledged by {got:?}, not by {wanted:?}"))?;
    }
    Ok(())
}
