//! A member of a pool of real Serf agents: membership without a catalog.

use std::time::Duration;

use serde_json::json;

use super::KEY;
use crate::{
    Result,
    cluster::{Agent, Role, SETTLE},
    ports::Network,
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
}

/// A running subject.
enum Member {
    Serf(Serf),
    Lictor(Agent),
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
        })
    }

    fn name(&self) -> &str {
        match self {
            Member::Serf(serf) => &serf.name,
            Member::Lictor(agent) => &agent.name,
        }
    }

    fn leave(&mut self) -> Result<()> {
        match self {
            Member::Serf(serf) => serf.leave(),
            Member::Lictor(agent) => agent.terminate().map(drop),
        }
    }

    fn kill(&mut self) -> Result<()> {
        match self {
            Member::Serf(serf) => serf.kill(),
            Member::Lictor(agent) => agent.kill(),
        }
    }
}

/// Joins an old and a new Serf, stays alive, and is seen to leave or to fail.
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
    let last = if leaves {
        member.leave()?;
        "left"
    } else {
        member.kill()?;
        "failed"
    };
    wait::until("the subject's end", SETTLE, || both_see(member.name(), last))
}
