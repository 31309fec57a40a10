//! Joining that reaches nobody, and members that come back without being told where to.

use std::time::Duration;

use serde_json::json;

use crate::{
    Result,
    cluster::{Agent, Role, SETTLE, Status},
    ports::Network,
    serf::Serf,
    subject::Kind,
    wait,
};

/// A member that failed is dialled every 30 s, in a pool where all others failed for certain (gossip spec §9.8).
const RECONNECT: Duration = Duration::from_secs(90);
/// What the log says.
const WARNING: &str = "joining reached nobody but this agent itself";

/// A client whose only seed is itself says so, be it one to retry or one to start with; and it runs.
///
/// # Errors
///
/// What was not as it must be.
pub fn warns_of_itself() -> Result<()> {
    for setting in ["retry_join", "start_join"] {
        let network = Network::free(1)?;
        let own = format!("{}:{}", network.address(1), network.ports.serf_lan);
        let mut settings = json!({ "retry_join": [] });
        settings[setting] = json!([own]);
        let agent = Agent::start(network, 1, Kind::Lictor, Role::Client(1), &settings)?;
        wait::until("the warning", SETTLE, || wait::check(agent.log().contains(WARNING), || agent.log()))?;
        wait::until("its API", SETTLE, || agent.sees(&agent.name, Status::Alive))?;
    }
    Ok(())
}

/// A real member that has failed and starts again without a seed is found by our agent, which has none either.
///
/// # Errors
///
/// What was not as it must be.
pub fn reconnects() -> Result<()> {
    let network = Network::free(2)?;
    let settings = json!({ "lictor": { "serf_only": true }, "retry_join": [] });
    let agent = Agent::start(network, 1, Kind::Lictor, Role::Client(1), &settings)?;
    let mut serf = Serf::start(network, 2, "serf", None)?;
    wait::until("the real member to join", SETTLE, || serf.call(&["join", &agent.gossip().to_string()]))?;
    wait::until("the real member", SETTLE, || agent.sees(&serf.name, Status::Alive))?;
    serf.kill()?;
    wait::until("its failure", SETTLE, || agent.sees(&serf.name, Status::Failed))?;
    let name = serf.name.clone();
    drop(serf);
    let serf = Serf::start(network, 2, "serf", None)?;
    wait::until("its return", RECONNECT, || {
        agent.sees(&name, Status::Alive)?;
        serf.sees(&agent.name, "alive").map(drop)
    })
}
