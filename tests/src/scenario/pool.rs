//! A member of a pool of real Serf agents: membership without a catalog.

use std::time::Duration;

use agent_embedded::provision::Settings;
use serde_json::json;

use super::{KEY, KEY_OCTETS};
use crate::{
    Result,
    cluster::{Agent, Role, SETTLE},
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
